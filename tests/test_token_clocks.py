"""The wall clock is set, by hours, while a token is in each of its states: nothing comes of it."""

from __future__ import annotations

import gc
import logging
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.concurrency import until
from support.imap import opened, source_of
from support.token_endpoint import TokenEndpoint, http, rejected, token

from exo_imap_oauth import AccessToken
from exo_imap_oauth._imap.bearer import Bearer
from exo_imap_oauth._listener.opening import Renewal
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenRequestRejected
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth import TokenSource
    from exo_imap_oauth.testing import ReadyExchange

    Step = Callable[[], None]

HOURS = 3600.0


@pytest.fixture(params=[-5 * HOURS, 5 * HOURS], ids=["five hours back", "five hours ahead"])
def seconds(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Step:
    """Sets the wall clock."""
    offset, real = 0.0, time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset)

    def set_clock() -> None:
        nonlocal offset
        offset += seconds

    return set_clock


def replaced_after_its_hour(source: TokenSource, clock: Callable[[float], None]) -> bool:
    """Whether the token that is held is given for 55 minutes more, and not after an hour."""
    held = source.get_token().token
    clock(3200)
    still = source.get_token().token
    clock(401)
    return still == held != source.get_token().token


# ---- by the table of _tokens/slot.py ---------------------------------------------------------


def test_a_fresh_token(step: Step, clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old"), token("new")) as endpoint:
        source = endpoint.source()
        source.get_token()
        step()
        assert replaced_after_its_hour(source, clock)
        assert len(endpoint.forms) == 2


def test_a_token_in_its_window(step: Step, clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        step()
        endpoint.then(endpoint.stall(token("new")), token("newer"))
        assert source.get_token().token == "old"
        endpoint.release.set()
        until(lambda: source._slot.token.token == "new")
        assert replaced_after_its_hour(source, clock)
        assert len(endpoint.forms) == 3


def test_an_expired_token(step: Step, clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old"), token("new")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3601)
        step()
        assert source.get_token().token == "new"


def test_a_forced_fetch(step: Step, clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old"), token("forced"), token("new")) as endpoint:
        source = endpoint.source()
        source.get_token()
        step()
        assert source.get_token(claims="{}").token == "forced"
        assert replaced_after_its_hour(source, clock)
        assert len(endpoint.forms) == 3


def test_a_flight(step: Step, clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token()) as endpoint:

        def set_meanwhile(connection: Any) -> None:
            step()
            connection.sendall(token("old"))

        endpoint.then(set_meanwhile, token("new"))
        source = endpoint.source()
        assert source.get_token().token == "old"
        assert replaced_after_its_hour(source, clock)
        assert len(endpoint.forms) == 2


def test_a_pause(step: Step, clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        endpoint.then(http(503, Retry_After="120"))
        source.get_token()
        until(lambda: source._slot.paused_until > 0)
        endpoint.then(token("new"))
        asked = len(endpoint.forms)
        step()
        assert source.get_token().token == "old"
        assert len(endpoint.forms) == asked
        clock(140)
        assert source.get_token().token == "old"
        until(lambda: source.get_token().token == "new")


def test_a_refusal(step: Step) -> None:
    with TokenEndpoint(rejected()) as endpoint:
        source = endpoint.source()
        for _ in range(2):
            with pytest.raises(TokenRequestRejected):
                source.get_token()
            step()
        assert len(endpoint.forms) == 1


def test_an_outage(step: Step, clock: Callable[[float], None]) -> None:
    with TokenEndpoint(http(503)) as endpoint:
        source = endpoint.source(deadline=0.2)
        with pytest.raises(TokenEndpointUnavailable):
            source.get_token()
        step()
        endpoint.then(endpoint.stall(token("new")))
        patient = endpoint.source()
        with pytest.raises(TokenEndpointUnavailable):
            patient.get_token()
        endpoint.release.set()
        until(lambda: source._slot.token.token == "new")
        clock(3200)
        assert source.get_token().token == "new"


def test_a_warning_tells_how_long_the_token_still_serves(
    step: Step, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    with TokenEndpoint(token(), rejected(7000222)) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        step()
        source.get_token()
        until(lambda: "serves for another 3 min" in caplog.text)


# ---- in caches -------------------------------------------------------------------------------


def test_a_token_in_memory_that_no_source_holds(step: Step, clock: Callable[[float], None]) -> None:
    cache = MemoryTokenCache()
    with TokenEndpoint(token("old"), token("new")) as endpoint:
        endpoint.source(cache=cache).get_token()
        gc.collect()
        step()
        assert endpoint.source(cache=cache).get_token().token == "old"
        gc.collect()
        clock(3601)
        assert endpoint.source(cache=cache).get_token().token == "new"
        assert len(endpoint.forms) == 2


class WallClockCache(MemoryTokenCache):
    """One of a user, that keeps texts and Unix seconds, and forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, tuple[str, int, int, float]] = {}

    def get(self, key: str) -> AccessToken | None:
        kept = self.kept.get(key)
        return AccessToken(*kept) if kept and kept[1] > time.time() else None

    def set(self, key: str, token: AccessToken) -> None:
        self.kept[key] = (token.token, token.expires_on, token.refresh_on, token.obtained_on)

    def discard(self, key: str, token: AccessToken) -> None:
        """Such as one that cannot be reached."""


@pytest.mark.parametrize("seconds", [-5 * HOURS])
def test_an_expired_token_is_not_taken_back_from_a_cache_that_thinks_it_valid(
    step: Step, clock: Callable[[float], None]
) -> None:
    with TokenEndpoint(token("old"), token("new")) as endpoint:
        source = endpoint.source(cache=WallClockCache())
        source.get_token()
        clock(3601)
        step()
        assert source.get_token().token == "new"


def test_a_token_that_was_dropped_is_not_taken_back_from_a_cache() -> None:
    with TokenEndpoint(token("old"), token("new")) as endpoint:
        source = endpoint.source(cache=WallClockCache())
        source.invalidate(source.get_token())
        assert source.get_token().token == "new"


def test_a_token_that_is_dropped_while_a_fetch_finds_it_in_the_cache_is_not_held() -> None:
    class Late(WallClockCache):
        def get(self, key: str) -> AccessToken | None:
            found = super().get(key)
            if found is not None:
                source.invalidate(found)  # by another thread, as it were
            return found

    with TokenEndpoint(token("new")) as endpoint:
        cache = Late()
        source = endpoint.source(cache=cache)
        now = int(time.time())
        cache.kept[source._slot.key] = ("old", now + 3600, now + 3000, now - 60.0)
        source.get_token()
        assert source.get_token().token == "new"


def test_an_endpoint_that_gives_the_dropped_token_again_is_asked_once() -> None:
    with TokenEndpoint(token("the.same")) as endpoint:
        source = endpoint.source()
        source.invalidate(source.get_token())
        for _ in range(3):
            assert source.get_token().token == "the.same"
        assert len(endpoint.forms) == 2


# ---- at the server ---------------------------------------------------------------------------


def test_a_refused_token_is_replaced(step: Step, seconds: float, exchange: ReadyExchange) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    source.get_token()
    step()
    exchange.advance_clock(4000 - seconds)  # by Microsoft's clock it has expired
    with opened(exchange, source) as imap:
        assert imap.state == "SELECTED"
    assert [login.outcome for login in exchange.logins] == ["refused", "connected"]


def test_a_refused_token_that_was_fetched_for_this_login_is_not_replaced(step: Step) -> None:
    with TokenEndpoint(token()) as endpoint:
        login = Bearer("inbox@contoso.example", endpoint.source(), None)
        step()
        login.obtain()
        step()
        assert not login.drop_refused()


def test_a_token_out_of_a_cache_that_looks_like_one_of_the_future_is_replaced() -> None:
    now = int(time.time() + 5 * HOURS)
    with TokenEndpoint(token()) as endpoint:
        cache = WallClockCache()
        source = endpoint.source("a secret of its own", cache=cache)
        cache.kept[source._slot.key] = ("old", now + 3600, now + 3000, float(now))
        login = Bearer("inbox@contoso.example", source, None)
        login.obtain()
        assert login.drop_refused()


def test_a_token_whose_age_is_not_known_is_not_replaced() -> None:
    class Source:
        def get_token(self, *_: str) -> AccessToken:
            return AccessToken("t", 0, 0, math.inf)

        def invalidate(self, _: object) -> None: ...

    login = Bearer("inbox@contoso.example", Source(), None)
    login.obtain()
    assert not login.drop_refused()


def test_a_session_lasts_until_its_token_is_due(step: Step) -> None:
    with TokenEndpoint(token(refresh_in=1000)) as endpoint:
        source = endpoint.source()
        issued = source.get_token()
        step()
        assert 900 < Renewal(source, issued, source.get_token).seconds() <= 1000


def test_a_session_that_has_begun_lasts_until_its_token_is_due(step: Step) -> None:
    with TokenEndpoint(token(refresh_in=1000)) as endpoint:
        source = endpoint.source()
        renewal = Renewal(source, source.get_token(), source.get_token)
        step()
        assert 900 < renewal.seconds() <= 1000
        assert not renewal.is_due()


# ---- what is shown ---------------------------------------------------------------------------


def test_what_a_notebook_shows(step: Step) -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
        issued = source.get_token()
        step()
        for html in (source._repr_html_(), issued._repr_html_()):
            assert "in 59 min" in html or "in 60 min" in html
        assert "token fresh" in source._repr_html_()
        assert "valid" in issued._repr_html_()


def test_what_debug_tells(
    step: Step, seconds: float, exchange: ReadyExchange, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = replace(exchange.inbox, debug=True)
    with caplog.at_level(logging.INFO, "exo_imap_oauth"):
        source = inbox.token_source(ssl_context=exchange.ssl_context)
        for _ in range(2):
            with inbox.open(token=source, ssl_context=exchange.ssl_context):
                step()
            exchange.advance_clock(-seconds)  # the server's is right
    lines = [text for text in caplog.messages if "valid for" in text]
    assert [("new token" in line, "cached token" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]
    assert all("valid for 59 min" in line or "valid for 60 min" in line for line in lines)
