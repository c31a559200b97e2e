"""Who waits for a bell, and for a server at the same time."""

from __future__ import annotations

import socket
import threading

import pytest

from exo_imap_oauth._listening.bell import Bell

LONGEST = threading.TIMEOUT_MAX  # s; what a user may ask for, and more than epoll takes


def test_a_bell_that_has_rung_lets_nobody_wait() -> None:
    with Bell() as bell:
        bell.ring()
        bell.ring()
        bell.wait(LONGEST)
        bell.wait(LONGEST)
    assert bell.has_rung


def test_a_server_that_speaks_ends_the_waiting() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Bell() as bell:
        theirs.send(b"* 1 EXISTS")
        bell.wait(LONGEST, ours)
    assert not bell.has_rung


def test_one_that_rang_before_anybody_waited_is_heard() -> None:
    bell = Bell()
    bell.ring()
    with bell:
        assert bell.has_rung


def test_one_thread_waits_at_a_time() -> None:
    with Bell() as bell, pytest.raises(RuntimeError, match="running already"):
        bell.__enter__()
