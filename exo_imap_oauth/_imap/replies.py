"""What an IMAP server said, as one of this library's errors."""

from __future__ import annotations

import imaplib
import re
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._errors_imap import (
    AuthenticationRefused,
    ConnectionFailed,
    ImapError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
)
from exo_imap_oauth._text import hide, one_line, quotable
from exo_imap_oauth.advice import RETRYABLE, advise, explain
from exo_imap_oauth.errors import ExoImapOAuthError, TokenError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_imap_oauth._imap.bearer import Bearer
    from exo_imap_oauth.advice import Advice, Stage

_MAX_TEXT = 4_000  # characters; imaplib reads lines of a megabyte
# imaplib puts the repr of a list of bytes into its message: SELECT command error: NO [b'...']
_COMMAND_ERROR = re.compile(r"[A-Z]+ command error: (NO|BAD) \[b(['\"])")
# and the server's BYE behind the command that it interrupted: command: LIST => ...
_COMMAND_ABORTED = re.compile(r"command: [A-Z]+ => ")
# Response codes of RFC 5530 for what can pass by itself, whatever the text behind them says.
_TEMPORARY = re.compile(
    r"(?:\A|\b(?:NO|BAD) )\[(UNAVAILABLE|INUSE|LIMIT|SERVERBUG)\]", re.IGNORECASE
)
_UNEXPECTED = re.compile(r"unexpected response: .*", re.DOTALL)
_BACKOFF = re.compile(r"Suggested Backoff Time: (\d{1,9}) milliseconds", re.IGNORECASE)

_ERRORS: dict[str, type[ImapError]] = {
    "authenticate-refused": AuthenticationRefused,
    "role-missing": AuthenticationRefused,
    "audience-wrong": AuthenticationRefused,
    "object-id-mismatch": AuthenticationRefused,
    "already-authenticated": ImapError,
    "folder-readonly": ImapError,
    "imap-disabled": MailboxNotConnected,
    "mailbox-moved": MailboxNotConnected,
    "mailbox-not-connected": MailboxNotConnected,
    "server-unavailable": ImapError,
    "charset-unsupported": ImapError,
    "throttled": Throttled,
    "session-expired": SessionExpired,
    "connection-closed": ConnectionFailed,
    "command-rejected": ImapError,
    "folder-not-found": ImapError,
}


class ServerReply(NamedTuple):
    """What a server said, fit to be quoted."""

    text: str  # where the connection broke, its BYE if there was one
    bye: str | None = None


def reply_behind(error: Exception, imap: imaplib.IMAP4, secrets: Iterable[str]) -> ServerReply:
    """What the server said, of which an error of imaplib may quote only a part."""
    text = text_of(error, secrets)
    byes = imap.untagged_responses.get("BYE")
    last = byes[-1] if byes else None
    if not isinstance(last, bytes):
        return ServerReply(text)
    bye = quotable(last[:_MAX_TEXT].decode(errors="replace"), secrets)
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
    return quotable(text, secrets)


def typed_error(what: str, reply: ServerReply, stage: Stage, **known: str) -> ImapError | None:
    """The error for a reply of Exchange, or None if its text is not known."""
    advice = advise(reply.text, stage=stage, **known)
    kind = None if advice is None else _ERRORS.get(advice.id)
    code = _temporary_code(reply)
    if code and kind in (None, AuthenticationRefused):
        return _temporary_error(what, code)
    if advice is None or kind is None:
        return None
    error = kind(what, advice=advice)
    error.retryable = error.retryable or advice.id in RETRYABLE or bool(code)
    _note_reply(error, reply)
    return error


def _note_reply(error: ImapError, reply: ServerReply) -> None:
    if isinstance(error, Throttled) and (backoff := _BACKOFF.search(reply.text)):
        error.retry_after = int(backoff[1]) / 1000
    if isinstance(error, ConnectionFailed):
        error.last_reply = reply.bye


def _temporary_code(reply: ServerReply) -> str:
    """The response code that says so; a BYE that has one is a lost connection all the same."""
    code = None if reply.text == reply.bye else _TEMPORARY.search(reply.text)
    return code[1].upper() if code else ""


def _temporary_error(what: str, code: str) -> ImapError:
    """The error for a response code of RFC 5530; only one of them says what the advice says."""
    advice = explain("server-unavailable") if code == "UNAVAILABLE" else None
    return ImapError(what, advice=advice, retryable=True)


def connection_failed(
    what: str, reply: ServerReply, error: Exception, imap: imaplib.IMAP4
) -> ConnectionFailed:
    """The error for a connection that broke for no reason that is known."""
    is_silent = isinstance(error, TimeoutError)  # which has other causes than an end
    advice = fell_silent(imap) if is_silent else explain("connection-closed")
    return ConnectionFailed(what, advice=advice, last_reply=reply.bye)


def fell_silent(imap: imaplib.IMAP4) -> Advice:
    """The advice for a server that was connected and does not answer any more."""
    known = {"host": host_of(imap), "port": str(getattr(imap, "port", ""))}
    return explain("imap-unreachable", silent="yes", **known)


def broken_body_error(
    error: Exception, imap: imaplib.IMAP4, bearer: Bearer, command: str
) -> ImapError | None:
    """Ours for an error of one of our client's commands, or None to leave it as it is."""
    if isinstance(error, (ExoImapOAuthError, imaplib.IMAP4.readonly)):
        return None
    if (typed := known_body_error(error, imap, bearer, command)) is not None:
        return typed
    if not is_out_of_step(error):
        return None
    reply = reply_behind(error, imap, bearer.secrets())
    said = _UNEXPECTED.sub("an unexpected response", reply.text)  # perhaps a part of a message
    what = f"{command} on {bearer.shown} broke off at {host_of(imap)}: {said}"
    return connection_failed(what, reply, error, imap)


def known_body_error(
    error: Exception, imap: imaplib.IMAP4, bearer: Bearer, command: str
) -> ImapError | None:
    """Ours for an error of imaplib whose text is known, or holds the token; else None."""
    secrets = bearer.secrets()
    reply = reply_behind(error, imap, secrets)
    what = f"{command} on {bearer.shown} failed at {host_of(imap)}: {reply.text}"
    typed = typed_error(what, reply, "runtime", **bearer.known())
    said = str(error)
    # hide() cuts a longer text, of which nobody would know what else it holds.
    if typed is not None or hide(said, secrets) == said:
        return typed
    if isinstance(error, imaplib.IMAP4.abort):
        return connection_failed(what, reply, error, imap)
    return ImapError(what)


def is_broken(error: Exception) -> bool:
    """Whether the connection is lost, or out of step with the server's replies."""
    over_long = "got more than " in str(error)  # imaplib stops reading within a line
    is_lost = isinstance(error, (imaplib.IMAP4.abort, OSError)) and not isinstance(
        error, TokenError
    )
    return is_lost or over_long


def is_out_of_step(error: Exception) -> bool:
    """The same for an error of one command, whatever imaplib stumbled over in the reply."""
    return is_broken(error) or not isinstance(error, imaplib.IMAP4.error)


def owes_reply(imap: imaplib.IMAP4) -> bool:
    """Whether a reply is not read yet, so that another command would get the wrong one."""
    return None in imap.tagged_commands.values()


def host_of(imap: imaplib.IMAP4) -> str:
    """The server's name, for messages."""
    return one_line(str(getattr(imap, "host", "the server")))
