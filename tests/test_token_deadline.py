"""What is left of a deadline: no senseless last try, and the endpoint's last answer counts."""

from __future__ import annotations

import random
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from support.token_endpoint import TokenEndpoint, http, rejected, token

from exo_imap_oauth._tokens import endpoint as token_endpoint
from exo_imap_oauth._tokens.endpoint import request_token
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected

if TYPE_CHECKING:
    from exo_imap_oauth._tokens.request import TokenRequest
    from exo_imap_oauth.errors import ExoImapOAuthError


class LateClock:
    """Stands in for :mod:`time`: sleeping takes no time, and ends up to 50 ms late."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds + self._random.uniform(0, 0.05)

    def spend(self, seconds: float) -> None:
        self._now += seconds


def outcome_of(endpoint: TokenEndpoint, **options: Any) -> AccessToken | ExoImapOAuthError:
    request: TokenRequest = endpoint.source(**options)._request
    return request_token(request)


def test_an_endpoint_that_is_down_for_good_is_never_told_as_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TokenEndpoint(http(503, "busy")) as endpoint:
        for seed in range(40):  # sleep comes back late, and a real exchange takes its time
            monkeypatch.setattr(token_endpoint, "time", LateClock(seed))
            error = outcome_of(endpoint, deadline=random.Random(seed).uniform(0.3, 2.0))
            assert isinstance(error, TokenEndpointUnavailable), seed
            assert error.retryable
            assert error.retry_after is None
            assert error.advice
            assert error.advice.id == "entra-unavailable"


def test_a_try_that_found_nobody_does_not_replace_the_answer_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LateClock(1)
    monkeypatch.setattr(token_endpoint, "time", clock)

    def reset(connection: Any) -> None:
        clock.spend(10.0)  # and nothing is left for a third
        connection.close()

    with TokenEndpoint(http(503, "busy"), reset) as endpoint:
        error = outcome_of(endpoint, deadline=9.0)
        assert len(endpoint.forms) == 2
    assert isinstance(error, TokenEndpointUnavailable)
    assert "HTTP 503" in str(error)


@pytest.mark.parametrize("takes", [0.0, 10.0])
def test_the_end_of_an_outage_is_noticed_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    for seed in range(20):
        clock = LateClock(seed)
        monkeypatch.setattr(token_endpoint, "time", clock)
        begun: list[float] = []

        def keep_silent(connection: Any) -> None:
            begun.append(clock.monotonic())  # noqa: B023 - called at once
            clock.spend(takes)  # noqa: B023
            connection.close()

        with TokenEndpoint(keep_silent) as endpoint:
            outcome_of(endpoint, deadline=100.0)
        gaps = [after - before for before, after in pairwise(begun)]
        assert len(gaps) >= 5
        assert max(gaps) < 10.1


def test_no_try_is_made_when_sleep_comes_back_with_nothing_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LateClock(1)
    monkeypatch.setattr(token_endpoint, "time", clock)

    def oversleep(_seconds: float) -> None:
        clock.spend(60.0)

    monkeypatch.setattr(clock, "sleep", oversleep)
    with TokenEndpoint(http(503, "busy")) as endpoint:
        error = outcome_of(endpoint, deadline=30.0)
        assert len(endpoint.forms) == 1
    assert "HTTP 503" in str(error)


def test_a_deadline_that_is_over_before_the_first_try_is_an_outage_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LateClock(1)
    monkeypatch.setattr(token_endpoint, "time", clock)
    real = clock.monotonic

    def later_each_time() -> float:
        clock.spend(1.0)
        return real()

    monkeypatch.setattr(clock, "monotonic", later_each_time)
    with TokenEndpoint(http(503, "busy")) as endpoint:
        error = outcome_of(endpoint, deadline=0.01)
    assert isinstance(error, TokenEndpointUnavailable)
    assert error.retryable


DIGITS = "9" * 400


@pytest.mark.parametrize("field", ["expires_in", "refresh_in"])
def test_a_number_of_400_digits_is_not_a_duration(field: str) -> None:
    for value in (int(DIGITS), DIGITS, float("inf")):
        with TokenEndpoint(token("a.token", **{field: value})) as endpoint:
            outcome = outcome_of(endpoint)
        if field == "expires_in":
            assert isinstance(outcome, TokenEndpointUnavailable)
        else:  # it is only a wish; the lifetime of an hour says enough
            assert isinstance(outcome, AccessToken)
            assert outcome.refresh_on < outcome.expires_on


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("9" * 309, 21_600), ("9" * 5000, None), ("-1", None), ("soon", None), ("86400", 21_600)],
)
def test_a_retry_after_is_bounded_and_never_in_the_way(header: str, seconds: float | None) -> None:
    with TokenEndpoint(http(503, "busy", Retry_After=header)) as endpoint:
        with pytest.raises(TokenEndpointUnavailable, match="HTTP 503") as raised:
            endpoint.source(deadline=0.3).get_token()  # a fetch that does not land hangs
    assert raised.value.retry_after == seconds
    assert raised.value.retryable


def test_a_fetch_lands_even_if_taking_note_of_its_failure_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise OverflowError

    monkeypatch.setattr("exo_imap_oauth._tokens.slot.random.uniform", broken)

    def expected(_args: threading.ExceptHookArgs) -> None: ...

    monkeypatch.setattr(threading, "excepthook", expected)
    with TokenEndpoint(rejected()) as endpoint:
        source = endpoint.source()
        began = time.monotonic()
        with pytest.raises(TokenRequestRejected):
            source.get_token()
    assert time.monotonic() - began < source._request.deadline


def test_whatever_happens_within_the_exchange_is_an_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def surprise(*_: object) -> None:
        raise MemoryError("with the secret in it")

    monkeypatch.setattr(token_endpoint, "exchange", surprise)
    with TokenEndpoint(token()) as endpoint:
        outcome = outcome_of(endpoint)
    assert isinstance(outcome, TokenError)
    assert "MemoryError" in str(outcome)
    assert "secret in it" not in str(outcome)


def test_json_too_deep_to_be_printed_is_an_outcome() -> None:
    deep = '{"error": ' + "[" * 900 + "]" * 900 + "}"
    with TokenEndpoint(http(400, deep, json_body=False)) as endpoint:
        assert isinstance(outcome_of(endpoint), TokenError)
