"""Functions that a program gives in place of a value: checked, told apart, asked."""

from __future__ import annotations

import os
from inspect import iscoroutinefunction
from types import MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, ref

from typing_extensions import override

from exo_imap_oauth._arguments import kind_of, wrong_kind
from exo_imap_oauth._credentials.secret_file import SecretFile
from exo_imap_oauth._text import HiddenText, described
from exo_imap_oauth.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Callable


def problem_of_callable(name: str, value: object, expected: str) -> TypeError | None:
    """Why an argument is no callable that can be asked, or None."""
    if not callable(value):
        page = "reference/api/token_source"
        return wrong_kind(name, value, f"{expected} that returns one", page=page)
    if is_async(value):
        return TypeError(f"the {name} callable is async; give a plain function")
    if not _is_hashable(value):
        return TypeError(f"the {name} callable {kind_of(value)} has no hash")
    return None


def is_async(function: object) -> bool:
    """Whether calling it gives nothing but a coroutine."""
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


class Asked:
    """A user's function, and what it returned last, which its next error must not show.

    Args:
        function: Returns the value.
        what: What that is, in the text of errors.

    Attributes:
        fingerprint: As long as a digest; equal for equal functions, which are not called for it.
        is_file: Whether it only reads a file, so that other processes get the same from it.
        last: What it returned last.
    """

    __slots__ = ("_alike", "_function", "_what", "fingerprint", "is_file", "last")

    def __init__(self, function: Callable[[], str], what: str) -> None:
        self._function = function
        self.fingerprint, self._alike = _identity_of(function)
        self.is_file = isinstance(function, SecretFile)
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


# ---- identity --------------------------------------------------------------------------------


class _WeakMethod(WeakMethod[Any]):
    """A bound method, without keeping alive what it is bound to.

    Unlike its base class, it compares as methods do, by what they are bound to and not by what
    that equals.
    """

    __slots__ = ("hash_of_method",)

    hash_of_method: int

    @override
    def __hash__(self) -> int:
        return self.hash_of_method

    @override
    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, _WeakMethod):
            return self is other
        method = self()
        return method is not None and method == other()


# The first of the functions that are equal, and the identity of them all. No lock guards these: to
# compare functions may run a user's code, which may wait for whoever wants that lock. What is put
# there, and taken out, by one call is there or not.
_known: dict[ref[Any], tuple[ref[Any], bytes]] = {}
# Of those to which there can be no weak reference, and which are kept alive by this.
_kept_alive: dict[Any, bytes] = {}
_MOST_KEPT_ALIVE = 1_000


def _weak(function: Any, callback: Callable[[Any], object] | None = None) -> ref[Any]:  # noqa: ANN401 - of any kind
    if not isinstance(function, MethodType):
        return ref(function, callback)
    weak = _WeakMethod(function, callback)
    weak.hash_of_method = hash(function)
    return weak


def _forget(dead: ref[Any]) -> None:
    _known.pop(dead, None)


def _identity_of(function: Callable[[], str]) -> tuple[bytes, object]:
    """The identity of a function, and what has to live so that equal ones get the same."""
    if isinstance(function, SecretFile):
        return function.fingerprint, function
    new = os.urandom(32)  # as long as a digest, and equal to none
    try:
        reference = _weak(function, _forget)
    except TypeError:  # it has no room for a weak reference
        if len(_kept_alive) >= _MOST_KEPT_ALIVE:
            _kept_alive.clear()  # each asks for a token of its own once more
        return _kept_alive.setdefault(function, new), function
    while True:
        known, identity = _known.setdefault(reference, (reference, new))
        alike = known()
        if alike is not None:  # else it has just ended, and is about to be forgotten
            return identity, alike
