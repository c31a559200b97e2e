"""What is measured in processes of their own: imports, and many identities."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

from .contenders import ALL

_RESOLUTION = 0.1  # ms; a difference of two processes shows no less
WITH_SOURCE = "exo_imap_oauth and TokenSource(...)"
_STATEMENTS = {
    "pass": "pass",
    **{contender.name: contender.imports for contender in ALL if contender.imports},
    WITH_SOURCE: "import exo_imap_oauth; exo_imap_oauth.TokenSource('contoso.com', 'id', 'secret')",
    "requests": "import requests",
}
_RSS = """
for line in open("/proc/self/status"):
    if line.startswith("VmRSS"):
        print(line.split()[1])
"""


class Import(NamedTuple):
    """What an import costs above ``pass``: medians."""

    milliseconds: float
    mebibytes: float


def imports(rounds: int) -> dict[str, Import]:
    """Wall time of a process that only imports, and its resident memory; Linux."""
    times: dict[str, list[float]] = {name: [] for name in _STATEMENTS}
    memory: dict[str, float] = {}
    for name, statement in _STATEMENTS.items():  # this round also writes the bytecode files
        memory[name] = int(_python("-c", statement + "\n" + _RSS)) / 1024
    for _ in range(rounds):
        for name, statement in _STATEMENTS.items():
            started = time.perf_counter()
            _python("-c", statement)
            times[name].append((time.perf_counter() - started) * 1000)
    above = {
        name: statistics.median(map(float.__sub__, times[name], times["pass"])) for name in times
    }
    return {
        name: Import(max(above[name], _RESOLUTION), max(memory[name] - memory["pass"], 0.0))
        for name in _STATEMENTS
    }


class Identities(NamedTuple):
    """Memory while identities come and go."""

    created: int
    cache_maximum: int
    cached: int
    mebibytes_full: float  # above the start, once the cache is full
    mebibytes_end: float  # above the start, after the last
    objects_full: int  # Python's memory blocks, likewise
    objects_end: int


def identities() -> Identities:
    """Create and drop 100,000 sources, each with a token of 2 kB."""
    module = f"{__package__}.identities"
    return Identities(**json.loads(_python("-m", module)))


def _python(*arguments: str) -> str:
    run = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return run.stdout
