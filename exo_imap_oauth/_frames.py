"""Calls whose frames nobody may look into: a traceback holds them, and they hold what was said."""

from __future__ import annotations

import functools
from traceback import clear_frames
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")


def without_locals(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """The same call; the frames below an error that it raises have forgotten their variables.

    For what reads a server's words: it may have echoed the token, in any of them. File, line and
    function of each frame stay.
    """

    @functools.wraps(call)
    def called(*arguments: _P.args, **options: _P.kwargs) -> _T:
        try:
            return call(*arguments, **options)
        except BaseException as error:
            del arguments, options
            clear_frames(error.__traceback__)
            raise

    return called
