"""Compares token sources under load and in outages.

Run from the root of the repository: python -m tests.benchmarks.tokens
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import argparse
import logging
import platform
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from . import measures, processes, table
from .behaviour import LATENCY
from .contenders import FLOOR, OURS, PEERS
from .server import TokenServer
from .table import Row, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .measures import Load, Outage
    from .processes import Identities, Import

MSAL = PEERS[0].name
_DISTRIBUTIONS = ("msal", "azure-identity", "authlib", "requests-oauthlib", "google-auth")


def main() -> int:
    """Print the tables; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="of which medians are taken")
    parser.add_argument("--short", action="store_true", help="no outages, no 100,000 identities")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # peers and we log failures, which is not the subject
    started = time.monotonic()
    with TokenServer() as server:
        print(_subject(given.rounds), flush=True)
        wanted = _short(server, given.rounds) if given.short else _whole(server, given.rounds)
    print("\n" + table.targets(wanted))
    print(f"\nThis took {time.monotonic() - started:.0f} s.")
    return not all(target.met for target in wanted)


def _short(server: TokenServer, rounds: int) -> list[Target]:
    one = measures.cached_call(server, 1, 5 * rounds)
    cold = measures.cold(server, rounds)
    window = measures.refresh_window(server, rounds)
    return [
        *_cached_targets((one,)),
        *_load_targets(cold, window),
        *_import_targets(processes.imports(3 * rounds)),
    ]


def _whole(server: TokenServer, rounds: int) -> list[Target]:
    """Print the tables too."""
    imports = processes.imports(3 * rounds)
    one = measures.cached_call(server, 1, 5 * rounds)
    cold = measures.cold(server, rounds)
    window = measures.refresh_window(server, rounds)
    outages = measures.our_outages(server, rounds)
    stall = measures.stall(server)
    rows = [
        Row("cached call, 1 identity, ns", one),
        Row(
            f"cached call, {measures.IDENTITIES:,} identities, ns",
            many := measures.cached_call(server, measures.IDENTITIES, 5 * rounds),
        ),
        Row("first token, HTTP requests", measures.cold_http_calls(server)),
        Row("first token, one caller, ms", _milliseconds(cold, "lone"), 1),
        *_threads("64 cold threads", cold),
        Row("64 cold threads, p99 ÷ first token", _relative(cold), 2),
        *_threads("64 threads in the refresh window", window),
        Row("15 s stall, valid token, 64 threads, p99, ms", _waits(stall), 1),
        Row("import, ms", _of_imports(imports, "milliseconds"), 1),
        Row("import, MiB resident", _of_imports(imports, "mebibytes"), 1),
    ]
    peers = measures.peers_outages(server)
    identities = processes.identities()
    print("\n" + table.comparison(rows))
    print("\nA valid token in its refresh window, and an endpoint that fails:\n")
    print(table.outages(outages, peers))
    return [
        *_cached_targets((one, many)),
        *_load_targets(cold, window),
        _outage_target(outages, stall, cold[OURS.name].lone),
        *_import_targets(imports),
        _identities_target(identities),
    ]


def _subject(rounds: int) -> str:
    peers = ", ".join(f"{name} {version(name)}" for name in _DISTRIBUTIONS)
    return (
        f"{platform.python_implementation()} {platform.python_version()};"
        f" endpoint on loopback, {LATENCY * 1000:.0f} ms; medians of {rounds} rounds;\n{peers}"
    )


# ---- rows ------------------------------------------------------------------------------------


def _milliseconds(loads: Mapping[str, Load], field: str) -> dict[str, float]:
    return {name: getattr(load, field) * 1000 for name, load in loads.items()}


def _relative(loads: Mapping[str, Load]) -> dict[str, float]:
    return {name: load.p99 / load.lone for name, load in loads.items()}


def _threads(title: str, loads: Mapping[str, Load]) -> list[Row]:
    return [
        Row(f"{title}, token requests", {name: load.posts for name, load in loads.items()}),
        Row(f"{title}, HTTP requests", {name: load.http for name, load in loads.items()}),
        Row(f"{title}, p50, ms", _milliseconds(loads, "p50"), 1),
        Row(f"{title}, p99, ms", _milliseconds(loads, "p99"), 1),
    ]


def _waits(outages: Mapping[str, Outage]) -> dict[str, float]:
    return {name: outage.p99 * 1000 for name, outage in outages.items() if not outage.raised}


def _of_imports(imports: Mapping[str, Import], field: str) -> dict[str, float]:
    return {name: getattr(cost, field) for name, cost in imports.items()}


# ---- targets ---------------------------------------------------------------------------------


def _cached_targets(rows: Sequence[Mapping[str, float]]) -> list[Target]:
    floor = max(row[OURS.name] / row[FLOOR.name] for row in rows)
    msal = min(row[MSAL] / row[OURS.name] for row in rows)
    best = max(row[OURS.name] / row[peer.name] for row in rows for peer in PEERS)
    title = "cached call" + (", 1 and 1,000 identities" if len(rows) > 1 else "")
    return [
        Target(title, "≤ 2 x the floor", f"{floor:.2f} x", floor <= 2),
        Target(title, "≥ 40 x faster than msal", f"{msal:.0f} x", msal >= 40),
        Target(title, "faster than every peer", f"{best:.2f} x the best", best < 1),
    ]


def _load_targets(cold: Mapping[str, Load], window: Mapping[str, Load]) -> list[Target]:
    first, later = cold[OURS.name], window[OURS.name]
    p99, near = first.p99 / first.lone, later.p99 / first.lone
    return [
        Target("64 cold threads", "1 token request", f"{first.posts:.0f}", first.posts == 1),
        Target("64 cold threads", "1 HTTP request", f"{first.http:.0f}", first.http == 1),
        Target("64 cold threads", "p99 ≤ 1.5 x one lone fetch", f"{p99:.2f} x", p99 <= 1.5),
        Target(
            "in the refresh window, healthy",
            "≤ 1 token request",
            f"{later.posts:.0f}",
            later.posts <= 1,
        ),
        Target(
            "in the refresh window, healthy", "p99 < 0.1 of one fetch", f"{near:.3f}", near < 0.1
        ),
    ]


def _outage_target(
    outages: Mapping[str, Outage], stall: Mapping[str, Outage], fetch: float
) -> Target:
    found = [*outages.values(), stall[OURS.name]]
    worst = max(outage.p99 for outage in found) / fetch
    raised = sum(bool(outage.raised) for outage in found)
    return Target(
        f"in the refresh window, stalled or failing in {len(outages)} ways",
        "the valid token, p99 < 0.1 of one fetch",
        f"{worst:.3f}, {raised} raised",
        worst < 0.1 and not raised,
    )


def _import_targets(imports: Mapping[str, Import]) -> list[Target]:
    msal = imports[MSAL].milliseconds
    alone = imports[OURS.name].milliseconds / msal
    built = imports[processes.WITH_SOURCE].milliseconds / msal
    return [
        Target("import alone", "≤ 1/20 of msal's", f"{alone:.3f}", alone <= 1 / 20),
        Target("import and TokenSource(...)", "≤ 1/2 of msal's", f"{built:.3f}", built <= 1 / 2),
    ]


def _identities_target(found: Identities) -> Target:
    growth = found.objects_end / found.objects_full
    return Target(
        f"{found.created:,} identities created and dropped",
        f"bounded by the cache's {found.cache_maximum:,}",
        f"{found.cached:,} cached; objects {growth:.2f} x those of a full"
        f" cache, {found.mebibytes_full:.0f} → {found.mebibytes_end:.0f} MiB",
        found.cached <= found.cache_maximum and growth <= 1.25,
    )


if __name__ == "__main__":
    sys.exit(main())
