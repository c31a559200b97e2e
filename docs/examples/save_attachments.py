"""Save the attachments of every unread message of every inbox, then mark it as read.

    python save_attachments.py /path/to/cmsbs-conf /path/to/folder

To be run by cron or a systemd timer. Exits with 0 if all went well, with 75 (EX_TEMPFAIL) if a
later run may succeed without anybody changing anything, else with 1; stderr says what is wrong
and how to fix it. A message is marked after its attachments are on disk: a crash in between
saves them twice under the same names, and loses none. One that does not come, or whose
attachments cannot be saved, stays unread, and the others do not wait for it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import ConnectionFailed, ExoImapOAuthError
from exo_imap_oauth.listener import InboxListener

if TYPE_CHECKING:
    from email.message import EmailMessage

    from exo_imap_oauth.mail import Mail

FINE, WRONG, TRY_AGAIN = 0, 1, 75  # the last is EX_TEMPFAIL
CONNECTIONS = 5  # at most for an inbox, if one after the other is lost
LONGEST_NAME, LONGEST_ENDING = 200, 20  # bytes, of the 255 that a file system takes


def save_attachments(message: EmailMessage, folder: Path) -> None:
    """Save each attachment; its name is foreign and may say anything."""
    folder.mkdir(parents=True, exist_ok=True)
    # A scanner may send the document as the message itself.
    parts = [message] if message.is_attachment() else message.iter_attachments()
    for number, part in enumerate(parts, 1):
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes):  # a message within the message
            content = part.as_bytes()
        unfinished = folder / f".{number}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / f"{number}-{safe_name(part.get_filename(''))}")


def safe_name(name: str) -> str:
    """Not empty, not hidden, without separators, and no longer than a file system takes."""
    name = re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "attachment"
    ending = Path(name).suffix
    if len(ending.encode()) > LONGEST_ENDING:
        ending = ""
    room = LONGEST_NAME - len(ending.encode())
    return name.removesuffix(ending).encode()[:room].decode(errors="ignore") + ending


def read_inbox(inbox: InboxConfig, folder: Path, errors: list[BaseException]) -> None:
    """Save the attachments of all unread messages; note what is wrong with single ones."""

    def save(_: InboxConfig, mail: Mail) -> None:
        save_attachments(mail, folder / inbox.name / f"{mail.uidvalidity}-{mail.uid}")

    def note(_: InboxConfig, error: Exception, _pause: float) -> None:
        errors.append(error.__cause__ or error)  # the library has logged it, on stderr

    listener = InboxListener(inbox, save, on_failure=note)
    for left in reversed(range(CONNECTIONS)):
        looked = listener.status.last_look
        try:
            listener.run_once()
        except ConnectionFailed:
            if not left or listener.status.last_look == looked:  # it was never open
                raise
        else:
            return
        # The message at which it was lost comes last now.


def main(conf: str, folder: str) -> int:
    """Read every inbox, whatever is wrong with another; the exit status."""
    try:
        inboxes = load_config(conf).values()
    except ExoImapOAuthError as error:
        print(error, file=sys.stderr)
        return WRONG
    errors: list[BaseException] = []
    for inbox in inboxes:
        try:
            read_inbox(inbox, Path(folder), errors)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other inboxes are read
            print(f"{inbox.name}: {type(error).__name__}: {error}", file=sys.stderr)
            errors.append(error)
    if not errors:
        return FINE
    return TRY_AGAIN if all(getattr(each, "retryable", False) for each in errors) else WRONG


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
