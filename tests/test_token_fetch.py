"""The threads of a fetch: who starts one, who waits, and what is imported meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.concurrency import THREADS, run_python, together, until
from support.token_endpoint import TokenEndpoint, http, rejected, token

from exo_imap_oauth import _threads
from exo_imap_oauth._tokens import fetch
from exo_imap_oauth._tokens.answers import Outcome
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Generator

    from exo_imap_oauth import TokenSource


# ---- one flight ------------------------------------------------------------------------------


def test_64_threads_on_one_cold_source_share_one_request() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
        results = together([source.get_token] * THREADS)
    assert {id(result) for result in results} == {id(source.get_token())}
    assert len(endpoint.forms) == 1


def test_64_sources_of_one_identity_share_one_request() -> None:
    with TokenEndpoint(token()) as endpoint:
        sources = [endpoint.source() for _ in range(THREADS)]
        results = together([source.get_token for source in sources])
    assert {result.token for result in results} == {"a.token"}
    assert len(endpoint.forms) == 1


def test_all_who_wait_get_a_copy_of_their_own_of_one_error() -> None:
    with TokenEndpoint(rejected()) as endpoint:
        source = endpoint.source()
        errors = together([source.get_token] * THREADS)
    assert {type(error) for error in errors} == {TokenRequestRejected}
    assert len({id(error) for error in errors}) == THREADS
    assert len({str(error) for error in errors}) == 1
    assert len(endpoint.forms) == 1


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

    real = token_endpoint.ask_until_deadline

    def hang_once(request: Any) -> Any:
        if not hanging.is_set():
            hanging.set()
            release.wait(60)
            return Outcome(TokenError("far too late"))
        return real(request)

    monkeypatch.setattr(token_endpoint, "ask_until_deadline", hang_once)
    with TokenEndpoint(token("second")) as endpoint:
        source = endpoint.source(deadline=0.2)
        with pytest.raises(TokenEndpointUnavailable):
            source.get_token()
        source = endpoint.source()
        with pytest.raises(TokenEndpointUnavailable, match=r"no answer for 0\.2 s"):
            source.get_token()  # at once, since that is an outage
        until(lambda: source._slot.token.token == "second")
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
    run = run_python(script)
    assert run.stdout == "unharmed unharmed 1\n", run.stderr


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


# ---- caches of users -------------------------------------------------------------------------


class SharedCache(MemoryTokenCache):
    """Another process holds the lock the first time, and then leaves a token."""

    def __init__(self, left: AccessToken | None) -> None:
        super().__init__()
        self.left = left
        self.asked = 0
        self.lease = 0.0

    @contextlib.contextmanager
    def lock(self, key: str, lease: float) -> Generator[bool]:
        self.lease = lease
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


@pytest.mark.parametrize(
    ("timeout", "deadline"), [(0.3, 60.0), (60.0, 2.0), (2.0, 2.0)], ids=lambda value: f"{value:g}"
)
def test_another_process_that_never_ends_is_waited_for_no_longer_than_its_lease(
    timeout: float, deadline: float
) -> None:
    cache = SharedCache(None)
    with TokenEndpoint(token("ours")) as endpoint:
        source = endpoint.source(cache=cache, timeout=timeout, deadline=deadline)
        assert source.get_token().token == "ours"
        assert cache.get(source._slot.cache_key) is not None
    assert cache.asked > 1
    assert 0 < cache.lease <= min(timeout, deadline / 3)  # as much is left for the fetch


def test_what_is_left_of_the_deadline_is_all_that_a_late_fetch_has() -> None:
    with TokenEndpoint(http(503)) as endpoint:
        source = endpoint.source(cache=SharedCache(None), deadline=1.0)
        with pytest.raises(TokenEndpointUnavailable, match="HTTP 503"):
            source.get_token()


def test_a_forced_fetch_waits_for_no_other_process() -> None:
    cache = SharedCache(None)
    with TokenEndpoint(token("ours")) as endpoint:
        source = endpoint.source(cache=cache, timeout=60.0, deadline=60.0)
        assert source.get_token(claims="{}").token == "ours"
    assert cache.asked == 1


def test_a_token_that_is_there_is_taken_without_a_lock() -> None:
    left = AccessToken("theirs", int(time.time()) + 3600, int(time.time()) + 3000, time.time())
    with TokenEndpoint(token("ours")) as endpoint:
        cache = SharedCache(None)
        source = endpoint.source(cache=cache)
        cache.set(source._slot.cache_key, left)
        assert source.get_token() is left
    assert cache.asked == 0


class Hanging(MemoryTokenCache):
    """Hangs in one of its methods until it is released."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.release = threading.Event()
        self.locks = 0

    def hang(self, where: str) -> None:
        if where == self.where:
            self.release.wait(60)

    def get(self, key: str) -> AccessToken | None:
        self.hang("get")
        return super().get(key)

    def set(self, key: str, token: AccessToken) -> None:
        self.hang("set")
        super().set(key, token)

    @contextlib.contextmanager
    def lock(self, key: str, lease: float) -> Generator[bool]:
        self.hang("lock")
        self.locks += 1
        with super().lock(key, lease) as ours:
            yield ours
        self.hang("unlock")
        self.locks -= 1


@pytest.mark.parametrize("where", ["get", "lock", "set", "unlock"])
def test_a_cache_that_hangs_fails_no_login_and_is_no_outage(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Hanging(where)
    with TokenEndpoint(token("ours")) as endpoint:
        source = endpoint.source(cache=cache, deadline=2.0)
        assert source.get_token().token == "ours"
        assert source._slot.outage is None
        assert source._slot.flight is None
        cache.release.set()
        until(lambda: cache.get(source._slot.cache_key) is not None)
        until(lambda: cache.locks == 0)
        assert len(endpoint.forms) == 1
    warned = any("the token cache did not answer within 1.0 s" in text for text in caplog.messages)
    assert warned == (where in {"get", "lock"})


@pytest.mark.parametrize("deadline", [0.5, 4.0])
def test_a_cache_that_hangs_leaves_half_of_the_deadline_to_the_endpoint(
    deadline: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exo_imap_oauth._tokens import endpoint as token_endpoint

    left: list[float] = []

    def note(request: Any) -> Outcome:
        left.append(request.deadline)
        return Outcome(TokenError("no"))

    monkeypatch.setattr(token_endpoint, "ask_until_deadline", note)
    cache = Hanging("get")
    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenError):
        endpoint.source(cache=cache, deadline=deadline).get_token()
    cache.release.set()
    assert 0.1 * deadline < left[0] <= deadline / 2


def test_where_no_thread_can_start_the_cache_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_threads(monkeypatch)
    cache = SharedCache(None)
    with TokenEndpoint(token("own")) as endpoint:
        assert endpoint.source(cache=cache).get_token().token == "own"
    assert cache.asked == 0


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
    monkeypatch.setattr(_threads, "threading", stand_in)


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
    run = run_python(script)
    assert run.stdout == "kept, the.childs.own, late\n", run.stderr


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


# ---- the context of the caller ---------------------------------------------------------------


SPAN: ContextVar[str] = ContextVar("SPAN", default="none")


def test_a_secrets_function_sees_what_the_caller_has_set() -> None:
    seen: list[tuple[str, bool]] = []

    def secret() -> str:
        seen.append((SPAN.get(), threading.current_thread() is threading.main_thread()))
        SPAN.set("of the fetch")
        return "s"

    with TokenEndpoint(token()) as endpoint:
        with_span = SPAN.set("of the caller")
        try:
            endpoint.source(secret).get_token()
            assert SPAN.get() == "of the caller"  # what the function sets stays in the fetch
        finally:
            SPAN.reset(with_span)
    assert seen == [("of the caller", False)]


def test_a_fetch_ahead_has_the_context_of_whoever_began_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spans: list[str] = []

    def note_the_span(_: logging.LogRecord) -> bool:
        spans.append(SPAN.get())
        return True

    caplog.handler.addFilter(note_the_span)
    with TokenEndpoint(token("held"), rejected(7000222)) as endpoint:
        source = endpoint.source()
        source.get_token()
        slot = source._slot
        due = replace(slot.token, refresh_on=int(slot.token.obtained_on) - 1)
        slot.cache.set(slot.key, due)
        slot.hold(due)
        with_span = SPAN.set("of the caller")
        try:
            assert source.get_token().token == "held"
        finally:
            SPAN.reset(with_span)
        until(lambda: bool(spans))
    assert spans == ["of the caller"]
