"""The two locks of a process, safe across fork, and what fork waits for besides.

Fork waits for them, so a child never inherits one locked, or what it guards half done; being
reentrant, they do not deadlock a signal handler either. Who holds :data:`no_fork` may take
:data:`process_lock`, but not the other way round.
"""

import contextlib
import logging  # pyright: ignore[reportUnusedImport] # noqa: F401 - see fork_safe_lock
import os
import sys
import threading
import time
from collections.abc import Generator

_LONGEST_LOOK_UP = 1.0  # s that a fork waits for a name service
_LONGEST_END = 0.05  # s that it waits for a thread to end


def fork_safe_lock() -> threading.RLock:
    """A new lock for which fork waits.

    Fork takes the last one made first. So logging, whose lock each module takes that makes a
    logger, must have made its own before: a fork that held it would wait for the module.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock


process_lock = fork_safe_lock()
"""Guards the little state that all threads share: a few assignments, on misses only, no I/O."""

_looking_up: set[int] = set()  # threads
_of_openssl: dict[int, int] = {}  # threads that used it, and the system's number of each


def _wait_for_others() -> None:
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < _LONGEST_LOOK_UP:
        if not _looking_up and (waited >= _LONGEST_END or not _is_one_ending()):
            return
        time.sleep(0.001)


def _is_one_ending() -> bool:
    """Whether a thread has left Python, and perhaps holds OpenSSL's lock to be forgotten there."""
    alive = sys._current_frames()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - documented
    ended = [number for thread, number in list(_of_openssl.items()) if thread not in alive]
    tasks = (f"/proc/self/task/{number}" for number in ended)  # as Linux has them
    return any(map(os.path.exists, tasks))


if hasattr(os, "register_at_fork"):  # before no_fork, which fork takes first: nobody begins then
    os.register_at_fork(before=_wait_for_others, after_in_child=_looking_up.clear)
    os.register_at_fork(after_in_child=_of_openssl.clear)

no_fork = fork_safe_lock()
"""Held while a module is loaded on the way of a login, and while OpenSSL works there.

What another thread had begun at a fork stays as it is in the child. To CPython the module is
being loaded for ever, OpenSSL's locks are held by nobody, and whoever needs them waits. No module
of this package takes this lock while it is loaded itself: a program may be loading that one
without it, and each would wait for the other.
"""


@contextlib.contextmanager
def looking_up() -> Generator[None]:
    """Around getaddrinfo(), whose locks a fork leaves to its child as they are.

    It may take long, so fork waits a second for it and no longer.
    """
    thread = threading.get_ident()
    with no_fork:
        _looking_up.add(thread)
    try:
        yield
    finally:
        _looking_up.discard(thread)


@contextlib.contextmanager
def using_openssl() -> Generator[None]:
    """Around a call of OpenSSL that does not wait, but may be done while others run."""
    with no_fork:
        _of_openssl[threading.get_ident()] = threading.get_native_id()
        yield
