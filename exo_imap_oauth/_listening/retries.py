"""How long to wait after a failure, and what to say of it."""

from __future__ import annotations

import logging
import random

from exo_imap_oauth._text import described, quotable
from exo_imap_oauth.errors import ExoImapOAuthError

_logger = logging.getLogger(__name__)

_MOST_DOUBLINGS = 20
_MOST_LINES = 20  # of the notes of an error


class Retries:
    """The failures of one inbox in a row, and the pauses between the tries, in seconds."""

    def __init__(self, inbox: str, pause: float, longest_pause: float) -> None:
        self._inbox = inbox
        self._pause = pause
        self._longest_pause = longest_pause
        self._failures = 0
        self._last_problem: object = None

    def growing_pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self._pause * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), self._longest_pause)

    def pause_after(self, error: Exception) -> float:
        """Count a failure, log it, and say how long to wait: what the server asks for counts."""
        self._failures += 1
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, (int, float)):
            pause = float(asked)
        elif getattr(error, "retryable", True):
            pause = self.growing_pause(self._failures) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        else:
            pause = self._longest_pause
        self._log(error, pause)
        return pause

    def end(self) -> None:
        """Note that it works again."""
        if self._failures:
            _logger.info("inbox %s works again", self._inbox, extra={"exo_inbox": self._inbox})
        self._failures = 0
        self._last_problem = None

    def _log(self, error: Exception, pause: float) -> None:
        """Say what is wrong once, and how to fix it; then only that it still is."""
        kind = type(error).__name__
        advice = getattr(getattr(error, "advice", None), "id", None)
        extra = {"exo_inbox": self._inbox, "exo_advice": advice}
        problem = kind, advice
        if problem == self._last_problem:
            _logger.info(
                "inbox %s: still %s after %d tries. Next try in %.1f s",
                self._inbox,
                kind,
                self._failures,
                pause,
                extra=extra,
            )
            return
        self._last_problem = problem
        text = str(error) if isinstance(error, ExoImapOAuthError) else _foreign(error)
        _logger.warning("inbox %s: %s\nNext try in %.1f s", self._inbox, text, pause, extra=extra)


def _foreign(error: Exception) -> str:
    """What an error of somebody else's says, with its notes, which may hold our advice."""
    notes = "\n".join(map(str, getattr(error, "__notes__", ())))
    lines = [quotable(line) for line in notes.splitlines()[:_MOST_LINES]]
    return "\n  ".join([described(error), *lines])
