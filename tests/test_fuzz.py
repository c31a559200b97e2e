"""A few hundred mutated inputs for each reader of bytes; `python -m tests.fuzz` runs more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import engine
from fuzz.engine import Harness, fuzz
from fuzz.harnesses import HARNESSES

ROOT = Path(__file__).parent.parent
EXECUTIONS = 400


@pytest.mark.parametrize("name", HARNESSES)
def test_any_input_ends_in_a_result_or_a_documented_error(name: str) -> None:
    result = fuzz(HARNESSES[name], EXECUTIONS, seed=1)
    assert result.executions == EXECUTIONS, result
    assert not result.crashes, result


def test_the_same_seed_gives_the_same_inputs() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        fuzz(Harness("", seen.append, [b"a = 1", b"b"]), 200, seed)
        return seen

    assert inputs(1) == inputs(1) != inputs(2)
    assert len({*inputs(1)}) > 150


def test_an_undocumented_error_is_found_with_its_input() -> None:
    def broken(data: bytes) -> None:
        if b"\\u" in data:
            raise RecursionError

    result = fuzz(Harness("broken", broken, [b"key = value"]), 2_000, seed=1)
    assert result.crashes
    assert all(b"\\u" in crash.data for crash in result.crashes)
    assert "RecursionError" in str(result)


def test_an_input_that_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CPU_LIMIT", 0.05)

    def slow(_: bytes) -> None:
        while True:
            pass

    result = fuzz(Harness("slow", slow, [b"x"]), 1, seed=1)
    assert "TooSlow" in str(result)


def test_the_command_prints_executions_seconds_and_crashes() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "challenge", "--executions", "50"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("challenge, seed 1: 50 executions, ")
    assert "0 crashes" in run.stdout
