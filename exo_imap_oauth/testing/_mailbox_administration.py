"""The mailboxes of a loopback Exchange Online, and what arrives in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_imap_oauth.testing._administration import EntraAdministration
from exo_imap_oauth.testing._mailboxes import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from email.message import Message

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._directory import Directory
    from exo_imap_oauth.testing._imap import ImapService
    from exo_imap_oauth.testing._loop import LoopThread


class MailboxAdministration(EntraAdministration):
    """Creates mailboxes and puts messages into them."""

    _imap: ImapService
    _loop: LoopThread | None

    def __init__(self, directory: Directory, clock: Clock) -> None:
        super().__init__(directory, clock)
        self._addresses: list[str] = []

    def add_mailbox(
        self,
        address: str,
        messages: int | Iterable[Message | bytes] = (),
        *,
        imap_enabled: bool = True,
        tenant_id: str | None = None,
    ) -> None:
        """Create a mailbox with an inbox and the usual other folders.

        Args:
            address: Its address; upper and lower case are the same.
            messages: What is in its inbox: messages, or raw ones as ``bytes`` that are served
                as they are, or a number of generated ones.
            imap_enabled: Whether IMAP is switched on for it.
            tenant_id: Its tenant; by default :attr:`tenant_id`.
        """
        loop = self._running()
        self._directory.add_mailbox(address, tenant_id, imap_enabled=imap_enabled)
        loop.call(self._create(address, messages))
        self._addresses.append(address)

    async def _create(self, address: str, messages: int | Iterable[Message | bytes]) -> None:
        mailbox = Mailbox(address, self._clock)
        await mailbox.deliver(messages)
        self._imap.mailboxes[address.lower()] = mailbox

    def deliver(
        self,
        mailbox: str,
        message: Message | bytes,
        folder: str = "INBOX",
        *,
        date: datetime | None = None,
    ) -> None:
        """Deliver a message; whoever idles in that folder is told.

        Args:
            mailbox: The address of the mailbox.
            message: The message; ``bytes`` are served as they are.
            folder: The folder, which is made if need be.
            date: When it came, which is its INTERNALDATE; by default now, by the service's clock.

        Raises:
            ValueError: There is no such mailbox, or ``date`` names no time zone.
        """
        if date is not None and date.tzinfo is None:
            raise ValueError(
                "date names no time zone: pass an aware datetime, such as"
                " datetime(2026, 11, 29, tzinfo=UTC)"
            )
        folders = self._mailbox(mailbox)
        self._running().call(folders.deliver([message], folder, date))

    def change_uidvalidity(self, mailbox: str, folder: str = "INBOX") -> None:
        """Give a folder another UIDVALIDITY, as after a rebuild of the mailbox.

        Its messages stay, with other UIDs, from 1 on. Who has the folder open gets a ``BYE``.

        Args:
            mailbox: The address of the mailbox.
            folder: The folder.

        Raises:
            ValueError: There is no such mailbox or folder.
        """
        self._running().call(self._rebuild(self._mailbox(mailbox), folder))

    async def _rebuild(self, mailbox: Mailbox, folder: str) -> None:
        try:
            rebuilt = await mailbox.rebuild(folder)
        except KeyError:
            raise ValueError(f"there is no folder {folder}: deliver makes one") from None
        self._imap.end_sessions(rebuilt)

    def _mailbox(self, address: str) -> Mailbox:
        mailbox = self._imap.mailboxes.get(address.lower())
        if mailbox is None:
            raise ValueError(f"no mailbox {address}: add_mailbox comes first")
        return mailbox

    def _running(self) -> LoopThread:
        if self._loop is None or not self._loop.is_running:
            raise RuntimeError("the LoopbackExchange does not run: use it in a with statement")
        return self._loop
