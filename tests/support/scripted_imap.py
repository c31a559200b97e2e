"""An IMAP server that follows a script, for answers that no real server can be made to give."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from support import HOST, client_context, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

_LIMIT = 5.0  # s, for the client to send its next line, and for the thread to end
_LONGEST_LINE = 1_000_000


class Step(NamedTuple):
    """One thing that the server waits for, and what it says then.

    Attributes:
        expect: A regular expression for the whole next line of the client, without its CRLF.
            ``{tag}`` stands for a tag, which the replies from here on repeat. None waits for
            nothing. :data:`CLIENT_CLOSES` expects the end of the connection.
        reply: What to say. Of a string each line gets its CRLF, and ``{tag}`` is the last
            tag; bytes are sent as they are; nothing is sent if it is empty.
        repeat: Answer so for as long as lines match, or until the client closes.
        optional: A client may leave it out and go on with the next step.
    """

    expect: str | None
    reply: str | bytes = ""
    repeat: bool = False
    optional: bool = False


_EOF = "{eof}"
_CAPABILITY = "{tag} CAPABILITY"

CLIENT_CLOSES = Step(_EOF)

GREETING = Step(None, "* OK The Microsoft Exchange IMAP4 service is ready.")

LOGOUT = Step("{tag} LOGOUT", "* BYE Logging out\n{tag} OK LOGOUT completed.")


def capability(names: str = "IMAP4rev1 AUTH=XOAUTH2 SASL-IR") -> Step:
    """The step that answers CAPABILITY with these names."""
    return Step(_CAPABILITY, f"* CAPABILITY {names}\n{{tag}} OK CAPABILITY completed.")


class ScriptedImap:
    """Plays one script per connection, in order, in a thread on loopback.

    A client may ask for the capabilities whenever it likes, as imaplib does after AUTHENTICATE
    from some patch release on: where the script expects something else, it is told what the
    first :func:`capability` step says, and :attr:`lines` does not show it.

    After the last step of a script the server ends the connection and looks no more at what
    the client may still send. Everything that does not
    go by the script fails the test when the ``with`` ends: another line than expected, a
    client that closes too early or stays silent for too long, a connection without a script
    and a script without a connection. An empty script takes a client that breaks off during
    the TLS handshake. ::

        script = [
            GREETING,
            capability(),
            Step("{tag} AUTHENTICATE XOAUTH2 [A-Za-z0-9+/=]+", "{tag} OK AUTHENTICATE completed."),
            LOGOUT,
        ]
        with ScriptedImap(script, tls=True) as server:
            ...
        assert len(server.lines) == 3

    Args:
        scripts: The steps of each connection.
        tls: Implicit TLS, with a certificate that :attr:`ssl_context` trusts.

    Attributes:
        host: ``127.0.0.1``.
        port: The port, from entering the ``with`` on.
        lines: The lines that clients sent, without CRLF, over all connections.

    Raises:
        AssertionError: On exit, if the clients did not follow the scripts; where the test
            fails anyway, this stands in a note of its exception.
    """

    host = HOST

    def __init__(self, *scripts: Sequence[Step], tls: bool = False) -> None:
        self._scripts = scripts
        self._server_context = server_context() if tls else None
        self._failures: list[str] = []
        self.port = 0
        self.lines: list[bytes] = []

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new verifying client context that trusts this server's certificate."""
        return client_context()

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="scripted-imap", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Let what is under way end, join the thread, and tell what went wrong in it."""
        self._wake.close()
        self._thread.join(2 * _LIMIT)
        assert not self._thread.is_alive()
        self._woken.close()
        report = "\n".join(f"ScriptedImap: {failure}" for failure in self._failures)
        if report and error is None:
            raise AssertionError(report)
        if report and error is not None:
            error.add_note(report)

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - __exit__ raises it in the test's thread
            self._failures.append(f"broken: {error!r}")

    def _serve(self) -> None:
        with self._listener:
            scripts = iter(enumerate(self._scripts, 1))
            while self._readable(self._listener):
                connection, _ = self._listener.accept()
                # Else the greeting waits 40 ms, until the client acknowledges the handshake.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with connection:
                    number, script = next(scripts, (0, None))
                    if script is None:
                        self._failures.append("a connection came that no script is for")
                    else:
                        self._play(number, script, connection)
            for number, _ in scripts:
                self._failures.append(f"no connection came for script {number}")

    def _readable(self, one: socket.socket) -> bool:
        """Wait until it can be read, or until the ``with`` ends: then whether it can be."""
        with selectors.DefaultSelector() as selector:
            selector.register(one, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            return any(key.fileobj is one for key, _ in selector.select())

    def _play(self, number: int, script: Sequence[Step], connection: socket.socket) -> None:
        connection.settimeout(_LIMIT)
        if self._server_context is not None:
            try:
                connection = self._server_context.wrap_socket(connection, server_side=True)
            except OSError as error:
                if script:
                    self._failures.append(f"script {number}: no TLS handshake: {error!r}")
                return
        with connection, connection.makefile("rb") as stream:
            try:
                self._follow(number, script, connection, stream)
            except OSError as error:
                self._failures.append(f"script {number}: {error!r}")
            else:
                self._end(connection)

    def _follow(
        self, number: int, script: Sequence[Step], connection: socket.socket, stream: BinaryIO
    ) -> None:
        client = _Client(connection, stream, _capabilities_of(script), self.lines)
        for position, step in enumerate(script, 1):
            if step.expect is None:
                client.say(step.reply)
            elif not client.answer(step.expect, step) and not step.optional:
                self._failures.append(
                    f"script {number}, step {position}: expected {step.expect!r},"
                    f" got {client.unanswered!r}"
                )
                return
        if client.unanswered not in {None, _EOF}:
            self._failures.append(f"script {number}: expected no more, got {client.unanswered!r}")

    def _end(self, connection: socket.socket) -> None:
        """End the connection without a reset, which could overtake what was said before."""
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while self._readable(connection) and connection.recv(65_536):
                pass


def _capabilities_of(script: Sequence[Step]) -> str:
    for step in script:
        if step.expect == _CAPABILITY and isinstance(step.reply, str):
            return step.reply
    return ""


class _Client:
    """The other end of one connection."""

    def __init__(
        self, connection: socket.socket, stream: BinaryIO, capabilities: str, lines: list[bytes]
    ) -> None:
        self.unanswered: str | None = None  # read, and not answered yet
        self._connection = connection
        self._stream = stream
        self._capabilities = capabilities
        self._lines = lines
        self._tag = ""

    def answer(self, expect: str, step: Step) -> int:
        """Answer the next line or lines that match; return how many did."""
        answered = 0
        while step.repeat or not answered:
            if self.unanswered is None:
                self.unanswered = self._next_line(expect)
            found = _match(expect, self.unanswered)
            if found is None:
                break
            self.unanswered = None
            answered += 1
            self._tag = found.groupdict().get("tag") or self._tag
            self.say(step.reply)
        return answered

    def say(self, reply: str | bytes) -> None:
        if isinstance(reply, str):
            lines = reply.replace("{tag}", self._tag).splitlines()
            reply = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
        if reply:
            self._connection.sendall(reply)

    def _next_line(self, expect: str) -> str:
        """The next line; CAPABILITY where another is expected is answered and passed over."""
        line = self._read_line()
        while self._capabilities and not _match(expect, line):
            asks = _match(_CAPABILITY, line)
            if asks is None:
                break
            self._lines.pop()
            self._tag = asks["tag"]
            self.say(self._capabilities)
            line = self._read_line()
        return line

    def _read_line(self) -> str:
        try:
            line = self._stream.readline(_LONGEST_LINE)
        except ConnectionError:  # how a client's end looks where it left something unread
            line = b""
        if not line:
            return _EOF
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        self._lines.append(line)
        return line.decode("latin-1")


def _match(expected: str, line: str) -> re.Match[str] | None:
    return re.fullmatch(expected.replace("{tag}", "(?P<tag>[^ ]+)"), line)
