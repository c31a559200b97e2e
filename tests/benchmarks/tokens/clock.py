"""The clock of this process, moved for everybody at once: for us, for the peers, for the floor."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from exo_imap_oauth._tokens import slot as slots

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_real_time = time.time
_offset = 0.0


def _moved_time() -> float:
    return _real_time() + _offset


def _moved_monotonic() -> float:
    return time.monotonic() + _offset


def _moved_utcnow() -> datetime:
    return datetime.fromtimestamp(_moved_time(), UTC).replace(tzinfo=None)


@contextmanager
def ahead(seconds: float) -> Generator[None]:
    """Have all modules that are loaded read a wall clock that is so far ahead.

    Whoever holds ``time.time``, under whatever name, holds another function meanwhile;
    google-auth asks ``datetime``, through one function of its own; our own slots get a monotonic
    clock that is as far ahead. Those with which timeouts are kept and the measuring is done stay
    as they are.
    """
    global _offset  # noqa: PLW0603 - there is one clock
    holders = _replace(_real_time, _moved_time)
    _set_clock_of_slots(_moved_monotonic)
    _offset = seconds
    google_helpers: Any = import_module("google.auth._helpers")
    try:
        with patch.object(google_helpers, "utcnow", _moved_utcnow):
            yield
    finally:
        _offset = 0.0
        for module, name in holders:
            setattr(module, name, _real_time)
        _set_clock_of_slots(time.monotonic)


def _replace(old: object, new: object) -> list[tuple[object, str]]:
    """Replace a function in all modules; where it was."""
    holders: list[tuple[object, str]] = [
        (module, name)
        for module in list(sys.modules.values())
        if module is not sys.modules[__name__]
        for name, value in list(vars(module).items())
        if value is old
    ]
    for module, name in holders:
        setattr(module, name, new)
    return holders


def _set_clock_of_slots(now: Callable[[], float]) -> None:
    """Our own sources read the clock that their slot was given."""
    slots.SYSTEM_CLOCK = now
    for slot in list(slots._slots.values()):
        slot.clock = slots.SYSTEM_CLOCK
        slot.hold(slot.token)
