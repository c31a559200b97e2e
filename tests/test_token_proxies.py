"""Proxies, name services and handshakes that hang, drip or talk: cut in time, and not quoted."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import HOST
from support.overheard import Overheard, shows
from support.token_endpoint import SECRET, TokenEndpoint, token

from exo_imap_oauth import _reach
from exo_imap_oauth._tokens import endpoint as token_endpoint
from exo_imap_oauth._tokens.endpoint import request_token, server_date
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PASSWORD = "pA55-word/of@the#proxy"
USER = "corp%5Cuser"
QUOTED = "pA55-word%2Fof%40the%23proxy"
LIMIT = 60.0  # s, for what must end soon, however busy the machine


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(token_endpoint, "_slept", never)


@contextlib.contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Generator[int]:
    """A server on loopback whose every connection is handed to ``talk``; gives its port."""
    listener = socket.create_server((HOST, 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(LIMIT)
            talk(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [accepting, *threads]:
            thread.join(LIMIT)
            assert not thread.is_alive()


def drip(connection: socket.socket, start: bytes, drop: bytes = b"x") -> None:
    """Say one byte every 20 ms for as long as somebody listens."""
    connection.sendall(start)
    connection.settimeout(0.02)
    while True:
        try:
            if not connection.recv(65_536):
                return
        except TimeoutError:
            connection.sendall(drop)


def dripping_proxy(connection: socket.socket) -> None:
    connection.recv(65_536)
    drip(connection, b"HTTP/1.1 200 Connection established\r\nX: ")


def dripping_status(connection: socket.socket) -> None:
    connection.recv(65_536)
    drip(connection, b"HTTP/1.1 200 ")


def endless_proxy(connection: socket.socket) -> None:
    connection.recv(65_536)
    drip(connection, b"HTTP/1.1 200 Connection established\r\n", b"X: y\r\n")


def dripping_handshake(connection: socket.socket) -> None:
    connection.recv(65_536)
    # A record of TLS 1.2 with a handshake message, of which the bytes come one by one.
    drip(connection, b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"\x03")


def handshake_behind_a_proxy(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    dripping_handshake(connection)


def silence(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def open_sockets() -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one of the folder itself
            count += str(link.readlink()).startswith("socket:")
    return count


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts sockets in /proc")
@pytest.mark.parametrize("is_proxy", [True, False])
@pytest.mark.parametrize(
    "talk",
    [
        dripping_proxy,
        dripping_status,
        endless_proxy,
        dripping_handshake,
        handshake_behind_a_proxy,
        silence,
    ],
)
def test_whoever_drips_is_cut_and_leaves_neither_thread_nor_socket(
    talk: Callable[[socket.socket], None], is_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = TokenEndpoint(token())
    endpoint._listener.close()
    before, sockets = set(threading.enumerate()), open_sockets()
    with serving(talk) as port:
        if is_proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{port}")
        else:
            endpoint.url = f"https://{HOST}:{port}/token"
        serving_threads = set(threading.enumerate())
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(timeout=0.3, deadline=0.3).get_token()
        assert raised.value.retryable
        for thread in set(threading.enumerate()) - serving_threads:
            thread.join(LIMIT)  # of the server too: it talks for as long as we listen
            assert not thread.is_alive(), thread.name
    assert set(threading.enumerate()) <= before
    assert open_sockets() == sockets


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize("ask", [request_token, server_date])
@pytest.mark.parametrize(
    ("talk", "is_proxy"),
    [
        (silence, False),
        (dripping_handshake, False),
        (silence, True),
        (dripping_proxy, True),
        (dripping_status, True),
        (endless_proxy, True),
        (handshake_behind_a_proxy, True),
    ],
)
def test_whoever_is_cut_is_said_to_have_been_too_slow(
    talk: Callable[[socket.socket], None],
    is_proxy: bool,
    ask: Callable[[Any], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = TokenEndpoint(token())
    endpoint._listener.close()
    with serving(talk) as port:
        if is_proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:{QUOTED}@{HOST}:{port}")
        else:
            endpoint.url = f"https://{HOST}:{port}/token"
        error = ask(endpoint.source(timeout=0.3)._request)
    assert isinstance(error, TokenEndpointUnavailable)
    through = f" through the proxy {HOST}:{port} (HTTPS_PROXY)" if is_proxy else ""
    expected = f" cannot be reached{through}: TimeoutError: no answer within 0.3 s"
    assert str(error.args[0]).endswith(expected)
    assert error.retryable


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize("length", [b"Content-Length: 8000\r\n", b""])
def test_an_answer_that_is_cut_is_said_to_be_incomplete(length: bytes) -> None:
    def dripping_body(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while not endpoint.release.wait(0.02):
            connection.sendall(b" ")

    with TokenEndpoint(dripping_body) as endpoint:
        error = request_token(endpoint.source(timeout=1.0)._request)
    assert isinstance(error, TokenEndpointUnavailable)
    assert "ReadTimeout: the answer was not complete within 1 s" in str(error)


@pytest.mark.usefixtures("one_try")
def test_a_name_service_that_answers_too_late_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def late(*arguments: Any, **options: Any) -> Any:
        threading.Event().wait(0.3)
        return real(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    endpoint = TokenEndpoint(token())
    endpoint._listener.close()
    error = request_token(endpoint.source(timeout=0.2)._request)
    assert "the name service answered too late" in str(error)


def test_a_proxy_of_the_systems_settings_is_named_without_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("requests.utils.getproxies", lambda: {"https": f"http://{HOST}:1"})
    endpoint = TokenEndpoint(token())
    endpoint._listener.close()
    error = server_date(endpoint.source()._request)
    assert isinstance(error, TokenEndpointUnavailable)
    assert f" cannot be reached through the proxy {HOST}:1: ConnectionRefused" in str(error)
    assert error.advice is not None
    assert error.advice.cause.startswith(f"The proxy {HOST}:1 gave no usable answer: ")
    assert error.advice.fix.startswith("Check the address of the proxy, and ask")


def test_the_watchdog_is_gone_when_the_exchange_is_over() -> None:
    with TokenEndpoint(token()) as endpoint:
        request = endpoint.source()._request
        for _ in range(10):
            request_token(request)
            assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_a_name_service_that_hangs_holds_its_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    real = socket.getaddrinfo

    def hang(*arguments: Any, **options: Any) -> Any:
        released.wait(LIMIT)
        return real(*arguments, **options)

    before = set(threading.enumerate())
    with TokenEndpoint(token("later")) as endpoint:
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        source = endpoint.source(timeout=0.2, deadline=0.2)
        with pytest.raises(TokenEndpointUnavailable, match="no answer"):
            source.get_token()
        released.set()
        for thread in set(threading.enumerate()) - before:
            if "token" in thread.name:
                thread.join(LIMIT)
                assert not thread.is_alive()
        assert endpoint.forms == []  # connected too late, so nothing was sent


def with_addresses(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Have a host resolve to these ports, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port)) for port in ports]

    def name_service(*_: object, **__: object) -> Any:
        return found

    monkeypatch.setattr(socket, "getaddrinfo", name_service)


def test_the_next_address_is_tried_where_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as closed:
        refusing = closed.getsockname()[1]
    with TokenEndpoint(token("second")) as endpoint:
        with_addresses(monkeypatch, refusing, endpoint.port)
        assert endpoint.source().get_token().token == "second"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a full queue to hang")
def test_addresses_that_do_not_answer_leave_time_for_one_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_reach, "_ADDRESS_SHARE", 0.05)
    with contextlib.ExitStack() as stack:
        listener = socket.socket()
        stack.callback(listener.close)
        listener.bind((HOST, 0))
        listener.listen(0)
        silent: int = listener.getsockname()[1]
        for _ in range(2):  # the queue is full now, so whoever connects waits
            client = socket.socket()
            stack.callback(client.close)
            client.setblocking(False)
            client.connect_ex((HOST, silent))
        endpoint = stack.enter_context(TokenEndpoint(token("last")))
        with_addresses(monkeypatch, silent, silent, silent, endpoint.port)
        assert endpoint.source(timeout=2.0).get_token().token == "last"


# ---- what they say ---------------------------------------------------------------------------


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    return talk


def heard(ask: Callable[[Any], object] = request_token) -> str:
    endpoint = TokenEndpoint(token())
    endpoint._listener.close()
    with Overheard() as overheard:
        error = ask(endpoint.source()._request)
        assert isinstance(error, TokenError)
        overheard.error(error)
    assert not shows(overheard.text, SECRET)
    return overheard.text


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize("ask", [request_token, server_date])
@pytest.mark.parametrize(
    "echo",
    [
        PASSWORD,
        QUOTED,
        base64.b64encode(rb"corp\user:" + PASSWORD.encode()).decode(),
        f"http://{USER}:{QUOTED}@proxy",
    ],
)
def test_a_proxy_that_says_its_password_is_not_quoted(
    echo: str, ask: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answering(f"HTTP/1.1 407 No, {echo}\r\n\r\n".encode())) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{USER}:{QUOTED}@{HOST}:{port}")
        said = heard(ask)
    assert "Tunnel connection failed: 407 No, " in said
    assert "(hidden)" in said
    assert not shows(said, PASSWORD)
    assert echo not in said


@pytest.mark.usefixtures("one_try")
def test_a_short_password_is_found_in_what_the_proxy_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = base64.b64encode(b"me:pw-7").decode()
    with serving(answering(f"HTTP/1.1 407 {sent} or pw-7\r\n\r\n".encode())) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pw-7@{HOST}:{port}")
        said = heard()
    assert "407 (hidden) or (hidden)" in said
    assert sent not in said
    assert "pw-7" not in said


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize(
    "proxy",
    [
        f"http://user:{PASSWORD}@proxy.example:8080",
        f"http://user:{PASSWORD}@",
        f"http://user:{PASSWORD}@[proxy",
        f"http://user:{PASSWORD}@proxy.example:80x",
        f"http://user:{PASSWORD}@proxy.example:999999",
        f"user:{PASSWORD}@:8080",
        f"http:/user:{PASSWORD}@proxy.example",
        f"socks5://user:{QUOTED}@proxy.example:1080",
        f"ftp://user:{QUOTED}@proxy.example",
        f"://user:{QUOTED}@proxy.example",
        f"http://user:{QUOTED}ü€@proxy.example",
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_malformed_proxy_is_told_without_its_password(
    proxy: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_name(*_: object, **__: object) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    monkeypatch.setenv(variable, proxy)
    said = heard()
    assert "proxy" in said
    assert not shows(said, PASSWORD)
    assert PASSWORD[:9] not in said


@pytest.mark.parametrize(
    "proxy",
    ["http://[x", "http://user:secret@", "http://:80", "socks5://proxy.example:1080", "ftp://x"],
)
def test_a_proxy_that_cannot_work_says_how_one_looks_and_is_not_tried_again(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenEndpointUnavailable) as raised:
        endpoint.source().get_token()
    assert "must be a URL like http://proxy.example:8080" in str(raised.value)
    assert not raised.value.retryable
    assert endpoint.forms == []


def test_a_proxy_over_tls_that_is_not_trusted_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with TokenEndpoint(token()) as proxy, TokenEndpoint(token()) as endpoint:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{HOST}:{proxy.port}")
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(ssl_context=ssl.create_default_context()).get_token()
        assert raised.value.advice
        assert raised.value.advice.id == "certificate-untrusted"
    assert proxy.headers == endpoint.headers == []
