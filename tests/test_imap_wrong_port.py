"""Another service on the port, plain text in place of TLS, and servers that fall silent."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from support.imap import OPENING, TOKEN, USER, opened_scripted
from support.scripted_imap import CLIENT_CLOSES, GREETING, ScriptedImap, Step, capability

from exo_imap_oauth import open_mailbox
from exo_imap_oauth._imap.connection import Server, connect
from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.errors import ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Generator

POP = "+OK The Microsoft Exchange POP3 service is ready. [TABPADIAUAA=]"
SMTP = "220 AM0PR02CA0012.outlook.office365.com Microsoft ESMTP MAIL Service ready"


@pytest.fixture
def plain_port() -> Generator[int]:
    """The port of a server that greets in plain text, as SMTP and STARTTLS begin."""

    def greet() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(f"{SMTP}\r\n".encode())
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                while connection.recv(65_536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


# ---- POP and SMTP ----------------------------------------------------------------------------


@pytest.mark.parametrize("greeting", [POP, "+OK", SMTP, "SSH-2.0-OpenSSH_9.2p1"])
@pytest.mark.parametrize("tls", [True, False])
def test_another_service_on_the_port_is_named_with_its_greeting(greeting: str, tls: bool) -> None:
    with ScriptedImap([Step(None, greeting), CLIENT_CLOSES], tls=tls) as server:
        with pytest.raises(ConnectionFailed) as raised:
            opened_scripted(server, starttls=not tls).__enter__()
        port = server.port
    error = raised.value
    assert greeting in str(error)
    assert error.last_reply == greeting
    assert not error.retryable
    assert error.advice is not None
    assert error.advice.id == "wrong-port"
    assert f"127.0.0.1:{port}" in error.advice.cause
    assert "993" in error.advice.fix


def test_the_greeting_of_another_service_that_holds_the_token_is_not_quoted() -> None:
    with ScriptedImap([Step(None, f"+OK {TOKEN}"), CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(ConnectionFailed) as raised:
            opened_scripted(server).__enter__()
    assert TOKEN not in str(raised.value)
    assert TOKEN not in str(raised.value.last_reply)
    assert raised.value.advice is not None
    assert raised.value.advice.id == "wrong-port"


def test_the_greeting_of_a_service_that_is_not_known_is_told_and_may_pass() -> None:
    greeting = "HTTP/1.1 503 Service Unavailable"
    with ScriptedImap([Step(None, greeting), CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(ConnectionFailed, match=r"HTTP/1\.1 503") as raised:
            opened_scripted(server).__enter__()
    assert raised.value.retryable
    assert raised.value.advice is not None
    assert raised.value.advice.id == "imap-unreachable"


def test_a_greeting_of_imap_that_says_bye_is_no_wrong_port() -> None:
    with ScriptedImap(
        [Step(None, "* BYE Connection closed. 14"), CLIENT_CLOSES], tls=True
    ) as server:
        with pytest.raises(ConnectionFailed) as raised:
            opened_scripted(server).__enter__()
    assert raised.value.advice is not None
    assert raised.value.advice.id == "connection-closed"


# ---- plain text where TLS should begin -------------------------------------------------------


def test_plain_text_in_place_of_tls_is_no_lack_of_network(plain_port: int) -> None:
    with pytest.raises(ConnectionFailed) as raised:
        with open_mailbox(USER, TOKEN, host="127.0.0.1", port=plain_port):
            pass
    error = raised.value
    assert error.advice is not None
    assert error.advice.id == "imap-unreachable"
    assert "answered in plain text where TLS should begin" in error.advice.cause
    assert f"127.0.0.1:{plain_port}" in error.advice.cause
    assert "no network" not in error.advice.cause
    assert error.retryable  # Exchange does so now and then


@pytest.mark.parametrize("port", ["25", "110", "587"])
def test_plain_text_on_a_port_of_another_service_means_that_service(port: str) -> None:
    message = "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"
    advice = advise(message, stage="authenticate", host="outlook.office365.com", port=port)
    assert advice is not None
    assert advice.id == "wrong-port"
    assert f"outlook.office365.com:{port}" in advice.cause


# ---- a server that falls silent --------------------------------------------------------------


def _assert_silent(error: ConnectionFailed, port: int) -> None:
    assert error.advice is not None
    assert error.advice.id == "imap-unreachable"
    assert "did not answer any more" in error.advice.cause
    assert f"127.0.0.1:{port}" in error.advice.cause
    assert error.advice.commands == (f"openssl s_client -connect '127.0.0.1:{port}'",)
    assert error.retryable


def test_a_server_that_falls_silent_in_the_session_is_named_with_its_port() -> None:
    with ScriptedImap([*OPENING, Step("{tag} NOOP"), CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(ConnectionFailed) as raised:
            with opened_scripted(server) as imap:
                imap.sock.settimeout(0.2)
                imap.noop()
        _assert_silent(raised.value, server.port)


@pytest.mark.parametrize("silent_at", ["{tag} AUTHENTICATE XOAUTH2 .+", "{tag} SELECT .+"])
def test_a_server_that_falls_silent_on_the_way_in_is_named_with_its_port(silent_at: str) -> None:
    script = [GREETING, capability()]
    if "SELECT" in silent_at:
        script.append(Step("{tag} AUTHENTICATE XOAUTH2 .+", "{tag} OK AUTHENTICATE completed."))
    script += [Step(silent_at), CLIENT_CLOSES]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ConnectionFailed) as raised:
            opened_scripted(server, timeout=0.2).__enter__()
        _assert_silent(raised.value, server.port)


def test_a_server_that_never_greeted_is_not_said_to_have_been_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server("127.0.0.1", listener.getsockname()[1], starttls=True)
        with pytest.raises(ConnectionFailed) as raised:
            connect(server, None, 0.2)
    assert raised.value.advice == explain("imap-unreachable", **server.known)
