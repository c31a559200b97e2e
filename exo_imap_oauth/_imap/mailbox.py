"""The first command on a mailbox, which tells whether it opens, and folder names."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import re
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._imap.connection import bounded_replies
from exo_imap_oauth._imap.replies import (
    connection_failed,
    host_of,
    is_out_of_step,
    reply_behind,
    typed_error,
)
from exo_imap_oauth._text import holds_control
from exo_imap_oauth.errors import ImapError, MailboxNotConnected

if TYPE_CHECKING:
    from collections.abc import Generator

    from exo_imap_oauth._imap.bearer import Bearer


def ask_status(imap: imaplib.IMAP4, bearer: Bearer) -> None:
    """Find out whether the mailbox opens, without selecting a folder.

    Raises:
        ImapError: It does not; MailboxNotConnected, Throttled or ConnectionFailed if it is known.
    """
    with _mailbox_errors(imap, bearer, "INBOX"):
        typ, data = imap.status("INBOX", "(UIDVALIDITY)")
        _require_ok(typ, data)


def select(imap: imaplib.IMAP4, bearer: Bearer, folder: str, *, readonly: bool) -> None:
    """Select or examine a folder, given as :func:`folder_argument` has encoded it.

    Raises:
        ImapError: It does not open; the same classes as for :func:`ask_status`.
    """
    with _mailbox_errors(imap, bearer, folder):
        typ, data = imap.select(folder, readonly)
        _require_ok(typ, data)


def _require_ok(typ: str, data: list[Any]) -> None:
    if typ != "OK":
        said = b" ".join(line for line in data if isinstance(line, bytes))
        raise imaplib.IMAP4.error(f"{typ} {said.decode(errors='replace')}")


@contextlib.contextmanager
def _mailbox_errors(imap: imaplib.IMAP4, bearer: Bearer, folder: str) -> Generator[None]:
    """Raise what goes wrong with the first mailbox command as one of our errors."""
    try:
        with bounded_replies(imap):
            yield
    except imaplib.IMAP4.readonly as error:
        raise ImapError(
            f"the folder {folder} of {bearer.user} opens read-only; pass readonly=True"
        ) from error
    except Exception as error:
        reply = reply_behind(error, imap, bearer.secrets())
        what = f"{host_of(imap)} did not open {folder} of {bearer.user}: {reply.text}"
        typed = typed_error(what, reply, "post_auth", **bearer.known())
        if typed is None and is_out_of_step(error):
            typed = connection_failed(what, reply)
        if typed is None:
            typed = MailboxNotConnected(what) if folder.upper() == "INBOX" else ImapError(what)
        raise typed from error


def folder_argument(folder: str) -> str:
    """A folder's name as an IMAP argument: modified UTF-7, quoted (RFC 3501 section 5.1.3)."""
    if not isinstance(folder, str):
        raise TypeError(f"folder must be a string, not {type(folder).__name__}")
    if not folder or holds_control(folder):
        raise ValueError(f"folder is empty or holds a control character: {folder!r}")

    def encode(run: re.Match[str]) -> str:
        text = base64.b64encode(run[0].encode("utf-16-be")).decode()
        return f"&{text.rstrip('=').replace('/', ',')}-"

    encoded = re.sub(r"[^\x20-\x7e]+", encode, folder.replace("&", "&-"))
    if re.fullmatch(r"[A-Za-z0-9./_\-]+", encoded):
        return encoded
    return '"' + re.sub(r'(["\\])', r"\\\1", encoded) + '"'
