"""Reads a file of 10,000 lines side by side with javaproperties.

Run: python tests/benchmarks/properties.py [--slack 1]
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING

import javaproperties

from exo_imap_oauth.properties import parse

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 10_000
ROUNDS = 15
WANTED = 2.5
PATTERN = (
    "# Settings of channel {n}\n"
    "cmsbs.channel.{n}.server = mail{n}.contoso.example\n"
    'cmsbs.channel.{n}.title = "News \\u00e4 {n}"\n'
    "cmsbs.channel.{n}.text : first \\\n"
    "    and second half\n"
)


def milliseconds(function: Callable[[], object]) -> float:
    """The time of one call."""
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1000


def main() -> int:
    """Print medians and their ratio; 1 if it is below what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slack", type=float, default=1, help="factor, where noisy")
    slack: float = parser.parse_args().slack
    wanted = WANTED / slack
    text = "".join(PATTERN.format(n=n) for n in range(LINES // 5))
    assert text.count("\n") == LINES
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):  # interleaved, so that both meet the same noise
        ours.append(milliseconds(lambda: parse(text)))
        theirs.append(milliseconds(lambda: javaproperties.loads(text)))
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"exo_imap_oauth.properties.parse  {statistics.median(ours):6.1f} ms")
    print(f"javaproperties.loads             {statistics.median(theirs):6.1f} ms")
    print(f"ratio                            {ratio:6.1f} (at least {wanted:.2f})")
    return ratio < wanted


if __name__ == "__main__":
    sys.exit(main())
