"""The figures of many runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from torture.judge import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torture.one_process import Result


class Summary:
    """The sum of results."""

    def __init__(self) -> None:
        self.runs = self.messages = self.in_hand = 0
        self.faults: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.breaches: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.repeats: list[int] = []

    def add(self, result: Result) -> None:
        """Count a run."""
        self.runs += 1
        self.messages += result.messages
        self.faults += result.faults
        self.actions += result.actions
        self.in_hand += result.verdict.in_hand
        self.breaches += Counter(breach.rule for breach in result.verdict.breaches)
        self.excused += result.verdict.excused
        self.repeats += result.verdict.repeats

    def broken_by(self, result: Result) -> Iterator[str]:
        """What to print of a run that breaks a rule."""
        if result.verdict.breaches:
            yield f"run {result.run}, the end of its log:\n{result.tail}"
            yield from (f"run {result.run}: {breach}" for breach in result.verdict.breaches)

    def text(self, seconds: float) -> str:
        """All figures."""
        lines = [f"{self.runs:,} runs, {self.messages:,} messages, {seconds:.0f} s"]
        lines += _listed("faults that struck", self.faults)
        lines += _listed("what people did", self.actions)
        lines += _listed("excused", self.excused)
        lines += [f"{rule}: {self.breaches[rule]}" for rule in RULES]
        if kills := len(self.repeats):
            most, mean = max(self.repeats), sum(self.repeats) / kills
            lines.append(f"repeats for each of {kills} SIGKILLs: at most {most}, mean {mean:.2f}")
            lines.append(f"messages that handle had not finished then: {self.in_hand}")
        return "\n".join(lines)


def _listed(title: str, counts: Counter[str]) -> list[str]:
    return [
        f"{title}: {counts.total():,}",
        *(f"  {n:6,} {what}" for what, n in sorted(counts.items())),
    ]
