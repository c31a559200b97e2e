"""Torture the listener: faults, kills, restarts, people; then count what was lost and repeated.

    python -m tests.torture --runs 1000 --seed 1      # many runs in one process each
    python -m tests.torture --kills 50 --seed 1       # programs that are killed and started anew

Ends with status 1 if a rule is broken, and says which run breaks it: ``--only RUN`` plays it alone.
The same seed draws the same faults, actions and moments; threads may still take turns otherwise.
"""

from __future__ import annotations

import argparse
import functools
import logging
import multiprocessing
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does it

from torture import kills, one_process
from torture.judge import UNCONFIRMED
from torture.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torture.one_process import Result


def main() -> int:
    """Play the runs."""
    arguments = _arguments()
    began = time.monotonic()
    summary = Summary()
    if arguments.kills:
        play: Callable[[int], Result] = functools.partial(
            kills.play, arguments.seed, unconfirmed=arguments.unconfirmed
        )
        number = -(-arguments.kills // kills.KILLS_OF_A_RUN)
    else:
        play = functools.partial(
            one_process.play, arguments.seed, unconfirmed=arguments.unconfirmed
        )
        number = arguments.runs
    runs = range(number) if arguments.only is None else [arguments.only]
    for result in _results(play, runs, arguments.jobs):
        summary.add(result)
        for line in summary.broken_by(result):
            print(line, flush=True)  # noqa: T201 - a command's output
    print(f"seed {arguments.seed}")  # noqa: T201 - the same
    print(summary.text(time.monotonic() - began))  # noqa: T201 - the same
    return 1 if summary.breaches else 0


def _results(play: Callable[[int], Result], runs: Sequence[int], jobs: int) -> Iterator[Result]:
    logging.disable()
    if jobs == 1 or len(runs) == 1:
        yield from map(play, runs)
        return
    with multiprocessing.get_context("forkserver").Pool(jobs, logging.disable) as pool:
        yield from pool.imap_unordered(play, runs, chunksize=1 + len(runs) // (50 * jobs))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=0, help="so many kills, in place of --runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the run with this number")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--unconfirmed", type=int, default=UNCONFIRMED, help="for the listener (%(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
