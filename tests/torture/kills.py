"""Runs with real processes: ``listen`` is killed at any moment and started anew."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support import authority
from torture import drawing
from torture.faults import STALLS
from torture.judge import UNCONFIRMED
from torture.one_process import BOUND, result_of
from torture.server import Planned, TortureServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torture.one_process import Result

KILLS_OF_A_RUN = 5
_MESSAGES, _FRESH = 20, 8  # at first, and for each next program
_FIRST = 1.0  # s until a program has a message, if the faults let it
_LONGEST_LOOK = 0.3  # s, for the right moment
_START = 60.0  # s for Python to start on a busy machine
_PROGRAM = [sys.executable, str(Path(__file__).with_name("program.py"))]


class Kills:
    """The run with this number: so many programs are killed, and a last one does what is left.

    Args:
        seed: Of all runs.
        run: Its number.
        signals: With what they are killed; None draws them.
        unconfirmed: For ``listen``.
        program: The command to run, for tests.
    """

    def __init__(
        self,
        seed: int,
        run: int,
        signals: Sequence[int] | None = None,
        unconfirmed: int = UNCONFIRMED,
        program: list[str] | None = None,
    ) -> None:
        self._seed, self._run, self._unconfirmed = f"{seed} {run}", run, unconfirmed
        self._draw = draw = random.Random(f"kills {seed} {run}")
        # Three of four by SIGKILL, which is the one that may repeat something.
        kinds = [signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]
        self._signals = signals or draw.choices(kinds, k=KILLS_OF_A_RUN)
        self._command = program or _PROGRAM
        self._server = TortureServer(_MESSAGES)
        self._read = 0  # bytes of what the programs wrote down

    def play(self) -> Result:
        """Let it happen, then judge it."""
        with tempfile.TemporaryDirectory() as folder, self._server as server:
            self._file = Path(folder) / "handled"
            self._ca = Path(folder) / "ca.pem"
            authority().cert_pem.write_to_path(str(self._ca))
            self._written = os.open(self._file, os.O_RDONLY | os.O_CREAT)
            server.before_event = self._read_down
            try:
                self._kill_all()
            finally:
                server.before_event = lambda: None
                os.close(self._written)
        return result_of(self._run, server, self._unconfirmed)

    def _kill_all(self) -> None:
        server = self._server
        for number, by in enumerate(self._signals):
            self._kill_one(number, by)
        server.disarm()
        last = self._start(len(self._signals), is_last=True)
        server.wait_until(lambda: not server.unseen, BOUND + _START)
        self._end(last, signal.SIGTERM)

    def _kill_one(self, number: int, by: int) -> None:
        draw, server = self._draw, self._server
        for _ in range(_FRESH if number else 0):
            server.act("deliver")
        faults = [f for f in drawing.faults(draw, 3, _MESSAGES) if f[0].name != STALLS]
        drawing.arm(server, [(fault, min(times or 3, 3), uid) for fault, times, uid in faults])
        program = self._start(number)
        logins, begun = server.logins, server.begun
        if not server.wait_until(lambda: server.logins > logins, _START):
            server.event("defect", note="a program did not connect")
        plan = drawing.actions(draw, draw.randint(2, 8), 60)
        if draw.random() < 0.4:  # when a command has come and is not answered yet
            plan.append(Planned(draw.randint(3, 80), "signal", self._sender(program, by)))
        with server.changed:
            now = server.ticks
            server.plan = sorted(
                (planned._replace(tick=now + planned.tick) for planned in plan),
                key=lambda planned: planned.tick,
            )
        if draw.random() < 0.9:  # else it may be killed before it has anything in its hands
            server.wait_until(lambda: self._has_begun(begun), _FIRST)
        end = time.monotonic() + draw.uniform(0.0, 0.05)
        server.wait_until(lambda: program.poll() is not None, end - time.monotonic())
        if draw.random() < 0.5:
            self._wait_for_a_mark_owed(program)
        with server.changed:
            server.plan = []
        self._end(program, by)
        server.disarm()

    def _wait_for_a_mark_owed(self, program: subprocess.Popen[bytes]) -> None:
        """Until ``handle`` has done its work, and the server knows nothing of it yet."""
        end = time.monotonic() + _LONGEST_LOOK
        while time.monotonic() < end and program.poll() is None:
            with self._server.changed:
                self._read_down()
                if self._server.events[-1].kind == "handled":
                    return
            time.sleep(0.0003)

    def _has_begun(self, before: int) -> bool:
        self._read_down()
        return self._server.begun > before

    def _sender(self, program: subprocess.Popen[bytes], by: int) -> Callable[[], object]:
        return lambda: program.send_signal(by)

    def _start(self, number: int, *, is_last: bool = False) -> subprocess.Popen[bytes]:
        self._server.event("started", note=f"program {number}")
        arguments = [
            str(self._server.port), str(self._ca), str(self._file), f"{self._seed} {number}",
            str(int(is_last)), str(self._unconfirmed),
        ]  # fmt: skip
        return subprocess.Popen([*self._command, *arguments])

    def _end(self, program: subprocess.Popen[bytes], by: int) -> None:
        """Send the signal, if it was not sent yet, and wait until nothing is left of it."""
        server = self._server
        program.send_signal(by)
        try:
            program.wait(BOUND)
        except subprocess.TimeoutExpired:
            server.event("defect", note="SIGTERM did not end it")
            program.kill()
            program.wait(BOUND)
        # What it has sent before counts as before.
        if not server.wait_until(lambda: server.is_alone, BOUND):
            server.event("defect", note="its connection is still open")
        if by == signal.SIGTERM and program.returncode not in {0, -signal.SIGTERM}:
            server.event("defect", note=f"it ended with status {program.returncode}")
        server.event("killed" if by == signal.SIGKILL else "stopped")

    def _read_down(self) -> None:
        """Log what the programs wrote down since; they write before they tell the server."""
        written = os.pread(self._written, 1 << 20, self._read)
        whole = written[: written.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            kind, validity, uid, subject = line.decode().split()
            if kind == "given-up":
                self._server.gave_up(int(uid))
            else:
                self._server.called(kind, int(validity), int(uid), subject)


def play(seed: int, run: int, unconfirmed: int = UNCONFIRMED) -> Result:
    """The run with this number."""
    return Kills(seed, run, unconfirmed=unconfirmed).play()
