"""The client that ``open_mailbox`` yields: imaplib's, in time, and with errors of this library."""

# ruff: noqa: ANN401 - what imaplib's own methods take and give has no types

from __future__ import annotations

import contextlib
import imaplib
import re
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from exo_imap_oauth._imap.limits import bounded_replies
from exo_imap_oauth._imap.replies import broken_body_error
from exo_imap_oauth._reach import addresses_in_time, first_to_answer
from exo_imap_oauth._text import hide
from exo_imap_oauth._trust import secured

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Generator

    from exo_imap_oauth._imap.bearer import Bearer
    from exo_imap_oauth.errors import ImapError

_T = TypeVar("_T")
_CHUNK = 65_536  # bytes
_MAX_LITERAL = 1 << 32  # bytes; a number of IMAP has 32 bits (RFC 3501 section 9)
# A command may also fail for its arguments; reading a reply fails for the server's words alone.
_NOT_THE_CALLERS = (imaplib.IMAP4.error, OSError)
_LONG_WORD = re.compile(r"\S{16}")


def way_in(timeout: float) -> float:
    """Seconds from looking up the server's name to the open folder, all waits together.

    Twice the time of a single wait: Exchange takes up to 6 s for a refusal, and a login has
    about eight waits.
    """
    return 2 * timeout


class Client(imaplib.IMAP4):
    """An imaplib client whose every wait, and on the way in their sum, has an end.

    It reads from the socket itself, since a line that comes byte by byte would outlast the
    socket's timeout in a buffered reader. From :meth:`hand_over` on its commands raise this
    library's errors for a connection that breaks and for texts that are known.

    Args:
        host: The server.
        port: Its port.
        timeout: Seconds for each wait; :func:`way_in` tells how long all of them take together.
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

        return super().starttls(SimpleNamespace(wrap_socket=wrap_socket))

    @override
    def send(self, data: Any) -> None:
        self._limit_wait()
        self._with_our_errors(_NOT_THE_CALLERS, "sending", super().send, data)

    @override
    def read(self, size: int) -> bytes:
        return self._with_our_errors(Exception, "reading", self._read, size)

    @override
    def readline(self) -> bytes:
        return self._with_our_errors(Exception, "reading", self._read_line)

    def _read(self, size: int) -> bytes:
        if size >= _MAX_LITERAL:  # imaplib would try to allocate it
            raise self.abort(f"a literal of {size} bytes, which IMAP does not allow")
        while len(self._received) < size:
            self._receive()
        return self._take(size)

    def _read_line(self) -> bytes:
        longest: int = getattr(imaplib, "_MAXLINE", 1_000_000)  # some applications raise it
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > longest:
                raise self.abort(f"a line of more than {longest} bytes")
            self._receive()
        return self._take(end + 1)

    def _receive(self) -> None:
        self._limit_wait()
        try:
            received = self.sock.recv(_CHUNK)
        except TimeoutError:
            waited = self.sock.gettimeout() or self._timeout
            if self.ends_at is not None and waited < self._timeout:  # the last of several waits
                text = f"the server was not done within {self._whole:.3g} s"
            else:
                text = f"the server did not answer within {waited:.3g} s"
            raise TimeoutError(text) from None
        if not received:
            raise self.abort("socket error: EOF")
        self._received += received

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    # ---- what others get to see ----------------------------------------------------------

    def hand_over(self, bearer: Bearer) -> None:
        """The way in is over: now the caller's commands follow, on the bearer's mailbox."""
        self.be_patient()
        self._bearer = bearer
        self._is_handed_over = True

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
            raise self._broken
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
            self._broken = failure
        raise failure

    # imaplib's debug output and its buffer, neither of which an optimized Python has.

    def _mesg(self, line: str, secs: float | None = None) -> None:
        self._imaplibs("_mesg")(self._without_token(line), secs)

    def _log(self, line: str) -> None:
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
