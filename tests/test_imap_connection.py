"""The connection: TLS before the token, its limits, and servers that cannot be reached."""

from __future__ import annotations

import imaplib
import socket
import ssl
import warnings
from typing import TYPE_CHECKING

import pytest
from support.imap import OPENING, TOKEN, USER, connected, opened, opened_scripted, source_of
from support.scripted_imap import CLIENT_CLOSES, GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import authenticate_xoauth2, open_mailbox
from exo_imap_oauth.errors import ConnectionFailed, InsecureConnectionError, Throttled

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


def test_the_connection_waits_for_no_more_data_and_has_a_timeout_by_default() -> None:
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server, opened_scripted(server) as imap:
        assert imap.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert 0 < imap.sock.gettimeout() <= 30


# ---- TLS before token ------------------------------------------------------------------------


def test_imaplibs_default_does_not_verify_and_gets_no_token(exchange: ReadyExchange) -> None:
    with imaplib.IMAP4_SSL(exchange.host, exchange.port) as imap:
        with pytest.raises(InsecureConnectionError, match=r"ssl\.create_default_context"):
            authenticate_xoauth2(imap, USER, TOKEN)
        assert exchange.logins == ()
        source = source_of(exchange, exchange.app, exchange.secret.value)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            authenticate_xoauth2(imap, USER, source, allow_unverified_tls=True)


def test_a_context_without_host_name_check_gets_no_token(exchange: ReadyExchange) -> None:
    exchange.ssl_context.check_hostname = False
    with connected(exchange) as imap, pytest.raises(InsecureConnectionError):
        authenticate_xoauth2(imap, USER, TOKEN)
    with pytest.raises(InsecureConnectionError), opened(exchange, TOKEN):
        pass
    assert exchange.logins == ()


@pytest.mark.parametrize("allowed", [False, True])
def test_a_plain_connection_never_gets_a_token(allowed: bool) -> None:
    with ScriptedImap([GREETING, capability(), LOGOUT]) as server:
        with imaplib.IMAP4(server.host, server.port) as imap:
            with pytest.raises(InsecureConnectionError, match="starttls"):
                authenticate_xoauth2(imap, USER, TOKEN, allow_unverified_tls=allowed)
    assert not [line for line in server.lines if b"AUTH" in line]


def test_starttls_that_is_not_offered_ends_the_attempt() -> None:
    with ScriptedImap([GREETING, capability(), LOGOUT]) as server:
        with pytest.raises(InsecureConnectionError, match="STARTTLS"):
            with opened_scripted(server, starttls=True):
                pass


# ---- servers that cannot be reached ----------------------------------------------------------


def test_a_server_that_refuses_starttls_is_left_at_once() -> None:
    script = [
        GREETING,
        capability("IMAP4rev1 STARTTLS AUTH=XOAUTH2"),
        Step("{tag} STARTTLS", "{tag} NO not now"),
        CLIENT_CLOSES,
    ]
    with ScriptedImap(script) as server:
        with pytest.raises(ConnectionFailed, match="cannot be reached"):
            opened_scripted(server, starttls=True).__enter__()


def test_a_server_that_throttles_before_the_login_says_how_long_to_wait() -> None:
    said = "Request is throttled. Suggested Backoff Time: 7000 milliseconds"
    script = [GREETING, Step("{tag} CAPABILITY", f"{{tag}} BAD {said}")]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(Throttled) as raised:
            opened_scripted(server).__enter__()
    assert raised.value.retry_after == 7


def test_a_server_that_says_nothing_is_left_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionFailed) as raised:
            with open_mailbox(USER, TOKEN, host="127.0.0.1", port=port, timeout=0.2):
                pass
    assert raised.value.retryable


@pytest.mark.parametrize("host", ["127.0.0.1", "name.invalid"])
def test_an_unreachable_server_is_named(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed) as raised:
        with open_mailbox(USER, TOKEN, host=host, port=port):
            pass
    assert f"{host}:{port}" in str(raised.value)
    assert raised.value.advice
    assert raised.value.advice.id == "imap-unreachable"


def test_a_bundle_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ConnectionFailed, match=r"/nowhere/ca\.pem") as raised:
        with open_mailbox(USER, TOKEN, host="127.0.0.1"):
            pass
    assert not raised.value.retryable


def test_an_untrusted_certificate_is_named(exchange: ReadyExchange) -> None:
    with pytest.raises(ConnectionFailed) as raised:
        with opened(exchange, TOKEN, ssl_context=ssl.create_default_context()):
            pass
    assert raised.value.advice
    assert raised.value.advice.id == "certificate-untrusted"
    assert not raised.value.retryable
