r"""What becomes of each message of a folder: a state machine. No I/O.

A message is known by its UID, which means something only together with the UIDVALIDITY of its
folder (RFC 3501 section 2.3.1.1). These are its states; ``-`` is a message that is not known,
because it is new, done or gone:

========  =====================================================================================
due       to be asked for
suspect   to be asked for after all others: the connection was lost when it was asked for
asked     asked for: its FETCH is on its way
handed    handed over: ``handle`` has it
handled   its mark, ``\Seen``, is owed: ``handle`` returned, and the server has to be told
marked    its STORE is on its way, and not confirmed
failed    to be asked for again once its pause is over
given up  its mark is owed as for *handled*, but nobody is told any more if that fails
========  =====================================================================================

This is what an event makes of it. A blank is what cannot happen; for a star, see below:

==========  ===  =====  =======  ========  =======  ========  ========  ========  ========
event       -    due    suspect  asked     handed   handled   marked    failed    given up
==========  ===  =====  =======  ========  =======  ========  ========  ========  ========
listed      due  due    suspect  asked     handed   handled   marked    failed*   given up
not listed  -    -      -        asked     handed   -         marked    -         -
asked            asked  asked
came                             handed
gone                             -
refused                          due
failed                           failed    failed
returned                                   handled
marking                                             marked                        marked
confirmed                                                     -
not marked                                                    handled*
given up                                            given up            given up
lost        -    -*     suspect  suspect*  due      handled   handled*  failed    given up
ended       -    -*     suspect  due       due      handled   handled*  failed    given up
==========  ===  =====  =======  ========  =======  ========  ========  ========  ========

*listed* and *not listed* is what a SEARCH tells. When its pause is over, a listed message is no
longer *failed* but *due*, or *suspect* if it was that before. A message that never failed is *due*
by the last SEARCH alone. *gone* is a message of which the server gave nothing and which it no
longer lists. *refused* is a FETCH of several: they are asked for one by one. *failed* is all that
goes wrong with one message: it came empty, or Exchange's stand-in came, or its own FETCH was
refused, or it is too large, or ``handle`` raised. *not marked* is a STORE that was refused or had
no effect; a mark that is owed is never a reason to hand a message over again.

When the connection is *lost* while messages are waited for, the first that did not come is
*suspect*, and from the second time on *failed*; the others are *due*. If marks are waited for,
these are owed, and from the second time on after a pause and each in a STORE of its own. When it
*ended* for another reason, such as a new token, nothing is held against anybody. What was *given
up* stays so when its mark is owed again. If the folder has another UIDVALIDITY than before, all is
forgotten.

Who is told to stop asks for nothing more, but still sends the marks that are owed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable


class State(Enum):
    """Where a message stands, by its name in the table."""

    UNKNOWN = "-"
    DUE = "due"
    SUSPECT = "suspect"
    ASKED = "asked"
    HANDED = "handed"
    HANDLED = "handled"
    MARKED = "marked"
    FAILED = "failed"
    GIVEN_UP = "given up"


_ON_ITS_WAY: Final = frozenset((State.ASKED, State.HANDED, State.MARKED))
_MARK_IS_OWED: Final = frozenset((State.HANDLED, State.GIVEN_UP))
_WAITS: Final = _MARK_IS_OWED | {State.FAILED}


@dataclass(slots=True)
class _Message:
    state: State = State.DUE
    attempts: int = 0  # that failed
    losses: int = 0  # of connections, one after the other, while it was asked for
    again_at: float = -math.inf  # by the clock
    is_given_up: bool = False
    problem: type[Exception] | None = None  # what went wrong at the last attempt

    @property
    def owes_mark(self) -> State:
        """What it is when its mark is owed again."""
        return State.GIVEN_UP if self.is_given_up else State.HANDLED


class Failure(NamedTuple):
    """What somebody has to be told of a message."""

    uid: int
    attempts: int  # that failed so far, this one included
    pause: float  # s until the next one
    error: Exception
    is_new: bool  # another kind of error than at the attempt before


class Work:
    """The messages of one folder, over many connections.

    Args:
        pause_after: Gives the seconds of pause after so many attempts, and what went wrong.
        clock: Gives seconds that never go back.
    """

    def __init__(
        self, pause_after: Callable[[int, Exception], float], clock: Callable[[], float]
    ) -> None:
        self._pause_after = pause_after
        self._clock = clock
        self._validity: object = None
        # A connection was lost when many were asked for their sizes, so that nobody knows whose
        # fault it was: until somebody does, each is asked for alone.
        self.one_by_one = False
        # All but those that are due for the first time, which may be very many.
        self._messages: dict[int, _Message] = {}
        self._failing: set[int] = set()
        self._unconfirmed: set[int] = set()
        self._due: list[int] = []  # the next one last
        self._suspects: list[int] = []
        self._marks: list[int] = []

    @property
    def failing(self) -> int:
        """How many messages failed at their last attempt, and are not given up."""
        return len(self._failing)

    @property
    def owes_marks(self) -> bool:
        """Whether a mark is owed, perhaps after a pause, or not confirmed."""
        return any(
            m.state in _MARK_IS_OWED or m.state is State.MARKED for m in self._messages.values()
        )

    def hasten_marks(self) -> None:
        """Have all marks that are owed sent next, during a pause too: it is the last chance."""
        self._forget_queues()
        self._marks += [uid for uid, m in self._messages.items() if m.state in _MARK_IS_OWED]

    def seconds_to_next_try(self) -> float:
        """Until the pause of a message is over; infinite if there is none."""
        waiting = (m.again_at for m in self._messages.values() if m.state in _WAITS)
        return max(0.0, min(waiting, default=math.inf) - self._clock())

    # ---- what to send next -------------------------------------------------------------------

    def next_to_ask(self, most: int = 1, *, fits: Callable[[int], bool] | None = None) -> list[int]:
        """The messages whose FETCH goes out now.

        Those that are due come first, by UID. A suspect is asked for alone, when nothing else is.

        Args:
            most: How many at most.
            fits: Whether one more may be asked for together with those before it.
        """
        asked: list[int] = []
        while self._due and len(asked) < most:
            if asked and fits is not None and not fits(self._due[-1]):
                break
            asked.append(self._due.pop())
        if not asked and self._suspects and not self._in_state(State.ASKED):
            asked.append(self._suspects.pop(0))
        for uid in asked:
            self._messages.setdefault(uid, _Message()).state = State.ASKED
        return asked

    def due_next(self, most: int) -> list[int]:
        """Those that will be asked for next, without the suspects."""
        return self._due[: -most - 1 : -1]

    def next_to_mark(self) -> list[int]:
        """The messages whose STORE goes out now: together, but one by one after two losses."""
        owed = [uid for uid in self._marks if self._messages[uid].losses <= 1]
        if not owed and self._marks:
            owed = [min(self._marks, key=lambda uid: self._messages[uid].losses)]
        for uid in owed:
            self._marks.remove(uid)
            self._messages[uid].state = State.MARKED
        return owed

    @property
    def owed_marks(self) -> int:
        """How many marks are to be sent."""
        return len(self._marks)

    @property
    def unconfirmed(self) -> int:
        """How many messages were handled, and their marks are not confirmed, nor given up."""
        return len(self._unconfirmed)

    # ---- events of a connection --------------------------------------------------------------

    def opened(self, validity: object) -> None:
        """The folder is open, and has this UIDVALIDITY."""
        if validity != self._validity:
            self._validity = validity
            self._messages.clear()
            self._failing.clear()
            self._unconfirmed.clear()
        self._forget_queues()

    def listed(self, uids: Iterable[int]) -> None:
        """A SEARCH named these and no others, in ascending order."""
        self._forget_queues()
        known, now = self._messages, self._clock()
        self._messages = {uid: m for uid, m in known.items() if m.state in _ON_ITS_WAY}
        for uid in uids:
            message = known.get(uid)
            if message is None:
                self._due.append(uid)
            else:
                self._messages[uid] = message
                self._line_up(uid, message, now)
        self._due.reverse()
        self._failing &= self._messages.keys()
        self._unconfirmed &= self._messages.keys()

    def _line_up(self, uid: int, message: _Message, now: float) -> None:
        if message.again_at > now:
            return
        if message.state is State.FAILED:
            message.state = State.SUSPECT if message.losses else State.DUE
        if message.state is State.DUE:
            self._due.append(uid)
        elif message.state is State.SUSPECT:
            self._suspects.append(uid)
        elif message.state in _MARK_IS_OWED:
            self._marks.append(uid)

    def lost(self, error: Exception, came: Container[int] | None = ()) -> list[Failure]:
        """The connection was lost, which may be the fault of a message.

        Args:
            error: How it was lost.
            came: What had come of those that were asked for; None if something else was waited for.

        Returns:
            What somebody has to be told.
        """
        if came is None:
            suspects = self._in_state(State.MARKED)
        else:
            suspects = sorted(uid for uid in self._in_state(State.ASKED) if uid not in came)[:1]
        failures = [self._suspected(uid, error) for uid in suspects]
        self.ended()
        return [failure for failure in failures if failure is not None]

    def _in_state(self, state: State) -> list[int]:
        return [uid for uid, message in self._messages.items() if message.state is state]

    def _suspected(self, uid: int, error: Exception) -> Failure | None:
        message = self._messages[uid]
        is_marked = message.state is State.MARKED
        message.state = message.owes_mark if is_marked else State.SUSPECT
        message.losses += 1
        if message.losses == 1:
            return None
        failure = self._failure(
            uid, message, message.owes_mark if is_marked else State.FAILED, error
        )
        return None if message.is_given_up else failure

    def ended(self) -> None:
        """The connection ended for a reason that is nobody's fault."""
        for message in self._messages.values():
            if message.state is State.MARKED:
                message.state = message.owes_mark
            elif message.state in _ON_ITS_WAY:
                message.state = State.DUE
        self._forget_queues()

    def _forget_queues(self) -> None:
        """What is to be sent next is what the next SEARCH says."""
        for queue in (self._due, self._suspects, self._marks):
            queue.clear()

    # ---- events of a message -----------------------------------------------------------------

    def came(self, uid: int) -> None:
        """It came, and is handed over."""
        message = self._get(uid, State.ASKED)
        message.state, message.losses = State.HANDED, 0

    def gone(self, uid: int) -> None:
        """Nothing came, since it is not there any more."""
        self._get(uid, State.ASKED)
        self._forget(uid)

    def refused(self, uids: Iterable[int]) -> None:
        """Their common FETCH was refused: they are asked for again, each alone."""
        for uid in sorted(uids, reverse=True):
            self._get(uid, State.ASKED).state = State.DUE
            self._due.append(uid)

    def put_back(self) -> None:
        """What is asked for is not handed over now; the next SEARCH names it again."""
        for message in self._messages.values():
            if message.state is State.ASKED:
                message.state = State.DUE

    def failed(self, uid: int, error: Exception) -> Failure:
        """It did not come, or was not handled; it is tried again after a pause."""
        message = self._get(uid, State.ASKED, State.HANDED)
        return self._failure(uid, message, State.FAILED, error)

    def returned(self, uid: int) -> None:
        """``handle`` returned."""
        message = self._get(uid, State.HANDED)
        message.state, message.again_at = State.HANDLED, -math.inf
        self._failing.discard(uid)
        self._unconfirmed.add(uid)
        self._marks.append(uid)

    def confirmed(self, uid: int) -> None:
        """The server has its mark, so it is done."""
        self._get(uid, State.MARKED)
        self._forget(uid)

    def not_marked(self, uid: int, error: Exception) -> Failure | None:
        """The server did not take the mark. None if nobody is to be told."""
        message = self._get(uid, State.MARKED)
        failure = self._failure(uid, message, message.owes_mark, error)
        return None if message.is_given_up else failure

    def give_up(self, uid: int) -> None:
        """Somebody decided that it shall be marked, whatever failed."""
        message = self._get(uid, State.FAILED, State.HANDLED)
        message.is_given_up = True
        self._failing.discard(uid)
        self._unconfirmed.discard(uid)
        if message.state is State.FAILED:
            message.again_at = -math.inf
            self._marks.append(uid)
        message.state = State.GIVEN_UP

    def _forget(self, uid: int) -> None:
        del self._messages[uid]
        self._failing.discard(uid)
        self._unconfirmed.discard(uid)

    def _get(self, uid: int, *expected: State) -> _Message:
        message = self._messages[uid]
        if message.state not in expected:  # a blank of the table: a defect of whoever drives it
            raise RuntimeError(f"this cannot happen to a message that is {message.state.value}")
        return message

    def _failure(self, uid: int, message: _Message, state: State, error: Exception) -> Failure:
        message.state = state
        message.attempts += 1
        pause = self._pause_after(message.attempts, error)
        message.again_at = self._clock() + pause
        if not message.is_given_up:
            self._failing.add(uid)
        before, message.problem = message.problem, type(error)
        return Failure(uid, message.attempts, pause, error, is_new=before is not type(error))
