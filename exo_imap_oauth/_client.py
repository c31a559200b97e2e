"""imaplib's public override points, used on single connections and for a while only."""

from __future__ import annotations

import contextlib
import imaplib
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_MAX_LINES = 1_000
"""So many lines no server needs for its greeting or the reply to a command of ours."""


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


def bounded(read: Callable[[], bytes]) -> Callable[[], bytes]:
    """A ``readline`` for one command: imaplib would read lines that never end for ever.

    It raises :class:`imaplib.IMAP4.abort` instead of reading the thousandth line.
    """
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
        vars(self)["readline"] = bounded(self.readline)
        super().open(host, port or 143, timeout)

    def opened(self) -> None:
        """The connection stands: read as imaplib does."""
        vars(self).pop("readline", None)


class TlsClient(Client, imaplib.IMAP4_SSL):
    """The same over implicit TLS."""
