"""The state machine of a token, walked by its table; refusals, and tokens that are dropped."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.token_endpoint import TokenEndpoint, rejected, token

from exo_imap_oauth._tokens import slot as slots
from exo_imap_oauth._tokens.slot import (
    OUTAGE_MEMORY,
    REFUSAL_MEMORY,
    Answer,
    Flight,
    Slot,
)
from exo_imap_oauth.access_token import AccessToken, count_from
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected
from exo_imap_oauth.token_cache import MemoryTokenCache

# ---- the table of _tokens/slot.py, by a clock that the test sets -----------------------------


DEADLINE = 10.0
ISSUED, FRESH, IN_WINDOW, EXPIRED_AT = 1000.0, 1100.0, 1700.0, 4700.0


class Machine:
    """A slot whose clock stands still until it is set."""

    def __init__(self) -> None:
        self.now = ISSUED
        self.slot = Slot(MemoryTokenCache(), "key", lambda: self.now)

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
    token = AccessToken(token=text, expires_on=4600, refresh_on=1600, obtained_on=ISSUED)
    return count_from(token, ISSUED)


def refusal() -> TokenRequestRejected:
    return TokenRequestRejected("no", error="invalid_client", status=401)


def holding(text: str = "held") -> Machine:
    machine = Machine()
    machine.land(issued(text))
    return machine


def gives(answer: Answer) -> str:
    """What an answer means, in the words of the table."""
    parts = [] if answer.token is None else ["the token"]
    if answer.outage is not None:
        parts.append("the outage")
    if answer.starts_flight:
        parts.append("fetch")
    if answer.token is None and answer.outage is None:
        parts.append("wait")
    return ", ".join(parts)


def paused(machine: Machine, failure: TokenError, now: float) -> Machine:
    """Have a fetch fail, and then the time be ``now``, a second later."""
    machine.at(now - 1.0)
    machine.slot.land(machine.take_off(forced=True), failure)
    return machine.at(now)


def out(machine: Machine, now: float) -> Machine:
    """The same with a fetch that used up its deadline."""
    machine.at(now - 1.0)
    flight = machine.take_off(forced=True)
    flight.in_vain = True
    machine.slot.land(flight, OUTAGE)
    return machine.at(now)


OUTAGE = TokenEndpointUnavailable("busy")


@pytest.mark.parametrize(
    ("now", "row"),
    [
        (FRESH, ["the token"] * 5),
        (IN_WINDOW, ["the token, fetch", *["the token"] * 4]),
        (EXPIRED_AT, ["fetch, wait", "wait", "fetch, wait", "the refusal", "the outage, fetch"]),
    ],
)
def test_whoever_asks_gets_what_the_table_says(now: float, row: list[str]) -> None:
    alone, beside_a_flight, in_a_pause, after_a_refusal, in_an_outage = row
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

    assert gives(out(holding(), now).ask()) == in_an_outage


@pytest.mark.parametrize("now", [FRESH, IN_WINDOW, EXPIRED_AT])
def test_whoever_forces_gets_what_the_table_says(now: float) -> None:
    assert gives(holding().at(now).ask(forced=True)) == "fetch, wait"
    assert gives(paused(holding(), OUTAGE, now).ask(forced=True)) == "fetch, wait"
    assert gives(paused(holding(), refusal(), now).ask(forced=True)) == "fetch, wait"
    assert gives(out(holding(), now).ask(forced=True)) == "fetch, wait"

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


# ---- an outage -------------------------------------------------------------------------------


def test_an_outage_is_a_copy_for_each_beside_one_flight_and_is_over_after_ten_seconds() -> None:
    machine = out(Machine(), 1001.0)
    first, second = machine.ask(), machine.ask()
    assert (gives(first), gives(second)) == ("the outage, fetch", "the outage")
    assert len({id(answer.outage) for answer in (first, second)} | {id(OUTAGE)}) == 3
    assert gives(machine.at(1000.0 + OUTAGE_MEMORY - 0.1).ask()) == "the outage"
    assert gives(machine.at(1000.0 + OUTAGE_MEMORY).ask()) == "wait"


def test_an_outage_that_goes_on_is_waited_for_once_and_then_told_again() -> None:
    machine = out(Machine(), 1001.0)
    answer = machine.slot.ask(30.0)
    assert answer.flight is not None
    assert gives(machine.at(1015.0).ask()) == "wait"
    answer.flight.in_vain = True
    machine.slot.land(answer.flight, OUTAGE)
    assert gives(machine.ask()) == "the outage, fetch"


@pytest.mark.parametrize(
    ("outcome", "later"),
    [
        ("a token", "the token"),
        ("a refusal", "the refusal"),
        ("a failure at once", "fetch, wait"),  # the endpoint asks for a pause, for example
    ],
)
def test_whatever_lands_in_an_outage_ends_it(outcome: str, later: str) -> None:
    machine = out(Machine(), 1001.0)
    flight = machine.ask().flight
    assert flight is not None
    outcomes: dict[str, AccessToken | TokenError] = {
        "a token": issued("new"),
        "a refusal": refusal(),
        "a failure at once": OUTAGE,
    }
    machine.slot.land(flight, outcomes[outcome])
    if later == "the refusal":
        with pytest.raises(TokenRequestRejected):
            machine.ask()
    else:
        assert gives(machine.ask()) == later


def test_an_outage_ends_what_is_remembered_of_a_refusal() -> None:
    machine = out(paused(Machine(), refusal(), 1001.0), 1002.0)
    assert gives(machine.ask()) == "the outage, fetch"


def test_a_flight_that_somebody_waited_for_until_it_was_overdue_is_an_outage() -> None:
    machine = Machine()
    hangs = machine.take_off()
    machine.slot.give_up(hangs, OUTAGE)  # of a caller with a shorter deadline
    assert gives(machine.ask()) == "wait"
    machine.at(ISSUED + DEADLINE).slot.give_up(hangs, OUTAGE)
    assert gives(machine.ask()) == "the outage, fetch"
    assert gives(machine.ask()) == "the outage"


def test_a_forked_child_forgets_the_outage() -> None:
    machine = out(Machine(), 1001.0)
    machine.slot.forget_failures()
    assert gives(machine.ask()) == "fetch, wait"


# ---- pauses, and flights that are lost -------------------------------------------------------


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


# ---- refusals --------------------------------------------------------------------------------


def test_a_refusal_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with TokenEndpoint(rejected()) as endpoint:
        source = endpoint.source()
        for _ in range(5):
            with pytest.raises(TokenRequestRejected):
                endpoint.source().get_token()
        assert len(endpoint.forms) == 1
        monkeypatch.setattr(source._slot, "refused_until", 0.0)  # 5 s later
        endpoint.then(token("mended"))
        assert source.get_token().token == "mended"


def test_a_program_that_builds_a_source_for_each_attempt_does_not_hammer_entra() -> None:
    with TokenEndpoint(rejected()) as endpoint:
        for _ in range(3):  # a refusal is remembered for 5 s
            with pytest.raises(TokenRequestRejected) as raised:
                endpoint.source().get_token()
            del raised
            gc.collect()
        assert len(endpoint.forms) == 1


def test_a_forced_fetch_asks_in_spite_of_a_refusal() -> None:
    with TokenEndpoint(rejected(), token("mended")) as endpoint:
        source = endpoint.source()
        with pytest.raises(TokenRequestRejected):
            source.get_token()
        assert source.get_token(claims="{}").token == "mended"


def test_a_changed_secret_asks_at_once() -> None:
    with TokenEndpoint(rejected(), token("mended")) as endpoint:
        with pytest.raises(TokenRequestRejected):
            endpoint.source("old-secret").get_token()
        assert endpoint.source("new-secret").get_token().token == "mended"


# ---- invalidate ------------------------------------------------------------------------------


def test_invalidate_reaches_all_sources_of_the_identity() -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        one, other = endpoint.source(), endpoint.source()
        other.invalidate(one.get_token())
        assert one.get_token().token == "two"


def test_invalidate_spares_a_token_that_was_replaced_meanwhile() -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source()
        refused = source.get_token()
        source.invalidate(refused)
        assert source.get_token().token == "two"
        source.invalidate(refused)
        assert source.get_token().token == "two"
        assert len(endpoint.forms) == 2


def test_a_fetch_that_starts_within_invalidate_does_not_bring_the_token_back() -> None:
    class Slow(MemoryTokenCache):
        def discard(self, key: str, token: AccessToken) -> None:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(source.get_token).result()
            super().discard(key, token)

    with TokenEndpoint(token("refused"), token("new")) as endpoint:
        source = endpoint.source(cache=Slow())
        source.invalidate(source.get_token())
        assert source.get_token().token == "new"


def test_a_lost_fetch_that_fails_late_does_not_overrule_a_later_success() -> None:
    with TokenEndpoint(token("first"), token("second")) as endpoint:
        source = endpoint.source()
        lost = slots.Flight(0.0, forced=False)
        first = source.get_token()
        source._slot.land(lost, TokenRequestRejected("late", status=401))
        source.invalidate(first)
        assert source.get_token().token == "second"
        assert source._slot.paused_until == 0.0


def test_dropped_identities_leave_nothing_but_a_bounded_cache() -> None:
    with TokenEndpoint(token()) as endpoint:
        cache = MemoryTokenCache(maxsize=10)
        gc.collect()
        before = len(slots._slots)
        source = None
        for number in range(1000):
            source = endpoint.source(f"secret-{number}", cache=cache)
            cache.set(source._slot.key, AccessToken("t", int(time.time()) + 99, 0, 0.0))
        del source
        gc.collect()
        assert len(slots._slots) == before
        assert len(cache._tokens) == 10
