"""How large the messages are that are due: RFC822.SIZE, of many at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_imap_oauth._errors_imap import ImapError
from exo_imap_oauth._mail.ask import concerns_all, start_sizes

if TYPE_CHECKING:
    from exo_imap_oauth._imap.client import Client
    from exo_imap_oauth._listener.commands import Commands
    from exo_imap_oauth._listener.work import Work
    from exo_imap_oauth._mail.ask import Pending

_AT_ONCE = 500  # messages


class Sizes:
    """The sizes of messages, in bytes; infinite where the server does not tell.

    Args:
        imap: A client that has selected the folder.
        work: What is known of its messages.
        commands: Those that are on their way.
    """

    def __init__(self, imap: Client, work: Work, commands: Commands) -> None:
        self._imap = imap
        self._work = work
        self._commands = commands
        self._sizes: dict[int, float] = {}
        self._many_on_their_way = False

    def forget(self) -> None:
        """Begin anew: the messages are others now."""
        self._sizes.clear()

    def lost(self) -> None:
        """The connection was lost; if many were asked about, nobody knows whose fault it was."""
        self._work.one_by_one = self._work.one_by_one or self._many_on_their_way

    def of(self, uid: int) -> float:
        """The size of a message, as far as it is known."""
        return self._sizes.get(uid, math.inf)

    def ask_with_the_first(self) -> None:
        """Ask for the sizes of what comes after the first message, which is asked for without."""
        if not self._sizes and not self._work.one_by_one and self._work.due_next(1):
            self._ask(self._work.due_next(_AT_ONCE))

    def learn(self, uids: list[int]) -> None:
        """Know the sizes of these messages; those after them are asked for with them."""
        while self._commands.are_on_their_way and not self._knows(uids):
            self._commands.settle()
        if not self._knows(uids):
            following = [] if self._work.one_by_one else self._work.due_next(_AT_ONCE)
            self._ask(sorted(uid for uid in {*uids, *following} if uid not in self._sizes))
            while not self._knows(uids):
                self._commands.settle()

    def _knows(self, uids: list[int]) -> bool:
        return all(uid in self._sizes for uid in uids)

    def _ask(self, uids: list[int]) -> None:
        is_one = len(uids) == 1
        self._many_on_their_way = not is_one
        self._commands.sent(start_sizes(self._imap, uids), self._read, asks=is_one)

    def _read(self, pending: Pending) -> None:
        try:
            there = self._commands.finish(pending)
        except ImapError as error:
            if concerns_all(error):
                raise
            there = {}
        self._many_on_their_way = False
        for uid in pending.uids:
            size = there[uid].size if uid in there else None
            self._sizes[uid] = math.inf if size is None else size
