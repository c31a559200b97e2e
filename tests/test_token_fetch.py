"""The threads of a fetch: who starts one, who waits, and what is imported meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading

from exo_imap_oauth._tokens import fetch


def test_logins_do_not_wait_while_requests_is_imported() -> None:
    """In a process of its own, whose import of requests waits until another lock was had."""
    program = """
import builtins, sys, threading
from exo_imap_oauth import TokenSource
from exo_imap_oauth._process_lock import process_lock
importing, had = threading.Event(), threading.Event()
real = builtins.__import__
def slow(name, *args, **kwargs):
    if name == "requests" and not importing.is_set():
        importing.set()
        print("free" if had.wait(20) else "held")
    return real(name, *args, **kwargs)
builtins.__import__ = slow
def login():
    importing.wait()
    with process_lock:
        had.set()
threading.Thread(target=login, daemon=True).start()
try:
    source = TokenSource("t.example", "c", "s", token_uri="https://127.0.0.1:9/", deadline=1)
    source.get_token()
except Exception:
    importing.wait(20), had.wait(20)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "free\n", run.stderr


def test_waiting_for_an_answer_is_done_in_short_waits() -> None:
    class Recording(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.waits: list[float | None] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waits.append(timeout)
            if len(self.waits) == 3:
                self.set()
            return self.is_set()

    event = Recording()
    assert fetch._wait(event, 3600.0)  # a long one was seen to swallow Ctrl-C
    assert all(wait is not None and wait <= 1.0 for wait in event.waits)
