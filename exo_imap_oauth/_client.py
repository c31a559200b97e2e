"""imaplib's public override points, used on single connections and for a while only."""

from __future__ import annotations

import contextlib
import imaplib
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# No server needs this much for its greeting or for the reply to a command of ours.
_MAX_LINES = 1_000
_MAX_LITERAL = 65_536  # bytes
_LITERAL_LIMIT = 1 << 32  # bytes; a number of IMAP has 32 bits (RFC 3501 section 9)


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
