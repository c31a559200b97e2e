"""check_setup where servers fail, drip, or are none of Exchange's."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest
from support import server_context
from support.checkup import (
    NOBODY,
    check,
    failures,
    inbox_of,
    statuses,
    trusting,
)
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, capability
from support.servers import DENIED, Servers
from support.token_endpoint import TokenEndpoint, http, rejected

from exo_imap_oauth.checkup import check_setup
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


def test_a_context_that_does_not_verify_gets_neither_secret_nor_token(
    exchange: ReadyExchange,
) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    report = check_setup(inbox_of(exchange), ssl_context=context)
    assert failures(report) == ["token-endpoint", "imap-endpoint"]
    assert exchange.token_requests == ()
    assert exchange.logins == ()


def test_an_outage_of_entra_beyond_the_time_is_reported_at_once(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.TOKEN_UNAVAILABLE, times=None, seconds=3600)
    report = check_setup(inbox_of(exchange), ssl_context=exchange.ssl_context)
    first = report.first_failure
    assert first
    assert (first.id, first.advice and first.advice.id) == ("token", "entra-unavailable")
    assert "503" in first.detail


def test_the_token_endpoint_is_looked_at_with_a_get_of_its_root_before_a_secret_is_sent(
    exchange: ReadyExchange,
) -> None:
    with TokenEndpoint(http(404), rejected()) as endpoint:
        inbox = inbox_of(exchange, token_uri=endpoint.url)
        report = check_setup(inbox, ssl_context=trusting(exchange))
    assert failures(report) == ["token"]
    assert [head.split("HTTP")[0] for head in endpoint.headers] == [
        "GET / ",
        f"POST {endpoint.url.partition(str(endpoint.port))[2]} ",
    ]
    assert endpoint.forms[0] == {}


def test_a_server_without_xoauth2_gets_no_token(exchange: ReadyExchange) -> None:
    with ScriptedImap([GREETING, capability("IMAP4rev1 AUTH=PLAIN"), LOGOUT], tls=True) as server:
        inbox = inbox_of(exchange, host=server.host, port=server.port)
        report = check_setup(inbox, ssl_context=trusting(exchange))
    assert failures(report) == ["mechanism"]
    assert "AUTH=PLAIN" in check(report, "mechanism").detail


class Dripping:
    """An IMAP server that sends a byte now and then, from some point on.

    Args:
        commands: So many it answers before.
        end: What it says when :attr:`over` is set.

    Attributes:
        over: Set it to have it stop; leaving the ``with`` does so too.
        closed_by_client: Whether the client has closed the connection when it ends.
    """

    def __init__(self, commands: int, end: bytes = b"") -> None:
        self._commands = commands
        self._end = end
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.over = threading.Event()
        self.closed_by_client = False
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join(60)
        self._listener.close()

    def _serve(self) -> None:
        raw, _ = self._listener.accept()
        raw.settimeout(60)
        with raw, server_context().wrap_socket(raw, server_side=True) as connection:
            try:
                if self._commands:
                    connection.sendall(b"* OK hello\r\n")
                for _ in range(self._commands):
                    self._answer(connection)
                connection.sendall(b"* OK ")
                while not self.over.wait(0.02):
                    connection.sendall(b"*")
                if self._end:
                    connection.sendall(self._end)
                    self._answer(connection)
                while connection.recv(65536):
                    pass
            except TimeoutError:
                return
            except OSError:  # closed without an end of TLS
                pass
            self.closed_by_client = True

    def _answer(self, connection: ssl.SSLSocket) -> None:
        tag, _, _ = connection.recv(65536).partition(b" ")
        offered = b"* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR\r\n"
        connection.sendall(offered + tag + b" OK done\r\n")


def join_checkup_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "exo_imap_oauth-checkup":
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("commands", "check_id", "advice_id"),
    [
        (0, "imap-endpoint", "imap-unreachable"),
        (1, "authenticate", "connection-closed"),
        (2, "mailbox", "connection-closed"),
    ],
)
def test_a_server_that_drips_is_left_in_time(
    exchange: ReadyExchange, commands: int, check_id: str, advice_id: str
) -> None:
    with Dripping(commands) as server:
        inbox = inbox_of(exchange, host="127.0.0.1", port=server.port)
        report = check_setup(inbox, ssl_context=trusting(exchange), timeout=1.5)
    join_checkup_threads()
    first = report.first_failure
    assert first
    assert (first.id, first.advice and first.advice.id) == (check_id, advice_id)
    assert "1.5 s" in first.detail
    assert server.closed_by_client


def test_a_connection_that_is_made_too_late_is_closed(exchange: ReadyExchange) -> None:
    with Dripping(0, end=b"\r\n") as server:
        inbox = inbox_of(exchange, host="127.0.0.1", port=server.port)
        report = check_setup(inbox, ssl_context=trusting(exchange), timeout=1.5)
        server.over.set()
        join_checkup_threads()
    assert failures(report) == ["imap-endpoint"]
    assert server.closed_by_client


@pytest.mark.parametrize(
    ("fault", "command", "check_id", "advice_id"),
    [
        (Fault.TOKEN_EXPIRED_CERTIFICATE, None, "token-endpoint", "certificate-untrusted"),
        (Fault.TOKEN_FOREIGN_CERTIFICATE, None, "token-endpoint", "certificate-untrusted"),
        (Fault.TOKEN_REFUSE, None, "token-endpoint", "token-endpoint-unreachable"),
        (Fault.TOKEN_HTML, None, "token", "token-endpoint-unreachable"),
        (Fault.TOKEN_THROTTLED, None, "token", "throttled"),
        (Fault.IMAP_BYE_GREETING, None, "imap-endpoint", "connection-closed"),
        (Fault.IMAP_NO_XOAUTH2, None, "mechanism", "wrong-port"),
        (Fault.IMAP_CONNECTION_CLOSED, "AUTHENTICATE", "authenticate", "connection-closed"),
        (Fault.IMAP_CHALLENGE, None, "authenticate", "authenticate-refused"),
        (Fault.IMAP_STALL, "EXAMINE", "mailbox", "imap-unreachable"),
        (Fault.IMAP_THROTTLED, "EXAMINE", "mailbox", "throttled"),
    ],
)
def test_a_fault_on_the_way_is_reported_where_it_struck(
    exchange: ReadyExchange, fault: Fault, command: str | None, check_id: str, advice_id: str | None
) -> None:
    # What is asked for goes beyond the time, so that nothing is waited for but a stall.
    seconds = 3600 if fault is Fault.TOKEN_THROTTLED else None
    exchange.inject(fault, times=None, command=command, seconds=seconds)
    report = check_setup(
        inbox_of(exchange),
        ssl_context=exchange.ssl_context,
        timeout=1.5 if fault in (Fault.IMAP_STALL, Fault.TOKEN_REFUSE) else 30,
    )
    first = report.first_failure
    assert first
    assert (first.id, first.advice and first.advice.id) == (check_id, advice_id), str(report)
    if fault is Fault.IMAP_CHALLENGE:
        assert "(challenge: " in first.detail


def test_a_token_endpoint_that_says_nothing_is_left_in_time(exchange: ReadyExchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"https://127.0.0.1:{listener.getsockname()[1]}/{NOBODY}/oauth2/v2.0/token"
        report = check_setup(
            inbox_of(exchange, token_uri=uri), ssl_context=exchange.ssl_context, timeout=0.4
        )
    assert report.first_failure
    assert report.first_failure.id == "token-endpoint"


@pytest.mark.parametrize(
    ("changes", "check_id", "text"),
    [
        ({"folder": "a\u2028b"}, "config", "control character"),
        ({"user": "a\ud800@contoso.example"}, "config", "surrogate"),
        ({"client_id": "an id"}, "config", "client_id"),
        ({"client_secret": None}, "config", "client_secret: is missing"),
        ({"token_uri": "https://[x/"}, "config", "Invalid IPv6 URL"),
        ({"host": "a" * 64 + ".example"}, "imap-endpoint", "Unicode"),
    ],
)
def test_values_that_cannot_work_are_findings_not_exceptions(
    exchange: ReadyExchange, changes: dict[str, Any], check_id: str, text: str
) -> None:
    report = check_setup(inbox_of(exchange, **changes), ssl_context=exchange.ssl_context)
    assert failures(report) == [check_id]
    assert text in check(report, check_id).detail


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_no_thread_can_wait_for_is_refused(
    exchange: ReadyExchange, timeout: float
) -> None:
    with pytest.raises(ValueError, match="timeout"):
        check_setup(inbox_of(exchange), timeout=timeout)


# ---- a real server ---------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_against_dovecot_all_that_applies_passes(servers: Servers, tls: str) -> None:
    exchange, server = servers.exchange, servers.dovecot
    port = server.port if tls == "implicit" else server.plain_port
    report = check_setup(
        inbox_of(exchange, host=server.host, port=port, tls=tls),
        enterprise_object_id=exchange.app.enterprise_object_id,
        ssl_context=trusting(exchange),
    )
    assert set(statuses(report).values()) == {"passed"}, str(report)


def test_dovecots_challenge_stands_in_the_report(servers: Servers) -> None:
    exchange, server = servers.exchange, servers.dovecot
    report = check_setup(
        inbox_of(exchange, host=server.host, port=server.port, user=DENIED),
        ssl_context=trusting(exchange),
    )
    assert failures(report) == ["authenticate"]
    refused = check(report, "authenticate")
    assert json.dumps(server.challenge(token_is_valid=True)) in refused.detail
    assert "[AUTHENTICATIONFAILED]" in refused.detail
    assert refused.advice is None  # it is not for us to explain Dovecot
    assert check(report, "mailbox").status == "skipped"
