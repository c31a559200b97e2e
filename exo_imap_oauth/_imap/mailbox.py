"""The first command on a mailbox, which tells whether it opens."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._errors_imap import ImapError, MailboxNotConnected
from exo_imap_oauth._imap.folders import folder_name, list_folders
from exo_imap_oauth._imap.limits import bounded_replies
from exo_imap_oauth._imap.replies import (
    connection_failed,
    host_of,
    is_out_of_step,
    owes_reply,
    reply_behind,
    typed_error,
)
from exo_imap_oauth._text import one_line, quotable
from exo_imap_oauth.advice import explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth._imap.bearer import Bearer

_MAX_FOLDERS = 20  # in a message


def ask_status(imap: imaplib.IMAP4, bearer: Bearer) -> None:
    """Find out whether the mailbox opens, without selecting a folder.

    Raises:
        ImapError: It does not; MailboxNotConnected, Throttled or ConnectionFailed if it is known.
    """
    failure = _try(imap, bearer, "INBOX", lambda: imap.status("INBOX", "(UIDVALIDITY)"))
    if failure is not None:
        raise failure


def select(imap: imaplib.IMAP4, bearer: Bearer, folder: str, *, readonly: bool) -> None:
    """Select or examine a folder, given as :func:`folder_argument` has encoded it.

    Raises:
        ImapError: It does not open; the same classes as for :func:`ask_status`. Where there is
            no such folder, it names those that there are.
    """
    failure = _try(imap, bearer, folder, lambda: imap.select(folder, readonly))
    if failure is not None:
        raise failure


def _try(
    imap: imaplib.IMAP4, bearer: Bearer, folder: str, command: Callable[[], tuple[str, list[Any]]]
) -> ImapError | None:
    """Give the first mailbox command; our error for what goes wrong with it.

    The error is returned, so that the caller raises it without imaplib's behind it, which
    quotes the server as it is.
    """
    try:
        with bounded_replies(imap):
            typ, data = command()
            if typ == "OK":
                return None
            said = b" ".join(line for line in data if isinstance(line, bytes))
            error: Exception = imaplib.IMAP4.error(f"{typ} {said.decode(errors='replace')}")
    except imaplib.IMAP4.readonly:
        shown = one_line(folder_name(folder))
        return ImapError(
            f"the folder {shown} of {bearer.shown} opens read-only; grant FullAccess, or pass"
            " readonly=True where that is enough",
            advice=explain("folder-readonly", **bearer.known()),
        )
    except Exception as raised:  # noqa: BLE001 - imaplib stumbles over replies in many ways
        error = raised
    failure = _failure(error, imap, bearer, folder)
    if failure.advice is None or failure.advice.id == "folder-not-found":
        return _name_folders(failure, imap, bearer, folder)
    return failure


def _failure(error: Exception, imap: imaplib.IMAP4, bearer: Bearer, folder: str) -> ImapError:
    reply = reply_behind(error, imap, bearer.secrets())
    if bearer.login_said:  # Exchange said why before it refused
        reply = reply._replace(text=f"{reply.text} (the login said: {bearer.login_said})")
    shown = one_line(folder_name(folder))
    what = f"{host_of(imap)} did not open {shown} of {bearer.shown}: {reply.text}"
    typed = typed_error(what, reply, "post_auth", **bearer.known())
    if typed is not None:
        return typed
    if is_out_of_step(error):
        return connection_failed(what, reply, error, imap)
    return MailboxNotConnected(what) if folder.upper() == "INBOX" else ImapError(what)


def _name_folders(
    failure: ImapError, imap: imaplib.IMAP4, bearer: Bearer, folder: str
) -> ImapError:
    """The failure, with the folders that there are if the one in question is not among them."""
    if owes_reply(imap) or folder.upper() == "INBOX":
        return failure
    try:
        with bounded_replies(imap):
            folders = list(list_folders(imap))
    except Exception:  # noqa: BLE001 - whatever it is, the first failure says more
        return failure
    if not folders or folder_name(folder) in {there.name for there in folders}:
        return failure
    named = [f"{there.name} {there.use}".rstrip() for there in folders[:_MAX_FOLDERS]]
    more = f" and {len(folders) - len(named)} more" if len(folders) > len(named) else ""
    names = quotable(", ".join(named), bearer.secrets())
    advice = failure.advice or explain("folder-not-found", **bearer.known())
    return ImapError(f"{failure.args[0]}; the folders there are: {names}{more}", advice=advice)
