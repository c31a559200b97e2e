"""Threads that SIGTERM and SIGINT end, in the process that started them only."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

_handlers_before: dict[int, Any] = {}
"""What the signals did before, while something else is done for them."""


def _restore_handlers() -> None:
    while _handlers_before:
        number, action = _handlers_before.popitem()
        signal.signal(number, signal.SIG_DFL if action is None else action)


if hasattr(os, "register_at_fork"):  # not on Windows
    # Else a child would swallow the signal that is to end it.
    os.register_at_fork(after_in_child=_restore_handlers)


def run_until_signalled(
    name: str, runs: Iterable[Callable[[], None]], stops: Sequence[Callable[[], None]]
) -> None:
    """Run functions in threads of their own, and stop them at the first signal or error.

    Args:
        name: That of the threads.
        runs: What is run.
        stops: What ends these; they come back at once.

    Raises:
        BaseException: What the first one that raised something raised.
    """
    crashes: list[BaseException] = []

    def stop_all() -> None:
        for stop in stops:
            stop()

    def run(step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            crashes.append(error)
            stop_all()

    threads = [
        threading.Thread(
            target=copy_context().run,  # what the caller has set, tracing and logging find there
            args=(run, step),
            name=name,
            daemon=True,
        )
        for step in runs
    ]
    with _called_by_signals(stop_all):
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # a longer wait was seen to swallow Ctrl-C
                    thread.join(1.0)
        finally:
            stop_all()  # if a thread could not start
    if crashes:
        raise crashes[0]


@contextlib.contextmanager
def _called_by_signals(stop: Callable[[], None]) -> Generator[None]:
    """Have ``stop`` called by the first signal that comes; a second one does what it did before.

    To be used in the main thread. A signal that is ignored, as a shell has it for a job in the
    background, stays ignored.
    """

    def act(_number: int, _frame: object) -> None:
        _restore_handlers()
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        action = signal.getsignal(number)
        if action is not signal.SIG_IGN:
            _handlers_before[number] = action
            signal.signal(number, act)
    try:
        yield
    finally:
        _restore_handlers()
