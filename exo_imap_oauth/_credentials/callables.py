"""Functions that a program gives in place of a value: checked, told apart, asked."""

from __future__ import annotations

import os
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, cached

from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth._text import HiddenText, described
from exo_imap_oauth.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Callable


def problem_of_callable(name: str, value: object, expected: str) -> TypeError | None:
    """Why an argument is no callable that can be asked, or None."""
    kind = type(value).__name__
    if not callable(value):
        return TypeError(f"{name} must be {expected} that returns one, not {kind}")
    if is_async(value):
        return TypeError(f"the {name} callable is async; give a plain function")
    if not _is_hashable(value):
        return TypeError(f"the {name} callable {kind} has no hash")
    return None


def is_async(function: object) -> bool:
    """Whether calling it gives nothing but a coroutine."""
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


class Asked:
    """A user's function, and what it returned last, which its next error must not show.

    Args:
        function: Returns the value.
        what: What that is, in the text of errors.
    """

    __slots__ = ("_function", "_what", "last")

    def __init__(self, function: Callable[[], str], what: str) -> None:
        self._function = function
        self._what = what
        self.last = ""

    def __call__(self) -> str:
        """What the function returns now.

        Raises:
            TokenError: It raised something.
        """
        try:
            value = self._function()
        except Exception as error:  # noqa: BLE001 - it is not ours; nor is its text, to be chained
            why = described(error, [self.last])
        else:
            if isinstance(value, str):
                self.last = HiddenText(value)
            return value
        raise TokenError(f"the {self._what} could not be obtained: {why}")


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@cached(LRUCache[Any, bytes](maxsize=10_000), lock=process_lock)
def fingerprint_of(function: Callable[[], str]) -> bytes:  # noqa: ARG001 - it is the cache key
    return os.urandom(32)  # as long as a digest, and equal to none
