"""Fetching ahead: the window, the pause after a failure, and the warning that says so."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.concurrency import THREADS, together, until
from support.token_endpoint import CLIENT, SECRET, TokenEndpoint, http, rejected, token

import exo_imap_oauth
from exo_imap_oauth import TokenSource
from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth._tokens.slot import NO_TOKEN
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenRequestRejected

if TYPE_CHECKING:
    from collections.abc import Callable


def test_in_the_refresh_window_the_old_token_is_given_while_one_thread_fetches(
    clock: Callable[[float], None],
) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        endpoint.wait_for_request()
        clock(3400)
        endpoint.then(endpoint.stall(token("new")))
        assert {r.token for r in together([source.get_token] * THREADS)} == {"old"}
        endpoint.wait_for_request()
        assert source.get_token().token == "old"
        endpoint.release.set()
        until(lambda: source.get_token().token == "new")
    assert len(endpoint.forms) == 2


@pytest.mark.parametrize("failure", [http(503), rejected(), b"", http(429, Retry_After="0")])
def test_a_failed_refresh_leaves_the_old_token_serving_and_pauses(
    failure: bytes, clock: Callable[[float], None]
) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        endpoint.then(failure)
        refused = failure == rejected()
        # What may heal is tried again until the deadline, which only this fetch shall have so soon.
        assert endpoint.source(deadline=30 if refused else 0.2).get_token().token == "old"
        until(lambda: source._slot.paused_until > 0)
        asked = len(endpoint.forms)
        for _ in range(20):
            assert source.get_token().token == "old"
        assert len(endpoint.forms) == asked
        endpoint.then(token("new"))
        if refused:
            source._slot.hold(NO_TOKEN)
            with pytest.raises(TokenRequestRejected):
                source.get_token()
        else:
            clock(300)  # now the old one is expired
            assert source.get_token().token == "new"


def test_the_pause_obeys_retry_after(clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        endpoint.then(http(429, Retry_After="120"))
        before = source._slot.clock()
        source.get_token()
        until(lambda: source._slot.paused_until > 0)
        assert before + 120 < source._slot.paused_until < source._slot.clock() + 133


def test_the_window_is_refresh_in_where_the_answer_has_it() -> None:
    with TokenEndpoint(token(refresh_in=1800)) as endpoint:
        issued = endpoint.source().get_token()
    assert issued.refresh_on == int(issued.obtained_on + 1800)


@pytest.mark.parametrize(("lifetime", "margin"), [(3600, 300), (600, 300), (200, 100), (10, 5)])
def test_the_window_shrinks_for_tokens_that_live_short(lifetime: int, margin: int) -> None:
    with TokenEndpoint(token(expires_in=lifetime)) as endpoint:
        issued = endpoint.source().get_token()
    assert issued.expires_on == int(issued.obtained_on + lifetime)
    assert issued.expires_on - issued.refresh_on == pytest.approx(margin, abs=1)


def test_a_token_counts_from_before_its_request() -> None:
    with TokenEndpoint(token()) as endpoint:
        before = time.time()
        endpoint.then(endpoint.stall(token()))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(endpoint.source().get_token)
            endpoint.wait_for_request()
            arrived = time.time()
            endpoint.release.set()
            assert before <= waiting.result().obtained_on <= arrived


def test_a_valid_token_of_the_cache_serves_a_new_source_during_an_outage() -> None:
    with TokenEndpoint(token("kept", refresh_in=0.001)) as endpoint:
        endpoint.source(deadline=1.0).get_token()
        gc.collect()
        endpoint.then(endpoint.stall(http(503)))
        source = endpoint.source(deadline=1.0)
        assert source.get_token().token == "kept"
        endpoint.release.set()
        wait_until_landed(source)


def test_the_pause_ends_with_the_next_token(clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        endpoint.then(http(503, Retry_After="3600"))
        source.get_token()
        until(lambda: source._slot.paused_until > 0)
        clock(300)
        endpoint.then(token("new"), token("newer"))
        assert source.get_token().token == "new"
        clock(3400)
        assert source.get_token().token == "new"
        until(lambda: source.get_token().token == "newer")


# ---- the warning -----------------------------------------------------------------------------


EXPIRED = rejected(7000222)
ROOT = Path(exo_imap_oauth.__file__).parents[1]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def wait_until_landed(source: TokenSource) -> None:
    """Wait for the end of a fetch, and for what its thread logs afterwards."""
    until(lambda: source._slot.flight is None)
    until(lambda: not [t for t in threading.enumerate() if t.name == "exo_imap_oauth-token"])


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
        wait_until_landed(source)
        assert len(endpoint.forms) == 2
    # A fetch that an earlier test left behind may warn, too.
    [warning] = [text for text in warnings_of(caplog) if f":{endpoint.port} " in text]
    assert "[secret-expired]" in warning
    assert "the current one serves for another 59 min" in warning
    assert "next try in 30 s" in warning
    assert "Fix: Create a new client secret" in warning
    assert SECRET not in warning


def test_a_log_may_be_slow_since_nobody_waits_for_the_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[bool] = []

    def take_the_lock() -> None:
        others.append(process_lock.acquire(timeout=30))
        process_lock.release()

    def log_in_meanwhile(*_: object) -> None:
        other = threading.Thread(target=take_the_lock)
        other.start()
        other.join()

    monkeypatch.setattr(caplog.handler, "emit", log_in_meanwhile)
    with TokenEndpoint(token("held"), EXPIRED) as endpoint:
        source = endpoint.source()
        source.get_token()
        begin_window(source)
        source.get_token()
        wait_until_landed(source)
    assert set(others) == {True}


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
from test_token_refresh import begin_window, wait_until_landed
with TokenEndpoint(token("held"), rejected(7000222)) as endpoint:
    source = endpoint.source()
    source.get_token()
    begin_window(source)
    source.get_token()
    wait_until_landed(source)
"""
    command = [sys.executable, "-c", program, str(ROOT), str(ROOT / "tests")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr.count("no new access token could be fetched") == 1
    first, *rest = run.stderr.splitlines()
    assert "[secret-expired]; the current one serves for another 59 min, next try in 30 s" in first
    assert "Fix: Create a new client secret" in str(rest)
    assert f"/Credentials/appId/{CLIENT}" in str(rest)  # where to do so
    assert SECRET not in run.stderr


def test_nobody_is_warned_where_no_token_serves_and_the_caller_gets_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with TokenEndpoint(http(503, "busy")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable):
            endpoint.source(deadline=0.3).get_token()
    assert warnings_of(caplog) == []
