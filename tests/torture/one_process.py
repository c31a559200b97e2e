"""A run in one process: a server, listeners one after the other, people and faults."""

from __future__ import annotations

import functools
import imaplib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support import client_context
from support.listening import USER
from torture import drawing
from torture.faults import STALLS
from torture.judge import UNCONFIRMED, Judge
from torture.server import Planned, TortureServer

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.errors import ExoImapOAuthError
from exo_imap_oauth.listener import InboxListener, MessageNotHandled

if TYPE_CHECKING:
    import ssl

    from torture.judge import Event, Verdict

    from exo_imap_oauth.mail import Mail

BOUND = 20.0  # s after the faults within which all must be done; it takes some milliseconds
_LEAST_MESSAGES, _LEAST_FAULTS = 20, 3
_PATIENT, _IMPATIENT = 20.0, 0.2  # s, timeouts; the second is for runs in which a server stalls
_TAIL = 80  # lines
_CAN_BE_RAISED = (ExoImapOAuthError, imaplib.IMAP4.error, OSError)


@dataclass
class Result:
    """What came of a run."""

    run: int
    verdict: Verdict
    messages: int
    strikes: int
    faults: Counter[str] = field(default_factory=Counter[str])
    actions: Counter[str] = field(default_factory=Counter[str])
    tail: str = ""  # of the log, if a rule is broken


def result_of(run: int, server: TortureServer, unconfirmed: int) -> Result:
    """Judge what a server has logged."""
    verdict = Judge(server.events, unconfirmed).verdict()
    return Result(
        run,
        verdict,
        server.count,
        server.strikes,
        Counter(server.struck_by),
        Counter(server.acted),
        _tail(server.events, verdict) if verdict.breaches else "",
    )


def _tail(events: list[Event], verdict: Verdict) -> str:
    """What is around the first breaches, all of their messages, and the end of the log."""
    first = verdict.breaches[:3]
    keys = {breach.key for breach in first} - {0}

    def tells(event: Event) -> bool:
        return (
            event.key in keys
            or event.number > len(events) - _TAIL
            or any(abs(event.number - breach.number) <= _TAIL // 2 for breach in first)
        )

    return "\n".join(str(event) for event in events if tells(event))


@functools.cache
def _context() -> ssl.SSLContext:
    return client_context()


class OneProcess:
    """The run with this number.

    Args:
        seed: Of all runs.
        run: Its number.
        unconfirmed: For :class:`InboxListener`.
    """

    def __init__(self, seed: int, run: int, unconfirmed: int = UNCONFIRMED) -> None:
        self._run = run
        self._unconfirmed = unconfirmed
        self._draw = draw = random.Random(f"{seed} {run}")
        # In some runs nearly all arrive while it listens: only then it waits in IDLE.
        first = draw.randint(1, 6) if draw.random() < 0.4 else draw.randint(12, 24)
        self._server = TortureServer(first)
        self._faults = drawing.faults(draw, draw.randint(_LEAST_FAULTS + 1, 9), first)
        is_patient = all(fault.name != STALLS for fault, _, _ in self._faults)
        self._server.sessions_end_in_trouble = not is_patient
        self._timeout = _PATIENT if is_patient else _IMPATIENT
        self._gives_up_after = draw.choice((0, 0, 2, 3))  # attempts; 0 for never
        self._handler = drawing.Handler(f"{seed} {run}", draw.choice((0, 5)))
        self._once = [draw.random() < 0.3 for _ in range(20)]  # of each listener
        self._listener: InboxListener | None = None
        self._is_last = self._faults_are_over = False

    def play(self) -> Result:
        """Let it happen, then judge it."""
        draw, server = self._draw, self._server
        with server:
            at_first = len(self._faults) * 2 // 3
            drawing.arm(server, self._faults[:at_first])
            ticks = 6 * max(server.count, _LEAST_MESSAGES)
            plan = [
                Planned(draw.randint(0, ticks), "deliver")
                for _ in range(_LEAST_MESSAGES - server.count)
            ]
            plan += drawing.actions(draw, draw.randint(5, 16), ticks)
            plan += [
                Planned(
                    draw.randint(0, ticks), "fault", functools.partial(drawing.arm, server, [f])
                )
                for f in self._faults[at_first:]
            ]
            plan += [
                Planned(draw.randint(0, ticks), "restart", self._restart)
                for _ in range(draw.randint(0, 3))
            ]
            server.plan = sorted(plan, key=lambda planned: planned.tick)
            thread = threading.Thread(target=self._listen, name="torture-listener")
            thread.start()
            self._direct()
            self._finish(thread)
        return result_of(self._run, server, self._unconfirmed)

    def _direct(self) -> None:
        """See that the plan goes on where nothing happens, and sometimes at a moment of its own."""
        draw, server = self._draw, self._server
        before = -1
        while server.plan:
            time.sleep(draw.uniform(0.0005, 0.003))
            if server.ticks == before or draw.random() < 0.1:
                server.hurry()
            before = server.ticks
        for _ in range(_LEAST_MESSAGES - server.count):
            server.act("deliver")
        while server.strikes < _LEAST_FAULTS:
            time.sleep(draw.uniform(0, 0.003))
            server.act("drop")
        time.sleep(draw.uniform(0, 0.005))

    def _finish(self, thread: threading.Thread) -> None:
        """The faults are over: now all must be done, and the listener must end."""
        server = self._server
        server.disarm()
        self._faults_are_over = True
        if self._timeout != _PATIENT:  # on a busy machine it would not come to an end
            self._timeout = _PATIENT
            self._restart()
        server.wait_until(lambda: not server.unseen, BOUND)
        with server.changed:
            self._is_last = True
            self._restart()
        thread.join(BOUND)
        if thread.is_alive():
            server.event("defect", note="the listener did not stop")

    # ---- the listeners -----------------------------------------------------------------------

    def _restart(self) -> None:
        with self._server.changed:
            if self._listener is not None:
                self._server.event("stop()")
                self._listener.stop()

    def _listen(self) -> None:
        """One listener after the other; each is a new one that knows nothing."""
        server, number = self._server, 0
        while not self._is_last:
            listener = self._new()
            with server.changed:
                if self._is_last:
                    return
                self._listener = listener
            once = self._once[number % len(self._once)] and not self._faults_are_over
            server.event("started", note="run_once()" if once else "run()")
            try:
                self._run_once(listener) if once else listener.run()
            except Exception as error:  # noqa: BLE001 - it is a defect, whatever it is
                server.event("defect", note=f"the listener raised {error!r}")
                return
            # What it has sent before counts as before.
            if not server.wait_until(lambda: server.is_alone, BOUND):
                server.event("defect", note="its connection is still open")
            server.event("stopped")
            number += 1

    def _run_once(self, listener: InboxListener) -> None:
        for _ in range(3):
            try:
                listener.run_once()
            except _CAN_BE_RAISED as error:
                self._server.event("run_once() raised", note=type(error).__name__)

    def _new(self) -> InboxListener:
        options: dict[str, Any] = {"unconfirmed": self._unconfirmed}
        return InboxListener(
            InboxConfig(user=USER, host=self._server.host, port=self._server.port),
            self._handle,
            token="a-token",
            ssl_context=_context(),
            on_failure=self._on_failure,
            timeout=self._timeout,
            poll_interval=0.05,
            initial_backoff=0.001,
            max_backoff=0.01,
            **options,
        )

    def _handle(self, _: InboxConfig, mail: Mail) -> None:
        server, subject = self._server, mail["Subject"]
        what = mail.uidvalidity, mail.uid, subject
        server.called("handling", *what)
        server.tick()
        seconds, raises = self._handler.fares(subject)
        if seconds:
            time.sleep(seconds)
        if raises and not self._faults_are_over:
            server.called("raised", *what)
            raise ValueError(subject)
        server.tick()
        server.called("handled", *what)

    def _on_failure(self, _: InboxConfig, error: Exception, __: float) -> bool:
        if not isinstance(error, MessageNotHandled) or not self._gives_up_after:
            return False
        if error.attempts < self._gives_up_after or self._faults_are_over:
            return False
        self._server.gave_up(error.uid)
        return True


def play(seed: int, run: int, unconfirmed: int = UNCONFIRMED) -> Result:
    """The run with this number."""
    return OneProcess(seed, run, unconfirmed).play()
