"""An outage of the token endpoint: it is waited for once, and its end is noticed."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.concurrency import THREADS, run_python, together, until
from support.token_endpoint import SECRET, TokenEndpoint, http, rejected, token

from exo_imap_oauth import check_setup
from exo_imap_oauth._tokens import fetch
from exo_imap_oauth._tokens import slot as slots
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenRequestRejected
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth import TokenSource
    from exo_imap_oauth.testing import ReadyExchange


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each caller who waited for a fetch would have waited at most."""
    found: list[float] = []
    real = fetch._wait

    def noted(event: Any, seconds: float) -> bool:
        found.append(seconds)
        return real(event, seconds)

    monkeypatch.setattr(fetch, "_wait", noted)
    return found


def fail(source: TokenSource) -> TokenEndpointUnavailable:
    with pytest.raises(TokenEndpointUnavailable) as raised:
        source.get_token()
    return raised.value


def test_twenty_inboxes_of_one_application_wait_for_an_outage_once(
    trusted_exchange: ReadyExchange, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "OUTAGE_MEMORY", 60.0)  # s: a busy machine takes its time
    trusted_exchange.inject(Fault.TOKEN_REFUSE, times=None)
    errors: list[TokenEndpointUnavailable] = []
    for number in range(20):
        inbox = replace(trusted_exchange.inbox, user=f"inbox{number}@contoso.example")
        with pytest.raises(TokenEndpointUnavailable) as raised, inbox.open(deadline=0.5):
            pass
        errors.append(raised.value)
        gc.collect()
    assert len(waits) == 1
    assert len({id(error) for error in errors}) == 20
    assert all(error.retryable for error in errors)


def test_its_end_is_noticed_by_the_fetch_that_nobody_waits_for(waits: list[float]) -> None:
    with TokenEndpoint(http(503)) as endpoint:
        source = endpoint.source(deadline=0.2)
        fail(source)
        asked = len(endpoint.forms)
        endpoint.then(endpoint.stall(token("back")))
        patient = endpoint.source()
        fail(patient)
        until(lambda: len(endpoint.forms) > asked)
        fail(patient)  # while that fetch is under way
        endpoint.release.set()
        until(lambda: source._slot.token.token == "back")
        assert source.get_token().token == "back"
        assert len(waits) == 1


def test_whoever_asks_ten_seconds_later_waits_for_the_fetch_under_way(
    clock: Callable[[float], None],
) -> None:
    with TokenEndpoint(http(503)) as endpoint:
        fail(endpoint.source(deadline=0.2))
        asked = len(endpoint.forms)
        endpoint.then(endpoint.stall(token("back")))
        patient = endpoint.source()
        fail(patient)
        clock(slots.OUTAGE_MEMORY)
        endpoint.release.set()
        assert patient.get_token().token == "back"
        assert len(endpoint.forms) == asked + 1


def test_threads_get_a_copy_each_beside_one_fetch() -> None:
    with TokenEndpoint(http(503)) as endpoint:
        fail(endpoint.source(deadline=0.2))
        asked = len(endpoint.forms)
        endpoint.then(endpoint.stall(token("back")))
        source = endpoint.source()
        errors = together([source.get_token] * THREADS)
        assert len({id(error) for error in errors}) == THREADS
        assert {type(error) for error in errors} == {TokenEndpointUnavailable}
        endpoint.release.set()
        until(lambda: source._slot.token.token == "back")
        assert len(endpoint.forms) == asked + 1


def test_what_is_remembered_holds_no_frames() -> None:
    with TokenEndpoint(http(503)) as endpoint:
        source = endpoint.source(deadline=0.2)
        for _ in range(3):
            error = fail(source)
            assert error.__cause__ is error.__context__ is None
        assert source._slot.outage is not None
        assert source._slot.outage.__traceback__ is None


def test_a_program_that_builds_a_source_for_each_attempt_waits_once(waits: list[float]) -> None:
    with TokenEndpoint(http(503)) as endpoint:
        for _ in range(3):
            with pytest.raises(TokenEndpointUnavailable) as raised:
                endpoint.source(deadline=0.2).get_token()
            del raised
            gc.collect()
    assert len(waits) == 1


@pytest.mark.parametrize("answer", [token("new"), rejected()], ids=["a token", "a refusal"])
def test_what_the_endpoint_says_then_counts(answer: bytes) -> None:
    with TokenEndpoint(http(503)) as endpoint:
        source = endpoint.source(deadline=0.2)
        fail(source)
        endpoint.then(answer)
        fail(endpoint.source())
        until(lambda: source._slot.flight is None)
        if answer == rejected():
            with pytest.raises(TokenRequestRejected):
                source.get_token()
        else:
            assert source.get_token().token == "new"


def test_a_pause_beyond_the_deadline_is_no_outage_and_is_told_each_time() -> None:
    with TokenEndpoint(http(429, Retry_After="600")) as endpoint:
        for number in range(1, 4):
            assert fail(endpoint.source()).retry_after == 600
            assert len(endpoint.forms) == number


def test_an_answer_that_is_no_token_is_no_outage() -> None:
    with TokenEndpoint(http(200, "a captive portal"), token("new")) as endpoint:
        source = endpoint.source()
        fail(source)
        assert source.get_token().token == "new"


def test_a_forced_fetch_and_another_secret_ask_at_once() -> None:
    with TokenEndpoint(http(503)) as endpoint:
        fail(endpoint.source(deadline=0.2))
        endpoint.then(token("forced"))
        assert endpoint.source().get_token(claims="{}").token == "forced"
        endpoint.then(http(503))
        fail(endpoint.source("another", deadline=0.2))
        endpoint.then(token("of.a.third"))
        assert endpoint.source("a third").get_token().token == "of.a.third"


def test_check_setup_asks_at_once(trusted_exchange: ReadyExchange) -> None:
    outage = trusted_exchange.inject(Fault.TOKEN_REFUSE, times=None)
    inbox = trusted_exchange.inbox
    fail(inbox.token_source(deadline=0.3))
    outage.remove()
    assert check_setup(inbox).ok


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_asks_at_once() -> None:
    script = """
import os, sys
sys.path[:0] = sys.argv[1:]
from support.token_endpoint import TokenEndpoint, http, token
from exo_imap_oauth.errors import TokenEndpointUnavailable
with TokenEndpoint(http(503)) as endpoint:
    source = endpoint.source(deadline=0.2)
    try:
        source.get_token()
    except TokenEndpointUnavailable:
        pass
    endpoint.then(token("the.childs.own"))
    child = os.fork()
    if child == 0:
        print(endpoint.source().get_token().token, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    run = run_python(script)
    assert run.stdout == "the.childs.own\n", run.stderr


def test_a_secret_that_a_function_gives_makes_no_difference() -> None:
    def secret() -> str:
        return SECRET

    with TokenEndpoint(http(503)) as endpoint:
        fail(endpoint.source(secret, deadline=0.2))
        endpoint.then(endpoint.stall(token("back")))
        source = endpoint.source(secret)
        fail(source)
        endpoint.release.set()
        until(lambda: source._slot.token.token == "back")


# ---- deadline of an inbox --------------------------------------------------------------------


def test_how_long_the_token_of_an_inbox_may_take(trusted_exchange: ReadyExchange) -> None:
    inbox = trusted_exchange.inbox
    trusted_exchange.inject(Fault.TOKEN_UNAVAILABLE, seconds=20)
    with pytest.raises(TokenEndpointUnavailable) as raised, inbox.open(deadline=10):
        pass  # at once, since 20 s of pause do not fit
    assert raised.value.retry_after == 20
    with inbox.open(deadline=60) as imap:
        assert imap.state == "SELECTED"


def test_a_deadline_is_not_for_a_token_that_is_given(trusted_exchange: ReadyExchange) -> None:
    inbox = trusted_exchange.inbox
    with pytest.raises(ValueError, match=r"token=inbox\.token_source\(deadline=\.\.\.\)"):
        inbox.open(token="a.token", deadline=5)
    with pytest.raises(ValueError, match="deadline"):
        inbox.open(deadline=0)
