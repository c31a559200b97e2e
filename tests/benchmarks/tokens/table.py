"""Rows and targets, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .contenders import ALL, FLOOR, OURS, PEERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .measures import Outage


class Row(NamedTuple):
    """One measure of all who take part; less is better."""

    title: str
    values: Mapping[str, float]
    digits: int = 0

    def ours_to(self, names: Iterable[str]) -> float | None:
        """Our value as a multiple of the best of these; None where there is none."""
        best = min((self.values[name] for name in names if name in self.values), default=0.0)
        return self.values[OURS.name] / best if best > 0 else None


class Target(NamedTuple):
    """What must hold, and what was measured."""

    title: str
    wanted: str
    measured: str
    met: bool


def comparison(rows: Sequence[Row]) -> str:
    """Everyone's values, and our ratios to the best peer and to the floor."""
    names = [FLOOR.name, *(contender.name for contender in ALL)]
    body = [
        [
            row.title,
            *(_number(row.values.get(name), row.digits) for name in names),
            _ratio(row.ours_to(peer.name for peer in PEERS)),
            _ratio(row.ours_to([FLOOR.name])),
        ]
        for row in rows
    ]
    return _markdown(["", *names, "ours ÷ best peer", "ours ÷ floor"], body)


def outages(ours: Mapping[str, Outage], peers: Mapping[str, Mapping[str, Outage]]) -> str:
    """Each failure's row: the token after so many ms, or the error after so many."""
    body = [
        [kind, _outcome(ours[kind]), *(_outcome(peers[kind][peer.name]) for peer in PEERS)]
        for kind in ours
    ]
    names = [contender.name for contender in ALL]
    return _markdown(["endpoint", *names], body)


def targets(rows: Sequence[Target]) -> str:
    """The targets, and which are met."""
    body = [[row.title, row.wanted, row.measured, "yes" if row.met else "**no**"] for row in rows]
    return _markdown(["must hold", "target", "measured", "met"], body)


def _outcome(outage: Outage) -> str:
    after = f"{outage.p99 * 1000:,.1f} ms" if outage.p99 < 1 else f"{outage.p99:.0f} s"
    return f"{outage.raised} after {after}" if outage.raised else after


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value >= 0.01 else f"{value:.4f}"


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))
