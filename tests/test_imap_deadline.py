"""Servers, proxies and name services that never come to an end: the caller's time does."""

from __future__ import annotations

import imaplib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from support.dripping_imap import DrippingImap
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import _reach, authenticate_xoauth2, open_mailbox
from exo_imap_oauth._imap import client, connection
from exo_imap_oauth.errors import ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"
TIMEOUT = 0.5  # s; each byte of a dripping server comes long before it
AUTHENTICATE = Step("{tag} AUTHENTICATE XOAUTH2 .+", "* CAPABILITY IMAP4rev1\n{tag} OK done.")
SELECT = Step("{tag} SELECT .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done.")


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def opened(server: Any, **options: Any) -> Any:
    options = {"timeout": TIMEOUT, "ssl_context": server.ssl_context} | options
    return open_mailbox(USER, TOKEN, host=server.host, port=server.port, **options)


@pytest.mark.parametrize("stage", ["handshake", "greeting", "CAPABILITY", "AUTHENTICATE", "SELECT"])
def test_a_dripping_server_is_left_in_time(stage: str) -> None:
    with DrippingImap(stage) as server:
        with pytest.raises(ConnectionFailed) as raised:
            opened(server).__enter__()
    assert server.was_left
    assert raised.value.retryable


def test_what_came_to_no_end_is_named_after_the_whole_time() -> None:
    with DrippingImap("greeting") as server:
        with pytest.raises(ConnectionFailed, match=r"was not done within 1 s"):
            opened(server).__enter__()


@pytest.mark.parametrize("stage", ["greeting", "CAPABILITY", "STARTTLS"])
def test_a_server_that_drips_before_tls_begins_is_left_in_time(stage: str) -> None:
    with DrippingImap(stage, tls=False) as server:
        with pytest.raises(ConnectionFailed):
            opened(server, starttls=True).__enter__()
    assert server.was_left


def test_a_server_that_drips_its_logout_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_LOGOUT_TIME", TIMEOUT)
    with DrippingImap("LOGOUT") as server:
        with opened(server, timeout=5):
            pass
    assert server.was_left


@pytest.mark.parametrize("stage", ["AUTHENTICATE", "STATUS"])
def test_an_open_connection_that_drips_is_cut_in_time(stage: str) -> None:
    with DrippingImap(stage) as server:
        context = server.ssl_context
        imap = imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context, timeout=TIMEOUT)
        with pytest.raises(ConnectionFailed, match="within 1 s"):
            authenticate_xoauth2(imap, USER, TOKEN)
        imap.shutdown()
    assert server.was_left


def test_an_open_connection_without_a_timeout_is_not_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a thread was started")

    with ScriptedImap([GREETING, capability(), AUTHENTICATE, LOGOUT], tls=True) as server:
        with imaplib.IMAP4_SSL(server.host, server.port, ssl_context=server.ssl_context) as imap:
            monkeypatch.setattr(threading, "Timer", never)
            authenticate_xoauth2(imap, USER, TOKEN, verify_mailbox=False)


def test_in_the_body_each_wait_has_the_whole_timeout() -> None:
    script = [GREETING, capability(), AUTHENTICATE, SELECT, LOGOUT]
    with ScriptedImap(script, tls=True) as server, opened(server, timeout=7) as imap:
        assert imap.sock.gettimeout() == 7
        assert imap.ends_at is None


def test_a_name_service_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object, flags: int = 0, **__: object) -> Any:
        if not flags:
            released.wait(30)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(ConnectionFailed, match=r"not looked up within 0\.1 s"):
        open_mailbox(USER, TOKEN, host="mail.example", timeout=0.1).__enter__()
    (waiting,) = [t for t in threading.enumerate() if t.name == "exo_imap_oauth-lookup"]
    released.set()
    waiting.join()


def address(port: int) -> _reach.Address:
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)


def test_the_next_address_of_a_host_is_tried_where_one_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed_port = gone.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_port = listener.getsockname()[1]
        with _reach.first_to_answer([address(closed_port), address(open_port)], 5) as sock:
            assert sock.getpeername()[1] == open_port
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(ConnectionRefusedError):
        _reach.first_to_answer([address(closed_port)], 5)


def test_addresses_share_the_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def refuse(_: object, timeout: float) -> NoReturn:
        given.append(timeout)
        raise ConnectionRefusedError

    monkeypatch.setattr(_reach, "_connected", refuse)
    with pytest.raises(ConnectionRefusedError):
        _reach.first_to_answer([address(993)] * 4, 1_000)
    assert [round(timeout / 10) for timeout in given] == [25, 33, 50, 100]
    given.clear()
    with pytest.raises(ConnectionRefusedError):
        _reach.first_to_answer([address(993)] * 4, 6)
    assert [round(timeout) for timeout in given] == [3, 3, 3, 6]


def test_what_a_server_sends_in_clear_before_tls_is_never_taken_for_its_word() -> None:
    injected = "{tag} OK begin\n* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\nA1 OK done"
    script = [
        GREETING,
        capability("IMAP4rev1 STARTTLS AUTH=XOAUTH2"),
        Step("{tag} STARTTLS", injected),
    ]
    with ScriptedImap(script) as server:
        with pytest.raises(ConnectionFailed, match="before TLS began"):
            opened(server, starttls=True, timeout=5).__enter__()


def test_a_context_that_fails_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    reached = _reach.first_to_answer

    def recording(*arguments: Any) -> socket.socket:
        made.append(reached(*arguments))
        return made[-1]

    class Failing(ssl.SSLContext):
        def wrap_socket(self, *_: Any, **__: Any) -> NoReturn:
            raise ValueError("not like this")

    monkeypatch.setattr(client, "first_to_answer", recording)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        context = Failing(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(ConnectionFailed, match="not like this"):
            open_mailbox(
                USER, TOKEN, host="127.0.0.1", port=port, ssl_context=context, timeout=5
            ).__enter__()
    assert [sock.fileno() for sock in made] == [-1]
