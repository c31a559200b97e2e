"""How the tests talk to the loopback service: plain requests, imaplib and bytes."""

from __future__ import annotations

import base64
import imaplib
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import requests

if TYPE_CHECKING:
    import ssl

    from exo_imap_oauth.testing import LoopbackExchange, ReadyExchange

SCOPE = "https://outlook.office365.com/.default"
TIMEOUT = 60.0


def http(
    exchange: LoopbackExchange,
    url: str,
    data: dict[str, str] | bytes | None = None,
    method: str = "POST",
) -> requests.Response:
    with tempfile.TemporaryDirectory() as folder:
        ca = exchange.write_ca(Path(folder) / "ca.pem")
        return requests.request(method, url, data=data, verify=str(ca), timeout=TIMEOUT)


def form(exchange: ReadyExchange, **changes: str | None) -> dict[str, str]:
    fields: dict[str, str | None] = {
        "grant_type": "client_credentials",
        "client_id": exchange.app.client_id,
        "client_secret": exchange.secret.value,
        "scope": SCOPE,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def fetch_token(exchange: ReadyExchange, **changes: str | None) -> str:
    uri = exchange.token_uri(exchange.app.tenant_id)
    answer = http(exchange, uri, form(exchange, **changes))
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    assert isinstance(token, str)
    return token


def sasl(user: str, token: str) -> bytes:
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()


def connect(exchange: LoopbackExchange) -> imaplib.IMAP4_SSL:
    return imaplib.IMAP4_SSL(
        exchange.host, exchange.port, ssl_context=exchange.ssl_context, timeout=TIMEOUT
    )


def log_in(exchange: ReadyExchange, user: str | None = None) -> imaplib.IMAP4_SSL:
    token = fetch_token(exchange)
    imap = connect(exchange)
    imap.authenticate("XOAUTH2", lambda _: sasl(user or exchange.mailbox, token))
    return imap


def content(imap: imaplib.IMAP4, uid: str) -> bytes:
    """The content of a message, if all is well."""
    status, (part, *_) = imap.uid("FETCH", uid, "(BODY.PEEK[])")
    assert status == "OK"
    found: bytes = part[1]
    return found


def has_all(imap: imaplib.IMAP4) -> bool:
    """Whether the three messages that are there at first come."""
    return all(b"sample message" in content(imap, uid) for uid in ("101", "102", "103"))


class Wire:
    """Bytes to and from the IMAP server."""

    def __init__(self, exchange: LoopbackExchange) -> None:
        raw = socket.create_connection(("127.0.0.1", exchange.port), timeout=TIMEOUT)
        self.socket: ssl.SSLSocket = exchange.ssl_context.wrap_socket(
            raw, server_hostname=exchange.host
        )
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\r\n")

    def line(self) -> bytes:
        return self._file.readline()

    def ask(self, command: str) -> list[bytes]:
        """Send a tagged command: the lines up to its tagged reply, a BYE or the end."""
        self.send(command)
        tag = command.split(" ", 1)[0].encode() + b" "
        lines = [self.line()]
        while lines[-1] and not lines[-1].startswith((tag, b"* BYE", b"+")):
            lines.append(self.line())
        return lines

    def authenticate(self, user: str, token: str) -> bytes:
        return self.ask(f"A1 AUTHENTICATE XOAUTH2 {base64.b64encode(sasl(user, token)).decode()}")[
            -1
        ]
