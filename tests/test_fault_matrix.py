"""Each fault of the table ends as it says, in time, and leaves nothing; the next login works."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme
from support import HOST, authority, client_context, server_context
from support.echoing_imap import EchoingImap
from support.fault_matrix import (
    COMMAND,
    DEADLINE,
    FAULTS,
    LIMITS,
    PAGE,
    SLACK,
    STAGES,
    TIMEOUT,
    Fault,
    page,
)
from support.interrupts import sigint_handled
from support.token_endpoint import TokenEndpoint, http, rejected, token

from exo_imap_oauth import open_mailbox
from exo_imap_oauth.errors import ExoImapOAuthError
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator
    from types import FrameType

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"
BY_ID = {fault.id: fault for fault in FAULTS}
HANGS = TIMEOUT + 30.0  # s after which a test gives up on a call that has no end


# ---- what breaks -----------------------------------------------------------------------------


def reset(connection: socket.socket) -> None:
    """End it with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close(connection: socket.socket) -> None:
    connection.close()


def stay_silent(connection: socket.socket) -> None:
    """Say nothing until the client goes away."""
    while connection.recv(65_536):
        pass


def drip(text: bytes, *, once: bytes = b"") -> Callable[[socket.socket], None]:
    """Say it byte by byte, again and again, until the client goes away."""

    def dripping(connection: socket.socket) -> None:
        connection.sendall(once)
        connection.settimeout(TIMEOUT / 10)
        while True:
            for at in range(len(text)):
                connection.sendall(text[at : at + 1])
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65_536):
                        return

    return dripping


def flood(text: bytes, *, once: bytes = b"") -> Callable[[socket.socket], None]:
    """Say it without an end, until the client goes away."""

    def flooding(connection: socket.socket) -> None:
        connection.sendall(once)
        while True:
            connection.sendall(text * 100)

    return flooding


def with_certificate(*names: str, expired: bool = False, stranger: bool = False) -> ssl.SSLContext:
    ca = trustme.CA() if stranger else authority()
    ended = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if expired else None
    return server_context(ca.issue_cert(*names, not_after=ended))


CERTIFICATES: dict[str, Callable[[], ssl.SSLContext]] = {
    "a certificate of somebody else": lambda: with_certificate(HOST, stranger=True),
    "a certificate for another name": lambda: with_certificate("mail.fabrikam.example"),
    "a certificate that has expired": lambda: with_certificate(HOST, expired=True),
}
STAGE_FAULTS: dict[str, str | Callable[[socket.socket], None]] = {
    "connection reset": reset,
    "connection closed": close,
    "silence": stay_silent,
    "a byte now and then": drip(b"* OK still here\r\n"),
    "lines without an end": flood(b"* 1 EXISTS\r\n"),
    "a line without an end": flood(b"* OK xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    "a literal of a terabyte": "* 1 FETCH (X {1000000000000}\r\n",
    "no IMAP": "HTTP/1.1 400 Bad Request\r\n",
    "BYE": "* BYE Connection closed. 14\r\n",
}
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
ANSWERS: dict[str, Any] = {
    "connection reset": reset,
    "connection closed": close,
    "silence": stay_silent,
    "a byte of the head now and then": drip(b"HTTP/1.1 200 OK\r\nX: y\r\n" + b"X" * 200),
    "a byte of the body now and then": drip(b" ", once=HEAD),
    "no HTTP": b"* OK The Microsoft Exchange IMAP4 service is ready.\r\n",
    "503": http(503, "busy"),
    "a body without an end": flood(b" " * 8_000, once=HEAD),
    "200 that is not a token": http(200, "<html>", json_body=False),
    "429 with a pause beyond the deadline": http(429, "slow down", Retry_After="600"),
    "a redirect": http(302, "", Location="https://login.example/"),
    "refusal": rejected(),
}


@contextlib.contextmanager
def broken(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[], object]]:
    """The world with this fault, and the call that meets it."""
    with contextlib.ExitStack() as stack:
        if fault.place == "token endpoint":
            yield _at_endpoint(fault.what, stack, monkeypatch)
        elif fault.place == "this machine":
            yield _on_machine(fault.what, stack, monkeypatch)
        else:
            yield _at_imap(fault.place.removeprefix("IMAP, "), fault.what, stack)


def _at_endpoint(
    what: str, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], object]:
    context = CERTIFICATES[what]() if what in CERTIFICATES else None
    server = TokenEndpoint(ANSWERS.get(what, token()), context=context)
    if what == "connection refused":
        server._listener.close()
    else:
        stack.enter_context(server)
    if what.startswith("a proxy"):
        answer = b"HTTP/1.1 %s\r\n\r\n" % (b"407 No" if "password" in what else b"502 No")
        speak = drip(answer + b"X" * 200) if "now and then" in what else answer
        port = stack.enter_context(_plain_server(speak))
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{port}")
        monkeypatch.setenv("NO_PROXY", "")
    return lambda: _get_token(server)


def _get_token(server: TokenEndpoint) -> object:
    options = {"cache": MemoryTokenCache(), "timeout": TIMEOUT, "deadline": DEADLINE}
    return server.source(**options).get_token()


@contextlib.contextmanager
def _plain_server(speak: bytes | Callable[[socket.socket], None]) -> Generator[int]:
    """A server without TLS that reads once and then speaks."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(HANGS)
                    connection.recv(65_536)
                    if callable(speak):
                        speak(connection)
                    else:
                        connection.sendall(speak)

        thread = threading.Thread(target=serve, name="plain-server", daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(HANGS)


def _at_imap(place: str, what: str, stack: contextlib.ExitStack) -> Callable[[], object]:
    context = CERTIFICATES[what]() if what in CERTIFICATES else None
    starttls = place == "STARTTLS"
    server = EchoingImap(tls=not starttls, context=context)
    if what == "connection refused":
        server._listener.close()
    else:
        stack.enter_context(server)
    if starttls:
        server.replies = dict([STARTTLS_FAULTS[what]])
    elif place != "connect":
        server.replies = {"GREETING" if place == "greeting" else place: STAGE_FAULTS[what]}
    port = server.port
    if what == "silence in place of TLS":
        port = stack.enter_context(_plain_server(stay_silent))
    return lambda: _open(port, starttls=starttls)


STARTTLS_FAULTS = {
    "not offered": (
        "CAPABILITY",
        "* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\r\n{tag} OK done\r\n",
    ),
    "more said before TLS begins": (
        "STARTTLS",
        "{tag} OK Begin TLS\r\n* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\r\nBAAA9 OK forged\r\n",
    ),
    "refused": ("STARTTLS", "{tag} NO not now\r\n"),
}


def _open(port: int, *, starttls: bool = False, host: str = HOST) -> object:
    context = client_context()
    with open_mailbox(
        USER, TOKEN, host=host, port=port, starttls=starttls, ssl_context=context, timeout=TIMEOUT
    ) as imap:
        return imap.state


def _on_machine(
    what: str, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], object]:
    if what.startswith("Ctrl-C"):
        return _interrupted(what.rpartition(" ")[2], stack)
    server = stack.enter_context(TokenEndpoint(token()))
    imap = stack.enter_context(EchoingImap())
    asks_imap = "IMAP" in what
    if "hangs" in what or "not found" in what:
        service = _hanging(stack) if "hangs" in what else _finding_nothing
        monkeypatch.setattr("socket.getaddrinfo", _asking(service))
        server.url = server.url.replace(HOST, "login.example")
        if asks_imap:
            return lambda: _open(imap.port, host="imap.example")
    elif "clock" in what:
        real, day = time.time, 86_400 if "ahead" in what else -86_400
        monkeypatch.setattr("time.time", lambda: real() + day)
        return lambda: (_get_token(server), _open(imap.port))
    else:
        return _without_descriptors(
            (lambda: _open(imap.port)) if asks_imap else (lambda: _get_token(server))
        )
    return lambda: _get_token(server)


def _hanging(stack: contextlib.ExitStack) -> Callable[[], None]:
    ends = threading.Event()
    stack.callback(ends.set)

    def hang() -> None:
        ends.wait(HANGS)

    return hang


def _asking(service: Callable[[], None]) -> Callable[..., Any]:
    """A ``getaddrinfo`` that asks this service for names, which then finds nothing."""
    real = socket.getaddrinfo

    def lookup(host: str, port: int, *arguments: int, flags: int = 0, **options: int) -> Any:
        if host[0].isdigit():
            return real(host, port, *arguments, **options)
        if not flags & socket.AI_NUMERICHOST:
            service()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    return lookup


def _finding_nothing() -> None: ...


def _without_descriptors(go: Callable[[], object]) -> Callable[[], object]:
    def call() -> object:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            return go()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return call


def _interrupted(stage: str, stack: contextlib.ExitStack) -> Callable[[], object]:
    """The call in the main thread, and SIGINT as soon as the server has been asked."""

    def silent(connection: socket.socket) -> None:
        _wait_until_the_handshake_is_over()
        os.kill(os.getpid(), signal.SIGINT)
        with contextlib.suppress(OSError):
            stay_silent(connection)

    stack.enter_context(sigint_handled())
    if stage == "fetched":
        server = stack.enter_context(TokenEndpoint(silent))
        return lambda: _get_token(server)
    imap = stack.enter_context(EchoingImap())
    imap.replies = {"GREETING" if stage == "greeting" else stage: silent}
    return lambda: _open(imap.port)


def _wait_until_the_handshake_is_over() -> None:
    """The server's half of it may be over before the client's, which cannot be interrupted."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    while True:
        frame: FrameType | None = sys._current_frames()[main_thread]
        names: set[str] = set()
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        if "_shake_hands" not in names:
            return
        time.sleep(0.01)


# ---- what comes of it ------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a caller got, and after how long."""

    kind: str
    retryable: bool | None
    seconds: float


def outcome_of(go: Callable[[], object], *, in_main_thread: bool) -> Outcome:
    """Make the call; one without an end fails the test and does not hang it."""
    future: Future[object] = Future()

    def call() -> None:
        try:
            future.set_result(go())
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            future.set_exception(error.with_traceback(None))

    began = time.monotonic()
    if in_main_thread:
        call()
    else:
        threading.Thread(target=call, name="the caller", daemon=True).start()
    error = future.exception(HANGS)
    seconds = time.monotonic() - began
    if error is None:
        return Outcome("works", None, seconds)
    retryable = error.retryable if isinstance(error, ExoImapOAuthError) else None
    return Outcome(type(error).__name__, retryable, seconds)


def left_behind() -> set[str]:
    """The library's threads, and the sockets of this process that are connected."""
    threads = {thread.name for thread in threading.enumerate() if "exo_imap" in thread.name}
    threads |= {t.name for t in threading.enumerate() if isinstance(t, threading.Timer)}
    return threads | _connections()


def _connections() -> set[str]:
    found: set[str] = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:"):
                found.add(f"{link.name} {target}")
    return found


def nothing_new(before: set[str]) -> set[str]:
    """What there is more than before; what is about to end gets the time for it."""
    give_up_at = time.monotonic() + SLACK + DEADLINE
    while (new := left_behind() - before) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return new


@pytest.mark.parametrize("fault_id", BY_ID)
def test_a_fault_ends_as_the_table_says(fault_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = BY_ID[fault_id]
    before = left_behind()
    with monkeypatch.context() as patch, broken(fault, patch) as go:
        outcome = outcome_of(go, in_main_thread="Ctrl-C" in fault.what)
    assert (outcome.kind, outcome.retryable) == (fault.outcome, fault.retryable)
    assert outcome.seconds <= LIMITS[fault.within] + SLACK
    assert nothing_new(before) == set()
    _log_in_normally()


def _log_in_normally() -> None:
    with TokenEndpoint(token()) as endpoint, EchoingImap() as server:
        source = endpoint.source(cache=MemoryTokenCache())
        options = {"host": server.host, "port": server.port, "ssl_context": server.ssl_context}
        with open_mailbox(USER, source, **options) as imap:  # type: ignore[arg-type] # of several types
            assert imap.noop()[0] == "OK"


def test_a_call_that_is_later_or_ends_otherwise_than_the_table_says_is_noticed() -> None:
    fine = outcome_of(lambda: None, in_main_thread=False)
    assert fine.kind == "works"
    failed = outcome_of(lambda: 1 / 0, in_main_thread=False)
    assert (failed.kind, failed.retryable) == ("ZeroDivisionError", None)


def test_a_socket_or_a_thread_that_is_left_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_fault_matrix.SLACK", 0.0)
    monkeypatch.setattr("test_fault_matrix.DEADLINE", 0.0)
    before = left_behind()
    one, other = socket.socketpair()
    with one, other:
        assert len(nothing_new(before)) == 2
    with _a_thread("exo_imap_oauth-left"):
        assert nothing_new(before) == {"exo_imap_oauth-left"}
    assert nothing_new(before) == set()


@contextlib.contextmanager
def _a_thread(name: str) -> Generator[None]:
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, name=name, daemon=True)
    thread.start()
    yield
    ends.set()
    thread.join()


def test_the_page_shows_the_table() -> None:
    assert PAGE.read_text("utf-8") == page(), f"{PAGE.name} is out of date; run: {COMMAND}"


def test_every_stage_has_every_fault() -> None:
    for stage in STAGES:
        assert {f.what for f in FAULTS if f.place == f"IMAP, {stage}"} == set(STAGE_FAULTS)
