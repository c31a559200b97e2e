"""The IMAP server: Exchange's exact lines, and a mailbox that works."""

from __future__ import annotations

import base64
import imaplib
import logging
from email import message_from_bytes
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest
from testing.loopback_client import Wire, fetch_token, log_in, sasl

from exo_imap_oauth.testing import ReadyExchange, ready_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

INVALID_STATE = b"BAD Command received in Invalid state.\r\n"


@pytest.fixture(name="wire")
def _wire(exchange: ReadyExchange) -> Iterator[Wire]:
    with Wire(exchange) as wire:
        yield wire


@pytest.fixture(name="session")
def _session(exchange: ReadyExchange, wire: Wire) -> Wire:
    wire.line()
    assert wire.authenticate(exchange.mailbox, fetch_token(exchange)).startswith(b"A1 OK")
    return wire


# ---- the front end ---------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [True, False])
def test_a_sasl_response_with_the_command_or_after_it(
    exchange: ReadyExchange, wire: Wire, initial: bool
) -> None:
    wire.line()
    response = base64.b64encode(sasl(exchange.mailbox, fetch_token(exchange))).decode()
    if initial:
        reply = wire.ask(f"A1 authenticate xoauth2 {response}")
    else:
        assert wire.ask("A1 AUTHENTICATE XOAUTH2") == [b"+ \r\n"]
        wire.send(response)
        reply = [wire.line()]
    assert reply == [b"A1 OK AUTHENTICATE completed.\r\n"]
    assert exchange.logins[-1].initial_response is initial


def test_a_cancelled_sasl_exchange_is_bad(wire: Wire) -> None:
    wire.line()
    wire.ask("A1 AUTHENTICATE XOAUTH2")
    wire.send("*")
    assert wire.line().startswith(b"A1 BAD ")


@pytest.mark.parametrize(
    "response", ["=", "!!!", "dXNlcg==", "/w==", base64.b64encode(b"user=a\x01\x01").decode()]
)
def test_a_malformed_sasl_response_is_refused(
    exchange: ReadyExchange, wire: Wire, response: str
) -> None:
    wire.line()
    assert wire.ask(f"A1 AUTHENTICATE XOAUTH2 {response}") == [b"A1 NO AUTHENTICATE failed.\r\n"]
    assert exchange.logins[-1].reason == "malformed XOAUTH2 response"


def test_basic_authentication_no_longer_exists(exchange: ReadyExchange, wire: Wire) -> None:
    wire.line()
    assert wire.ask(f'A1 LOGIN {exchange.mailbox} "pass word"') == [b"A1 NO LOGIN failed.\r\n"]
    plain = base64.b64encode(b"\0user\0password").decode()
    assert wire.ask(f"A2 AUTHENTICATE PLAIN {plain}") == [b"A2 NO AUTHENTICATE failed.\r\n"]
    assert [login.mechanism for login in exchange.logins] == ["LOGIN", "PLAIN"]
    assert all(login.outcome == "refused" for login in exchange.logins)


def test_authenticating_twice_is_an_invalid_state(exchange: ReadyExchange, session: Wire) -> None:
    assert session.authenticate(exchange.mailbox, "token") == b"A1 " + INVALID_STATE
    assert session.ask("A2 AUTHENTICATE XOAUTH2") == [b"A2 " + INVALID_STATE]
    assert session.ask("A3 LOGIN a b") == [b"A3 " + INVALID_STATE]


def test_commands_in_the_wrong_state(exchange: ReadyExchange, wire: Wire) -> None:
    wire.line()
    assert wire.ask("A1 SELECT INBOX") == [b"A1 " + INVALID_STATE]
    assert wire.ask("A2 IDLE") == [b"A2 " + INVALID_STATE]
    wire.authenticate(exchange.mailbox, fetch_token(exchange))
    assert wire.ask("A3 FETCH 1 FLAGS") == [b"A3 " + INVALID_STATE]


def test_malformed_commands(session: Wire) -> None:
    session.ask("A2 SELECT INBOX")
    assert session.ask("A3 FETCH 1 NONSENSE") == [b"A3 BAD Command Argument Error. 11\r\n"]
    assert session.ask("A4 NONSENSE") == [b"A4 BAD Command Error. 12\r\n"]
    assert session.ask("A5 STARTTLS") == [b"A5 BAD Command Error. 12\r\n"]


def test_a_line_without_end_closes_the_connection(wire: Wire) -> None:
    wire.line()
    wire.send("A1 NOOP " + "x" * (1024 * 1024 + 1))
    assert wire.line().startswith(b"* BYE ")


def test_an_expired_token_ends_the_session_at_the_next_command(
    exchange: ReadyExchange, session: Wire
) -> None:
    assert session.ask("A2 SELECT INBOX")[-1].startswith(b"A2 OK")
    exchange.advance_clock(3600)
    assert session.ask("A3 NOOP") == [b"* BYE Session invalidated - AccessTokenExpired\r\n"]
    assert session.line() == b""


def test_imaplib_sees_the_expiry_as_the_documented_abort(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        exchange.advance_clock(3600)
        with pytest.raises(imaplib.IMAP4.abort) as caught:
            imap.list()
        assert str(caught.value) == ("command: LIST => Session invalidated - AccessTokenExpired")


def test_logout(session: Wire) -> None:
    assert session.ask("A2 LOGOUT")[0].startswith(b"* BYE ")
    assert session.line() == b"A2 OK LOGOUT completed.\r\n"
    assert session.line() == b""


def test_nothing_on_the_wire_is_logged(
    exchange: ReadyExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = fetch_token(exchange)
    with Wire(exchange) as wire:
        wire.line()
        wire.authenticate(exchange.mailbox, token)
        wire.ask("A2 LOGOUT")
    assert token not in caplog.text
    assert exchange.secret.value not in caplog.text


# ---- the mailbox -----------------------------------------------------------------------------


def test_select_search_and_fetch(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        assert imap.select() == ("OK", [b"3"])
        assert imap.search(None, "SUBJECT", '"message 2"') == ("OK", [b"2"])
        _, (part, _) = imap.fetch("2", "(UID RFC822)")
        assert isinstance(part, tuple)
        message = message_from_bytes(part[1])
        assert message["Subject"] == "Sample message 2"
        assert message["To"] == exchange.mailbox
        assert imap.search(None, "UNSEEN") == ("OK", [b"1 3"])


def test_messages_are_served_as_they_are() -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message.set_content("Schöne Grüße\n")
    raw = b"Subject: raw\r\n\r\nbytes \xff\r\n"
    with ready_exchange() as exchange:
        address = "second@contoso.example"
        exchange.add_mailbox(address, [message, raw])
        exchange.add_mailbox_permission(address, exchange.app.enterprise_object_id)
        with log_in(exchange, address) as imap:
            assert imap.select(readonly=True) == ("OK", [b"2"])
            assert imap.fetch("2", "(BODY.PEEK[])")[1][0] == (b"2 (BODY[] {%d}" % len(raw), raw)
            part = imap.fetch("1", "(RFC822)")[1][0]
            assert isinstance(part, tuple)
            received = message_from_bytes(part[1])
            assert received.get_payload(decode=True) == "Schöne Grüße\r\n".encode()


def test_store_expunge_append_copy_and_move(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        imap.select()
        assert imap.store("1", "+FLAGS", r"(\Flagged)")[0] == "OK"
        assert imap.search(None, "FLAGGED") == ("OK", [b"1"])
        assert imap.create("Archive")[0] == "OK"
        assert imap.create("Archive")[0] == "NO"
        assert imap.copy("1", "Archive")[0] == "OK"
        assert imap.append("INBOX", r"(\Seen)", "", b"Subject: appended\r\n\r\n")[0] == "OK"
        assert imap.search(None, "SUBJECT", "appended") == ("OK", [b"4"])
        assert imap.uid("MOVE", "102", "Archive")[0] == "OK"
        imap.store("1", "+FLAGS", r"(\Deleted)")
        assert imap.expunge()[0] == "OK"
        assert imap.status("INBOX", "(MESSAGES)") == ("OK", [b"INBOX (MESSAGES 2)"])
        assert imap.select("Archive") == ("OK", [b"2"])


def test_list_namespace_status_and_unselect(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        assert imap.namespace() == ("OK", [b'(("" "/")) NIL NIL'])
        _, folders = imap.list()
        assert b'(\\HasNoChildren) "/" INBOX' in folders
        assert b'(\\HasNoChildren) "/" "Sent Items"' in folders
        _, (status,) = imap.status("INBOX", "(UIDVALIDITY MESSAGES)")
        assert b"MESSAGES 3" in status
        imap.select()
        assert imap.unselect() == ("OK", [b"UNSELECT completed."])
        assert imap.state == "AUTH"
        with pytest.raises(imaplib.IMAP4.error):
            imap.fetch("1", "(FLAGS)")
        assert imap.select("Nonsense")[0] == "NO"


def test_two_sessions_see_each_others_changes(exchange: ReadyExchange) -> None:
    with log_in(exchange) as one, log_in(exchange) as two:
        one.select()
        two.select()
        one.append("INBOX", "", "", b"Subject: appended\r\n\r\n")
        two.noop()
        assert two.response("EXISTS") == ("EXISTS", [b"3", b"4"])


def test_idle_announces_mail_as_it_comes(exchange: ReadyExchange, session: Wire) -> None:
    session.ask("A2 SELECT INBOX")
    assert session.ask("A3 IDLE") == [b"+ Idling.\r\n"]
    for number in (4, 5):
        exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
        assert session.line() == b"* %d EXISTS\r\n" % number
        assert b"RECENT" in session.line()
        assert b"FETCH" in session.line()
    session.send("DONE")
    assert session.line() == b"A3 OK IDLE completed.\r\n"


def test_idle_announces_mail_that_came_between_select_and_idle(
    exchange: ReadyExchange, session: Wire
) -> None:
    session.ask("A2 SELECT INBOX")
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    assert session.ask("A3 IDLE") == [b"+ Idling.\r\n"]
    assert session.line() == b"* 4 EXISTS\r\n"


def test_mail_is_delivered_into_any_folder(exchange: ReadyExchange, session: Wire) -> None:
    for folder in ("Bounces", "Bounces", "inbox", "Sent Items"):
        exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n", folder=folder)
    assert b"* 2 EXISTS\r\n" in session.ask("A2 SELECT Bounces")
    assert b"* 4 EXISTS\r\n" in session.ask("A3 SELECT INBOX")
    assert b"* 1 EXISTS\r\n" in session.ask('A4 SELECT "Sent Items"')


def test_idle_works_in_a_created_folder(exchange: ReadyExchange, session: Wire) -> None:
    session.ask("A2 CREATE Archive")
    session.ask("A3 SELECT Archive")
    session.ask("A4 IDLE")
    with log_in(exchange) as imap:
        imap.append("Archive", "", "", b"Subject: new\r\n\r\n")
    assert session.line() == b"* 1 EXISTS\r\n"


def test_a_client_that_vanishes_while_idling_harms_nobody(exchange: ReadyExchange) -> None:
    with Wire(exchange) as wire:
        wire.line()
        wire.authenticate(exchange.mailbox, fetch_token(exchange))
        wire.ask("A2 SELECT INBOX")
        wire.ask("A3 IDLE")
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    with log_in(exchange) as imap:
        assert imap.select() == ("OK", [b"4"])
