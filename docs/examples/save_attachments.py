"""Save the attachments of every unread message of every inbox, then mark it as read.

    python save_attachments.py /path/to/cmsbs-conf /path/to/folder

To be run by cron or a systemd timer. Exits with 0 if all went well, with 75 (EX_TEMPFAIL) if a
later run may succeed without anybody changing anything, else with 1; stderr says what is wrong
and how to fix it. A message is marked after its attachments are on disk: a crash in between
saves them twice under the same names, and loses none.
"""

from __future__ import annotations

import re
import sys
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import ExoImapOAuthError
from exo_imap_oauth.imap import ok

if TYPE_CHECKING:
    from email.message import EmailMessage

FINE, WRONG, TRY_AGAIN = 0, 1, 75  # the last is EX_TEMPFAIL


def save_attachments(message: EmailMessage, folder: Path) -> None:
    """Save each attachment; its name is foreign and may say anything."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(message.iter_attachments(), 1):
        name = re.sub(r"[^\w.-]+", "_", part.get_filename("attachment"))[-100:].lstrip(".")
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes):  # a message within the message
            content = part.as_bytes()
        unfinished = folder / f".{number}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / f"{number}-{name}")


def read_inbox(inbox: InboxConfig, folder: Path) -> None:
    """Save the attachments of all unread messages."""
    with inbox.open() as imap:
        (uids,) = ok(imap.uid("SEARCH", "UNSEEN"))
        for uid in uids.decode().split():
            (part, *_) = ok(imap.uid("FETCH", uid, "(BODY.PEEK[])"))
            if part is not None:  # else somebody removed it
                message = message_from_bytes(part[1], policy=policy.default)
                save_attachments(message, folder / inbox.name / uid)
            ok(imap.uid("STORE", uid, "+FLAGS.SILENT", r"(\Seen)"))


def main(conf: str, folder: str) -> int:
    """Read every inbox, whatever is wrong with another; the exit status."""
    status = FINE
    try:
        inboxes = load_config(conf).values()
    except ExoImapOAuthError as error:
        print(error, file=sys.stderr)
        return WRONG
    for inbox in inboxes:
        try:
            read_inbox(inbox, Path(folder))
        except ExoImapOAuthError as error:
            print(f"{inbox.name}: {error}", file=sys.stderr)
            if status != WRONG:
                status = TRY_AGAIN if error.retryable else WRONG
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
