"""An IMAP server that is polite at every step but those where it is told what to say instead."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, BinaryIO, Self

from support import HOST, client_context, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_LIMIT = 30.0  # s, for a client that says nothing, however busy the machine
_POLITE = {
    "GREETING": "* OK The Microsoft Exchange IMAP4 service is ready.\r\n",
    "CAPABILITY": "* CAPABILITY IMAP4rev1 STARTTLS AUTH=XOAUTH2 SASL-IR\r\n{tag} OK done\r\n",
    "AUTHENTICATE": "* CAPABILITY IMAP4rev1\r\n{tag} OK AUTHENTICATE completed.\r\n",
    "STATUS": "* STATUS INBOX (UIDVALIDITY 1)\r\n{tag} OK STATUS completed.\r\n",
    "SELECT": "* 1 EXISTS\r\n{tag} OK [READ-WRITE] SELECT completed.\r\n",
    "EXAMINE": "* 1 EXISTS\r\n{tag} OK [READ-ONLY] EXAMINE completed.\r\n",
    "LOGOUT": "* BYE Logging out\r\n{tag} OK LOGOUT completed.\r\n",
    "STARTTLS": "{tag} OK Begin TLS negotiation now.\r\n",
}


class EchoingImap:
    """Serves one connection after the other, in one thread, for a ``with``.

    Args:
        tls: Whether TLS begins at once; otherwise with STARTTLS.
        context: The server's side of TLS.

    Attributes:
        port: The port on 127.0.0.1.
        replies: What to say in place of the polite reply, by the name of the command, which may
            be ``GREETING``; ``{tag}`` is the command's tag. A reply without it is the last thing
            that is said on a connection. A function does with the connection what it likes.
        authenticates: How many AUTHENTICATE commands came.
    """

    host = HOST

    def __init__(self, *, tls: bool = True, context: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._server_context = context or server_context()
        self.ssl_context: ssl.SSLContext = client_context()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.replies: dict[str, str | Callable[[socket.socket], None]] = {}
        self.authenticates = 0

    def __enter__(self) -> Self:
        """Listen."""
        self._thread = threading.Thread(target=self._serve, name="echoing-imap", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and join the thread."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(_LIMIT)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError, ValueError), connection:
                connection.settimeout(_LIMIT)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not self._tls:
                    self._talk(connection)
                else:
                    with self._secured(connection) as secured:
                        self._talk(secured)

    def _secured(self, connection: socket.socket) -> ssl.SSLSocket:
        return self._server_context.wrap_socket(connection, server_side=True)

    def _talk(self, connection: socket.socket) -> None:
        if not self._say(connection, "GREETING", ""):
            return
        with connection.makefile("rb") as lines:
            command = self._answer_commands(connection, lines)
        if command == "STARTTLS":
            with self._secured(connection) as secured, secured.makefile("rb") as lines:
                self._answer_commands(secured, lines)

    def _answer_commands(self, connection: socket.socket, lines: BinaryIO) -> str:
        """Answer until the connection ends or TLS begins; return the last command."""
        for line in lines:
            tag, _, rest = line.decode("latin-1").strip().partition(" ")
            command = (rest.split() or [""])[0]
            if not tag:  # the answer to a challenge
                continue
            self.authenticates += command == "AUTHENTICATE"
            if not self._say(connection, command, tag) or command in {"LOGOUT", "STARTTLS"}:
                return command
        return ""

    def _say(self, connection: socket.socket, command: str, tag: str) -> bool:
        """Say what is due; return whether the connection goes on."""
        told = self.replies.get(command)
        reply = _POLITE.get(command, "{tag} OK done\r\n") if told is None else told
        if callable(reply):
            reply(connection)
            return False
        connection.sendall(reply.replace("{tag}", tag).encode("latin-1", "replace"))
        if told is None or "{tag}" in reply:
            return True
        connection.shutdown(socket.SHUT_WR)
        return False
