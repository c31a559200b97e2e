"""What Exchange refuses after the login, in its own words."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING

import pytest
from testing.loopback_client import Wire, fetch_token, log_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth.testing import ReadyExchange

BAD_CHARSET = b"NO [BADCHARSET (US-ASCII)] The specified charset is not supported.\r\n"
NO_SUCH_MESSAGES = b"BAD The specified message set is invalid.\r\n"
INVALID_STATE = b"Command received in Invalid state.\r\n"


@pytest.fixture(name="session")
def _session(exchange: ReadyExchange) -> Iterator[Wire]:
    with Wire(exchange) as wire:
        wire.line()
        assert wire.authenticate(exchange.mailbox, fetch_token(exchange)).startswith(b"A1 OK")
        yield wire


# ---- SEARCH with a charset -------------------------------------------------------------------


@pytest.mark.parametrize(
    "search",
    [
        'SEARCH CHARSET UTF-8 SUBJECT "x"',
        'uid search charset "utf-8" ALL',
        "SEARCH CHARSET KLINGON ALL",
        "UID SEARCH CHARSET UTF-8 SUBJECT \xfc",
    ],
)
def test_no_charset_but_us_ascii(session: Wire, search: str) -> None:
    session.ask("A2 SELECT INBOX")
    assert session.ask(f"A3 {search}") == [b"A3 " + BAD_CHARSET]
    assert session.ask("A4 SEARCH CHARSET us-ascii SUBJECT message")[0] == b"* SEARCH 1 2 3\r\n"
    assert session.ask('A5 UID SEARCH CHARSET "US-ASCII" 1')[0] == b"* SEARCH 101\r\n"
    assert session.ask("A6 SEARCH CHARSET US-ASCII") == [b"A6 BAD Command Argument Error. 11\r\n"]


def test_a_charset_is_refused_before_its_literal_comes(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        imap.select()
        vars(imap)["literal"] = "Grüße".encode()  # as imaplib's users do, against its stubs
        reply = imap.search("UTF-8", "SUBJECT")
        assert reply == (
            "NO",
            [b"[BADCHARSET (US-ASCII)] The specified charset is not supported."],
        )
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])


def test_a_search_without_a_folder_is_in_the_wrong_state(session: Wire) -> None:
    assert session.ask("A2 SEARCH CHARSET UTF-8 ALL") == [b"A2 BAD " + INVALID_STATE]


# ---- message sets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 4 FLAGS",
        "FETCH 1:4 FLAGS",
        "FETCH 99:* FLAGS",
        "FETCH 1,7 FLAGS",
        r"STORE 4 +FLAGS (\Seen)",
        'COPY 3:4 "Sent Items"',
        'MOVE 4 "Sent Items"',
    ],
)
def test_numbers_that_do_not_exist(session: Wire, command: str) -> None:
    session.ask("A2 SELECT INBOX")
    assert session.ask(f"A3 {command}") == [b"A3 " + NO_SUCH_MESSAGES]
    assert session.ask("A4 SEARCH UNSEEN")[0] == b"* SEARCH 1 2 3\r\n"


def test_an_empty_folder_has_no_last_message(session: Wire) -> None:
    session.ask("A2 SELECT Drafts")
    assert session.ask("A3 FETCH 1:* FLAGS") == [b"A3 " + NO_SUCH_MESSAGES]
    assert session.ask("A4 FETCH * FLAGS") == [b"A4 " + NO_SUCH_MESSAGES]
    assert session.ask("A5 UID FETCH 1:* FLAGS") == [b"A5 OK FETCH completed.\r\n"]


def test_uids_that_do_not_exist_are_none(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        imap.select()
        assert imap.uid("FETCH", "999", "(FLAGS)") == ("OK", [None])
        assert imap.uid("STORE", "999", "+FLAGS", r"(\Seen)") == ("OK", [None])
        assert imap.uid("COPY", "999", '"Sent Items"')[0] == "OK"
        assert len(imap.uid("FETCH", "102:*", "(FLAGS)")[1]) == 2
        assert len(imap.fetch("3:*", "(FLAGS)")[1]) == 1


# ---- a folder that is open for reading -------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        r"STORE 1 +FLAGS (\Seen)",
        r"UID STORE 101 +FLAGS.SILENT (\Seen)",
        "EXPUNGE",
        "UID EXPUNGE 101",
        'MOVE 1 "Sent Items"',
        'UID MOVE 101 "Sent Items"',
    ],
)
def test_writes_in_a_folder_that_is_open_for_reading(session: Wire, command: str) -> None:
    session.ask("A2 EXAMINE INBOX")
    assert session.ask(f"A3 {command}") == [b"A3 NO " + INVALID_STATE]
    assert session.ask("A4 SEARCH UNSEEN")[0] == b"* SEARCH 1 2 3\r\n"


def test_reading_copying_and_closing_go_on_there(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        imap.select(readonly=True)
        assert imap.fetch("1", "(BODY[])")[0] == "OK"
        assert imap.search(None, "UNSEEN") == ("OK", [b"1 2 3"])
        assert imap.copy("1", '"Sent Items"')[0] == "OK"
        assert imap.append("INBOX", "", "", b"Subject: x\r\n\r\n")[0] == "OK"
        assert imap.close()[0] == "OK"
        assert imap.state == "AUTH"
        with pytest.raises(imaplib.IMAP4.error, match="state AUTH"):
            imap.search(None, "ALL")


# ---- the state -------------------------------------------------------------------------------


def test_nothing_but_done_during_idle(exchange: ReadyExchange, session: Wire) -> None:
    session.ask("A2 SELECT INBOX")
    session.ask("A3 IDLE")
    assert session.ask("A4 NOOP") == [b"A4 BAD " + INVALID_STATE]
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    assert session.line() == b"* 4 EXISTS\r\n"
    session.line()
    session.line()
    session.send("")
    assert session.line() == b"* BAD " + INVALID_STATE
    session.send("done")
    assert session.line() == b"A3 OK IDLE completed.\r\n"


def test_a_reply_to_uid_store_names_the_uid(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        imap.select()
        assert imap.uid("STORE", "102", "+FLAGS", r"(\Seen)")[1] == [
            rb"2 (FLAGS (\Recent \Seen) UID 102)"
        ]
        assert imap.uid("STORE", "102", "+FLAGS.SILENT", r"(\Flagged)") == ("OK", [None])
        assert imap.store("2", "-FLAGS", r"(\Seen)")[1] == [rb"2 (FLAGS (\Flagged \Recent))"]
