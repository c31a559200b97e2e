"""What sources of one identity share, and what they say while a refresh ahead fails."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.token_endpoint import SECRET, TokenEndpoint, http, rejected, token

import exo_imap_oauth
from exo_imap_oauth import TokenSource
from exo_imap_oauth._tokens import fetch
from exo_imap_oauth.errors import TokenEndpointUnavailable

ROOT = Path(exo_imap_oauth.__file__).parents[1]
EXPIRED = rejected(7000222)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def wait_until_landed(source: TokenSource) -> None:
    limit = time.monotonic() + 10
    while source._slot.flight is not None:
        assert time.monotonic() < limit
        threading.Event().wait(0.005)


def test_a_secret_that_expires_while_its_token_lives_is_warned_of_once_a_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with TokenEndpoint(token("held"), EXPIRED) as endpoint:
        source = endpoint.source()
        source.get_token()
        begin_window(source)
        for _ in range(20):
            assert source.get_token().token == "held"
        wait_until_landed(source)
        for _ in range(20):
            assert source.get_token().token == "held"
        assert len(endpoint.forms) == 2
    [warning] = warnings_of(caplog)
    assert "[secret-expired]" in warning
    assert "the current one serves for another 59 min" in warning
    assert "next try in 30 s" in warning
    assert "Fix: Create a new client secret" in warning
    assert SECRET not in warning


def begin_window(source: TokenSource) -> None:
    """Have the time come to fetch the next token."""
    slot = source._slot
    due = replace(slot.token, refresh_on=int(slot.token.obtained_on) - 1)
    slot.cache.set(slot.key, due)
    slot.hold(due)


def test_the_warning_is_seen_where_nobody_has_configured_logging() -> None:
    program = """
import sys
sys.path[:0] = sys.argv[1:]
from support.token_endpoint import TokenEndpoint, rejected, token
from test_token_slot import begin_window, wait_until_landed
with TokenEndpoint(token("held"), rejected(7000222)) as endpoint:
    source = endpoint.source()
    source.get_token()
    begin_window(source)
    source.get_token()
    wait_until_landed(source)
"""
    command = [sys.executable, "-c", program, str(ROOT), str(ROOT / "tests")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr.count("[secret-expired]") == 1
    assert SECRET not in run.stderr


def test_nobody_is_warned_where_no_token_serves_and_the_caller_gets_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with TokenEndpoint(http(503, "busy")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable):
            endpoint.source(deadline=0.3).get_token()
    assert warnings_of(caplog) == []


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
