"""IDLE (RFC 2177): the server says when there is something to do."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TAG = b"IDLE"


def idle(imap: imaplib.IMAP4, wait: Callable[[], None]) -> None:
    """Let the server speak for as long as ``wait`` waits.

    imaplib has an ``idle()`` from Python 3.14 on; nothing but the server ends its waiting,
    though, and a program has to stop too. What the server says in one packet with its first
    ``+`` stays in imaplib's buffer and is noticed when the waiting is over.

    Args:
        imap: A client with a selected folder, at a server that offers IDLE.
        wait: Comes back when ``imap.sock`` can be read, or when it is time to do something else.

    Raises:
        imaplib.IMAP4.abort: The server closed the connection.
        imaplib.IMAP4.error: It refused.
    """
    imap.send(_TAG + b" IDLE\r\n")
    line = _line(imap, (b"+", _TAG))
    if line.startswith(b"+"):
        wait()
        imap.send(b"DONE\r\n")
        line = _line(imap, (_TAG,))
    if not line.startswith(_TAG + b" OK"):
        raise imaplib.IMAP4.error(line.removeprefix(_TAG + b" ").decode(errors="replace").strip())


def _line(imap: imaplib.IMAP4, starts: tuple[bytes, ...]) -> bytes:
    """The next line that begins so; what comes before it is what woke us."""
    while not (line := imap.readline()).startswith(starts):
        if not line:
            raise imaplib.IMAP4.abort("socket error: EOF")
        if line.startswith(b"* BYE "):
            raise imaplib.IMAP4.abort(line[6:].decode(errors="replace").strip())
    return line
