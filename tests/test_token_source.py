"""The token source: hot path, one flight, refresh ahead, refusals, forks."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import copy
import gc
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.token_endpoint import SECRET, TokenEndpoint, http, rejected, token

from exo_imap_oauth._tokens import fetch
from exo_imap_oauth._tokens import slot as slots
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.errors import (
    TokenEndpointUnavailable,
    TokenError,
    TokenRequestRejected,
)
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from exo_imap_oauth import TokenSource

THREADS = 64


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A wall clock that the test moves."""
    offset = 0.0
    real = time.time

    def move(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    moved = slots.Clock(lambda: real() + offset, time.monotonic)
    monkeypatch.setattr(slots, "SYSTEM_CLOCK", moved)
    return move


def _together(calls: list[Callable[[], Any]]) -> list[Any]:
    """What calls return or raise that start at the same moment, a thread each."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - it is the result
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# ---- one flight ------------------------------------------------------------------------------


def test_64_threads_on_one_cold_source_share_one_request() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
        results = _together([source.get_token] * THREADS)
    assert {id(result) for result in results} == {id(source.get_token())}
    assert len(endpoint.forms) == 1


def test_64_sources_of_one_identity_share_one_request() -> None:
    with TokenEndpoint(token()) as endpoint:
        sources = [endpoint.source() for _ in range(THREADS)]
        results = _together([source.get_token for source in sources])
    assert {result.token for result in results} == {"a.token"}
    assert len(endpoint.forms) == 1


def test_sources_with_different_secrets_ask_each_for_themselves() -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        results = _together([endpoint.source(s).get_token for s in ("secret-1", "secret-2")])
    assert {result.token for result in results} == {"one", "two"}
    assert {form["client_secret"] for form in endpoint.forms} == {"secret-1", "secret-2"}


@pytest.mark.parametrize("other", [{"scope": "https://x/.default"}, {"cache": MemoryTokenCache()}])
def test_another_scope_or_cache_is_another_token(other: dict[str, Any]) -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        first, second = endpoint.source(), endpoint.source(**other)
        assert (first.get_token().token, second.get_token().token) == ("one", "two")
        assert first != second


def test_all_who_wait_get_a_copy_of_their_own_of_one_error() -> None:
    with TokenEndpoint(rejected()) as endpoint:
        source = endpoint.source()
        errors = _together([source.get_token] * THREADS)
    assert {type(error) for error in errors} == {TokenRequestRejected}
    assert len({id(error) for error in errors}) == THREADS
    assert len({str(error) for error in errors}) == 1
    assert len(endpoint.forms) == 1


def test_a_token_outlives_its_source_in_the_cache() -> None:
    with TokenEndpoint(token("kept")) as endpoint:
        endpoint.source().get_token()
        gc.collect()
        assert endpoint.source().get_token().token == "kept"
        assert len(endpoint.forms) == 1


def test_a_secret_callable_counts_by_its_equality_and_is_not_called_when_hot() -> None:
    class Vault:
        calls = 0

        def secret(self) -> str:
            self.calls += 1
            return SECRET

    vault, other = Vault(), Vault()
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source(vault.secret)
        assert source == endpoint.source(vault.secret)
        assert source != endpoint.source(other.secret)
        for _ in range(3):
            assert source.get_token().token == "one"
        assert endpoint.source(other.secret).get_token().token == "two"
    assert (vault.calls, other.calls) == (1, 1)


def test_an_unhashable_callable_is_refused_with_what_to_do() -> None:
    class Vault(list[str]):
        def __call__(self) -> str:
            return SECRET

    with TokenEndpoint(token()) as endpoint, pytest.raises(TypeError, match="hash"):
        endpoint.source(Vault())


def test_a_caller_waits_no_longer_than_its_deadline_and_the_late_answer_still_serves() -> None:
    with TokenEndpoint(token("late")) as endpoint:
        endpoint.then(endpoint.stall(token("late")))
        source = endpoint.source(deadline=0.3, timeout=60)
        patient = endpoint.source(deadline=60, timeout=60)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(patient.get_token)
            endpoint.wait_for_request()
            before = time.monotonic()
            with pytest.raises(TokenEndpointUnavailable) as raised:
                source.get_token()
            assert time.monotonic() - before < 30
            assert raised.value.retryable
            assert raised.value.retry_after is None  # nobody asked for a pause
            endpoint.release.set()
            assert waiting.result().token == "late"
        assert source.get_token().token == "late"


def test_a_flight_that_hangs_beyond_its_deadline_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging = threading.Event()
    release = threading.Event()
    from exo_imap_oauth._tokens import endpoint as token_endpoint

    real = token_endpoint.request_token

    def hang_once(request: Any) -> Any:
        if not hanging.is_set():
            hanging.set()
            release.wait(60)
            return TokenError("far too late")
        return real(request)

    monkeypatch.setattr(token_endpoint, "request_token", hang_once)
    with TokenEndpoint(token("second")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable):
            endpoint.source(deadline=0.2).get_token()
        source = endpoint.source()
        assert source.get_token().token == "second"
        release.set()
        assert source.get_token().token == "second"


def test_ctrl_c_in_a_waiting_caller_harms_no_other() -> None:
    script = """
import os, signal, sys, threading
sys.path[:0] = sys.argv[1:]
from support.token_endpoint import TokenEndpoint, token
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores SIGINT
with TokenEndpoint(token()) as endpoint:
    endpoint.then(endpoint.stall(token("unharmed")))
    source = endpoint.source()
    results = []
    other = threading.Thread(target=lambda: results.append(source.get_token().token))
    other.start()
    def interrupt():
        endpoint.wait_for_request()
        os.kill(os.getpid(), signal.SIGINT)
    try:
        threading.Thread(target=interrupt).start()
        source.get_token()
    except KeyboardInterrupt:
        endpoint.release.set()
    other.join()
    print(*results, source.get_token().token, len(endpoint.forms))
"""
    run = _python(script)
    assert run.stdout == "unharmed unharmed 1\n", run.stderr


def _python(script: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parent
    return subprocess.run(
        [sys.executable, "-c", script, str(tests.parent), str(tests)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# ---- refresh ahead ---------------------------------------------------------------------------


def test_in_the_refresh_window_the_old_token_is_given_while_one_thread_fetches(
    clock: Callable[[float], None],
) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        endpoint.wait_for_request()
        clock(3400)
        endpoint.then(endpoint.stall(token("new", 7200)))
        assert {r.token for r in _together([source.get_token] * THREADS)} == {"old"}
        endpoint.wait_for_request()
        assert source.get_token().token == "old"
        endpoint.release.set()
        _until(lambda: source.get_token().token == "new")
    assert len(endpoint.forms) == 2


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


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
        _until(lambda: source._slot.paused_until > 0)
        asked = len(endpoint.forms)
        for _ in range(20):
            assert source.get_token().token == "old"
        assert len(endpoint.forms) == asked
        endpoint.then(token("new"))
        clock(300)  # now the old one is expired
        if refused:
            with pytest.raises(TokenRequestRejected):
                source.get_token()
        else:
            assert source.get_token().token == "new"


def test_the_pause_obeys_retry_after(clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        endpoint.then(http(429, Retry_After="120"))
        before = time.monotonic()
        source.get_token()
        _until(lambda: source._slot.paused_until > 0)
        assert before + 120 < source._slot.paused_until < time.monotonic() + 133


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


def test_a_clock_that_is_set_back_prolongs_a_token_by_no_more_than_that(
    clock: Callable[[float], None],
) -> None:
    with TokenEndpoint(token("old"), token("new")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(-1000)  # before it was obtained
        assert source.get_token().token == "old"
        clock(3601)  # 1,000 s late, by the true time of its expiry
        assert source.get_token().token == "old"
        clock(1000)
        assert source.get_token().token == "new"


def test_a_clock_that_leaps_ahead_fetches_anew(clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old"), token("new")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(86_400)  # the machine was suspended for a day
        assert source.get_token().token == "new"


def test_a_valid_token_of_the_cache_serves_a_new_source_during_an_outage() -> None:
    with TokenEndpoint(token("kept", refresh_in=0.001)) as endpoint:
        endpoint.source().get_token()
        gc.collect()
        endpoint.then(endpoint.stall(http(503)))
        assert endpoint.source().get_token().token == "kept"


def test_the_pause_ends_with_the_next_token(clock: Callable[[float], None]) -> None:
    with TokenEndpoint(token("old")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        endpoint.then(http(503, Retry_After="3600"))
        source.get_token()
        _until(lambda: source._slot.paused_until > 0)
        clock(300)
        endpoint.then(token("new", 7300), token("newer", 99_999))  # by the server's own clock
        assert source.get_token().token == "new"
        clock(3400)
        assert source.get_token().token == "new"
        _until(lambda: source.get_token().token == "newer")


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


# ---- azure-core's shape ----------------------------------------------------------------------


def test_the_own_scope_is_accepted_and_no_other() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
        assert source.get_token(source.scope, tenant_id="x", enable_cae=True).token == "a.token"
        with pytest.raises(ValueError, match=r"graph\.microsoft\.com"):
            source.get_token("https://graph.microsoft.com/.default")
        with pytest.raises(TypeError, match="claim"):
            source.get_token(claim="x")


def test_a_fresh_token_that_is_asked_for_by_its_scope_starts_no_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []

    def start(*thread: object) -> None:
        started.append(thread)

    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
        issued = source.get_token()
        monkeypatch.setattr(_thread, "start_new_thread", start)
        monkeypatch.setattr(threading.Thread, "start", start)
        for _ in range(3):  # as each open_mailbox() does
            assert source.get_token(source.scope) is issued
        assert started == []


def test_claims_force_a_fetch() -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source()
        assert source.get_token().token == "one"
        assert source.get_token(claims='{"access_token":{}}').token == "two"
        assert source.get_token().token == "two"


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


# ---- caches of users -------------------------------------------------------------------------


class SharedCache(MemoryTokenCache):
    """Another process holds the lock the first time, and then leaves a token."""

    def __init__(self, left: AccessToken | None) -> None:
        super().__init__()
        self.left = left
        self.asked = 0

    @contextlib.contextmanager
    def lock(self, key: str, lease: float) -> Generator[bool]:
        assert lease > 0
        self.asked += 1
        if self.asked == 2 and self.left:
            self.set(key, self.left)
        yield False


def test_a_token_that_another_process_fetches_is_waited_for() -> None:
    left = AccessToken("theirs", int(time.time()) + 3600, int(time.time()) + 3000, time.time())
    with TokenEndpoint(token("ours")) as endpoint:
        cache = SharedCache(left)
        assert endpoint.source(cache=cache).get_token() is left
        assert endpoint.forms == []


def test_another_process_that_never_ends_is_not_waited_for_beyond_the_deadline() -> None:
    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenEndpointUnavailable) as raised:
        endpoint.source(cache=SharedCache(None), deadline=0.3).get_token()
    assert "another process" in str(raised.value)


def test_a_cache_that_raises_is_named() -> None:
    class Broken(MemoryTokenCache):
        def get(self, key: str) -> AccessToken | None:
            raise ConnectionError(f"redis is down, asked for {key}")

    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenError) as raised:
        endpoint.source(cache=Broken()).get_token()
    assert "ConnectionError: redis is down, asked for" in str(raised.value)


# ---- threads and processes -------------------------------------------------------------------


def test_where_no_thread_can_start_the_caller_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_threads(monkeypatch)
    with TokenEndpoint(token("own")) as endpoint:
        assert endpoint.source().get_token().token == "own"


def test_where_no_thread_can_start_a_valid_token_is_given_without_a_fetch(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    with TokenEndpoint(token("held")) as endpoint:
        source = endpoint.source()
        source.get_token()
        clock(3400)
        _forbid_threads(monkeypatch)
        assert source.get_token().token == "held"
        assert len(endpoint.forms) == 1


def _forbid_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThread:
        def __init__(self, **_: object) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    stand_in = SimpleNamespace(Thread=NoThread)
    monkeypatch.setattr(fetch, "threading", stand_in)


def test_asyncio_waits_in_a_thread() -> None:
    async def main(source: TokenSource) -> list[str]:
        calls = (asyncio.to_thread(source.get_token) for _ in range(8))
        return [issued.token for issued in await asyncio.gather(*calls)]

    with TokenEndpoint(token()) as endpoint:
        assert asyncio.run(main(endpoint.source())) == ["a.token"] * 8
        assert len(endpoint.forms) == 1


def test_a_child_forked_during_a_flight_neither_hangs_nor_loses_its_cache() -> None:
    script = """
import os, sys, threading
sys.path[:0] = sys.argv[1:]
from support.token_endpoint import TokenEndpoint, token
with TokenEndpoint(token("kept"), token("new")) as endpoint:
    held = endpoint.source("held")
    held.get_token()
    endpoint.wait_for_request()
    endpoint.then(endpoint.stall(token("late")), token("the.childs.own"))
    source = endpoint.source()
    threading.Thread(target=source.get_token, daemon=True).start()
    endpoint.wait_for_request()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answer = f"{held.get_token().token}, {source.get_token().token}"
        os.write(write, answer.encode())
        os._exit(0)
    os.waitpid(child, 0)
    endpoint.release.set()
    print(os.read(read, 100).decode(), source.get_token().token, sep=", ")
"""
    run = _python(script)
    assert run.stdout == "kept, the.childs.own, late\n", run.stderr


def _token_in_child(url: str, pem: str) -> str:
    import ssl

    from support.token_endpoint import CLIENT, TENANT

    from exo_imap_oauth import TokenSource

    context = ssl.create_default_context(cadata=pem)
    source = TokenSource(TENANT, CLIENT, SECRET, token_uri=url, ssl_context=context)
    return source.get_token().token


def test_a_spawned_process_builds_its_own_source() -> None:
    import ssl

    with TokenEndpoint(token("spawned")) as endpoint:
        pem = ssl.DER_cert_to_PEM_cert(endpoint.ssl_context.get_ca_certs(binary_form=True)[0])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_token_in_child, (endpoint.url, pem)) == "spawned"


def test_a_source_is_not_pickled_and_says_what_to_do() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="build one in each process"):
            way(source)
    with pytest.raises(TypeError):
        pickle.dumps(source._request.credential)


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
