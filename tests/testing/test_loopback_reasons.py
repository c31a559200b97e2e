"""What Exchange says in its OK, throttling with NO, and what can happen to a client in IDLE."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING

import pytest
from testing.loopback_client import Wire, fetch_token, log_in

from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

NOT_CONNECTED = b"A2 BAD User is authenticated but not connected.\r\n"


def answer_to_a_login(exchange: ReadyExchange) -> tuple[bytes, bytes]:
    """The replies to AUTHENTICATE and SELECT."""
    with Wire(exchange) as wire:
        wire.line()
        authenticated = wire.authenticate(exchange.mailbox, fetch_token(exchange))
        return authenticated, wire.ask("A2 SELECT INBOX")[-1]


def test_that_imap_is_off_stands_in_the_ok_if_wanted(exchange: ReadyExchange) -> None:
    exchange.set_cas_mailbox(exchange.mailbox, imap_enabled=False, reason_in_ok=True)
    authenticated, selected = answer_to_a_login(exchange)
    assert authenticated == (
        b'A1 OK [Error="UserDisabled" AuthResult=27'
        b" Proxy=LOOPBACK.EURP000.PROD.OUTLOOK.COM:1993:SSL Service=Imap4]"
        b" AUTHENTICATE completed.\r\n"
    )
    assert selected == NOT_CONNECTED
    exchange.set_cas_mailbox(exchange.mailbox, imap_enabled=False)
    assert answer_to_a_login(exchange) == (b"A1 OK AUTHENTICATE completed.\r\n", NOT_CONNECTED)


def test_a_mailbox_that_opens_has_no_reason_in_its_ok(exchange: ReadyExchange) -> None:
    exchange.set_cas_mailbox(exchange.mailbox, imap_enabled=True, reason_in_ok=True)
    authenticated, selected = answer_to_a_login(exchange)
    assert authenticated == b"A1 OK AUTHENTICATE completed.\r\n"
    assert selected.startswith(b"A2 OK ")


def test_a_wrong_server_is_told_in_the_ok_and_gone_at_the_next_login(
    exchange: ReadyExchange,
) -> None:
    injection = exchange.inject(Fault.IMAP_WRONG_SERVER)
    authenticated, selected = answer_to_a_login(exchange)
    assert authenticated.startswith(
        b'A1 OK [Error="Microsoft.Exchange.Data.Storage.WrongServerException:Cross Server access'
        b" is not allowed for mailbox "
    )
    assert authenticated.endswith(b" Service=Imap4] AUTHENTICATE completed.\r\n")
    assert selected == NOT_CONNECTED
    assert injection.hits == 1
    assert exchange.logins[-1].reason == "fault imap-wrong-server"
    assert answer_to_a_login(exchange)[1].startswith(b"A2 OK ")


def test_a_wrong_server_does_not_hide_a_refusal(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_WRONG_SERVER)
    with Wire(exchange) as wire:
        wire.line()
        reply = wire.authenticate("nobody@contoso.example", fetch_token(exchange))
    assert reply == b"A1 NO AUTHENTICATE failed.\r\n"
    assert exchange.logins[-1].reason == "unknown user"


def test_imaplib_returns_a_no_and_raises_a_bad(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        imap.select()
        exchange.inject(Fault.IMAP_THROTTLED, seconds=60, command="SEARCH", reply="NO")
        said = b"Request is throttled. Suggested Backoff Time: 60000 milliseconds"
        assert imap.search(None, "UNSEEN") == ("NO", [said])
        exchange.inject(Fault.IMAP_THROTTLED, seconds=60, command="SEARCH", reply="BAD")
        with pytest.raises(imaplib.IMAP4.error, match="throttled"):
            imap.search(None, "UNSEEN")


@pytest.mark.parametrize(
    ("fault", "reply", "says"),
    [
        (Fault.IMAP_RESET, "NO", "takes no reply"),
        (Fault.IMAP_THROTTLED, "OK", "must be BAD or NO"),
    ],
)
def test_a_reply_that_does_not_fit_is_a_value_error(
    exchange: ReadyExchange, fault: Fault, reply: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        exchange.inject(fault, reply=reply)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # wrong


# ---- IDLE ------------------------------------------------------------------------------------


def idling(wire: Wire, exchange: ReadyExchange) -> None:
    wire.line()
    wire.authenticate(exchange.mailbox, fetch_token(exchange))
    wire.ask("A2 SELECT INBOX")
    assert wire.ask("A3 IDLE")[-1].startswith(b"+")


def test_a_connection_is_reset_in_the_middle_of_idle(exchange: ReadyExchange) -> None:
    injection = exchange.inject(Fault.IMAP_IDLE_RESET, seconds=3600)
    with Wire(exchange) as wire:
        idling(wire, exchange)
        injection.remove()  # what waits for its seconds goes on now
        assert ended(wire)
    assert injection.hits == 1


def test_a_reset_of_idle_comes_after_its_seconds(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_IDLE_RESET, seconds=0)
    with Wire(exchange) as wire:
        wire.line()
        wire.authenticate(exchange.mailbox, fetch_token(exchange))
        wire.ask("A2 SELECT INBOX")
        wire.send("A3 IDLE")
        while not ended(wire):
            pass


def test_idle_that_ends_before_the_reset_goes_on(exchange: ReadyExchange) -> None:
    injection = exchange.inject(Fault.IMAP_IDLE_RESET, seconds=3600)
    with Wire(exchange) as wire:
        idling(wire, exchange)
        wire.send("DONE")
        assert wire.line().startswith(b"A3 OK")
        injection.remove()  # a reset that still waits would come now
        assert wire.ask("A4 NOOP")[-1].startswith(b"A4 OK")


def test_all_connections_can_be_cut(exchange: ReadyExchange) -> None:
    with Wire(exchange) as one, Wire(exchange) as other:
        idling(one, exchange)
        other.line()
        exchange.drop_connections()
        assert ended(one)
        assert ended(other)
    with log_in(exchange) as imap:
        assert imap.select() == ("OK", [b"3"])


def ended(wire: Wire) -> bool:
    """Whether the connection ends without a word; before 3.13 Python takes a reset for an end."""
    try:
        return wire.line() == b""
    except ConnectionResetError:
        return True


def test_a_token_that_expires_in_idle_ends_the_session_at_the_next_command(
    exchange: ReadyExchange,
) -> None:
    with Wire(exchange) as wire:
        idling(wire, exchange)
        exchange.advance_clock(3600)
        exchange.deliver(exchange.mailbox, b"Subject: hello\r\n\r\n")
        assert wire.line() == b"* 4 EXISTS\r\n"
        wire.send("DONE")
        while not (line := wire.line()).startswith(b"A3 "):
            assert line.startswith(b"* ")
        assert line.startswith(b"A3 OK")
        assert wire.ask("A4 NOOP") == [b"* BYE Session invalidated - AccessTokenExpired\r\n"]
        assert wire.line() == b""
