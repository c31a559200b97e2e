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
    thread = threading.Thread(
        target=copy_context().run,  # what the caller has set, tracing and logging find there
        args=(_take, step, future),
        name=f"exo_imap_oauth-{name}",
    )
    let_program_end(thread)
    thread.start()
    return future


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
