r"""One connection of a listener: it asks the work what to send next, and tells it what came."""

from __future__ import annotations

import contextlib
import imaplib
import logging
import math
import time
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._errors_imap import ImapError
from exo_imap_oauth._frames import without_locals
from exo_imap_oauth._listener.batches import Batches, Place
from exo_imap_oauth._listener.idle import DONE, LONGEST, idle
from exo_imap_oauth._listener.waker import is_readable
from exo_imap_oauth._mail.ask import (
    concerns_all,
    finish_search,
    needs_windows,
    number,
    search,
    start_search,
)
from exo_imap_oauth.advice import explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth._imap.client import Client
    from exo_imap_oauth._listener.batches import Limits
    from exo_imap_oauth._listener.opening import Renewal
    from exo_imap_oauth._listener.waker import Waker
    from exo_imap_oauth._listener.work import Failure, Work
    from exo_imap_oauth._mail.ask import Pending
    from exo_imap_oauth.mail import Mail

_logger = logging.getLogger(__name__)

_SETTLED = 60.0  # s of a session after which what was wrong before is over
_WORTHWHILE = 10.0  # s after which a session that was ended was no failure
_MOST_FRUITLESS = 3  # looks in a row at which nothing was found, and yet no rest is due
_GRACE = 0.7  # s that a command under way has when it is time to stop
_MARK_GRACE = 5.0  # s that the marks of what was handled have then
_LOGOUT_GRACE = 0.2  # s that LOGOUT has then


class Duties(NamedTuple):
    """What a session has done for it, and whom it tells."""

    handle: Callable[[Mail], object]
    looked: Callable[[], None]  # the server told what is unread
    is_given_up: Callable[[Failure], bool]
    done: Callable[[], None]  # a message is done
    settled: Callable[[], None]  # the session has lived for a while


class Session:
    """A folder that is open for writing.

    Args:
        imap: A client that has selected it.
        work: What is known of its messages.
        folder: Its name.
        waker: Wakes the session when it is time to stop.
        renewal: Tells when it is time for another token, and so for another session.
        poll_interval: Seconds between two looks, if the server says nothing.
        rest: Seconds between two looks, if the server speaks and yet there is nothing new.
        limits: What the caller allows.
        duties: What is done for it.

    Raises:
        ImapError: Marks do not last in this folder.
    """

    def __init__(
        self,
        imap: Client,
        work: Work,
        *,
        folder: str,
        waker: Waker,
        renewal: Renewal,
        poll_interval: float,
        rest: float,
        limits: Limits,
        duties: Duties,
    ) -> None:
        self._imap = imap
        self._work = work
        self._waker = waker
        self._renewal = renewal
        self._poll_interval = poll_interval
        self._rest = rest
        self._duties = duties
        self._began = time.monotonic()
        self._is_settled = False
        self._progress = 0  # messages handled, and marks confirmed
        self._looked_at = -math.inf
        self._fruitless = 0  # looks in a row
        self._is_leaving = False
        self._ends_at: dict[float, float] = {}  # by the grace that there is until then
        self._searching: Pending | None = None  # the SEARCH that was sent with DONE
        self._messages = 0  # at most, in the folder
        self._idles = "IDLE" in imap.capabilities
        self._validity = number(imap.response("UIDVALIDITY")[1][-1])
        self._note_new_mail()
        self._batches = Batches(
            imap,
            work,
            Place(self._validity, folder),
            limits,
            handle=self._handled,
            is_given_up=duties.is_given_up,
            done=self._count,
            is_over=self._is_over,
        )
        imap.wait_by(self._wait_readable)
        work.opened(self._validity)
        _require_lasting_marks(imap.response("PERMANENTFLAGS")[1])
        told = imap.untagged_responses  # which nobody needs, but for the next UID
        imap.untagged_responses = {name: told[name] for name in told if name == "UIDNEXT"}

    @property
    def is_worthwhile(self) -> bool:
        """Whether something came of it, so that another one may follow at once."""
        return self._progress > 0 or time.monotonic() - self._began >= _WORTHWHILE

    def run(self) -> bool:
        """Look and wait, until it is time to stop or for another token; False, since it goes on."""
        while not self._waker.is_set and self.look():
            if not self._note_new_mail() or self._seconds_to_rest():
                self._wait()
        return False

    def look(self) -> bool:
        """Hand over what there is, and mark it.

        Returns:
            Whether it came to its end, and was not ended for another token.
        """
        self._looked_at, before = time.monotonic(), self._progress
        self._work.listed(self._unread())
        self._duties.looked()
        self._batches.take_all()
        self._fruitless = self._fruitless + 1 if self._progress == before else 0
        return self._waker.is_set or not self._renewal.is_due()

    def send_last_marks(self) -> None:
        """Mark what was handled and is not marked, and do nothing else."""
        self._work.hasten_marks()
        self._batches.send_marks()

    def came_when_lost(self) -> set[int] | None:
        """See :meth:`Batches.came_when_lost`."""
        return self._batches.came_when_lost()

    def log_out(self) -> None:
        """Say goodbye; shortly, if it is time to stop."""
        self._is_leaving = True
        if self._waker.is_set:
            with contextlib.suppress(Exception):  # the work is done, and nothing depends on it
                self._imap.logout()

    def _handled(self, mail: Mail) -> Exception | None:
        """Hand a message over; gives what went wrong."""
        failure: Exception | None = None
        try:
            self._duties.handle(mail)
        except Exception as error:  # noqa: BLE001 - it is not our function
            failure = error
        self._progress += 1
        if not self._waker.is_at_home:
            self._imap.sock.close()  # else the server would hear of it
            raise SystemExit("handle() returned in a forked child: end it with os._exit()")
        return failure

    def _count(self) -> None:
        self._progress += 1
        self._duties.done()

    def _is_over(self) -> bool:
        return self._waker.is_set or self._renewal.is_due()

    # ---- what the server says ----------------------------------------------------------------

    def _unread(self) -> list[int]:
        if self._searching is not None:
            pending, self._searching = self._searching, None
            return finish_search(self._imap, pending)
        self._forget_news()
        return search(self._imap, "UNSEEN", messages=self._messages)

    def _forget_news(self) -> None:
        """What is said until now is what the next SEARCH finds."""
        self._note_new_mail()
        self._imap.response("EXPUNGE")

    def _note_new_mail(self) -> bool:
        """Forget what was said of new mail; whether anything was."""
        said = self._imap.response("EXISTS")[1]
        numbers = [number(each) for each in said if each is not None]
        self._messages = max([self._messages, *numbers])
        return bool(numbers)

    # ---- waiting -----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait until there may be something to do."""
        self._waker.wait(self._seconds_to_rest())
        since_look = time.monotonic() - self._looked_at
        seconds = min(
            self._poll_interval,
            LONGEST,
            max(self._work.seconds_to_next_try(), self._rest - since_look),
            self._renewal.seconds(),
            self._seconds_to_settle(),
        )
        if self._idles:
            try:
                idle(self._imap, lambda: self._wait_for_news(seconds), self._end_idle)
            except imaplib.IMAP4.error as error:
                if concerns_all(error):
                    raise
                self._idles = False  # so it is polled
                _logger.debug("IDLE was refused: %s", type(error).__name__)
            self._forget_news()
        if not self._idles:
            self._waker.wait(seconds)

    def _end_idle(self) -> None:
        """DONE, and the next SEARCH in the same write where its answer fits into a line."""
        with self._imap.one_write():
            self._imap.send(DONE)
            if not needs_windows(self._messages) and not self._waker.is_set:
                self._searching = start_search(self._imap, "UNSEEN")

    def _wait_for_news(self, seconds: float) -> None:
        self._waker.wait(seconds, self._imap.sock)

    def _seconds_to_rest(self) -> float:
        """Until the next look, if a server speaks again and again and has nothing new."""
        if self._fruitless <= _MOST_FRUITLESS:
            return 0.0
        return max(0.0, self._looked_at + self._rest - time.monotonic())

    def _seconds_to_settle(self) -> float:
        if self._is_settled:
            return math.inf
        left = _SETTLED - (time.monotonic() - self._began)
        if left > 0:
            return left
        self._is_settled = True
        self._duties.settled()
        return math.inf

    @property
    def _grace(self) -> float:
        """Seconds that a command under way is given once it is time to stop."""
        if self._is_leaving:
            return _LOGOUT_GRACE
        return _MARK_GRACE if self._work.owes_marks else _GRACE

    def _wait_readable(self, seconds: float) -> None:
        """Wait for the server, but not for long once it is time to stop."""
        if not self._waker.is_set and not self._is_leaving:
            is_over = not self._waker.wait(seconds, self._imap.sock)
        else:
            now, grace = time.monotonic(), self._grace
            left = self._ends_at.setdefault(grace, now + grace) - now
            is_over = left <= 0 or not is_readable(min(seconds, left), self._imap.sock)
        if is_over:
            raise TimeoutError


@without_locals
def _require_lasting_marks(told: list[bytes | None]) -> None:
    r"""Refuse a folder whose server says that ``\Seen`` is forgotten when the session ends."""
    flags = b" ".join(each for each in told if each is not None)
    if told != [None] and rb"\seen" not in flags.lower():
        raise ImapError(
            "the server keeps no mark of what was read in this folder (PERMANENTFLAGS), so each"
            " message would be handed over again and again",
            advice=explain("folder-readonly"),
        )
