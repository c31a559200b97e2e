r"""The messages of a look, in batches: asked for ahead, handed over, marked together.

One after the other, each message is two round trips. So the next batch is asked for before this
one is handed over, and the marks of several go out in one STORE while the one before is on its
way. A batch begins with one message and grows only while it is quick, so that nothing is fetched
long before it is handled; memory holds two batches of 4 MB at most, or one larger message.
"""

from __future__ import annotations

import contextlib
import imaplib
import math
import time
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._errors_imap import ImapError, MessageUnavailable
from exo_imap_oauth._listener.commands import Commands
from exo_imap_oauth._listener.sizes import Sizes
from exo_imap_oauth._mail.ask import (
    concerns_all,
    is_read,
    search,
    set_of,
    start_fetch,
    start_marking,
)
from exo_imap_oauth._mail.message import mail_of
from exo_imap_oauth._mail.replies import Fetched

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth._imap.client import Client
    from exo_imap_oauth._listener.work import Failure, Work
    from exo_imap_oauth._mail.ask import Pending
    from exo_imap_oauth.mail import Mail

_MOST_MESSAGES = 50  # in a batch
_MOST_BYTES = 4_000_000  # in a batch of several, and so ahead
_QUICK = 1.0  # s that a batch may take, for the next ones to be larger
_FRESH = 5.0  # s since the last reply, in which a connection is believed to be there
_LAST_REPLIES = 3.0  # s for the replies that are due when the server sends us away
_MARKS_EVERY = 0.05  # s after which the reply to a STORE is looked for, if others wait


class Limits(NamedTuple):
    """What the caller allows."""

    longest: int | None  # bytes of a message
    unconfirmed: int  # messages that are handled, and whose mark is not confirmed


class Place(NamedTuple):
    """Where the messages are."""

    uidvalidity: int
    folder: str


class _Batch:
    """Messages that are asked for together, and what came of them."""

    __slots__ = ("came", "is_here", "refusal", "uids")

    def __init__(self, uids: list[int]) -> None:
        self.uids = uids
        self.is_here = False
        self.came: dict[int, Fetched] = {}
        self.refusal: ImapError | None = None  # of a single message


class Batches:
    """Takes the messages that the work says are due.

    Args:
        imap: A client that has selected the folder.
        work: What is known of its messages.
        place: The folder.
        limits: What the caller allows.
        handle: Hands a message over; gives what went wrong.
        is_given_up: Tells what went wrong with a message: whether it is given up.
        done: Told when a message is done.
        is_over: Whether no more is to be handed over.
    """

    def __init__(
        self,
        imap: Client,
        work: Work,
        place: Place,
        limits: Limits,
        *,
        handle: Callable[[Mail], Exception | None],
        is_given_up: Callable[[Failure], bool],
        done: Callable[[], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._imap, self._work = imap, work
        self._place, self._limits = place, limits
        self._handle = handle
        self._is_given_up = is_given_up
        self._done = done
        self._is_over = is_over
        self._size = 1  # messages in the next batch
        self._alone = 0  # so many messages are asked for one by one
        self._batches: list[_Batch] = []  # asked for, and not handed over
        self._commands = Commands(imap)
        self._sizes = Sizes(imap, work, self._commands)
        self._marks_on_their_way = 0  # commands
        self._marks_sent_at = -math.inf

    def take_all(self) -> None:
        """Hand over what is due, until there is no more or it is over; then wait for the marks."""
        try:
            self._take_all()
        except ImapError as error:
            self._sizes.lost()
            if not isinstance(error, imaplib.IMAP4.abort):  # what was marked is not owed
                was_asking = self._commands.is_asking
                with contextlib.suppress(ImapError), self._imap.within(_LAST_REPLIES):
                    self._commands.settle_all()
                self._commands.is_asking = was_asking
            raise

    def _take_all(self) -> None:
        self._size = 1
        self._commands.begin()  # a SEARCH was just answered
        self._sizes.forget()
        self._send_some_marks()
        batch = self._ask()
        self._size = 2
        while batch is not None:
            began = time.monotonic()
            self._wait_for(batch)
            ahead = self._ask_ahead(batch)
            self._hand_over(batch)
            if self._ends():
                break
            self._batches.remove(batch)
            if time.monotonic() - began < _QUICK:
                self._size = min(2 * self._size, _MOST_MESSAGES)
            else:
                self._size = max(1, self._size // 2)
            batch = ahead or self._ask()
        else:
            self._work.one_by_one = False
        self.send_marks()
        if not self._is_over():
            self._put_back()

    def _put_back(self) -> None:
        """What was asked for ahead is not handed over, if the marks before it are refused."""
        self._commands.settle_all()
        self._batches.clear()
        self._work.put_back()

    def came_when_lost(self) -> set[int] | None:
        """The messages that came, of those that were asked for when the connection was lost.

        None if another reply was waited for than theirs: then no message has to do with it.
        """
        if not self._commands.is_asking:
            return None
        return self._commands.contents().union(*(batch.came for batch in self._batches))

    # ---- asking ------------------------------------------------------------------------------

    def _ask_ahead(self, batch: _Batch) -> _Batch | None:
        """Ask for the next batch before this one is handed over."""
        if self._work.one_by_one:
            return None
        try:
            return self._ask(is_ahead=True)
        except ImapError:
            self._hand_over(batch)  # what came goes not down with the connection
            raise

    def _ask(self, *, is_ahead: bool = False) -> _Batch | None:
        """Ask for the next batch; None if there is none, or it has to wait for its turn."""
        while not self._ends():
            most = self._most()
            if most > 1 or is_ahead or self._limits.longest is not None:
                self._sizes.learn(self._work.due_next(most))
            if is_ahead and not self._fits_ahead():
                break
            uids = self._work.next_to_ask(most, fits=self._fits_in())
            if not uids:
                break
            self._alone = max(0, self._alone - 1)
            if fit := self._not_too_large(uids):
                return self._sent(_Batch(fit))
        return None

    def _most(self) -> int:
        return 1 if self._alone or self._work.one_by_one else self._size

    def _ends(self) -> bool:
        """Whether nothing more is to be handed over, or not before a mark is confirmed."""
        return self._is_over() or self._work.unconfirmed >= self._limits.unconfirmed

    def _sent(self, batch: _Batch) -> _Batch:
        self._batches.append(batch)
        self._send_fetch(batch)
        return batch

    def _send_fetch(self, batch: _Batch) -> None:
        # A connection that was silent for long may have ended in the meantime, unnoticed.
        is_fresh = time.monotonic() - self._commands.heard_at < _FRESH

        def read(pending: Pending) -> None:
            batch.is_here = True
            try:
                batch.came = self._commands.finish(pending)
            except ImapError as error:
                if concerns_all(error):
                    raise
                if len(batch.uids) == 1:
                    batch.refusal = error
                else:
                    self._work.refused(batch.uids)
                    self._alone += len(batch.uids)
                    batch.uids = []

        with self._imap.one_write():
            self._commands.sent(start_fetch(self._imap, batch.uids), read, asks=is_fresh)
            self._sizes.ask_with_the_first()

    def _fits_in(self) -> Callable[[int], bool]:
        """Whether one more message fits into a batch, after the first one and those before."""
        total = sum(self._sizes.of(uid) for uid in self._work.due_next(1))

        def fits(uid: int) -> bool:
            nonlocal total
            total += self._sizes.of(uid)
            return total <= _MOST_BYTES

        return fits

    def _fits_ahead(self) -> bool:
        return all(self._sizes.of(uid) <= _MOST_BYTES for uid in self._work.due_next(1))

    def _not_too_large(self, uids: list[int]) -> list[int]:
        longest = self._limits.longest
        if longest is None:
            return uids
        self._sizes.learn(uids)  # a suspect is in no queue
        fit: list[int] = []
        for uid in uids:
            size = self._sizes.of(uid)
            if longest < size < math.inf:
                text = f"the message with UID {uid} has {size} bytes, more than longest={longest}"
                self._note(
                    self._work.failed(uid, MessageUnavailable(text, uid=uid, size=int(size)))
                )
            else:
                fit.append(uid)
        return fit

    # ---- handing over ------------------------------------------------------------------------

    def _wait_for(self, batch: _Batch) -> None:
        while not batch.is_here:
            self._commands.settle()

    def _hand_over(self, batch: _Batch) -> None:
        missing: dict[int, Exception] = {}
        for uid in batch.uids:
            if self._ends():
                return
            one = batch.came.pop(uid, None) or Fetched(0, uid=uid)
            if is_read(one) and uid not in self._unread_among([uid]):
                self._work.gone(uid)  # somebody was faster
                continue
            try:
                mail = mail_of(one, uidvalidity=self._place.uidvalidity, folder=self._place.folder)
            except Exception as error:  # noqa: BLE001 - memory may not suffice, and parsers raise
                missing[uid] = batch.refusal or error
                continue
            finally:
                del one  # the text of the message, which may be large
            self._take(uid, mail)
            del mail
        self._note_missing(missing)

    def _take(self, uid: int, mail: Mail) -> None:
        self._work.came(uid)
        failure = self._handle(mail)
        if failure is None:
            self._work.returned(uid)
        else:
            self._note(self._work.failed(uid, failure))
        self._send_some_marks()

    def _note_missing(self, missing: dict[int, Exception]) -> None:
        """What did not come may be gone since it was listed, and then nothing is wrong."""
        unread = self._unread_among([*missing])
        for uid, error in missing.items():
            if uid in unread:
                self._note(self._work.failed(uid, error))
            else:
                self._work.gone(uid)

    def _unread_among(self, uids: list[int]) -> set[int]:
        if not uids:
            return set()
        return {*search(self._imap, "UID", set_of(uids), "UNSEEN", messages=len(uids))}

    def _note(self, failure: Failure | None) -> None:
        if failure is not None and self._is_given_up(failure):
            self._work.give_up(failure.uid)

    # ---- marks -------------------------------------------------------------------------------

    def send_marks(self) -> None:
        """Send the marks that are owed, and wait until none is but after a pause."""
        self._send_those_owed()
        while self._marks_on_their_way:
            self._settle_marks()
            self._send_those_owed()

    def _send_some_marks(self) -> None:
        """Send the marks that are owed, in few commands; wait if they are many.

        While others are on their way they wait, until they are half of those that may be
        unconfirmed: so the other half is confirmed while these are on their way.
        """
        most = self._limits.unconfirmed
        if time.monotonic() - self._marks_sent_at >= _MARKS_EVERY:
            self._settle_marks()
        if not self._marks_on_their_way or 2 * self._work.owed_marks >= most:
            self._send_those_owed()
        while self._work.unconfirmed >= most and self._marks_on_their_way:
            self._commands.settle()
            if not self._marks_on_their_way:
                self._send_those_owed()

    def _settle_marks(self) -> None:
        while self._marks_on_their_way:
            self._commands.settle()

    def _send_those_owed(self) -> None:
        uids = self._work.next_to_mark()
        if uids:
            self._send_store(uids)

    def _send_store(self, uids: list[int]) -> None:
        self._commands.sent(start_marking(self._imap, uids), self._read_marks)
        self._marks_on_their_way += 1
        self._marks_sent_at = time.monotonic()

    def _read_marks(self, pending: Pending) -> None:
        self._marks_on_their_way -= 1
        try:
            there = self._commands.finish(pending)
        except ImapError as error:
            if concerns_all(error):
                raise
            if len(pending.uids) == 1:
                self._confirm(pending.uids, {}, error)
                return
            for uid in pending.uids:  # which of them is it?
                self._send_store([uid])
        else:
            self._confirm(pending.uids, there, _without_effect())

    def _confirm(self, uids: list[int], there: dict[int, Fetched], problem: ImapError) -> None:
        """Note what is marked; what is not, has this problem."""
        # The server need not tell, least of all of a message that is gone.
        unsure = [uid for uid in uids if not is_read(there.get(uid))]
        unread = self._unread_among(unsure)
        for uid in uids:
            if uid in unread:
                self._note(self._work.not_marked(uid, problem))
            else:
                self._work.confirmed(uid)
                self._done()


def _without_effect() -> ImapError:
    return ImapError("the server took the mark and did not keep it", retryable=True)
