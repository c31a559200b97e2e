"""An IMAP server that answers up to some stage, and then says one byte after another."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from support import HOST, client_context, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_PAUSE = 0.02  # s between two bytes
_PATIENCE = 1_500  # bytes: half a minute, many times what the clients of the tests may wait

ANSWERS = {
    "CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR STARTTLS\r\n",
    "AUTHENTICATE": b"* CAPABILITY IMAP4rev1\r\n",
    "SELECT": b"* 0 EXISTS\r\n",
    "STARTTLS": b"",
    "STATUS": b"",
}
"""What precedes the OK to a command."""


class DrippingImap:
    """Drips at one stage, to one client, until that leaves.

    Args:
        stage: ``handshake``, ``greeting`` or the name of a command.
        tls: Whether TLS is implicit.
        answers: What precedes the OK to a command.

    Attributes:
        host: ``127.0.0.1``.
        port: The port, from entering the ``with`` on.
        was_left: Whether the client left while it dripped; else the server lost its patience.
    """

    host = HOST

    def __init__(
        self, stage: str, *, tls: bool = True, answers: Mapping[str, bytes] = ANSWERS
    ) -> None:
        self._stage = stage
        self._tls = tls
        self._answers = answers
        self._over = threading.Event()
        self.port = 0
        self.was_left = False

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new verifying client context that trusts this server's certificate."""
        return client_context()

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="dripping-imap", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until the client has left, or until the server's patience is at an end."""
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            if self._stage == "handshake":
                self._drip(connection, b"\x16\x03\x03\x40\x00" + bytes(_PATIENCE))
                return
            if self._tls:
                connection = server_context().wrap_socket(connection, server_side=True)
            with contextlib.suppress(OSError), connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        if self._stage == "greeting":
            self._drip(connection, b"* OK " + b"x" * _PATIENCE)
            return
        connection.sendall(b"* OK ready\r\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                tag, command = line.split()[:2]
                if command.decode() == self._stage:
                    self._drip(connection, b"* OK " + b"x" * _PATIENCE)
                    return
                answer = self._answers.get(command.decode(), b"")
                connection.sendall(answer + tag + b" OK done\r\n")

    def _drip(self, connection: socket.socket, data: bytes) -> None:
        try:
            for byte in data:
                connection.sendall(bytes([byte]))
                self._over.wait(_PAUSE)
        except OSError:
            self.was_left = True
