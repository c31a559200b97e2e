"""Commands that are on their way, and what the server told of messages meanwhile.

Replies come in the order of the commands (RFC 3501 section 5.5 lets a client send before it has
read, where what it sends depends on nothing that is not known yet), and are read in it.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from exo_imap_oauth._mail.ask import finish, told
from exo_imap_oauth._mail.replies import merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth._imap.client import Client
    from exo_imap_oauth._mail.ask import Pending
    from exo_imap_oauth._mail.replies import Fetched


class Commands:
    """What was sent on one connection and is not answered.

    Args:
        imap: A client that has selected a folder.

    Attributes:
        heard_at: When a reply was read last, by the monotonic clock.
        is_asking: Whether a reply is waited for, or was in vain, of a command that asks.
    """

    def __init__(self, imap: Client) -> None:
        self._imap = imap
        self._on_their_way: list[tuple[Pending, Callable[[Pending], None], bool]] = []  # few
        self._told: dict[int, Fetched] = {}  # until somebody asks for it
        self.heard_at = -math.inf
        self.is_asking = False

    def begin(self) -> None:
        """A reply was just read, and what was told before is of no use any more."""
        self._told.clear()
        self.heard_at = time.monotonic()

    def sent(
        self, pending: Pending, read: Callable[[Pending], None], *, asks: bool = False
    ) -> None:
        """A command went out; ``read`` reads its reply when its turn comes.

        With ``asks`` it may be the fault of one of its messages if that reply never comes.
        """
        self._on_their_way.append((pending, read, asks))

    def settle(self) -> None:
        """Have the reply read to the command that was sent first."""
        pending, read, self.is_asking = self._on_their_way.pop(0)
        read(pending)
        self.is_asking = False
        self.heard_at = time.monotonic()

    def settle_all(self) -> None:
        """Have all replies read."""
        while self._on_their_way:
            self.settle()

    @property
    def are_on_their_way(self) -> bool:
        """Whether a reply is not read."""
        return bool(self._on_their_way)

    def finish(self, pending: Pending) -> dict[int, Fetched]:
        """What the server told of the messages of a command, when its reply has come.

        A SEARCH in between, whose reply is waited for, has the replies before it read as well,
        so what is told of other messages is kept for whoever asked for them.

        Raises:
            ImapError: The server refused.
        """
        self._note(finish(self._imap, pending))
        return {uid: self._told.pop(uid) for uid in pending.uids if uid in self._told}

    def contents(self) -> set[int]:
        """The messages whose text came, and nobody has asked for it yet."""
        self._note(told(self._imap))
        return {uid for uid, one in self._told.items() if one.content is not None}

    def _note(self, there: dict[int, Fetched]) -> None:
        for uid, one in there.items():
            known = self._told.setdefault(uid, one)
            if known is not one:
                merge(known, one)
