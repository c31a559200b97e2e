"""What an IMAP server said, as one of this library's errors."""

from __future__ import annotations

import imaplib
import re
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._text import hide, one_line
from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ImapError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_imap_oauth.advice import Stage

_MAX_TEXT = 4_000  # characters; imaplib reads lines of a megabyte
# imaplib puts the repr of a list of bytes into its message: SELECT command error: NO [b'...']
_COMMAND_ERROR = re.compile(r"[A-Z]+ command error: (NO|BAD) \[b(['\"])")
# and the server's BYE behind the command that it interrupted: command: LIST => ...
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


class ServerReply(NamedTuple):
    """What a server said.

    Attributes:
        text: Its reply; where the connection broke, its BYE if there was one.
        bye: Its BYE, or None.
    """

    text: str
    bye: str | None


def reply_behind(error: Exception, imap: imaplib.IMAP4, secrets: Iterable[str] = ()) -> ServerReply:
    """What the server said, of which an error of imaplib may quote only a part."""
    text = text_of(error, secrets)
    byes = imap.untagged_responses.get("BYE")
    last = byes[-1] if byes else None
    if not isinstance(last, bytes):
        return ServerReply(text, None)
    bye = one_line(hide(last.decode(errors="replace"), secrets))
    if isinstance(error, imaplib.IMAP4.abort) and bye:
        text = bye
    return ServerReply(text, bye)


def text_of(error: Exception, secrets: Iterable[str] = ()) -> str:
    """An error's text without imaplib's words around what the server said; one line."""
    text = str(error)[:_MAX_TEXT]
    if found := _COMMAND_ERROR.match(text):
        said = text[found.end() :].removesuffix("]").removesuffix(found[2])
        text = f"{found[1]} {said}"
    elif found := _COMMAND_ABORTED.match(text):
        text = text[found.end() :]
    return one_line(hide(text, secrets))


def typed_error(what: str, reply: ServerReply, stage: Stage, **known: str) -> ImapError | None:
    """The error for a reply of Exchange, or None if its text is not known.

    Args:
        what: The first line of the error's text.
        reply: What the server said.
        stage: What was being done.
        **known: What :func:`~exo_imap_oauth.advice.advise` may use.
    """
    advice = advise(reply.text, stage=stage, **known)
    kind = None if advice is None else _ERRORS.get(advice.id)
    if kind is None:
        return None
    error = kind(what, advice=advice)
    if isinstance(error, Throttled) and (backoff := _BACKOFF.search(reply.text)):
        error.retry_after = int(backoff[1]) / 1000
    if isinstance(error, ConnectionFailed):
        error.last_reply = reply.bye
    return error


def connection_failed(what: str, reply: ServerReply) -> ConnectionFailed:
    """The error for a connection that broke for no reason that is known."""
    return ConnectionFailed(what, advice=explain("connection-closed"), last_reply=reply.bye)


def is_broken(error: Exception) -> bool:
    """Whether the connection is lost, or out of step with the server's replies."""
    over_long = "got more than " in str(error)  # imaplib stops reading within a line
    return isinstance(error, (imaplib.IMAP4.abort, OSError)) or over_long


def is_out_of_step(error: Exception) -> bool:
    """The same for an error of one command, whatever imaplib stumbled over in the reply."""
    return is_broken(error) or not isinstance(error, imaplib.IMAP4.error)


def owes_reply(imap: imaplib.IMAP4) -> bool:
    """Whether a reply is not read yet, so that another command would get the wrong one."""
    return None in imap.tagged_commands.values()


def host_of(imap: imaplib.IMAP4) -> str:
    """The server's name, for messages."""
    return str(getattr(imap, "host", "the server"))
