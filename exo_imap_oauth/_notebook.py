"""How an error of this library looks in IPython: the caller's frames, then message and fix.

IPython shows some lines of code for each frame, so that the message, which has the fix in it,
would end up a screen below. Nothing here needs IPython or does anything without it.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_HINT: Final = "The frames inside exo_imap_oauth are left out; %tb Plain shows them."
_BY_DEFAULT: Final = "Context"  # IPython's own mode; whoever chooses another gets all frames
_PASSED_THROUGH: Final = ("contextlib", "imaplib")  # lie between the caller and this library


def notebook_traceback(error: BaseException) -> list[str]:
    """The lines that IPython is to show, by the protocol of ``_render_traceback_``."""
    try:
        return _by_ipython(error)
    except Exception:  # noqa: BLE001 - an error must be shown, whatever IPython is like
        return "".join(traceback.format_exception(error)).splitlines()


def _by_ipython(error: BaseException) -> list[str]:
    formatter: Any = sys.modules["IPython"].get_ipython().InteractiveTB
    if formatter.mode != _BY_DEFAULT:
        lines: list[str] = formatter.structured_traceback(type(error), error, error.__traceback__)
        return lines
    shown = _shortened(error)
    lines = formatter.structured_traceback(type(shown), shown, shown.__traceback__)
    formatter.tb = error.__traceback__  # this is what %debug goes into
    return [*lines, _HINT]


def _shortened(error: BaseException) -> BaseException:
    """A copy of the error, notes included, that knows the caller's frames only."""
    kind = type(error)
    shown = kind.__new__(kind)  # a subclass may have an __init__ of its own
    BaseException.__init__(shown, *error.args)
    vars(shown).update(vars(error))
    shown.__traceback__ = _callers_part(error.__traceback__)
    shown.__cause__ = _behind(error.__cause__)
    shown.__context__ = _behind(error.__context__)
    shown.__suppress_context__ = error.__suppress_context__
    return shown


def _behind(error: BaseException | None) -> BaseException | None:
    """An error that the caller was handling; what this library caught begins in its own frames."""
    if error is None or not _is_callers(error.__traceback__):
        return None
    return _shortened(error) if hasattr(error, "_render_traceback_") else error


def _callers_part(step: TracebackType | None) -> TracebackType | None:
    kept = [each for each in _steps(step) if _is_callers(each)]
    part: TracebackType | None = None
    for each in reversed(kept):
        part = TracebackType(part, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return part


def _steps(step: TracebackType | None) -> Iterator[TracebackType]:
    while step is not None:
        yield step
        step = step.tb_next


def _is_callers(step: TracebackType | None) -> bool:
    if step is None:
        return False
    module: str = step.tb_frame.f_globals.get("__name__", "")
    return module.partition(".")[0] not in ("exo_imap_oauth", *_PASSED_THROUGH)
