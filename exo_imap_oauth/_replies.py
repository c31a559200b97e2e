"""What an IMAP server said, as one of this library's errors."""

from __future__ import annotations

import imaplib
import re
from typing import TYPE_CHECKING, NamedTuple

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
    from collections.abc import Callable

    from exo_imap_oauth.advice import Stage

_MAX_TEXT = 4_000  # characters; imaplib reads lines of a megabyte
_COMMAND_ERROR = re.compile(r"[A-Z]+ command error: (NO|BAD) \[b(['\"])")
_COMMAND_ABORTED = re.compile(r"command: [A-Z]+ => ")
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


class Said(NamedTuple):
    """What a server said: its reply, and its BYE if there was one."""

    reply: str
    bye: str | None


def typed_error(what: str, said: Said, stage: Stage, **known: str) -> ImapError | None:
    """The error for a reply of Exchange, or None if its text is not known.

    Args:
        what: The first line of the error's text.
        said: What the server said.
        stage: What was being done.
        **known: What :func:`~exo_imap_oauth.advice.advise` may use.
    """
    advice = advise(said.reply, stage=stage, **known)
    kind = None if advice is None else _ERRORS.get(advice.id)
    if kind is None:
        return None
    error = kind(what, advice=advice)
    if isinstance(error, Throttled) and (backoff := _BACKOFF.search(said.reply)):
        error.retry_after = int(backoff[1]) / 1000
    if isinstance(error, ConnectionFailed):
        error.last_reply = said.bye
    return error


def what_it_said(error: Exception, imap: imaplib.IMAP4, redact: Callable[[str], str]) -> Said:
    """What the server said; where the connection broke, its BYE, which imaplib may not quote."""
    byes = imap.untagged_responses.get("BYE")
    last = byes[-1] if byes else None
    bye = one_line(redact(last.decode(errors="replace"))) if isinstance(last, bytes) else None
    reply = (isinstance(error, imaplib.IMAP4.abort) and bye) or text_of(error, redact)
    return Said(reply, bye)


def text_of(error: Exception, redact: Callable[[str], str] = str) -> str:
    """An error's text without imaplib's words around what the server said; one line."""
    text = redact(str(error))  # before it is cut: what is cut is not recognised any more
    text = text[:_MAX_TEXT]
    if found := _COMMAND_ERROR.match(text):
        # imaplib puts the repr of a list of bytes into its message.
        said = text[found.end() :].removesuffix("]").removesuffix(found[2])
        text = f"{found[1]} {said}"
    elif found := _COMMAND_ABORTED.match(text):
        text = text[found.end() :]
    return one_line(text)


def is_broken(error: Exception) -> bool:
    """Whether the connection is lost, or out of step with the server's replies."""
    over_long = "got more than " in str(error)  # imaplib stops reading within a line
    return isinstance(error, (imaplib.IMAP4.abort, OSError)) or over_long


def is_out_of_step(error: Exception) -> bool:
    """The same for an error of one command, whatever imaplib stumbled over in the reply."""
    return is_broken(error) or not isinstance(error, imaplib.IMAP4.error)


def host_of(imap: imaplib.IMAP4) -> str:
    """The server's name, for messages."""
    return str(getattr(imap, "host", "the server"))
