"""Threads that start together, waiting for what other threads do, and processes of their own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


THREADS = 64


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """What calls return or raise that start at the same moment, a thread each."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - it is the result
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads bring about."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that finds the package and the tests by ``sys.path[:0] = sys.argv[1:]``."""
    tests = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", script, str(tests.parent), str(tests)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
