"""One lock for the little state that all threads of a process share, safe across fork.

It guards a few assignments at a time, on misses only, never I/O. Fork waits for it, so a child
never inherits it locked or the state half written; being reentrant, it does not deadlock a
signal handler either.
"""

import os
import threading


def fork_safe_lock() -> threading.RLock:
    """A new lock for which fork waits."""
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock


process_lock = fork_safe_lock()
