"""How much is read from a server for a command of ours, and how long the way in may take."""

from __future__ import annotations

import contextlib
import imaplib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# No server needs this much for its greeting or for the reply to a command of ours.
_MAX_LINES = 1_000
_MAX_BYTES = 65_536  # of a line or a literal


def way_in(timeout: float) -> float:
    """Seconds from looking up the server's name to the open folder, all waits together.

    Twice the time of a single wait: Exchange takes up to 6 s for a refusal, and a login has
    about eight waits.
    """
    return 2 * timeout


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
        if size > _MAX_BYTES:
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
        line = read()
        if len(line) > _MAX_BYTES:  # imaplib would match and repeat it several times over
            raise imaplib.IMAP4.abort(f"a line of {len(line)} bytes, where none is due")
        return line

    return readline
