"""The client that ``open_mailbox`` yields: imaplib's, in time, and with errors of this library."""

# ruff: noqa: ANN401 - what imaplib's own methods take and give has no types

from __future__ import annotations

import contextlib
import copy
import imaplib
import io
import re
import socket
import ssl
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from typing_extensions import override

from exo_imap_oauth._imap.limits import bounded_replies, way_in
from exo_imap_oauth._imap.replies import broken_body_error
from exo_imap_oauth._reach import addresses_in_time, first_to_answer
from exo_imap_oauth._text import hide
from exo_imap_oauth._trust import forget_errors, secured

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from exo_imap_oauth._imap.bearer import Bearer
    from exo_imap_oauth.errors import ImapError

_T = TypeVar("_T")
_CHUNK = 16_384  # bytes: a TLS record has no more (RFC 8446 section 5.1)
_CHUNK_ON_THE_WAY = 4_096  # who waits holds as many, and perhaps a thousand log in at once
_QUOTED = 1_000  # bytes of a greeting that is none
_MAX_LITERAL = 1 << 32  # bytes; a number of IMAP has 32 bits (RFC 3501 section 9)
# A command may also fail for its arguments; reading a reply fails for the server's words alone.
_NOT_THE_CALLERS = (imaplib.IMAP4.error, OSError)
# No token holds a comma or a bracket (RFC 6750 section 2.1), and lists of UIDs are long.
_LONG_WORD = re.compile(r"[^\s,()\[\]]{16}")


class NotImapError(imaplib.IMAP4.error):
    """The server's greeting, which is not one of IMAP: it is that of another service."""


class Client(imaplib.IMAP4):
    """An imaplib client whose every wait, and on the way in their sum, has an end.

    It reads from the socket itself, since a line that comes byte by byte would outlast the
    socket's timeout in a buffered reader. From :meth:`hand_over` on its commands raise this
    library's errors for a connection that breaks and for texts that are known.

    Args:
        host: The server.
        port: Its port.
        timeout: Seconds for each wait; way_in() tells how long all of them take together.
        bearer: Whose token neither the debug output nor its buffer may show.
        **tls: What the class over TLS needs.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        bearer: Bearer | None = None,
        **tls: Any,
    ) -> None:
        # When all that is under way must be over, by the monotonic clock.
        self._whole = way_in(timeout)
        self.ends_at: float | None = time.monotonic() + self._whole
        self._timeout = timeout
        self._bearer = bearer
        self._received = bytearray()
        self._is_greeted = False
        self._held: bytearray | None = None  # what is to go out in one write
        self._wait_readable: Callable[[float], None] | None = None
        self._is_handed_over = False
        self._is_under_way = False  # a method that will turn errors into ours
        self._broken: ImapError | None = None
        try:
            with bounded_replies(self):
                super().__init__(host, port, timeout=timeout, **tls)
        except BaseException:
            self.hang_up()
            raise

    def hang_up(self) -> None:
        """Close the connection, if there is one. It never raises."""
        with contextlib.suppress(OSError, AttributeError):  # before there is a socket
            self.shutdown()

    # ---- time ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def within(self, seconds: float) -> Generator[None]:
        """Everything in the body must be over in time; then what waits raises TimeoutError."""
        self.ends_at, self._whole = time.monotonic() + seconds, seconds
        try:
            yield
        finally:
            self.be_patient()

    def be_patient(self) -> None:
        """From now on only each single wait has an end."""
        self.ends_at = None
        with contextlib.suppress(OSError):  # it is closed
            self.sock.settimeout(self._timeout)

    def _left(self) -> float:
        """Seconds that the next wait may take."""
        if self.ends_at is None:
            return self._timeout
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the server was not done within {self._whole:.3g} s")
        return min(self._timeout, left)

    def wait_by(self, wait_readable: Callable[[float], None]) -> None:
        """Have each wait for the server made by this function, which may end it early.

        Args:
            wait_readable: Takes the seconds that the wait may last, and comes back when
                :attr:`sock` can be read; raises TimeoutError when the time is over.
        """
        self._wait_readable = wait_readable

    @property
    def has_unread(self) -> bool:
        """Whether something was received already that nobody has read."""
        return bool(self._received) or bool(getattr(self.sock, "pending", int)())

    def _limit_wait(self) -> None:
        if self.ends_at is not None:  # else it is set, and while idling imaplib sets it
            self.sock.settimeout(self._left())

    # ---- what goes over the wire ---------------------------------------------------------

    def _create_socket(self, timeout: float) -> socket.socket:  # noqa: ARG002 - what is left counts
        sys.audit("imaplib.open", self, self.host, self.port)
        addresses = addresses_in_time(self.host, self.port, self._left())
        sock = first_to_answer(addresses, self._left())
        try:
            sock.settimeout(self._left())
            # A command behind another one would wait for the other end to acknowledge the first.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock

    @override
    def starttls(self, ssl_context: ssl.SSLContext | None = None) -> Any:
        def wrap_socket(sock: socket.socket, **options: Any) -> ssl.SSLSocket:
            if self._received:  # it would be taken for what came through TLS
                raise self.abort("the server sent more before TLS began")
            sock.settimeout(self._left())
            assert ssl_context is not None  # ours always has one
            return secured(sock, ssl_context, **options)

        answer = super().starttls(SimpleNamespace(wrap_socket=wrap_socket))
        self._close_reader()
        return answer

    @override
    def open(self, *place: Any, **options: Any) -> None:
        super().open(*place, **options)
        self._close_reader()

    def _close_reader(self) -> None:
        """Close imaplib's buffered reader, for this class reads the socket itself: 8 KiB less."""
        for each in list(vars(self).values()):  # its name is another one in each imaplib
            if isinstance(each, io.BufferedReader):
                each.close()

    @override
    def send(self, data: Any) -> None:
        if self._held is not None:
            self._held += data
            return
        self._limit_wait()
        self._with_our_errors(_NOT_THE_CALLERS, "sending", self._send, data)

    def _send(self, data: Any) -> None:
        try:
            super().send(data)
        except OSError:
            forget_errors()
            raise

    @contextlib.contextmanager
    def one_write(self) -> Generator[None]:
        """What is sent in the body goes out at its end, at once: a round trip less to wait for."""
        self._held = bytearray()
        try:
            yield
            held, self._held = bytes(self._held), None
            self.send(held)
        finally:
            self._held = None

    def start(self, *words: str) -> bytes:
        """Send a command, and do not wait for its reply; returns its tag."""
        return cast("bytes", self._command(*words))

    def finish(self, tag: bytes, *, is_search: bool = False) -> tuple[str, list[Any]]:
        """Wait for the reply to a ``UID`` command that was started: its status and its text.

        With ``is_search``, what SEARCH told takes the place of the text, as imaplib has it.
        """
        typ, data = cast("tuple[str, list[Any]]", self._command_complete("UID", tag))
        if is_search and typ == "OK":
            return typ, self.response("SEARCH")[1]
        return typ, data

    @override
    def read(self, size: int) -> bytes:
        return self._with_our_errors(Exception, "reading", self._read, size)

    @override
    def readline(self) -> bytes:
        return self._with_our_errors(Exception, "reading", self._read_line)

    def _read(self, size: int) -> bytes:
        if size >= _MAX_LITERAL:  # imaplib would try to allocate it
            raise self.abort(f"a literal of {size} bytes, which IMAP does not allow")
        if size <= len(self._received):
            return self._take(size)
        # A BytesIO gives its buffer away without a copy, and grows only by what has come.
        literal = io.BytesIO()
        literal.write(self._take(len(self._received)))
        while (left := size - literal.tell()) > 0:
            literal.write(self._receive(min(left, _CHUNK)))
        return literal.getvalue()

    def _read_line(self) -> bytes:
        longest: int = getattr(imaplib, "_MAXLINE", 1_000_000)  # some applications raise it
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > longest:
                raise self.abort(f"a line of more than {longest} bytes")
            self._received += self._receive(_CHUNK if self._is_handed_over else _CHUNK_ON_THE_WAY)
        line = self._take(end + 1)
        if not self._is_greeted and not line.startswith(b"*"):  # RFC 3501 section 7.1
            raise NotImapError(line[:_QUOTED].decode(errors="replace").rstrip())
        self._is_greeted = True
        return line

    def _receive(self, most: int) -> bytes:
        self._limit_wait()
        try:
            received = self._received_next(most)
        except TimeoutError:
            waited = self.sock.gettimeout() or self._timeout
            if self.ends_at is not None and waited < self._timeout:  # the last of several waits
                text = f"the server was not done within {self._whole:.3g} s"
            else:
                text = f"the server did not answer within {waited:.3g} s"
            raise TimeoutError(text) from None
        except OSError:
            forget_errors()
            raise
        if not received:
            raise self.abort("socket error: EOF")
        return received

    def _received_next(self, most: int) -> bytes:
        if self._wait_readable is None:
            return self.sock.recv(most)
        self.sock.settimeout(0)
        try:
            while True:
                try:
                    return self.sock.recv(most)
                except ssl.SSLWantReadError:  # perhaps there is a part of a TLS record
                    self._wait_readable(self._left())
        finally:
            self.sock.settimeout(self._timeout)

    def _take(self, size: int) -> bytes:
        with memoryview(self._received) as received:
            taken = received[:size].tobytes()
        del self._received[:size]
        return taken

    # ---- what others get to see ----------------------------------------------------------

    def hand_over(self, bearer: Bearer) -> None:
        """The way in is over: now the caller's commands follow, on the bearer's mailbox."""
        self.be_patient()
        self.capabilities = tuple(map(sys.intern, self.capabilities))  # once for all connections
        self._bearer = bearer
        self._is_handed_over = True

    @property
    def bearer(self) -> Bearer | None:
        """Who logged in, and with what."""
        return self._bearer

    @property
    def login_said(self) -> str:
        """What Exchange's OK to AUTHENTICATE said besides, fit to be quoted; mostly nothing."""
        return self._bearer.login_said if self._bearer is not None else ""

    # All that imaplib does with a server goes through these three, and what others do through
    # send(), read() and readline(). On the way out imaplib catches its own aborts and raises
    # others, so the outermost method makes the error ours.

    def _command(self, name: str, *arguments: Any) -> Any:
        step = self._imaplibs("_command")
        return self._with_our_errors(_NOT_THE_CALLERS, name, step, name, *arguments)

    def _command_complete(self, name: str, tag: bytes) -> Any:
        step = self._imaplibs("_command_complete")
        typ, data = self._with_our_errors(Exception, name, step, name, tag)
        if typ == "NO":  # the caller's, who may print it
            data = [self._without_echo(line) for line in data]
        return typ, data

    def _get_response(self, *arguments: Any, **options: Any) -> Any:  # idle() calls it by itself
        step = self._imaplibs("_get_response")
        return self._with_our_errors(Exception, "IDLE", step, *arguments, **options)

    def _imaplibs(self, name: str) -> Callable[..., Any]:
        """A method of imaplib's that no type checker knows of."""
        return getattr(super(), name)  # type: ignore[no-any-return] # imaplib's own

    def with_our_errors(self, command: str, step: Callable[[], _T]) -> _T:
        """Take a step of a command that is not imaplib's, with the errors of those that are."""
        return self._with_our_errors(Exception, command, step)

    def _with_our_errors(
        self,
        caught: type[Exception] | tuple[type[Exception], ...],
        command: str,
        step: Callable[..., _T],
        *arguments: Any,
        **options: Any,
    ) -> _T:
        bearer = self._bearer
        if bearer is None or not self._is_handed_over or self._is_under_way:
            return step(*arguments, **options)
        if self._broken is not None:  # what broke the connection says more than that it is broken
            raise copy.copy(self._broken)  # its traceback is its own
        self._is_under_way = True
        try:
            return step(*arguments, **options)
        except caught as error:
            if isinstance(error, TimeoutError) and type(error) is not TimeoutError:
                raise  # a class of imaplib's own, by which idle() ends in time
            failure = broken_body_error(error, self, bearer, command)
            if failure is None:
                raise
        finally:
            self._is_under_way = False
        if isinstance(failure, imaplib.IMAP4.abort):
            self._broken = copy.copy(failure)  # without the frames that this one holds
        raise failure

    # imaplib's debug output and its buffer, neither of which an optimized Python has.

    def _mesg(self, line: str, secs: float | None = None) -> None:
        self._imaplibs("_mesg")(self._without_token(line), secs)

    def _log(self, line: str) -> None:
        if self.debug:  # else imaplib shows the buffer to nobody
            self._imaplibs("_log")(self._without_token(line))

    def _without_echo(self, line: Any) -> Any:
        """What a refusal says, without the token that it may repeat."""
        if not isinstance(line, bytes):
            return line
        said = line.decode(errors="surrogateescape")
        shown = self._without_token(said)
        return line if shown == said else shown.encode(errors="surrogateescape")

    def _without_token(self, line: str) -> str:
        if self._bearer is None or not _LONG_WORD.search(line):
            return line
        return hide(line, self._bearer.secrets())


class TlsClient(Client, imaplib.IMAP4_SSL):
    """The same over implicit TLS."""

    @override
    def _create_socket(self, timeout: float) -> socket.socket:
        sock = super()._create_socket(timeout)
        try:
            return secured(sock, self.ssl_context, server_hostname=self.host)
        except BaseException:
            sock.close()  # what failed may not have come to own it
            raise
