"""The connection to the IMAP server: how it is made, trusted with a token, and left."""

from __future__ import annotations

import contextlib
import imaplib
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

from typing_extensions import override

from exo_imap_oauth._imap.replies import host_of, text_of
from exo_imap_oauth._trust import default_context
from exo_imap_oauth.advice import explain
from exo_imap_oauth.errors import ConnectionFailed, InsecureConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# No server needs this much for its greeting or for the reply to a command of ours.
_MAX_LINES = 1_000
_MAX_LITERAL = 65_536  # bytes
_LITERAL_LIMIT = 1 << 32  # bytes; a number of IMAP has 32 bits (RFC 3501 section 9)


class Server(NamedTuple):
    """Where the server is, and how TLS begins."""

    host: str
    port: int
    starttls: bool


def connect(server: Server, ssl_context: ssl.SSLContext | None, timeout: float) -> imaplib.IMAP4:
    """Connect with verified TLS; without a context with the default one.

    Raises:
        ConnectionFailed: The server cannot be reached or is not the right one.
        InsecureConnectionError: It does not offer STARTTLS.
    """
    host, port, starttls = server
    try:
        ssl_context = ssl_context or default_context()
    except OSError as error:
        advice = explain("certificate-untrusted", host=host, port=str(port))
        raise ConnectionFailed(str(error), advice=advice, retryable=False) from error
    imap: Client | None = None
    try:
        if starttls:
            imap = Client(host, port, timeout)
            _require_starttls(imap, f"{host}:{port}")
            imap.starttls(ssl_context)
        else:
            imap = TlsClient(host, port, ssl_context=ssl_context, timeout=timeout)
        # A line that goes out in two writes would wait for Nagle's algorithm.
        imap.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        imap.opened()
    except InsecureConnectionError:
        raise
    except Exception as error:  # imaplib stumbles over senseless replies in many ways
        if imap is not None:
            leave(imap, in_sync=False)
        untrusted = isinstance(error, ssl.SSLCertVerificationError)
        said = text_of(error)
        raise ConnectionFailed(
            f"{host}:{port} cannot be reached: {type(error).__name__}: {said}",
            advice=explain(
                "certificate-untrusted" if untrusted else "imap-unreachable",
                host=host,
                port=str(port),
            ),
            retryable=not untrusted,
            last_reply=said if isinstance(error, imaplib.IMAP4.error) else None,
        ) from error
    return imap


def _require_starttls(imap: imaplib.IMAP4, where: str) -> None:
    if "STARTTLS" not in imap.capabilities:
        leave(imap, in_sync=True)
        raise _insecure(f"{where} does not offer STARTTLS", "implicit TLS, port 993")


def require_tls(imap: imaplib.IMAP4, *, allow_unverified: bool) -> None:
    """Refuse a connection over which a token must not go; nothing is sent.

    Raises:
        InsecureConnectionError: It is plain or, unless allowed, not verified.
    """
    context = getattr(getattr(imap, "sock", None), "context", None)
    if context is None:
        raise _insecure(
            f"the connection to {host_of(imap)} is plain",
            "imap.starttls(ssl_context=ssl.create_default_context())",
        )
    if allow_unverified:
        return
    if context.verify_mode == ssl.CERT_NONE or not context.check_hostname:
        raise _insecure(
            f"the TLS connection to {host_of(imap)} does not verify the server's certificate",
            "imap = imaplib.IMAP4_SSL(host, ssl_context=ssl.create_default_context())",
        )


def _insecure(what: str, remedy: str) -> InsecureConnectionError:
    return InsecureConnectionError(f"{what}, so the token was not sent. Use: {remedy}")


def leave(imap: imaplib.IMAP4, *, in_sync: bool) -> None:
    """LOGOUT where the server can follow; else just hang up. It never raises."""
    if in_sync and imap.state != "LOGOUT":
        with contextlib.suppress(Exception), bounded_replies(imap):
            imap.logout()
            return
    with contextlib.suppress(OSError):
        imap.shutdown()


# ---- how much is read ------------------------------------------------------------------------


@contextlib.contextmanager
def overridden(imap: imaplib.IMAP4, name: str, method: Callable[..., object]) -> Generator[None]:
    """Have ``method`` stand in for the method ``name`` of this one connection."""
    own = vars(imap)
    before = own.get(name)
    own[name] = method
    try:
        yield
    finally:
        if before is None:
            del own[name]
        else:
            own[name] = before


@contextlib.contextmanager
def bounded_replies(imap: imaplib.IMAP4) -> Generator[None]:
    """Let imaplib read no more than a command of ours can be answered with.

    It would read lines without an end, and allocate whatever size a literal claims to have.
    A reply beyond the bounds raises :class:`imaplib.IMAP4.abort`.
    """
    with (
        overridden(imap, "readline", _bounded_readline(imap.readline)),
        overridden(imap, "read", _bounded_read(imap.read)),
    ):
        yield


def _bounded_read(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def bounded(size: int) -> bytes:
        if size > _MAX_LITERAL:
            raise imaplib.IMAP4.abort(f"a literal of {size} bytes, where none is due")
        return read(size)

    return bounded


def _bounded_readline(read: Callable[[], bytes]) -> Callable[[], bytes]:
    lines = 0

    def readline() -> bytes:
        nonlocal lines
        lines += 1
        if lines >= _MAX_LINES:
            raise imaplib.IMAP4.abort(f"{_MAX_LINES} lines and still no reply")
        return read()

    return readline


class Client(imaplib.IMAP4):
    """Reads no more than a bounded greeting and capabilities while it connects."""

    @override
    def open(self, host: str = "", port: int | None = None, timeout: float | None = None) -> None:
        own = vars(self)
        own["readline"] = _bounded_readline(self.readline)
        own["read"] = _bounded_read(self.read)
        super().open(host, port or 143, timeout)

    def opened(self) -> None:
        """The connection stands: from now on, replies may be as long as mail is."""
        own = vars(self)
        own.pop("readline", None)
        own.pop("read", None)

    @override
    def read(self, size: int) -> bytes:
        if size >= _LITERAL_LIMIT:  # imaplib would try to allocate it
            raise self.abort(f"a literal of {size} bytes, which IMAP does not allow")
        return super().read(size)


class TlsClient(Client, imaplib.IMAP4_SSL):
    """The same over implicit TLS."""
