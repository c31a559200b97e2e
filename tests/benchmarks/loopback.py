"""What a loopback Exchange costs a test: one of its own, against one that is shared.

Run it from the root of the repository: ``python -m tests.benchmarks.loopback``.
"""

from __future__ import annotations

import platform
import sys
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from exo_imap_oauth.testing import ready_exchange
from exo_imap_oauth.testing._pool import ExchangePool

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.testing import ReadyExchange

ROUNDS = 30


def log_in(exchange: ReadyExchange) -> None:
    with exchange.inbox.open():
        pass


def fixture(pool: ExchangePool, *, logins: int) -> None:
    with pool.factory() as factory:
        exchange = factory(ready=True)
        for _ in range(logins):
            log_in(exchange)


def block(*, logins: int) -> None:
    with ready_exchange() as exchange:
        for _ in range(logins):
            log_in(exchange)


def shared(exchange: ReadyExchange, *, logins: int) -> None:
    exchange.reset()
    for _ in range(logins):
        log_in(exchange)


def milliseconds(work: Callable[[], None]) -> float:
    """The median of some rounds, after one that does not count."""
    work()
    times: list[float] = []
    for _ in range(ROUNDS):
        before = perf_counter()
        work()
        times.append(perf_counter() - before)
    return median(times) * 1000


def row(name: str, work: Callable[[int], None]) -> None:
    """Print what it costs with no login, one and two."""
    times = [milliseconds(partial(work, logins)) for logins in range(3)]
    sys.stdout.write(f"| {name} | {' | '.join(f'{ms:.0f}' for ms in times)} |\n")


def main() -> None:
    version = platform.python_version()
    sys.stdout.write(f"CPython {version}, medians of {ROUNDS} rounds, ms:\n\n")
    sys.stdout.write("| | no login | one login | two logins |\n|---|---:|---:|---:|\n")
    with ExchangePool() as pool:
        row("the fixture `exchange_online`", lambda logins: fixture(pool, logins=logins))
    with ready_exchange() as exchange:
        row("one for all, `exchange.reset()`", lambda logins: shared(exchange, logins=logins))
    row("one for each, `with ready_exchange()`", lambda logins: block(logins=logins))


if __name__ == "__main__":
    main()
