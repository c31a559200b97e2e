"""IDLE (RFC 2177): the server says when there is something to do."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth._imap.client import Client

LONGEST = 28 * 60.0  # s; a client ends it every 29 minutes at the latest
DONE = b"DONE\r\n"
_TAG = b"IDLE"


def idle(imap: Client, wait: Callable[[], None], end: Callable[[], None]) -> None:
    """Let the server speak for as long as ``wait`` waits; not at all if it has spoken already.

    imaplib has an ``idle()`` from Python 3.14 on; nothing but the server ends its waiting,
    though, and a program has to stop too. Exchange was seen to announce new mail before its
    ``+``, and what comes in one packet with it wakes nobody who waits for the next packet.

    Args:
        imap: A client with a selected folder, at a server that offers IDLE.
        wait: Comes back when ``imap.sock`` can be read, or when it is time to do something else.
        end: Sends :data:`DONE`, and perhaps the next command with it.

    Raises:
        ImapError: The connection is lost, or the server said why it ends or refuses.
        imaplib.IMAP4.error: It refused, and nobody knows why.
    """
    imap.with_our_errors("IDLE", lambda: _idle(imap, wait, end))


def _idle(imap: Client, wait: Callable[[], None], end: Callable[[], None]) -> None:
    imap.send(_TAG + b" IDLE\r\n")
    line, has_news = _read_to(imap, b"+")
    is_idling = line.startswith(b"+")
    if is_idling:
        if not has_news and not imap.has_unread:
            wait()
        end()
        line, _ = _read_to(imap, _TAG)
    if not is_idling or not line.startswith(_TAG + b" OK"):
        raise imaplib.IMAP4.error(line.removeprefix(_TAG + b" ").decode(errors="replace").strip())


def _read_to(imap: Client, start: bytes) -> tuple[bytes, bool]:
    """The next line that begins so, or is tagged; and whether another came before it."""
    has_news = False
    while not (line := imap.readline()).startswith((start, _TAG)):
        if line.startswith(b"* BYE "):
            said = line[6:].strip()
            imap.untagged_responses["BYE"] = [said]  # where imaplib puts the others
            raise imaplib.IMAP4.abort(said.decode(errors="replace"))
        has_news = True
    return line, has_news
