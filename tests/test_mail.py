"""message(): the one message in a reply to FETCH, whatever stands around it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from exo_imap_oauth.errors import ImapError, MessageUnavailable, Throttled
from exo_imap_oauth.imap import ok
from exo_imap_oauth.mail import message
from exo_imap_oauth.testing import ready_exchange

Response: Any = importlib.import_module("aioimaplib").Response  # it has no types
SEEN = frozenset({"\\Seen"})
MAIL = b"Subject: Hello\r\n\r\nx"
DATA: list[Any] = [(b"1 (UID 7 FLAGS (\\Seen) BODY[] {20}", MAIL), b" RFC822.SIZE 99)"]
LINES: list[Any] = [b"1 FETCH (UID 7 FLAGS (\\Seen) BODY[] {20}", bytearray(MAIL),
                    b" RFC822.SIZE 99)", b"FETCH completed."]  # fmt: skip


@pytest.mark.parametrize("reply", [("OK", DATA), DATA, Response("OK", LINES), LINES])
def test_a_reply_of_imaplib_or_aioimaplib_gives_its_message(reply: Any) -> None:
    mail = message(reply)
    assert mail is not None
    assert mail["Subject"] == "Hello"
    assert (mail.uid, mail.flags, mail.size, mail.folder) == (7, SEEN, 99, "")


def test_what_the_server_says_of_other_messages_does_not_matter() -> None:
    mail = message(("OK", [b"9 (FLAGS (\\Deleted))", *DATA, b"8 (UID 80 FLAGS ())"]))
    assert mail is not None
    assert mail.uid == 7


@pytest.mark.parametrize(
    "data",
    [
        [None], [], [b"1 (UID 7)"], [b"1 (UID 7 BODY[] NIL)"], [b'1 (UID 7 BODY[] "")'],
        [b"FETCH completed."],
    ],
)  # fmt: skip
def test_where_the_server_sent_none_there_is_none(data: list[Any]) -> None:
    assert message(("OK", data)) is None
    assert message(data) is None


def test_several_messages_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="2 messages"):
        message([*DATA, (b"2 (UID 8 BODY[] {20}", MAIL), b")"])


def test_the_stand_in_is_unavailable() -> None:
    stand_in = b"From: Microsoft Exchange Server\r\nSubject: Abruf\r\n\r\nx"
    with pytest.raises(MessageUnavailable) as raised:
        message([(b"1 (UID 7 BODY[] {60}", stand_in), b")"])
    assert raised.value.uid == 7


@pytest.mark.parametrize("status", ["NO", "BAD"])
def test_a_refusal_raises_what_ok_raises(status: str) -> None:
    with pytest.raises(Throttled):
        message((status, [b"Request is throttled. Suggested Backoff Time: 10 milliseconds"]))
    with pytest.raises(ImapError, match="refused the command: NO what"):
        message(Response("NO", [b"what"]))


@pytest.mark.parametrize(
    "reply",
    [None, b"Subject: x", "OK", 7, {7: {b"BODY[]": MAIL}}, DATA[0], ("OK",), ["1 (UID 7)"], [7]],
)
def test_what_is_no_reply_is_a_type_error_that_says_what_to_pass(reply: Any) -> None:
    with pytest.raises(TypeError, match=r"whole reply .*imap\.uid\('FETCH'"):
        message(reply)


def test_a_message_is_fetched_from_a_server_with_all_that_it_tells() -> None:
    with (
        ready_exchange() as exchange,
        exchange.inbox.open(ssl_context=exchange.ssl_context) as imap,
    ):
        (uids,) = ok(imap.uid("SEARCH", "ALL"))
        uid = uids.split()[0].decode()
        items = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"
        mail = message(imap.uid("FETCH", uid, items))
        assert message(imap.uid("FETCH", "4000000", items)) is None
    assert mail is not None
    assert (mail.uid, mail.size) == (
        int(uid),
        len(mail.as_bytes(policy=mail.policy.clone(linesep="\r\n"))),
    )
    assert mail.received.tzinfo is not None
