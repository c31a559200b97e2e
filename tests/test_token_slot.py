"""The state machine of a token, walked by its table; and the warning while fetching ahead fails."""

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
from exo_imap_oauth._tokens.slot import REFUSAL_MEMORY, Answer, Clock, Flight, Slot
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected
from exo_imap_oauth.token_cache import MemoryTokenCache

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


# ---- the table of _tokens/slot.py, by a clock that the test sets ------------------------------

DEADLINE = 10.0
ISSUED, FRESH, IN_WINDOW, EXPIRED_AT = 1000.0, 1100.0, 1700.0, 4700.0


class Machine:
    """A slot whose clock stands still until it is set."""

    def __init__(self) -> None:
        self.now = ISSUED
        self.slot = Slot(MemoryTokenCache(), "key", Clock(lambda: self.now, lambda: self.now))

    def at(self, now: float) -> Machine:
        self.now = now
        return self

    def ask(self, *, forced: bool = False) -> Answer:
        return self.slot.ask(DEADLINE, forced=forced)

    def take_off(self, *, forced: bool = False) -> Flight:
        answer = self.ask(forced=forced)
        assert answer.starts_flight
        assert answer.flight is not None
        return answer.flight

    def land(self, outcome: AccessToken | TokenError) -> None:
        self.slot.land(self.take_off(), outcome)


def issued(text: str) -> AccessToken:
    return AccessToken(token=text, expires_on=4600, refresh_on=1600, obtained_on=ISSUED)


def refusal() -> TokenRequestRejected:
    return TokenRequestRejected("no", error="invalid_client", status=401)


def holding(text: str = "held") -> Machine:
    machine = Machine()
    machine.land(issued(text))
    return machine


def gives(answer: Answer) -> str:
    """What an answer means, in the words of the table."""
    parts = [] if answer.token is None else ["the token"]
    if answer.starts_flight:
        parts.append("fetch")
    if answer.token is None:
        parts.append("wait")
    return ", ".join(parts)


def paused(machine: Machine, failure: TokenError, now: float) -> Machine:
    """Have a fetch fail, and then the time be ``now``, a second later."""
    machine.at(now - 1.0)
    machine.slot.land(machine.take_off(forced=True), failure)
    return machine.at(now)


OUTAGE = TokenEndpointUnavailable("busy")


@pytest.mark.parametrize(
    ("now", "alone", "beside_a_flight", "in_a_pause", "after_a_refusal"),
    [
        (FRESH, "the token", "the token", "the token", "the token"),
        (IN_WINDOW, "the token, fetch", "the token", "the token", "the token"),
        (EXPIRED_AT, "fetch, wait", "wait", "fetch, wait", "the refusal"),
    ],
)
def test_whoever_asks_gets_what_the_table_says(
    now: float, alone: str, beside_a_flight: str, in_a_pause: str, after_a_refusal: str
) -> None:
    assert gives(holding().at(now).ask()) == alone

    flying = holding().at(now)
    flying.take_off(forced=True)
    assert gives(flying.ask()) == beside_a_flight

    assert gives(paused(holding(), OUTAGE, now).ask()) == in_a_pause

    refused = paused(holding(), refusal(), now)
    if after_a_refusal == "the refusal":
        with pytest.raises(TokenRequestRejected):
            refused.ask()
    else:
        assert gives(refused.ask()) == after_a_refusal


@pytest.mark.parametrize("now", [FRESH, IN_WINDOW, EXPIRED_AT])
def test_whoever_forces_gets_what_the_table_says(now: float) -> None:
    assert gives(holding().at(now).ask(forced=True)) == "fetch, wait"
    assert gives(paused(holding(), OUTAGE, now).ask(forced=True)) == "fetch, wait"
    assert gives(paused(holding(), refusal(), now).ask(forced=True)) == "fetch, wait"

    forced = holding().at(now)
    forced.take_off(forced=True)
    assert gives(forced.ask(forced=True)) == "wait"

    ordinary = holding().at(EXPIRED_AT)
    ordinary.take_off()
    assert gives(ordinary.ask(forced=True)) == "fetch, wait"


def test_a_refusal_is_a_copy_for_each_and_is_forgotten_after_five_seconds() -> None:
    machine = paused(Machine(), refusal(), 1001.0)
    errors: list[TokenRequestRejected] = []
    for _ in range(2):
        with pytest.raises(TokenRequestRejected) as raised:
            machine.ask()
        errors.append(raised.value)
    assert errors[0] is not errors[1]
    assert gives(machine.at(1000.0 + REFUSAL_MEMORY).ask()) == "fetch, wait"


def test_a_refusal_that_may_pass_is_not_remembered() -> None:
    passing = TokenRequestRejected("later", retryable=True, status=400)
    assert gives(paused(Machine(), passing, 1001.0).ask()) == "fetch, wait"


@pytest.mark.parametrize(("asked_for", "seconds"), [(None, 30.0), (5.0, 30.0), (600.0, 600.0)])
def test_a_pause_lasts_half_a_minute_or_as_long_as_the_server_asks(
    asked_for: float | None, seconds: float
) -> None:
    machine = holding().at(IN_WINDOW)
    machine.land(TokenEndpointUnavailable("busy", retry_after=asked_for))
    assert gives(machine.at(IN_WINDOW + seconds - 0.1).ask()) == "the token"
    assert gives(machine.at(IN_WINDOW + 1.1 * seconds).ask()) == "the token, fetch"


def test_a_token_that_lands_ends_pause_and_refusal() -> None:
    machine = paused(Machine(), refusal(), 1001.0)
    machine.slot.land(machine.take_off(forced=True), issued("new"))
    assert gives(machine.at(IN_WINDOW).ask()) == "the token, fetch"


def test_an_overdue_flight_is_given_up_and_its_late_token_fills_a_gap_only() -> None:
    for later_one_came in (False, True):
        machine = Machine()
        lost = machine.take_off()
        assert gives(machine.at(ISSUED + DEADLINE - 0.1).ask()) == "wait"
        later = machine.at(ISSUED + DEADLINE).take_off()
        if later_one_came:
            machine.slot.land(later, issued("later"))
        machine.slot.land(lost, issued("late"))
        assert machine.slot.token.token == ("later" if later_one_came else "late")
        assert lost.done.is_set()


def test_the_failure_of_a_flight_that_was_given_up_is_forgotten() -> None:
    machine = Machine()
    lost = machine.take_off()
    machine.at(ISSUED + DEADLINE)
    later = machine.take_off()
    machine.slot.land(lost, refusal())
    machine.slot.land(later, OUTAGE)
    assert gives(machine.ask()) == "fetch, wait"  # and not the refusal


def test_invalidating_drops_the_token_here_and_in_the_cache_if_it_is_still_that_one() -> None:
    machine = holding()
    machine.slot.cache.set("key", machine.slot.token)
    machine.slot.invalidate(issued("another"))
    assert gives(machine.at(FRESH).ask()) == "the token"
    machine.slot.invalidate(issued("held"))
    assert machine.slot.cache.get("key") is None
    assert gives(machine.ask()) == "fetch, wait"


def test_a_forked_child_keeps_the_token_and_forgets_what_belongs_to_threads() -> None:
    machine = paused(holding(), refusal(), IN_WINDOW)
    flight = machine.take_off(forced=True)
    machine.slot.forget_failures()
    answer = machine.ask()
    assert gives(answer) == "the token, fetch"
    assert answer.flight is not flight
