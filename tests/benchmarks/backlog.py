r"""How fast unread messages are handed over and marked, beside other ways to do it.

Each contender runs in a fresh process. The server takes the time, from the first command after the
login to the last mark, and a round trip is added, since the client waits for both ends. After each
run all messages have ``\Seen``, and each was handled exactly once.
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from .mail_readers import BACKLOG
from .mail_server import mail_server, process, text_mail

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from .mail_server import Place, Server

SIZE = 3_000  # octets of a message
MOST_FLIGHTS = 0.2  # a message, far away
LEAST_GAIN = 30  # x the messages a second of one by one, far away
MOST_TIME = 1.4  # x the floor with parsing, without delay


class Drained(NamedTuple):
    """One run of a contender."""

    seconds: float
    flights: int
    cpu: float  # s of the client, with its login


def drain(line: Connection, name: str, place: Place) -> None:
    """Be the client."""
    cpu = time.process_time()
    uids = BACKLOG[name](place)
    line.send((uids, time.process_time() - cpu))


def _run(server: Server, name: str, messages: list[bytes], round_trip: float) -> Drained:
    server.fill(messages)
    with process(drain, name, server.place(round_trip)) as line:
        uids, cpu = line.recv()
    measured = server.measured()
    assert sorted(uids) == [*range(1, len(messages) + 1)], f"{name}: not each exactly once"
    assert measured.unread == 0, f"{name}: {measured.unread} are not marked"
    return Drained(measured.seconds + round_trip, measured.flights, cpu)


def _table(count: int, round_trip: float, rounds: int) -> dict[str, list[Drained]]:
    """Let all of them have their turns, and print what came of it."""
    messages = [text_mail(number, SIZE) for number in range(count)]
    runs: dict[str, list[Drained]] = {name: [] for name in BACKLOG}
    with mail_server() as server:
        for _ in range(rounds):  # interleaved, so that all meet the same noise
            for name, drained in runs.items():
                drained.append(_run(server, name, messages, round_trip))
    print(
        f"\n{count:,} unread messages of {SIZE / 1000:.0f} kB, {1000 * round_trip:.0f} ms of round"
        f" trip, {rounds} rounds\n"
    )
    print(
        "|  | messages/s: median | best | round trips a message | CPU, µs a message"
        " | messages/s ÷ floor with parsing | ÷ one by one |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    floor, loop = runs["floor with parsing"], runs["imaplib, one by one"]
    for name, drained in runs.items():
        median = statistics.median(run.seconds for run in drained)
        best = min(run.seconds for run in drained)
        flights = statistics.median(run.flights for run in drained) / count
        cpu = 1e6 * min(run.cpu for run in drained) / count
        print(
            f"| {name} | {count / median:,.0f} | {count / best:,.0f} | {flights:.3f} | {cpu:.0f}"
            f" | {1 / ratio(drained, floor):.2f} | {1 / ratio(drained, loop):.2f} |"
        )
    return runs


def ratio(some: list[Drained], others: list[Drained]) -> float:
    """Of their times, each in its best round, which other programs disturbed least."""
    return min(run.seconds for run in some) / min(run.seconds for run in others)


def backlog(*, near: int, far: int, round_trip: float, rounds: int, slack: float) -> bool:
    """Print the tables; whether the promises hold."""
    away = _table(far, round_trip, rounds)
    here = _table(near, 0.0, rounds)
    flights = statistics.median(run.flights for run in away["ours"]) / far
    gain = 1 / ratio(away["ours"], away["imaplib, one by one"])
    slower = ratio(here["ours"], here["floor with parsing"])
    print()
    return all(
        (
            kept(f"round trips a message, {1000 * round_trip:.0f} ms away", flights, MOST_FLIGHTS),
            kept("times as fast as one by one there", gain, LEAST_GAIN / slack, at_least=True),
            kept("of the time of the floor with parsing, 0 ms away", slower, MOST_TIME * slack),
        )
    )


def kept(what: str, measured: float, wanted: float, *, at_least: bool = False) -> bool:
    """Print a promise; whether it holds."""
    holds = measured >= wanted if at_least else measured <= wanted
    bound = "at least" if at_least else "at most"
    print(f"{'kept' if holds else 'MISSED'}: {measured:.3g} {what} ({bound} {wanted:.3g})")
    return holds
