"""What an IMAP server said, as one of this library's errors."""

from __future__ import annotations

import imaplib
import re
from typing import TYPE_CHECKING

from exo_imap_oauth._text import one_line
from exo_imap_oauth.advice import advise
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ImapError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
)

if TYPE_CHECKING:
    from exo_imap_oauth.advice import Stage

_BACKOFF = re.compile(r"Suggested Backoff Time: (\d{1,9}) milliseconds", re.IGNORECASE)


_ERRORS: dict[str, type[ImapError]] = {
    "authenticate-refused": AuthenticationRefused,
    "role-missing": AuthenticationRefused,
    "audience-wrong": AuthenticationRefused,
    "object-id-mismatch": AuthenticationRefused,
    "already-authenticated": ImapError,
    "mailbox-not-connected": MailboxNotConnected,
    "throttled": Throttled,
    "session-expired": SessionExpired,
    "connection-closed": ConnectionFailed,
}


def typed_error(
    what: str, reply: str, imap: imaplib.IMAP4, stage: Stage, **known: str
) -> ImapError | None:
    """The error for a reply of Exchange, or None if its text is not known.

    Args:
        what: The first line of the error's text.
        reply: What the server said.
        imap: The connection.
        stage: What was being done.
        **known: What :func:`~exo_imap_oauth.advice.advise` may use.
    """
    advice = advise(reply, stage=stage, **known)
    kind = None if advice is None else _ERRORS.get(advice.id)
    if kind is None:
        return None
    error = kind(what, advice=advice)
    if isinstance(error, Throttled) and (backoff := _BACKOFF.search(reply)):
        error.retry_after = int(backoff[1]) / 1000
    if isinstance(error, ConnectionFailed):
        error.last_reply = last_bye(imap)
    return error


def reply_of(error: Exception, imap: imaplib.IMAP4) -> str:
    """What the server said; where the connection broke, its BYE, which imaplib may not quote."""
    return (isinstance(error, imaplib.IMAP4.abort) and last_bye(imap)) or text_of(error)


def text_of(error: Exception) -> str:
    """An error's text without imaplib's words around what the server said; one line."""
    text = str(error)
    if found := re.search(r"command error: (NO|BAD) \[b(['\"])(.*)\2\]$", text, re.DOTALL):
        text = f"{found[1]} {found[3]}"
    text = re.sub(r"^command: [A-Z]+ => ", "", text)
    return one_line(text)


def last_bye(imap: imaplib.IMAP4) -> str | None:
    """The text of the server's BYE, if it said one."""
    byes = imap.untagged_responses.get("BYE")
    last = byes[-1] if byes else None
    return one_line(last.decode(errors="replace")) if isinstance(last, bytes) else None


def host_of(imap: imaplib.IMAP4) -> str:
    """The server's name, for messages."""
    return str(getattr(imap, "host", "the server"))
