"""The token endpoint's process: listeners, a thread for each connection, and its answers.

Of the loopback Exchange it takes the certificates alone. The rest is bare, so that the contenders
are measured and not the server: there one thread serves all connections, in which 64 callers at
once would queue, and each token is signed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from exo_imap_oauth.testing._certificates import Certificates
from exo_imap_oauth.testing._faults import Faults

from .behaviour import ERRORS, HOST, JSON, Behaviour, Counts

if TYPE_CHECKING:
    import ssl
    from multiprocessing.connection import Connection

_NO_LINGER = struct.pack("ii", 1, 0)  # close() then sends RST


def run(pipe: Connection[Any, Any]) -> None:
    """Tell the CA, then do what is asked through the pipe, until its other end is closed."""
    certificates, of_a_stranger = Certificates(Faults()), Certificates(Faults())
    pipe.send(certificates.ca_pem)
    ports: dict[int, _Port] = {}
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            command, *arguments = pipe.recv()
            if command == "open":
                port = _Port(certificates.server, of_a_stranger.server, *arguments)
                ports[port.number] = port
                pipe.send(port.number)
            elif command == "behave":
                ports[arguments[0]].behave(arguments[1])
                pipe.send(None)
            else:
                pipe.send(ports[arguments[0]].counts)


class _Port:
    """A listener; a thread for each connection."""

    def __init__(self, good: ssl.SSLContext, bad: ssl.SSLContext, behaviour: Behaviour) -> None:
        self._good, self._bad = good, bad
        self._listener = socket.create_server((HOST, 0), backlog=256)
        self.number: int = self._listener.getsockname()[1]
        self.counts = Counts()
        self._lock = threading.Lock()
        self._in_flight = 0
        self._open: set[socket.socket] = set()
        self.behave(behaviour)
        threading.Thread(target=self._accept, daemon=True).start()

    def behave(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._hold_until = time.monotonic() + behaviour.hold
        for connection in list(self._open):  # or a kept connection would miss the new mode
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if behaviour.kinds[0][0] == "refused":
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _pick(self) -> str:
        names, weights = zip(*self._behaviour.kinds, strict=True)
        return str(random.choices(names, weights)[0])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        kind = self._pick()
        with contextlib.suppress(OSError), raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if kind == "silent":
                self._count(failed=1)
                raw.recv(65536)  # its first words; what comes next is its hanging up
                self._hold(raw)
                return
            context = self._bad if kind == "TLS failure" else self._good
            self._count(failed=kind == "TLS failure")
            with context.wrap_socket(raw, server_side=True) as connection:
                self._open.add(connection)
                try:
                    while request := _read_request(connection):
                        self._answer(connection, request)
                finally:
                    self._open.discard(connection)

    def _answer(self, connection: ssl.SSLSocket, request: bytes) -> None:
        is_post = request.startswith(b"POST")
        kind = self._pick() if is_post else "token"
        with self._lock:
            self._in_flight += is_post
            self._count(http=1, posts=is_post, failed=kind != "token", stalled=kind == "stall")
            self.counts = self.counts._replace(at_once=max(self.counts.at_once, self._in_flight))
        try:
            reply = self._reply(connection, kind, request)
        finally:
            with self._lock:  # before the answer leaves, since the next request may follow it
                self._in_flight -= is_post
        connection.sendall(reply)
        if kind == "truncated":
            raise ConnectionAbortedError

    def _reply(self, connection: ssl.SSLSocket, kind: str, request: bytes) -> bytes:
        time.sleep(self._behaviour.latency)
        if kind == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            raise ConnectionResetError
        if kind == "stall":
            self._hold(connection)
        if kind == "dripping headers":
            self._hold(connection, drip=True)
            raise ConnectionAbortedError
        if kind in ERRORS:
            return _http(*ERRORS[kind])
        if request.startswith(b"GET"):
            return _discovery(request)
        fields: dict[str, object] = {
            "token_type": "Bearer",
            "expires_in": self._behaviour.expires_in,
            "access_token": f"token-{time.monotonic_ns()}.",
        }
        if self._behaviour.refresh_in is not None:
            fields["refresh_in"] = self._behaviour.refresh_in
        whole = _http(200, JSON, json.dumps(fields))
        return whole[:-20] if kind == "truncated" else whole

    def _hold(self, connection: socket.socket, *, drip: bool = False) -> None:
        """Wait until the hold ends or the client gives up."""
        if drip:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        client = select.poll()
        client.register(connection, select.POLLIN)
        while (left := self._hold_until - time.monotonic()) > 0:
            if client.poll(1000 * min(left, 0.25)):
                raise ConnectionAbortedError
            if drip:
                connection.sendall(b"-")

    def _count(self, **more: int) -> None:
        counts = self.counts._asdict()
        self.counts = self.counts._replace(**{name: counts[name] + n for name, n in more.items()})


def _read_request(connection: ssl.SSLSocket) -> bytes:
    """A whole request, or nothing at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := connection.recv(65536)):
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split()
    while length and len(body) < int(length[0]):
        if not (chunk := connection.recv(65536)):
            return b""
        body += chunk
    return data


@functools.cache
def _http(status: int, content_type: str, body: str, headers: str = "") -> bytes:
    lines = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n{headers}"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _discovery(request: bytes) -> bytes:
    """The OpenID Connect document that msal reads before its first token request."""
    path = request.split()[1].decode()
    host = request.lower().partition(b"host:")[2].split()[0].decode()
    base = f"https://{host}/{path.split('/')[1]}"
    return _http(
        200,
        JSON,
        json.dumps(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            }
        ),
    )
