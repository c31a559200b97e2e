"""Each fault on demand, and the library's error for it."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from testing.loopback_client import Wire, fetch_token, form, http

from exo_imap_oauth import TokenSource, open_mailbox
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ExoImapOAuthError,
    ImapError,
    SessionExpired,
    Throttled,
    TokenEndpointUnavailable,
)
from exo_imap_oauth.testing import Fault, LoopbackExchange, ReadyExchange, ready_exchange
from exo_imap_oauth.testing._faults import AT_A_FETCH, AT_A_SEARCH, AT_A_STORE, AT_IDLE
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="exchange", scope="module")
def _exchange() -> Iterator[ReadyExchange]:
    with ready_exchange() as exchange:
        yield exchange


@pytest.fixture(autouse=True)
def _clean(exchange: ReadyExchange) -> None:
    exchange.reset()


def source_of(exchange: ReadyExchange, **options: Any) -> TokenSource:
    settings: dict[str, Any] = {"cache": MemoryTokenCache()}
    return TokenSource(
        exchange.app.tenant_id,
        exchange.app.client_id,
        exchange.secret.value,
        token_uri=exchange.token_uri(),
        ssl_context=exchange.ssl_context,
        **(settings | options),
    )


def token_failure(exchange: ReadyExchange, **options: Any) -> TokenEndpointUnavailable:
    with pytest.raises(TokenEndpointUnavailable) as caught:
        source_of(exchange, **options).get_token()
    assert exchange.secret.value not in str(caught.value)
    return caught.value


FOR_A_PERSON = {
    Fault.TOKEN_REDIRECT,
    Fault.TOKEN_EXPIRED_CERTIFICATE,
    Fault.TOKEN_FOREIGN_CERTIFICATE,
}


def advice_of(error: ExoImapOAuthError) -> str | None:
    return error.advice.id if error.advice else None


# ---- the token endpoint ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "says", "advice", "status"),
    [
        (Fault.TOKEN_REFUSE, "cannot be reached", "token-endpoint-unreachable", None),
        (Fault.TOKEN_RESET, "cannot be reached", "token-endpoint-unreachable", 0),
        (Fault.TOKEN_STALL, "localhost", "token-endpoint-unreachable", None),
        (Fault.TOKEN_SLOW, "localhost", "token-endpoint-unreachable", 200),
        (Fault.TOKEN_THROTTLED, "HTTP 429", "throttled", 429),
        (Fault.TOKEN_UNAVAILABLE, "HTTP 503", "entra-unavailable", 503),
        (
            Fault.TOKEN_HTML,
            "HTTP 200, not a JSON object (Content-Type: text/html",
            "token-endpoint-unreachable",
            200,
        ),
        (
            Fault.TOKEN_TRUNCATED_JSON,
            "an answer that is not a token",
            "token-endpoint-unreachable",
            200,
        ),
        (Fault.TOKEN_HUGE_BODY, "longer than 1048576 bytes", "token-endpoint-unreachable", 200),
        (Fault.TOKEN_REDIRECT, "a redirect to login.example", "token-endpoint-unreachable", 302),
        (Fault.TOKEN_EXPIRED_CERTIFICATE, "has expired", "certificate-untrusted", None),
        (Fault.TOKEN_FOREIGN_CERTIFICATE, "VERIFY_FAILED", "certificate-untrusted", None),
    ],
)
@pytest.mark.usefixtures("longest_pauses")
def test_a_broken_token_endpoint_is_unavailable(
    exchange: ReadyExchange, fault: Fault, says: str, advice: str, status: int | None
) -> None:
    asks_to_wait = fault in {Fault.TOKEN_THROTTLED, Fault.TOKEN_UNAVAILABLE}
    injection = exchange.inject(fault, times=None, seconds=3600 if asks_to_wait else None)
    # What may heal without a word on when is tried again until the deadline.
    tried_again = fault in {
        Fault.TOKEN_REFUSE,
        Fault.TOKEN_RESET,
        Fault.TOKEN_STALL,
        Fault.TOKEN_SLOW,
    }
    error = token_failure(exchange, deadline=1.4 if tried_again else 30.0)
    assert says in str(error)
    assert error.retryable is (fault not in FOR_A_PERSON)
    assert advice_of(error) == advice
    assert injection.hits >= 1
    assert {request.status for request in exchange.token_requests} == (
        set() if status is None else {status}
    )
    injection.remove()
    assert source_of(exchange).get_token().token


def test_every_fault_of_the_token_endpoint_has_its_test() -> None:
    marks: list[Any] = getattr(test_a_broken_token_endpoint_is_unavailable, "pytestmark")  # noqa: B009 - no attribute that type checkers know
    [parametrized] = (mark for mark in marks if mark.name == "parametrize")
    tested = {case[0] for case in parametrized.args[1]}
    assert tested == {fault for fault in Fault if fault.name.startswith("TOKEN_")}


def test_the_throttled_endpoint_says_how_long_to_wait(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.TOKEN_THROTTLED, seconds=75)
    assert token_failure(exchange).retry_after == 75
    exchange.inject(Fault.TOKEN_UNAVAILABLE, seconds=7)
    assert token_failure(exchange, deadline=5.0).retry_after == 7


def test_a_fault_that_strikes_once_is_survived(exchange: ReadyExchange) -> None:
    injection = exchange.inject(Fault.TOKEN_RESET)
    assert source_of(exchange).get_token().token
    assert injection.hits == 1
    assert [r.outcome for r in exchange.token_requests] == ["fault token-reset", "issued"]
    assert {r.client_id for r in exchange.token_requests} == {exchange.app.client_id}


def test_a_slow_answer_is_the_right_one(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.TOKEN_SLOW, seconds=0)
    assert fetch_token(exchange)


def test_removing_a_stall_lets_the_answer_come(exchange: ReadyExchange) -> None:
    stall = exchange.inject(Fault.TOKEN_STALL)
    tokens: list[str] = []
    waiting = threading.Thread(target=lambda: tokens.append(fetch_token(exchange)))
    waiting.start()
    stall.wait_for_hits()
    stall.remove()
    waiting.join(60.0)
    assert len(tokens) == 1


def test_a_stall_ends_by_itself_after_its_seconds(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.TOKEN_STALL, seconds=0.01)
    assert fetch_token(exchange)


def test_the_truncated_answer_holds_no_whole_token(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.TOKEN_TRUNCATED_JSON)
    answer = http(exchange, exchange.token_uri(), form(exchange))
    assert "access_token" in answer.text
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()


def test_faults_leave_the_other_pages_alone(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.TOKEN_HTML)
    uri = f"{exchange.authority}/{exchange.tenant_id}/v2.0/.well-known/openid-configuration"
    assert "issuer" in http(exchange, uri, method="GET").json()


# ---- IMAP ------------------------------------------------------------------------------------


def imap_failure(exchange: ReadyExchange, timeout: float = 30.0) -> ExoImapOAuthError:
    with pytest.raises(ExoImapOAuthError) as caught, opened(exchange, timeout):
        pass
    return caught.value


def opened(exchange: ReadyExchange, timeout: float = 30.0) -> Any:
    return open_mailbox(
        exchange.mailbox,
        source_of(exchange),
        host=exchange.host,
        port=exchange.port,
        ssl_context=exchange.ssl_context,
        timeout=timeout,
    )


@pytest.mark.parametrize(
    ("fault", "command", "expected", "advice"),
    [
        (Fault.IMAP_NO_GREETING, None, ConnectionFailed, "imap-unreachable"),
        (Fault.IMAP_BYE_GREETING, None, ConnectionFailed, "connection-closed"),
        (Fault.IMAP_STALL, None, ConnectionFailed, "imap-unreachable"),
        (Fault.IMAP_STALL, "AUTHENTICATE", ConnectionFailed, "imap-unreachable"),
        (Fault.IMAP_STALL, "SELECT", ConnectionFailed, "imap-unreachable"),
        (Fault.IMAP_RESET, None, ConnectionFailed, "imap-unreachable"),
        (Fault.IMAP_RESET, "AUTHENTICATE", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_RESET, "SELECT", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_AUTHENTICATE_FAILED, None, AuthenticationRefused, "authenticate-refused"),
        (Fault.IMAP_CHALLENGE, None, AuthenticationRefused, "authenticate-refused"),
        (Fault.IMAP_THROTTLED, "AUTHENTICATE", Throttled, "throttled"),
        (Fault.IMAP_THROTTLED, "SELECT", Throttled, "throttled"),
        (Fault.IMAP_SESSION_INVALIDATED, "SELECT", SessionExpired, "session-expired"),
        (Fault.IMAP_CONNECTION_CLOSED, "AUTHENTICATE", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_CONNECTION_CLOSED, "SELECT", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_ENDLESS_LINES, "CAPABILITY", ConnectionFailed, "imap-unreachable"),
        (Fault.IMAP_ENDLESS_LINES, "AUTHENTICATE", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_ENDLESS_LINES, "SELECT", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_LONG_LINE, "AUTHENTICATE", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_LONG_LINE, "SELECT", ConnectionFailed, "connection-closed"),
        (Fault.IMAP_NO_XOAUTH2, None, ImapError, None),
    ],
)
def test_a_broken_imap_server_gives_a_typed_error(
    exchange: ReadyExchange,
    fault: Fault,
    command: str | None,
    expected: type[ExoImapOAuthError],
    advice: str | None,
) -> None:
    injection = exchange.inject(fault, times=None, command=command)
    waits = fault in {Fault.IMAP_NO_GREETING, Fault.IMAP_STALL}
    error = imap_failure(exchange, timeout=0.5 if waits else 30.0)
    assert isinstance(error, expected)
    assert advice_of(error) == advice
    assert injection.hits >= 1
    injection.remove()
    with opened(exchange) as imap:
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])


OF_ITS_OWN = {Fault.IMAP_NO_SASL_IR, Fault.IMAP_IDLE_RESET, Fault.IMAP_WRONG_SERVER} | {
    *AT_A_FETCH,
    *AT_A_SEARCH,
    *AT_A_STORE,
    *AT_IDLE,
}
"""Each has a test of its own: here, in test_loopback_reasons.py or in test_mail_faults.py."""


def test_every_fault_of_the_imap_server_has_its_test() -> None:
    marks: list[Any] = getattr(test_a_broken_imap_server_gives_a_typed_error, "pytestmark")  # noqa: B009 - the same
    tested = {case[0] for case in marks[0].args[1]} | OF_ITS_OWN
    assert tested == {fault for fault in Fault if fault.name.startswith("IMAP_")}


def test_without_sasl_ir_the_token_comes_after_a_challenge(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_NO_SASL_IR)
    with opened(exchange):
        pass
    with opened(exchange):
        pass
    assert [login.initial_response for login in exchange.logins] == [False, True]


def test_without_xoauth2_no_token_is_sent(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_NO_XOAUTH2)
    assert "does not offer AUTH=XOAUTH2" in str(imap_failure(exchange))
    assert exchange.logins == ()


def test_the_challenge_is_in_the_error(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_CHALLENGE)
    error = imap_failure(exchange)
    assert isinstance(error, AuthenticationRefused)
    assert error.challenge is not None
    assert error.challenge["status"] == "401"
    (login,) = exchange.logins
    assert (login.outcome, login.reason) == ("refused", "fault imap-challenge")
    assert (login.user, login.client_id) == (exchange.mailbox, exchange.app.client_id)


def test_throttling_says_how_long_to_wait_and_leaves_the_session_open(
    exchange: ReadyExchange,
) -> None:
    exchange.inject(Fault.IMAP_THROTTLED, seconds=299.961, command="SELECT")
    error = imap_failure(exchange)
    assert (error.retryable, error.retry_after) == (True, 299.961)
    exchange.inject(Fault.IMAP_THROTTLED, command="noop")
    with Wire(exchange) as wire:
        wire.line()
        assert wire.ask("A1 NOOP") == [
            b"A1 BAD Request is throttled. Suggested Backoff Time: 300000 milliseconds\r\n"
        ]
        assert wire.ask("A2 NOOP") == [b"A2 OK NOOP completed.\r\n"]


def test_a_command_that_meets_a_reset_is_not_carried_out(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_RESET, command="UID STORE")
    # Before 3.13 Python's ssl takes a reset for an end.
    with pytest.raises((ConnectionResetError, ConnectionFailed)), opened(exchange) as imap:
        imap.uid("STORE", "101", "+FLAGS", r"(\Seen)")
    with opened(exchange) as imap:
        assert imap.search(None, "SEEN") == ("OK", [b""])


@pytest.mark.parametrize("fault", [Fault.TOKEN_REFUSE, Fault.IMAP_RESET])
def test_a_reset_is_one_on_the_wire(exchange: ReadyExchange, fault: Fault) -> None:
    exchange.inject(fault)
    port = exchange.port if fault is Fault.IMAP_RESET else urlsplit(exchange.authority).port
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as raw:
        client: socket.socket = raw
        if fault is Fault.IMAP_RESET:
            client = exchange.ssl_context.wrap_socket(raw, server_hostname=exchange.host)
            assert client.recv(1000).startswith(b"* OK ")
        client.sendall(b"A1 NOOP\r\n")
        with pytest.raises(ConnectionResetError):
            socket.socket.recv(client, 1)  # below TLS, which may take a reset for an end
        client.close()


def test_the_documentation_knows_every_fault() -> None:
    page = Path(__file__).parents[2] / "docs/explanation/loopback-exchange.md"
    assert set(re.findall(r"`((?:TOKEN|IMAP)_\w+)`", page.read_text())) == set(Fault.__members__)


def test_an_endless_answer_ends_when_it_is_removed(exchange: ReadyExchange) -> None:
    endless = exchange.inject(Fault.IMAP_ENDLESS_LINES)
    with Wire(exchange) as wire:
        wire.line()
        wire.send("A1 NOOP")
        assert wire.line().startswith(b"* OK ")
        endless.remove()
        while line := wire.line():
            assert line.startswith(b"* OK ")


def test_a_stalled_command_is_answered_in_the_end(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_NO_GREETING, seconds=0)
    exchange.inject(Fault.IMAP_STALL, seconds=0.01)
    with opened(exchange) as imap:
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])


# ---- injecting -------------------------------------------------------------------------------


def test_faults_strike_in_the_order_of_their_injection(exchange: ReadyExchange) -> None:
    twice = exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED, times=2)
    once = exchange.inject(Fault.IMAP_CHALLENGE)
    for _ in range(3):
        imap_failure(exchange)
    with opened(exchange):
        pass
    assert [login.reason for login in exchange.logins] == [
        "fault imap-authenticate-failed",
        "fault imap-authenticate-failed",
        "fault imap-challenge",
        "",
    ]
    assert (twice.hits, once.hits) == (2, 1)


def test_a_removed_fault_strikes_no_more(exchange: ReadyExchange) -> None:
    injection = exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED, times=None)
    imap_failure(exchange)
    injection.remove()
    injection.remove()
    with opened(exchange):
        pass
    assert repr(injection) == "<Injection of Fault.IMAP_AUTHENTICATE_FAILED, hits: 1>"


def test_waiting_for_a_hit_that_does_not_come(exchange: ReadyExchange) -> None:
    injection = exchange.inject(Fault.IMAP_RESET, command="EXPUNGE")
    with pytest.raises(TimeoutError, match="IMAP_RESET at EXPUNGE, hits: 0"):
        injection.wait_for_hits(timeout=0.01)


@pytest.mark.parametrize(
    ("fault", "arguments", "says"),
    [
        (Fault.IMAP_RESET, {"times": 0}, "at least 1"),
        (Fault.IMAP_RESET, {"seconds": 1}, "takes no seconds"),
        (Fault.IMAP_STALL, {"seconds": -1}, "not negative"),
        (Fault.IMAP_STALL, {"seconds": float("inf")}, "finite"),
        (Fault.IMAP_STALL, {"seconds": float("nan")}, "finite"),
        (Fault.TOKEN_STALL, {"command": "SELECT"}, "takes no command"),
    ],
)
def test_parameters_that_make_no_sense(
    exchange: ReadyExchange, fault: Fault, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        exchange.inject(fault, **arguments)
    with opened(exchange):
        pass


def test_what_is_no_fault(exchange: ReadyExchange) -> None:
    with pytest.raises(TypeError, match="not str"):
        exchange.inject("imap-reset")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - that is the test


def test_faults_need_running_servers() -> None:
    with pytest.raises(RuntimeError, match="with statement"):
        LoopbackExchange().inject(Fault.IMAP_RESET)
    with LoopbackExchange() as exchange:
        injection = exchange.inject(Fault.IMAP_RESET)
    injection.remove()


def test_it_stops_while_faults_keep_clients_waiting() -> None:
    with ready_exchange() as exchange:
        stalls = exchange.inject(Fault.IMAP_NO_GREETING), exchange.inject(Fault.IMAP_ENDLESS_LINES)
        silent, flooded = Wire(exchange), Wire(exchange)
        flooded.line()
        flooded.send("A1 NOOP")
        for stall in stalls:
            stall.wait_for_hits()
        begin = time.monotonic()
    assert time.monotonic() - begin < 30  # both would keep it for ever
    silent.socket.close()
    flooded.socket.close()


# ---- starting over ---------------------------------------------------------------------------


def test_a_reset_exchange_is_like_a_new_one(exchange: ReadyExchange) -> None:
    port, authority, tenant = exchange.port, exchange.authority, exchange.tenant_id
    old = source_of(exchange).get_token()
    exchange.add_mailbox("second@contoso.example")
    exchange.advance_clock(-86_400)
    with Wire(exchange) as wire:
        wire.line()
        exchange.inject(Fault.IMAP_BYE_GREETING, times=None)
        exchange.reset()
        assert wire.line() == b""
    assert (exchange.port, exchange.authority) == (port, authority)
    assert exchange.tenant_id != tenant
    assert (exchange.logins, exchange.token_requests) == ((), ())
    fetch_token(exchange)
    assert abs(exchange.token_requests[0].time - time.time()) < 60
    with pytest.raises(AuthenticationRefused):
        open_mailbox(
            exchange.mailbox,
            old,
            host=exchange.host,
            port=exchange.port,
            ssl_context=exchange.ssl_context,
        ).__enter__()
    with opened(exchange) as imap:
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])
    exchange.add_mailbox("second@contoso.example")


def test_a_reset_drops_clients_in_their_tls_handshake(exchange: ReadyExchange) -> None:
    with socket.create_connection(("127.0.0.1", exchange.port), timeout=30.0) as raw:
        exchange.reset()
        with pytest.raises((ssl.SSLError, OSError)):
            exchange.ssl_context.wrap_socket(raw, server_hostname="localhost")
    with opened(exchange):
        pass
