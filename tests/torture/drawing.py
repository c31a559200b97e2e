"""What is drawn at random for a run, from its seed and number alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from torture.faults import FAULTS, STALLS
from torture.server import ACTIONS, Planned

if TYPE_CHECKING:
    from torture.faults import Fault
    from torture.server import TortureServer

_WEIGHTS = dict(zip(ACTIONS, (20, 25, 8, 5, 5, 2, 8, 8), strict=True))
# How often each is drawn: what matters most is what happens to a message.
_COMMANDS = {
    "UID FETCH": 25, "UID STORE": 35, "UID SEARCH": 15, "IDLE": 10, "SELECT": 5, "AUTHENTICATE": 4,
    "CAPABILITY": 2, "LOGOUT": 4,
}  # fmt: skip
_STALL_IN = 5  # one of so many draws may be a stall: each costs a timeout


def faults(draw: random.Random, number: int, messages: int) -> list[tuple[Fault, int | None, int]]:
    """So many faults, each with how often it strikes (None: until the end) and a UID or 0."""
    drawn: list[tuple[Fault, int | None, int]] = []
    for command in draw.choices(list(_COMMANDS), list(_COMMANDS.values()), k=number):
        of_it = [fault for fault in FAULTS if fault.command == command]
        if draw.randrange(_STALL_IN):
            of_it = [fault for fault in of_it if fault.name != STALLS]
        fault = draw.choice(of_it)
        most = (1, 1, 1, 2, 4, 8, None) if fault.has_uid else (1, 1, 2, 3)
        times = 1 if fault.name == STALLS else draw.choice(most)
        uid = draw.randint(1, messages) if fault.has_uid and draw.random() < 0.6 else 0
        drawn.append((fault, times, uid))
    return drawn


def arm(server: TortureServer, drawn: list[tuple[Fault, int | None, int]]) -> None:
    """Let them strike from now on."""
    for fault, times, uid in drawn:
        server.arm(fault, times, uid or None)


def actions(draw: random.Random, number: int, ticks: int) -> list[Planned]:
    """What people do in the next so many ticks."""
    names = draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=number)
    return [Planned(draw.randint(0, ticks), name, None, draw.random()) for name in names]


class Handler:
    """How ``handle`` fares with a message: it returns, raises, or takes its time.

    Args:
        seed: Of the run.
        poison: How many of 100 messages it never bears.
        slow: How many of 100 calls take some milliseconds.
    """

    def __init__(self, seed: str, poison: int, slow: int = 10) -> None:
        self._seed, self._poison, self._slow = seed, poison, slow
        self._calls: dict[str, int] = {}

    def fares(self, subject: str) -> tuple[float, bool]:
        """Seconds that it takes, and whether it raises then."""
        self._calls[subject] = call = self._calls.get(subject, 0) + 1
        draw = random.Random(f"{self._seed} {subject} {call}")
        seconds = draw.uniform(0.001, 0.005) if draw.randrange(100) < self._slow else 0.0
        never = random.Random(f"{self._seed} {subject}").randrange(100) < self._poison
        return seconds, never or draw.random() < 0.1
