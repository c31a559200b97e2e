"""A step in a thread of its own: nothing else bounds name services, drips and other hangs."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def in_thread(name: str, step: Callable[[], _T]) -> Future[_T]:
    """Take a step in a daemon thread; whoever waits for its result decides for how long.

    Raises:
        RuntimeError: No thread can start.
    """
    future: Future[_T] = Future()

    def take() -> None:
        try:
            future.set_result(step())
        except BaseException as error:  # noqa: BLE001 - result() raises it
            future.set_exception(error)

    threading.Thread(
        target=copy_context().run,  # what the caller has set, tracing and logging find there
        args=(take,),
        name=f"exo_imap_oauth-{name}",
        daemon=True,
    ).start()
    return future
