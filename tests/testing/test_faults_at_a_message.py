"""Faults that strike at one message, or at the end, as plain imaplib sees them."""

from __future__ import annotations

import imaplib
from typing import Any

import pytest
from testing.loopback_client import Wire, content, has_all, log_in

from exo_imap_oauth.testing import Fault, ReadyExchange

FETCH = "(BODY.PEEK[])"
SEEN = r"(\Seen)"


# ---- faults at a command, at one message or at the end ---------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.IMAP_RESET, (ConnectionResetError, imaplib.IMAP4.abort)),
        (Fault.IMAP_CONNECTION_CLOSED, imaplib.IMAP4.abort),
        (Fault.IMAP_STALL, TimeoutError),
    ],
)
def test_a_connection_ends_at_one_message_each_time(
    exchange: ReadyExchange, fault: Fault, expected: Any
) -> None:
    injection = exchange.inject(fault, command="UID FETCH", uid=102, times=None)
    for _ in range(2):
        imap = log_in(exchange)
        imap.select()
        assert content(imap, "101")
        assert imap.uid("STORE", "102", "+FLAGS", SEEN)[0] == "OK"  # another command
        assert imap.fetch("2", "(FLAGS)")[0] == "OK"  # the same
        imap.sock.settimeout(0.3)
        with pytest.raises(expected):
            imap.uid("FETCH", "101:103", FETCH)
        imap.shutdown()
    assert injection.hits == 2


@pytest.mark.parametrize("command", ["FETCH 2 FLAGS", "COPY 1:2 Drafts", "UID EXPUNGE 102"])
def test_other_commands_that_name_a_message(
    exchange: ReadyExchange, session: Wire, command: str
) -> None:
    fault = exchange.inject(Fault.IMAP_THROTTLED, uid=102, times=None)
    for harmless in ("NOOP", "UID SEARCH UID 102", "FETCH 1,3 FLAGS", "UID FETCH 103 FLAGS"):
        assert session.ask(f"A3 {harmless}")[-1].startswith(b"A3 OK")
    assert fault.hits == 0
    assert b"throttled" in session.ask(f"A4 {command}")[-1]


def test_a_silent_logout(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    fault = exchange.inject(Fault.IMAP_STALL, command="LOGOUT")
    assert has_all(imap)
    imap.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        imap.logout()
    assert fault.hits == 1


def test_throttled_without_a_pause(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    exchange.inject(Fault.IMAP_THROTTLED, seconds=0, command="SEARCH", reply="NO")
    assert imap.search(None, "ALL") == (
        "NO",
        [b"Request is throttled. Suggested Backoff Time: 0 milliseconds"],
    )


# ---- injecting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "arguments", "says"),
    [
        (Fault.IMAP_FETCH_NIL, {"uid": 0}, "uid must be at least 1, not 0"),
        (Fault.IMAP_SEARCH_NOTHING, {"uid": 1}, "takes no uid"),
        (Fault.IMAP_IDLE_REFUSED, {"uid": 1}, "takes no uid"),
        (Fault.IMAP_NO_GREETING, {"uid": 1}, "takes no uid"),
        (Fault.TOKEN_HTML, {"uid": 1}, "takes no uid"),
        (Fault.IMAP_FETCH_NIL, {"command": "FETCH"}, "takes no command"),
        (Fault.IMAP_FETCH_NIL, {"reply": "NO"}, "takes no reply"),
        (Fault.IMAP_STORE_REFUSED, {"seconds": 1}, "takes no seconds"),
    ],
)
def test_parameters_that_make_no_sense(
    exchange: ReadyExchange, fault: Fault, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        exchange.inject(fault, **arguments)


def test_an_injection_says_which_message_it_is_for(exchange: ReadyExchange) -> None:
    injection = exchange.inject(Fault.IMAP_RESET, command="uid fetch", uid=102)
    assert injection.uid == 102
    assert repr(injection) == "<Injection of Fault.IMAP_RESET at UID FETCH of UID 102, hits: 0>"
