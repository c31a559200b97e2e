"""A step in a thread of its own: nothing else bounds name services, drips and other hangs."""

from __future__ import annotations

import contextlib
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

from exo_imap_oauth._process_lock import no_fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_T = TypeVar("_T")


def in_thread(name: str, step: Callable[[], _T]) -> Future[_T]:
    """Take a step in a daemon thread; whoever waits for its result decides for how long.

    Raises:
        RuntimeError: No thread can start.
    """
    with no_fork:
        from concurrent.futures import Future  # noqa: PLC0415 - slow, and a fetch needs none

    future: Future[_T] = Future()
    thread_of(name, _take, step, future).start()
    return future


def thread_of(name: str, step: Callable[..., object], *arguments: object) -> threading.Thread:
    """A daemon thread that is to be started, in the context of the caller.

    A tracer finds the span there that its work belongs to, a log filter its request ID, and a
    secret's function what the program has set.
    """
    thread = threading.Thread(
        target=copy_context().run, args=(step, *arguments), name=f"exo_imap_oauth-{name}"
    )
    let_program_end(thread)
    return thread


def started(thread: threading.Thread) -> bool:
    """Start a thread; False if none can start."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def let_program_end(thread: threading.Thread) -> None:
    """Have a program not wait for this thread at its end.

    A subinterpreter has no such threads: its end waits, for as long as their own deadlines say.
    """
    with contextlib.suppress(RuntimeError):
        thread.daemon = True


def _take(step: Callable[[], _T], future: Future[_T]) -> None:
    try:
        future.set_result(step())
    except BaseException as error:  # noqa: BLE001 - result() raises it
        future.set_exception(error)
    finally:
        del step, future  # the error holds this frame, and would be held by it
