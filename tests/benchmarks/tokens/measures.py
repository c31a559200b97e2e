"""What is measured in this process, for every contender in turn."""

from __future__ import annotations

import gc
import itertools
import statistics
import threading
import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from .behaviour import FAILURES, HOLD, Behaviour, failing
from .contenders import ALL, FLOOR, OURS, PEERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .contenders import Contender, GetToken
    from .server import Endpoint, TokenServer

THREADS = 64
IDENTITIES = 1_000
_NEAR_EXPIRY = Behaviour(expires_in=50, refresh_in=1)  # inside everyone's window 1 s later
_UNTIL_NEAR = 1.2  # s
_numbers = itertools.count()


class Burst(NamedTuple):
    """Calls of threads that start at the same moment."""

    seconds: list[float]
    raised: list[str]

    def percentile(self, percent: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


class Load(NamedTuple):
    """A burst of threads on one source: medians over the rounds."""

    p50: float
    p99: float
    posts: float
    http: float
    lone: float  # s, the same round's single caller of another, cold source


class Outage(NamedTuple):
    """How callers fared that held a valid token while the endpoint failed."""

    p99: float
    raised: str


# ---- a cached token --------------------------------------------------------------------------


def cached_call(server: TokenServer, identities: int, rounds: int) -> dict[str, float]:
    """Nanoseconds of a call while the token is fresh, and so many sources hold one."""
    endpoint = server.open(Behaviour(latency=0.0))
    getters: dict[str, GetToken] = {}
    crowd: list[GetToken] = []
    for contender in (FLOOR, *ALL):
        others = 0 if contender is FLOOR else identities - 1
        crowd += _primed(contender, endpoint, others)
        getters[contender.name] = _primed(contender, endpoint, 1)[0]
    timers = {name: timeit.Timer(get) for name, get in getters.items()}
    calls = {name: max(100, int(0.01 / timer.timeit(50) * 50)) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    gc.collect()
    for _ in range(rounds):
        for name, timer in timers.items():
            samples[name].append(timer.timeit(calls[name]) / calls[name] * 1e9)
    assert crowd or identities == 1  # they lived until here
    endpoint.behave(Behaviour())  # closes their connections
    return _medians(samples)


# ---- threads ---------------------------------------------------------------------------------


def cold(server: TokenServer, rounds: int) -> dict[str, Load]:
    """Threads that ask a source for its first token at once."""
    for contender in (FLOOR, *ALL):  # loads what a first fetch loads
        _primed(contender, server.open(), 1)
    found: dict[str, list[Load]] = {contender.name: [] for contender in ALL}
    found[FLOOR.name] = []
    for _ in range(rounds):
        for contender in (FLOOR, *ALL):
            endpoint = server.open()
            started = time.perf_counter()
            get = contender.build(endpoint, _tenant())
            get()
            lone = time.perf_counter() - started
            alone = endpoint.counts()
            if contender is FLOOR:
                load = Load(lone, lone, alone.posts, alone.http, lone)
            else:
                endpoint = server.open()
                load = _load(contender.build(endpoint, _tenant()), endpoint, lone)
            found[contender.name].append(load)
    return {name: _median_load(loads) for name, loads in found.items()}


def cold_http_calls(server: TokenServer) -> dict[str, float]:
    """HTTP requests of a first token."""
    calls: dict[str, float] = {}
    for contender in (FLOOR, *ALL):
        endpoint = server.open()
        _primed(contender, endpoint, 1)
        calls[contender.name] = endpoint.counts().http
    return calls


def refresh_window(server: TokenServer, rounds: int) -> dict[str, Load]:
    """Threads that ask at once for a token that is about to expire; the endpoint is healthy."""
    found: dict[str, list[Load]] = {contender.name: [] for contender in ALL}
    for _ in range(rounds):
        ready = [_near_expiry(server, contender) for contender in ALL]
        time.sleep(_UNTIL_NEAR)
        for contender, (endpoint, get) in zip(ALL, ready, strict=True):
            found[contender.name].append(_load(get, endpoint, 0.0))
    return {name: _median_load(loads) for name, loads in found.items()}


def ten_calls(server: TokenServer) -> dict[str, float]:
    """Token requests of ten calls, one after another, for a token that lives 200 s."""
    posts: dict[str, float] = {}
    for contender in ALL:
        endpoint = server.open(Behaviour(expires_in=200))
        get = contender.build(endpoint, _tenant())
        for _ in range(10):
            get()
        time.sleep(2 * Behaviour().latency)  # one under way in the background counts too
        posts[contender.name] = endpoint.counts().posts
    return posts


# ---- outages ---------------------------------------------------------------------------------


def our_outages(server: TokenServer, rounds: int) -> dict[str, Outage]:
    """Each failure, met by threads at once: at its beginning and while it lasts."""
    outages: dict[str, Outage] = {}
    ready = [[_near_expiry(server, OURS) for _ in range(rounds)] for _ in FAILURES]
    time.sleep(_UNTIL_NEAR)
    for kind, sources in zip(FAILURES, ready, strict=True):
        first: list[Burst] = []
        later: list[Burst] = []
        for endpoint, get in sources:
            endpoint.behave(failing(kind))
            first.append(burst(get))
            later.append(burst(get))
        p99 = max(statistics.median(b.percentile(99) for b in found) for found in (first, later))
        outages[kind] = Outage(
            p99, ", ".join(_said(result) for result in first + later).strip(", ")
        )
    return outages


def peers_outages(server: TokenServer) -> dict[str, dict[str, Outage]]:
    """Each failure for each peer, all at the same time, since they mostly wait; one caller."""

    def one(task: tuple[str, Contender]) -> Outage:
        kind, contender = task
        endpoint, get = _near_expiry(server, contender)
        time.sleep(_UNTIL_NEAR)
        endpoint.behave(failing(kind))
        result = burst(get, 1)
        return Outage(result.seconds[0], _said(result))

    tasks = [(kind, contender) for kind in FAILURES for contender in PEERS]
    with ThreadPoolExecutor(len(tasks)) as pool:
        outages = list(pool.map(one, tasks))
    found: dict[str, dict[str, Outage]] = {kind: {} for kind in FAILURES}
    for (kind, contender), outage in zip(tasks, outages, strict=True):
        found[kind][contender.name] = outage
    return found


def stall(server: TokenServer) -> dict[str, Outage]:
    """An endpoint that answers only after 15 s, and threads that hold a valid token."""

    def one(contender: Contender) -> Outage:
        endpoint, get = _near_expiry(server, contender)
        time.sleep(_UNTIL_NEAR)
        endpoint.behave(failing("stall")._replace(hold=HOLD, expires_in=3600))
        result = burst(get)
        return Outage(result.percentile(99), _said(result))

    found = {OURS.name: one(OURS)}
    with ThreadPoolExecutor(len(PEERS)) as pool:
        peers = pool.map(one, PEERS)
    return found | dict(zip((peer.name for peer in PEERS), peers, strict=True))


# ---- parts -----------------------------------------------------------------------------------


def burst(get: GetToken, threads: int = THREADS) -> Burst:
    """Call from so many threads at once, and wait for all of them."""
    result = Burst([], [])
    barrier = threading.Barrier(threads)

    def call() -> None:
        barrier.wait()
        started = time.perf_counter()
        try:
            get()
        except Exception as error:  # noqa: BLE001 - it is what is measured
            result.raised.append(type(error).__name__)
        result.seconds.append(time.perf_counter() - started)

    callers = [threading.Thread(target=call) for _ in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return result


def _tenant() -> str:
    return f"tenant-{next(_numbers)}"


def _primed(contender: Contender, endpoint: Endpoint, count: int) -> list[GetToken]:
    """Sources of so many identities that each hold a token."""

    def one(tenant: str) -> GetToken:
        get = contender.build(endpoint, tenant)
        get()
        return get

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(one, [_tenant() for _ in range(count)]))


def _near_expiry(server: TokenServer, contender: Contender) -> tuple[Endpoint, GetToken]:
    """A source whose token comes into its refresh window a moment later; healthy so far."""
    endpoint = server.open(_NEAR_EXPIRY)
    (get,) = _primed(contender, endpoint, 1)
    endpoint.behave(Behaviour())
    return endpoint, get


def _load(get: GetToken, endpoint: Endpoint, lone: float) -> Load:
    before = endpoint.counts()
    result = burst(get)
    assert not result.raised, result.raised
    time.sleep(6 * Behaviour().latency)  # what goes on in the background counts too
    after = endpoint.counts()
    posts, http = after.posts - before.posts, after.http - before.http
    return Load(result.percentile(50), result.percentile(99), posts, http, lone)


def _median_load(loads: Sequence[Load]) -> Load:
    return Load(*map(statistics.median, zip(*loads, strict=True)))


def _medians(samples: Mapping[str, Iterable[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def _said(result: Burst) -> str:
    return ", ".join(sorted(set(result.raised)))
