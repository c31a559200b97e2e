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

from . import clock
from .behaviour import FAILURES, Behaviour, failing
from .contenders import ALL, FLOOR, OURS, PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .contenders import Contender, GetToken
    from .server import Endpoint, TokenServer

THREADS = 64
IDENTITIES = 1_000
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
    """Threads that ask at once for a token that is to be replaced soon; the endpoint is healthy."""
    found: dict[str, list[Load]] = {contender.name: [] for contender in ALL}
    for _ in range(rounds):
        for contender in ALL:
            endpoint = server.open()
            (get,) = _primed(contender, endpoint, 1)
            with clock.ahead(contender.window):
                found[contender.name].append(_load(get, endpoint, 0.0))
    return {name: _median_load(loads) for name, loads in found.items()}


# ---- outages ---------------------------------------------------------------------------------


def our_outages(server: TokenServer, rounds: int) -> dict[str, Outage]:
    """Each failure, met by threads at once: at its beginning and while it lasts."""
    outages: dict[str, Outage] = {}
    for kind in FAILURES:
        first: list[Burst] = []
        later: list[Burst] = []
        for _ in range(rounds):
            endpoint = server.open()
            (get,) = _primed(OURS, endpoint, 1)
            endpoint.behave(failing(kind))
            with clock.ahead(OURS.window):
                first.append(burst(get))
                later.append(burst(get))
        p99 = max(statistics.median(b.percentile(99) for b in found) for found in (first, later))
        outages[kind] = Outage(
            p99, ", ".join(_said(result) for result in first + later).strip(", ")
        )
    return outages


def peers_outages(server: TokenServer) -> dict[str, dict[str, Outage]]:
    """Each failure for each peer; one caller."""
    outages = _while_failing(server, [(peer, kind) for kind in FAILURES for peer in PEERS], 1)
    return {kind: {peer.name: outages[peer.name, kind] for peer in PEERS} for kind in FAILURES}


def stall(server: TokenServer) -> dict[str, Outage]:
    """An endpoint that answers only after 15 s, and threads that hold a valid token."""
    outages = _while_failing(server, [(OURS, "stall")], THREADS)  # in peace: it takes microseconds
    outages |= _while_failing(server, [(peer, "stall") for peer in PEERS], THREADS)
    return {name: outage for (name, _), outage in outages.items()}


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
    return f"tenant-{next(_numbers)}.example"


def _primed(contender: Contender, endpoint: Endpoint, count: int) -> list[GetToken]:
    """Sources of so many identities that each hold a token."""

    def one(tenant: str) -> GetToken:
        get = contender.build(endpoint, tenant)
        get()
        return get

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(one, [_tenant() for _ in range(count)]))


def _while_failing(
    server: TokenServer, tasks: Sequence[tuple[Contender, str]], threads: int
) -> dict[tuple[str, str], Outage]:
    """Callers of sources in their refresh window whose endpoints fail, each in its own way.

    Those whose window is at the same time wait together, since they mostly wait.
    """

    def ready(task: tuple[Contender, str]) -> Callable[[], Outage]:
        contender, kind = task
        endpoint = server.open()
        (get,) = _primed(contender, endpoint, 1)

        def call() -> Outage:
            endpoint.behave(failing(kind))
            result = burst(get, threads)
            return Outage(result.percentile(99), _said(result))

        return call

    found: dict[tuple[str, str], Outage] = {}
    for window in sorted({contender.window for contender, _ in tasks}):
        together = [task for task in tasks if task[0].window == window]
        with ThreadPoolExecutor(len(together)) as pool:
            calls = list(pool.map(ready, together))
            with clock.ahead(window):
                outages = list(pool.map(_call, calls))
        names = [(contender.name, kind) for contender, kind in together]
        found |= dict(zip(names, outages, strict=True))
    return found


def _call(task: Callable[[], Outage]) -> Outage:
    return task()


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
