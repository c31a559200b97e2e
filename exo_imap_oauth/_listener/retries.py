"""What failed: how long to wait before another try, and who is told."""

from __future__ import annotations

import logging
import math
import random
import warnings
from typing import TYPE_CHECKING

from exo_imap_oauth._text import described, is_free_of, one_line, quotable
from exo_imap_oauth.errors import ExoImapOAuthError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth._imap.bearer import Bearer
    from exo_imap_oauth._listener.work import Failure
    from exo_imap_oauth.advice import Advice
    from exo_imap_oauth.inbox import InboxConfig

_logger = logging.getLogger(__name__)

_MOST_DOUBLINGS = 20
_MOST_OF_MESSAGES = 3  # failures that count, of those that are held against messages
_MOST_LINES = 20  # of the notes of an error
_JITTER = 0.25  # of a pause: so that a fleet does not come back in one moment


class MessageNotHandled(ExoImapOAuthError):
    """A message could not be fetched, handled or marked; what went wrong is its ``__cause__``.

    Attributes:
        uid: Its UID in the folder (RFC 3501 section 2.3.1.1).
        attempts: How many attempts at it failed since the process began.
    """

    __module__ = "exo_imap_oauth.listener"

    def __init__(
        self, message: str, advice: Advice | None = None, *, uid: int = 0, attempts: int = 0
    ) -> None:
        super().__init__(message, advice=advice, retryable=True)
        self.uid = uid
        self.attempts = attempts
        self.given_up: bool = False

    def give_up(self) -> None:
        """Deprecated since 0.3.0, to be removed in 0.4: return True from ``on_failure``."""
        warnings.warn(
            "give_up() is deprecated: on_failure gives a message up by returning True",
            DeprecationWarning,
            stacklevel=2,
        )
        self.given_up = True


class Pauses:
    """The pauses of one inbox, in seconds: they grow, with jitter, to the longest."""

    def __init__(self, initial: float, longest: float) -> None:
        self._initial = min(initial, longest)
        self._longest = longest

    def after(self, failures: int, error: Exception) -> float:
        """Seconds to wait after so many failures in a row, of which this is the last.

        It is at least the growing pause and what the server asks for, but never more than the
        longest: a program that waits for a day, because one answer said so, is not seen to be
        alive. What a person has to fix is not asked about more often than that.
        """
        growing = self._initial * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        if not getattr(error, "retryable", True):
            growing = self._longest
        least = min(max(growing, asked_for(error)), self._longest)
        if least * (1 + _JITTER) <= self._longest:
            return least * random.uniform(1, 1 + _JITTER)  # noqa: S311 - jitter
        return self._longest * random.uniform(1 - _JITTER, 1)  # noqa: S311 - the same

    def is_cut(self, error: Exception) -> bool:
        """Whether the server asks for more than it gets."""
        return asked_for(error) > self._longest


def asked_for(error: Exception) -> float:
    """The seconds that a server asks for, or 0: what is no time to wait is no invitation."""
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, (int, float)) and math.isfinite(asked) and asked > 0:
        return float(asked)
    return 0.0


class Retries:
    """The failures of one inbox in a row: they are counted, logged and told.

    Args:
        inbox: The inbox.
        pauses: How long to wait.
        on_failure: The caller's function, or None.

    Attributes:
        bearer: Whose token may not be shown, once somebody has logged in.
    """

    def __init__(
        self,
        inbox: InboxConfig,
        pauses: Pauses,
        on_failure: Callable[[InboxConfig, Exception, float], bool | None] | None,
    ) -> None:
        self.pauses = pauses
        self._inbox = inbox
        self._name = one_line(inbox.name)
        self._on_failure = on_failure
        self._failures = 0
        self._last_problem: object = None
        self.bearer: Bearer | None = None

    def pause_after(self, error: Exception, *, is_of_message: bool = False) -> float:
        """Count, log and tell a failure of the connection or token: how long to wait.

        Args:
            error: What went wrong.
            is_of_message: Whether it is held against one message: so others, which wait behind
                several of these, do not wait ever longer.
        """
        self._failures += 1
        if is_of_message:
            self._failures = min(self._failures, _MOST_OF_MESSAGES)
        pause = self.pauses.after(self._failures, error)
        self._log(error, pause)
        self._tell(error, pause)
        return pause

    def achieved(self, *, for_long: bool = False) -> None:
        """Note that it works again: a message is done, or a session has lived for a while.

        Args:
            for_long: Whether what was wrong has not come back for so long that it is over: if it
                does now, it is logged anew.
        """
        if self._failures:
            _logger.info("inbox %s works again", self._name, extra={"exo_inbox": self._name})
        self._failures = 0
        if for_long:
            self._last_problem = None

    def is_given_up(self, failure: Failure) -> bool:
        """Log and tell what went wrong with one message: whether it shall be given up."""
        self._log_message(failure)
        error = self._message_error(failure)
        answer = self._tell(error, failure.pause)
        if answer is not True and not error.given_up:
            return False
        extra = {"exo_inbox": self._name}
        _logger.warning("inbox %s: message %d is given up", self._name, failure.uid, extra=extra)
        return True

    def _log_message(self, failure: Failure) -> None:
        cause = failure.error
        extra = {"exo_inbox": self._name, "exo_advice": _advice_id(cause)}
        kind, next_try = type(cause).__name__, self._next_try(cause, failure.pause)
        what = self._name, failure.uid, _times(failure.attempts)
        if not failure.is_new:
            text = *what, kind, next_try
            _logger.info("inbox %s: message %d failed %s: %s. %s", *text, extra=extra)
            return
        shown, traceback = self._shown(cause)
        text = *what, shown, next_try
        _logger.warning(
            "inbox %s: message %d failed %s: %s\n%s", *text, exc_info=traceback, extra=extra
        )

    def _shown(self, error: Exception) -> tuple[str, Exception | None]:
        """What a log may say of an error of a function, and the error if its traceback may too.

        A function may say what it was told, and so the token or the inbox's secret.
        """
        secrets = self._secrets()
        if not is_free_of(error, secrets):
            return described(error, secrets), None
        if isinstance(error, ExoImapOAuthError):
            return f"{type(error).__name__}: {error}", None
        return type(error).__name__, error  # its traceback shows where it comes from

    def _secrets(self) -> set[str]:
        told: tuple[str, ...] = () if self.bearer is None else self.bearer.secrets()
        secret = self._inbox.client_secret
        return {*told, secret} if isinstance(secret, str) else {*told}

    def _message_error(self, failure: Failure) -> MessageNotHandled:
        cause, times = failure.error, _times(failure.attempts)
        error = MessageNotHandled(
            f"inbox {self._name}: message {failure.uid} failed {times}: {type(cause).__name__}",
            advice=getattr(cause, "advice", None),
            uid=failure.uid,
            attempts=failure.attempts,
        )
        error.__cause__ = cause
        return error

    def _tell(self, error: Exception, pause: float) -> object:
        if self._on_failure is None:
            return None
        try:
            return self._on_failure(self._inbox, error, pause)
        except Exception as raised:
            extra = {"exo_inbox": self._name}
            shown, traceback = self._shown(raised)
            what = self._name, shown
            _logger.exception(
                "inbox %s: on_failure raised %s", *what, exc_info=traceback, extra=extra
            )
            return None

    def _log(self, error: Exception, pause: float) -> None:
        """Say what is wrong once, and how to fix it; then only that it still is."""
        kind = type(error).__name__
        advice = _advice_id(error)
        extra = {"exo_inbox": self._name, "exo_advice": advice}
        next_try = self._next_try(error, pause)
        problem = kind, advice
        if problem == self._last_problem:
            still = self._name, kind, self._failures, next_try
            _logger.info("inbox %s: still %s after %d tries. %s", *still, extra=extra)
            return
        self._last_problem = problem
        text = str(error) if isinstance(error, ExoImapOAuthError) else self._foreign(error)
        _logger.warning("inbox %s: %s\n%s", self._name, text, next_try, extra=extra)

    def _foreign(self, error: Exception) -> str:
        """What an error of somebody else's says, with its notes, which may hold our advice."""
        secrets = self._secrets()
        notes = "\n".join(map(str, getattr(error, "__notes__", ())))
        lines = [quotable(line, secrets) for line in notes.splitlines()[:_MOST_LINES]]
        return "\n  ".join([described(error, secrets), *lines])

    def _next_try(self, error: Exception, pause: float) -> str:
        if self.pauses.is_cut(error):
            return f"The server asks for {asked_for(error):,.1f} s; next try in {pause:.1f} s"
        return f"Next try in {pause:.1f} s"


def _times(attempts: int) -> str:
    return "once" if attempts == 1 else f"{attempts} times"


def _advice_id(error: Exception) -> str | None:
    return getattr(getattr(error, "advice", None), "id", None)
