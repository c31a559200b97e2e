"""Mailboxes in memory (pymap's), with what is fixed in them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING

from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.mailbox import MailboxSnapshot
from pymap.parsing.message import AppendMessage
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable
    from email.message import Message as MimeMessage

    from pymap.concurrent import Event
    from pymap.parsing.specials import ObjectId
    from pymap.selected import SelectedMailbox

    from exo_imap_oauth.testing._clock import Clock

_FOLDERS = ("Deleted Items", "Drafts", "Junk Email", "Sent Items")


class _Folder(MailboxData):
    @override
    async def update_selected(
        self, selected: SelectedMailbox, *, wait_on: Event | None = None
    ) -> SelectedMailbox:
        # pymap waits for the next change even if there is one that the client has not seen yet:
        # mail delivered between SELECT and IDLE would be announced with the mail after it.
        if wait_on is not None and selected.mod_sequence == self._mod_sequences.highest:
            changed = wait_on.or_event(self._updated)
            if not wait_on.is_set():
                await changed.wait()
        return await super().update_selected(selected)

    async def rebuild(self) -> None:
        """Another UIDVALIDITY, and the messages numbered anew, from 1 on."""
        async with self.messages_lock.write_lock():
            # Not below the old one, in which pymap puts the time and a random part.
            self._uid_validity = max(MailboxSnapshot.new_uid_validity(), self._uid_validity + 1)
            old = list(self._messages.values())
            self._mod_sequences.expunge([message.uid for message in old])
            self._messages = {
                uid: Message.copy(message, uid=uid, recent=message.recent)
                for uid, message in enumerate(old, 1)
            }
            self._max_uid = len(old)
            self._mod_sequences.update(list(self._messages))


class Mailbox(MailboxSet):
    """The folders of one mailbox. To be used in the loop only."""

    def __init__(self, address: str, clock: Clock) -> None:
        super().__init__()
        self._inbox = self._new_folder()
        self._set |= {name: self._new_folder() for name in _FOLDERS}
        self._address = address
        self._clock = clock

    def _new_folder(self) -> _Folder:
        return _Folder(self._content_cache, self._thread_cache)

    @override
    async def add_mailbox(self, name: str) -> ObjectId:
        if name in self._set:
            raise ValueError(name)
        self._set[name] = folder = self._new_folder()
        return folder.mailbox_id

    async def deliver(
        self,
        messages: int | Iterable[MimeMessage | bytes],
        folder: str = "INBOX",
        date: datetime | None = None,
    ) -> None:
        """Put messages into a folder, which is made if need be, or as many generated ones.

        Args:
            messages: The messages, or how many.
            folder: The folder.
            date: Their INTERNALDATE; by default now.
        """
        place = self._place(folder)
        if isinstance(messages, int):
            messages = [self._sample(number) for number in range(1, messages + 1)]
        for message in messages:
            content = message if isinstance(message, bytes) else message.as_bytes(policy=SMTP)
            arrived = date or datetime.fromtimestamp(self._clock.now(), UTC)
            selected = place.selected_set.any_selected
            new = await place.append(AppendMessage(content, arrived), recent=not selected)
            if selected:
                selected.session_flags.add_recent(new.uid)

    def _place(self, folder: str) -> MailboxData:
        if folder.upper() == "INBOX":
            return self._inbox
        return self._set.setdefault(folder, self._new_folder())

    async def arrive(self, folder: str) -> None:
        """Put one generated message into a folder that exists."""
        exists = (await (await self.get_mailbox(folder)).snapshot()).exists
        await self.deliver([self._sample(exists + 1)], folder)

    async def rebuild(self, folder: str) -> ObjectId:
        """Give a folder another UIDVALIDITY and its messages other UIDs.

        Returns:
            What the folder is known by to sessions.

        Raises:
            KeyError: There is no such folder.
        """
        place = await self.get_mailbox(folder)
        assert isinstance(place, _Folder)
        await place.rebuild()
        return place.mailbox_id

    def _sample(self, number: int) -> EmailMessage:
        message = EmailMessage()
        message["From"] = "Erika Mustermann <erika@fabrikam.example>"
        message["To"] = self._address
        message["Subject"] = f"Sample message {number}"
        message["Date"] = format_datetime(datetime.fromtimestamp(self._clock.now(), UTC))
        message["Message-ID"] = f"<sample-{number}@fabrikam.example>"
        message.set_content(f"This is sample message {number}.\n")
        return message
