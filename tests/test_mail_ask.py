"""SEARCH over plain imaplib: one way to ask, whoever made the client."""

from __future__ import annotations

import contextlib
import imaplib
from typing import TYPE_CHECKING

import pytest
from support import mail_answers as answers
from support.mail_server import MailServer

from exo_imap_oauth import authenticate_xoauth2
from exo_imap_oauth._mail.ask import number, search
from exo_imap_oauth.errors import ImapError, Throttled

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENTS = [b"Subject: %d\r\n\r\nx" % number for number in range(1, 6)]


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with MailServer(*CONTENTS) as server:
        yield server


@pytest.fixture(name="imap")
def _imap(server: MailServer) -> Iterator[imaplib.IMAP4_SSL]:
    imap = imaplib.IMAP4_SSL(server.host, server.port, ssl_context=server.ssl_context)
    try:
        authenticate_xoauth2(imap, "inbox@contoso.example", "a-token", verify_mailbox=False)
        imap.select()
        yield imap
    finally:
        with contextlib.suppress(OSError):
            imap.shutdown()


def test_what_is_no_number_is_zero() -> None:
    texts = [b"14", b"", b"-1", b"1 4", None, "14"]
    assert [number(text) for text in texts] == [14, 0, 0, 0, 0, 0]


# ---- SEARCH ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (b"* SEARCH 3 1 2\r\n", [1, 2, 3]),
        (b"* SEARCH\r\n", []),
        (b"* SEARCH 1\r\n* SEARCH 2 1\r\n", [1, 2]),
        (b"* SEARCH 7 (MODSEQ 917162500)\r\n", [7]),
        (b"* SEARCH (MODSEQ 917162500)\r\n", []),
        (b'* ESEARCH (TAG "A1") UID ALL 2,4:6\r\n', [2, 4, 5, 6]),
        (b"* ESEARCH UID COUNT 2 ALL 8,9 MODSEQ 5\r\n", [8, 9]),
        (b'* ESEARCH (TAG "A1") UID\r\n', []),
        (b'* ESEARCH (TAG "A1") UID ALL 1:2\r\n* SEARCH 9\r\n', [1, 2]),
        (b"* SEARCH 4294967295\r\n", [4294967295]),
        (b'* ESEARCH (TAG "A1") uid all 1:2\r\n', [1, 2]),
        (b"* ESEARCH UID COUNT 0\r\n", []),
        (b"* 9 EXISTS\r\n* SEARCH 1\r\n* 2 EXPUNGE\r\n", [1]),
    ],
)
def test_what_is_found_is_read_in_every_form(
    server: MailServer, imap: imaplib.IMAP4_SSL, said: bytes, found: list[int]
) -> None:
    server.at("UID SEARCH", lambda reply: reply.ok(said))
    assert search(imap, "UNSEEN", messages=5) == found


@pytest.mark.parametrize(
    "listed",
    [b"1 x", b"1 -2", b"1,", b"0x1", b"12345678901", b"1:20000000", b"1 (MODSEQ x)", b"(1)", b"1."],
)
def test_what_is_no_list_of_numbers_is_an_error(
    server: MailServer, imap: imaplib.IMAP4_SSL, listed: bytes
) -> None:
    server.at("UID SEARCH", lambda reply: reply.ok(b"* SEARCH " + listed + b"\r\n"))
    if listed == b"1,":  # harmless
        assert search(imap, "UNSEEN", messages=5) == [1]
        return
    with pytest.raises(ImapError, match="is no list of numbers") as caught:
        search(imap, "UNSEEN", messages=5)
    assert caught.value.retryable


def test_a_range_of_ten_million_is_the_largest(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    server.at("UID SEARCH", lambda reply: reply.ok(b"* ESEARCH UID ALL 5:10000005\r\n"))
    with pytest.raises(ImapError, match="is no list of numbers"):
        search(imap, "UNSEEN", messages=5)


def test_what_an_earlier_command_was_told_does_not_count(
    server: MailServer, imap: imaplib.IMAP4_SSL
) -> None:
    server.at("NOOP", lambda reply: reply.ok(b"* SEARCH 77\r\n* ESEARCH UID ALL 78\r\n"), times=1)
    imap.noop()
    assert search(imap, "UNSEEN", messages=5) == [1, 2, 3, 4, 5]


def test_criteria_are_combined(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    server.person_reads(2)
    assert search(imap, "UID", "1:3", "UNSEEN", messages=5) == [1, 3]


def test_a_large_folder_is_searched_by_windows(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    ends = b"* 50000 FETCH (UID 3)\r\n* 100000 FETCH (UID 4)\r\n"
    server.at("FETCH", lambda reply: reply.ok(ends))
    assert search(imap, "UNSEEN", messages=100_001) == [1, 2, 3, 4, 5]
    assert [line for line in server.log if "FETCH" in line or "SEARCH" in line] == [
        "FETCH 50000,100000 (UID)",
        "UID SEARCH UID 1:3 UNSEEN",
        "UID SEARCH UID 4:4 UNSEEN",
        "UID SEARCH UID 5:* UNSEEN",
    ]


def test_the_last_window_names_nothing_below_it(
    server: MailServer, imap: imaplib.IMAP4_SSL
) -> None:
    """``9:*`` is ``5:9`` where 5 is the last message (RFC 3501 section 9, seq-range)."""
    server.at("FETCH", lambda reply: reply.ok(b"* 50000 FETCH (UID 8)\r\n"))
    star = server.at("UID SEARCH UID 9:*", lambda reply: reply.ok(b"* SEARCH 5\r\n"))
    server.person_reads(5)
    assert search(imap, "ALL", messages=90_001) == [1, 2, 3, 4, 5]
    assert search(imap, "UNSEEN", messages=90_001) == [1, 2, 3, 4]
    assert star.hits == 2


@pytest.mark.parametrize("messages", [90_000, 5])
def test_a_small_one_is_searched_at_once(
    server: MailServer, imap: imaplib.IMAP4_SSL, messages: int
) -> None:
    assert search(imap, "UNSEEN", messages=messages) == [1, 2, 3, 4, 5]
    assert server.log[-1] == "UID SEARCH UNSEEN"


def test_without_any_ends_it_is_searched_at_once_too(
    server: MailServer, imap: imaplib.IMAP4_SSL
) -> None:
    server.at("FETCH", answers.refused("no"))
    imap.untagged_responses.pop("UIDNEXT", None)
    assert search(imap, "UNSEEN", messages=100_000) == [1, 2, 3, 4, 5]


def test_a_connection_that_ends_when_the_windows_are_asked_for_is_lost(
    server: MailServer, imap: imaplib.IMAP4_SSL
) -> None:
    server.at("FETCH", answers.closes)
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        search(imap, "UNSEEN", messages=100_000)


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["NO", "BAD"])
def test_a_refusal_is_an_error_of_ours_however_imaplib_tells_it(
    server: MailServer, imap: imaplib.IMAP4_SSL, word: str
) -> None:
    server.at("UID SEARCH", answers.says(word, "not \x1b[31m now"))
    with pytest.raises(ImapError) as caught:
        search(imap, "UNSEEN", messages=5)
    assert type(caught.value) is ImapError
    assert str(caught.value) == rf"the server refused the command: {word} not \x1b[31m now"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("word", ["NO", "BAD"])
def test_a_known_refusal_is_typed(server: MailServer, imap: imaplib.IMAP4_SSL, word: str) -> None:
    server.at("UID SEARCH", answers.throttled(2_000, word))
    with pytest.raises(Throttled) as caught:
        search(imap, "UNSEEN", messages=5)
    assert caught.value.retry_after == 2.0


def test_the_wrong_state_of_a_client_is_an_error_of_ours(imap: imaplib.IMAP4_SSL) -> None:
    imap.unselect()
    with pytest.raises(ImapError, match="illegal in state AUTH"):
        search(imap, "UNSEEN", messages=5)
