"""Who waits to be woken, and for a server at the same time."""

from __future__ import annotations

import socket
import threading

import pytest

from exo_imap_oauth._listener.waker import Waker

LONGEST = threading.TIMEOUT_MAX  # s; what a user may ask for, and more than poll takes


def test_a_waker_that_is_set_lets_nobody_wait() -> None:
    with Waker() as waker:
        waker.wake()
        waker.wake()
        waker.wait(LONGEST)
        waker.wait(LONGEST)
    assert waker.is_set


def test_a_server_that_speaks_ends_the_waiting() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Waker() as waker:
        theirs.send(b"* 1 EXISTS")
        waker.wait(LONGEST, ours)
    assert not waker.is_set


def test_who_was_woken_before_waiting_does_not_wait() -> None:
    waker = Waker()
    waker.wake()
    with waker:
        assert waker.is_set


def test_one_thread_waits_at_a_time() -> None:
    with Waker() as waker, pytest.raises(RuntimeError, match="running already"):
        waker.__enter__()
