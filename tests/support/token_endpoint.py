"""A token endpoint that gives the answers it is told to, for all that Entra does on bad days."""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import parse_qsl

from exo_imap_oauth import TokenSource
from exo_imap_oauth.token_cache import MemoryTokenCache
from support import HOST, client_context, server_context

TENANT = "0b0e7b5d-57d2-4a9f-9f0d-5a1f3f6f2c11"
CLIENT = "6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d"
SECRET = "s3cr3t~Value+with/odd=chars&"
_LIMIT = 60.0  # s, for a client that sends nothing, however busy the machine

importlib.import_module(
    "requests"
)  # else a first fetch does, for which a short deadline is too short

Answer = bytes | Callable[[ssl.SSLSocket], None]


def http(status: int, body: object = "", *, json_body: bool = True, **headers: str) -> bytes:
    """A whole HTTP answer; ``Retry_After="3"`` becomes that header."""
    payload = (json.dumps(body) if json_body else str(body)).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(payload)}", "Connection: close"]
    lines += (f"{name.replace('_', '-')}: {value}" for name, value in headers.items())
    return "\r\n".join([*lines, "", ""]).encode() + payload


def token(text: str = "a.token", expires_in: object = 3600, **more: object) -> bytes:
    """The answer that carries a token."""
    fields = {"token_type": "Bearer", "expires_in": expires_in, "access_token": text}
    return http(200, fields | more)


def rejected(code: int = 7000215, status: int = 401, error: str = "invalid_client") -> bytes:
    """Entra's refusal."""
    description = f"AADSTS{code}: Invalid client secret provided.\r\nTrace ID: t\r\n"
    ids = {"error_codes": [code], "trace_id": "trace-1", "correlation_id": "corr-1"}
    return http(status, {"error": error, "error_description": description, **ids})


class TokenEndpoint:
    """An HTTPS server on loopback; each request gets the next answer, the last one for ever.

    Attributes:
        forms: The requests' form fields, in order of arrival.
        headers: Their headers.
        release: Set it to end :meth:`stall`.
    """

    def __init__(self, *answers: Answer, context: ssl.SSLContext | None = None) -> None:
        self._answers = list(answers)
        self._context = context or server_context()
        self._listener = socket.create_server((HOST, 0))
        self._threads: list[threading.Thread] = []
        self._cache = MemoryTokenCache()
        self._lock = threading.Lock()
        self.forms: list[dict[str, str]] = []
        self.headers: list[str] = []
        self.arrived = threading.Semaphore(0)
        self.release = threading.Event()
        self.ssl_context = client_context()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://{HOST}:{self.port}/{TENANT}/oauth2/v2.0/token"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(_LIMIT)

    def source(self, client_secret: Any = SECRET, **options: Any) -> TokenSource:
        """A source that asks here."""
        # A cache of its own: another endpoint may get the same port later.
        own: dict[str, Any] = {
            "token_uri": self.url,
            "ssl_context": self.ssl_context,
            "cache": self._cache,
        }
        options = own | options
        return TokenSource(TENANT, CLIENT, client_secret, **options)

    def then(self, *answers: Answer) -> None:
        """From now on, give these answers."""
        with self._lock:
            self._answers = list(answers)

    def stall(self, answer: Answer = b"") -> Answer:
        """An answer that comes only after :attr:`release`."""

        def wait(connection: ssl.SSLSocket) -> None:
            self.release.wait(_LIMIT)
            connection.sendall(answer) if isinstance(answer, bytes) else answer(connection)

        return wait

    def wait_for_request(self) -> None:
        """Wait until another request has arrived."""
        assert self.arrived.acquire(timeout=_LIMIT), "no request arrived"

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, connection)

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError), raw:
            raw.settimeout(_LIMIT)
            with self._context.wrap_socket(raw, server_side=True) as connection:
                head, form = _read_request(connection)
                with self._lock:
                    self.headers.append(head)
                    self.forms.append(form)
                    last = len(self._answers) == 1
                    answer = self._answers[0] if last else self._answers.pop(0)
                self.arrived.release()
                connection.sendall(answer) if isinstance(answer, bytes) else answer(connection)


def _read_request(connection: ssl.SSLSocket) -> tuple[str, dict[str, str]]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    _, _, length_on = head.lower().partition(b"content-length:")
    length = int(length_on.split()[0]) if length_on else 0
    while len(body) < length:
        body += _some(connection)
    form = parse_qsl(body.decode(), strict_parsing=True) if body else []
    return head.decode(), dict(form)


def _some(connection: ssl.SSLSocket) -> bytes:
    if chunk := connection.recv(65536):
        return chunk
    raise ConnectionResetError
