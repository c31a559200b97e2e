"""Many mutated inputs to one function: deterministic by its seed, and bounded in time."""

from __future__ import annotations

import base64
import random
import signal
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

_CPU_LIMIT, _LIMIT = 5.0, 60.0  # s for one input: of this process, and on the clock
_MAX_MUTATIONS = 6
_LONGEST = 65_536  # bytes; what is longer has no new structure
_BYTES = (
    b"\0", b"\r\n", b"\n", b"\\", b'"', b"{", b"}", b"[", b"]", b"(", b")", b"=", b":", b"%",
    b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b"\x1b[31m", b"\xe2\x80\xae", b"9" * 400, b"-1",
    b"1e999", b"NaN", b"\\u", b"\\ud800", b"<", b">", b"&", b"'", b" ", b"\t", b"\x0c",
)  # fmt: skip


class Harness(NamedTuple):
    """What is fuzzed.

    Attributes:
        name: Its name on the command line.
        run: Takes one input; whatever it raises is a crash.
        seeds: Inputs to begin with.
        words: Pieces that the format is made of.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()


class Crash(NamedTuple):
    """An input that a harness did not bear."""

    execution: int
    data: bytes
    error: str


class Result(NamedTuple):
    """What a run found."""

    executions: int
    seconds: float
    crashes: list[Crash]

    def __str__(self) -> str:
        """Figures, then each crash with its input in base64."""
        rate = self.executions / max(self.seconds, 1e-6)
        head = (
            f"{self.executions} executions, {self.seconds:.1f} s ({rate:.0f}/s),"
            f" {len(self.crashes)} crashes"
        )
        crashes = (
            f"execution {crash.execution}: {base64.b64encode(crash.data).decode()}\n{crash.error}"
            for crash in self.crashes
        )
        return "\n".join([head, *crashes])


class TooSlow(BaseException):
    """One input took too long. No ``except Exception`` of the code under test catches it."""


def fuzz(harness: Harness, executions: int, seed: int, *, most_crashes: int = 10) -> Result:
    """Run a harness on each of its seeds and then on mutations of them.

    Args:
        harness: What to run.
        executions: How many inputs.
        seed: Of the random numbers; the same one gives the same inputs.
        most_crashes: After so many it ends.
    """
    mutate = _Mutator(harness, random.Random(seed))
    crashes: list[Crash] = []
    began = time.monotonic()
    done = 0
    with _Limits():
        while done < executions and len(crashes) < most_crashes:
            data = harness.seeds[done] if done < len(harness.seeds) else mutate.another()
            done += 1
            _Limits.start()
            try:
                harness.run(data)
            except (Exception, TooSlow):  # noqa: BLE001 - it is what is looked for
                crashes.append(Crash(done, data, traceback.format_exc()))
    return Result(done, time.monotonic() - began, crashes)


class _Limits:
    """Raises :class:`TooSlow` in the main thread when one input takes too long."""

    def __enter__(self) -> None:
        self._before = {
            number: signal.signal(number, self._expired)
            for number in (signal.SIGALRM, signal.SIGVTALRM)
        }

    def __exit__(self, *_: object) -> None:
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL):
            signal.setitimer(timer, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @staticmethod
    def start() -> None:
        """Begin to count for the next input."""
        signal.setitimer(signal.ITIMER_VIRTUAL, _CPU_LIMIT)
        signal.setitimer(signal.ITIMER_REAL, _LIMIT)

    @staticmethod
    def _expired(number: int, _frame: FrameType | None) -> None:
        raise TooSlow(signal.Signals(number).name)


class _Mutator:
    """Makes inputs of a harness's seeds, words and of bytes that are special to many formats."""

    def __init__(self, harness: Harness, chance: random.Random) -> None:
        self._seeds = [*harness.seeds]
        self._words = [*harness.words, *_BYTES]
        self._chance = chance
        self._changes = (
            self._flip,
            self._cut,
            self._insert,
            self._insert,
            self._repeat,
            self._swap,
            self._splice,
        )

    def another(self) -> bytes:
        """A seed with a few changes."""
        data = bytearray(self._chance.choice(self._seeds))
        for _ in range(self._chance.randint(1, _MAX_MUTATIONS)):
            self._chance.choice(self._changes)(data)
        return bytes(data[:_LONGEST])

    def _span(self, data: bytearray, longest: int = 64) -> slice:
        start = self._chance.randint(0, len(data))
        return slice(start, start + self._chance.randint(1, longest))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._chance.randrange(len(data))] = self._chance.randrange(256)

    def _cut(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _insert(self, data: bytearray) -> None:
        at = self._chance.randint(0, len(data))
        data[at:at] = self._chance.choice(self._words)

    def _repeat(self, data: bytearray) -> None:
        part = data[self._span(data, 16)]
        times = self._chance.choice((2, 2, 2, 10, 10, 1_000))
        at = self._chance.randint(0, len(data))
        data[at:at] = part * times

    def _swap(self, data: bytearray) -> None:
        one, other = self._span(data), self._span(data)
        data[one], data[other] = data[other], data[one]

    def _splice(self, data: bytearray) -> None:
        other = self._chance.choice(self._seeds)
        data[self._chance.randint(0, len(data)) :] = other[self._chance.randint(0, len(other)) :]
