"""Fuzz what reads bytes from outside.

    python -m tests.fuzz NAME --executions 1000000 --seed 1

Prints executions, seconds and crashes, each with its input; ends with status 1 if there are any.
Without a name it lists the harnesses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does it

from fuzz.engine import fuzz
from fuzz.harnesses import HARNESSES


def main() -> int:
    """Run one harness."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz one reader.")
    parser.add_argument("name", nargs="?", choices=sorted(HARNESSES))
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.name is None:
        print(*HARNESSES, sep="\n")  # noqa: T201 - a command's output
        return 0
    result = fuzz(HARNESSES[arguments.name], arguments.executions, arguments.seed)
    print(f"{arguments.name}, seed {arguments.seed}: {result}")  # noqa: T201 - the same
    return 1 if result.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
