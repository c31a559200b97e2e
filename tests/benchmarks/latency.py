"""How long new mail waits until it is handed over, beside other ways to wait for it.

From the moment at which the server announces a message, to the call of what handles it; the
client idles, in a process of its own. The round trip is the one that the link really has, which
is a little longer than what it is told, and its server's own time is not counted.
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from .backlog import SIZE, kept
from .mail_readers import NEW_MAIL
from .mail_readers import round_trip as round_trip_to
from .mail_server import mail_server, process, text_mail

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from .mail_server import Place, Server

MOST_ROUND_TRIPS = 2.5  # from the announcement on


def wait(line: Connection, name: str, place: Place) -> None:
    """Be the client."""
    NEW_MAIL[name](place, lambda: line.send(time.monotonic()))


def _run(server: Server, name: str, round_trip: float, count: int) -> list[float]:
    """The seconds of each of so many messages, one after the other."""
    server.fill([])
    handled: list[float] = []
    with process(wait, name, server.place(round_trip)) as line:
        for number in range(count):
            server.deliver(text_mail(number, SIZE))
            handled.append(line.recv())
        announced = server.measured().announced
    return [at - since for at, since in zip(handled, announced, strict=True)]


def latency(*, count: int, round_trip: float, rounds: int, slack: float) -> bool:
    """Print the table; whether the promise holds."""
    times: dict[tuple[str, float], list[float]] = {}
    with mail_server() as server:
        server.fill([])
        real = round_trip_to(server.place(round_trip)) - round_trip_to(server.place(0.0))
        for _ in range(rounds):  # interleaved, so that all meet the same noise
            for name in NEW_MAIL:
                for away in (0.0, round_trip):
                    here = times.setdefault((name, away), [])
                    here.extend(_run(server, name, away, count))
    milliseconds = 1000 * round_trip
    print(f"\nnew mail, {rounds} x {count} messages; ms from EXISTS to handle, median (slowest)\n")
    print(
        f"|  | 0 ms of round trip | {milliseconds:.0f} ms | round trips of {1000 * real:.1f} ms |"
    )
    print("| --- | ---: | ---: | ---: |")
    trips = {name: _added(times, name, round_trip) / real for name in NEW_MAIL}
    for name, many in trips.items():
        near, far = (
            f"{1000 * statistics.median(all_):.1f} ({1000 * max(all_):.1f})"
            for all_ in (times[name, 0.0], times[name, round_trip])
        )
        print(f"| {name} | {near} | {far} | {many:.1f} |")
    print()
    what = f"round trips from EXISTS to handle, {milliseconds:.0f} ms away"
    return kept(what, round(trips["ours"], 1), MOST_ROUND_TRIPS * slack)


def _added(times: dict[tuple[str, float], list[float]], name: str, round_trip: float) -> float:
    """What the distance adds, in seconds."""
    near, far = (statistics.median(times[name, away]) for away in (0.0, round_trip))
    return far - near
