"""A short torture of the listener, and defects that it must find; `python -m tests.torture`."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torture import one_process
from torture.judge import DOUBLED, LOST, MARKED_WRONGLY, REPEATS, WRONG_BODY, Event, Judge
from torture.kills import Kills
from torture.summary import Summary

from exo_imap_oauth._listener.batches import Batches
from exo_imap_oauth._listener.session import Session
from exo_imap_oauth._listener.work import Failure, State, Work

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from exo_imap_oauth.mail import Mail

ROOT = Path(__file__).parent.parent
RUNS = 60
SEED = 1


def mark(session: Session, uid: int) -> None:
    session._imap.uid("STORE", str(uid), "+FLAGS", r"(\Seen)")


def broken(*rules: str) -> bool:
    """Whether one of the first runs breaks these rules."""
    for run in range(10 * RUNS):
        verdict = one_process.play(SEED, run).verdict
        if {*rules} <= {breach.rule for breach in verdict.breaches}:
            return True
    return False


@pytest.fixture(autouse=True)
def silence(caplog: pytest.LogCaptureFixture) -> None:
    """A listener says much when so much goes wrong."""
    caplog.set_level(logging.CRITICAL, logger="exo_imap_oauth")


@pytest.mark.parametrize("part", range(4))  # so that several processes can share them
def test_nothing_is_lost_or_doubled_or_marked_wrongly(part: int) -> None:
    summary, said = Summary(), list[str]()
    for run in range(part, RUNS, 4):
        result = one_process.play(SEED, run)
        summary.add(result)
        said += summary.broken_by(result)
        assert result.messages >= 20
        assert result.strikes >= 3
    assert not summary.breaches, "\n".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_loses_nothing(by: signal.Signals) -> None:
    result = Kills(SEED, 0, signals=[by] * 3).play()
    assert not result.verdict.breaches, (result.verdict.breaches, result.tail)
    assert len(result.verdict.repeats) == (3 if by == signal.SIGKILL else 0)


def test_the_command_prints_figures() -> None:
    command = [sys.executable, "-m", "tests.torture", "--runs", "2", "--jobs", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    for figure in ("seed 1", "2 runs, ", "faults that struck: ", "lost: 0", "doubled: 0"):
        assert figure in run.stdout


# ---- defects that must be found --------------------------------------------------------------


def test_a_mark_before_handle_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Session._handled

    def handled(session: Session, mail: Mail) -> Exception | None:
        mark(session, mail.uid)
        return original(session, mail)

    monkeypatch.setattr(Session, "_handled", handled)
    assert broken(MARKED_WRONGLY)


def test_a_dropped_message_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_process, "BOUND", 0.3)
    original = Work.listed

    def listed(work: Work, uids: Iterable[int]) -> None:
        original(work, [uid for uid in uids if uid != 20])

    monkeypatch.setattr(Work, "listed", listed)
    assert broken(LOST)


def test_a_mark_without_handle_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def note_missing(batches: Batches, missing: dict[int, Exception]) -> None:
        for uid in missing:
            batches._imap.uid("STORE", str(uid), "+FLAGS", r"(\Seen)")
            batches._work.gone(uid)

    monkeypatch.setattr(Batches, "_note_missing", note_missing)
    assert broken(MARKED_WRONGLY, LOST)


def test_a_second_handle_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Session._handled

    def handled(session: Session, mail: Mail) -> Exception | None:
        return original(session, mail) or original(session, mail)

    monkeypatch.setattr(Session, "_handled", handled)
    assert broken(DOUBLED)


def test_a_repeat_after_a_lost_connection_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Work.lost

    def lost(work: Work, error: Exception, came: Container[int] | None = None) -> list[Failure]:
        marked = [uid for uid, m in work._messages.items() if m.state is State.MARKED]
        failures = original(work, error, came)
        for uid in marked:
            del work._messages[uid]
        return failures

    monkeypatch.setattr(Work, "lost", lost)
    assert broken(DOUBLED)


def test_a_state_that_outlives_uidvalidity_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(work: Work, _: object) -> None:
        work._forget_queues()

    monkeypatch.setattr(Work, "opened", opened)
    assert broken(MARKED_WRONGLY)


# ---- the judge, alone ------------------------------------------------------------------------


def judged(*events: str, unconfirmed: int = 1) -> tuple[list[str], list[str]]:
    """The rules that a log about message 1 breaks, and what is excused."""
    log = [Event(number, kind, 1) for number, kind in enumerate(events, 1)]
    verdict = Judge(log, unconfirmed).verdict()
    return [breach.rule for breach in verdict.breaches], list(verdict.excused)


DONE = ("delivered", "handling", "handled", "marked", "settled")


def test_what_is_handled_and_marked_is_done() -> None:
    assert judged(*DONE) == ([], [])
    assert judged("delivered", "handling", "raised", *DONE[1:]) == ([], [])
    assert judged("delivered", "given up", "marked") == ([], [])
    assert judged("delivered", "read") == judged("delivered", "removed") == ([], [])


@pytest.mark.parametrize(
    ("events", "rule"),
    [
        (("delivered",), LOST),
        (("delivered", "handling", "raised"), LOST),
        (("delivered", "handling", "handled"), LOST),
        ((*DONE, "unread"), LOST),
        (("delivered", "marked"), MARKED_WRONGLY),
        (("delivered", "handling", "marked", "handled"), MARKED_WRONGLY),
        (("delivered", "handling", "raised", "marked"), MARKED_WRONGLY),
        ((*DONE, "unread", "marked"), MARKED_WRONGLY),
        (("delivered", "handling", "handled", "stopped", "marked"), MARKED_WRONGLY),
        (("delivered", "handling", "handled", "renumbered", "marked"), MARKED_WRONGLY),
        ((*DONE, *DONE[1:]), DOUBLED),
        (("delivered", "handling", "handled", "trouble", *DONE[1:]), DOUBLED),
        (("delivered", "handling", "handled", "stopped", *DONE[1:]), DOUBLED),
        (
            ("delivered", "trouble", "command", "handling", "handled", "stopped", *DONE[1:]),
            DOUBLED,
        ),
        (("delivered", "handling", "handled", "marked", "killed", *DONE[1:]), DOUBLED),
        ((*DONE, "lied", *DONE[1:]), DOUBLED),
        (("delivered", "wrong body", *DONE[1:]), WRONG_BODY),
    ],
)
def test_a_broken_rule_is_named(events: tuple[str, ...], rule: str) -> None:
    assert rule in judged(*events)[0]


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ((*DONE, "read", "unread", *DONE[1:]), "a person marked it as unread"),
        ((*DONE, "unread", "renumbered", *DONE[1:]), "UIDVALIDITY changed"),
        (("delivered", "handling", "handled", "renumbered", *DONE[1:]), "UIDVALIDITY changed"),
        (("delivered", "handling", "handled", "lied", *DONE[1:]), "no longer named it"),
        (("delivered", "handling", "handled", "killed", *DONE[1:]), "killed"),
        (("delivered", "handling", "handled", "trouble", "stopped", *DONE[1:]), "stopped"),
        (("delivered", "handling", "handled", "refused", "stopped", *DONE[1:]), "stopped"),
        (("delivered", "trouble", "handling", "handled", "stopped", *DONE[1:]), "stopped"),
        (("delivered", "handling", "read", "unread", "handled", "marked"), ""),
        (
            ("delivered", "handling", "handled", "read", "unread", "marked", "settled"),
            "while its mark was owed",
        ),
        (
            ("delivered", "handling", "handled", "marked", "unread", "marked", "settled"),
            "while its mark was owed",
        ),
    ],
)
def test_what_nobody_could_know_is_excused_with_its_reason(
    events: tuple[str, ...], reason: str
) -> None:
    rules, excused = judged(*events)
    assert not rules
    assert len(excused) == bool(reason)
    assert not reason or reason in excused[0]


def test_a_kill_may_repeat_so_many() -> None:
    def killed(messages: int) -> list[Event]:
        names = [
            *((kind, key) for kind in DONE[:3] for key in range(1, messages + 1)),
            ("killed", 0),
            *((kind, key) for kind in DONE[1:] for key in range(1, messages + 1)),
        ]
        return [Event(number, kind, key) for number, (kind, key) in enumerate(names, 1)]

    assert Judge(killed(1)).verdict().repeats == [1]
    assert Judge(killed(3), unconfirmed=3).verdict().breaches == []
    verdict = Judge(killed(3), unconfirmed=2).verdict()
    assert verdict.repeats == [3]
    assert [breach.rule for breach in verdict.breaches] == [REPEATS]


def test_a_repeat_is_that_of_the_kill_that_caused_it() -> None:
    began = "delivered", "handling", "handled"
    events = [Event(number, kind, 1) for number, kind in enumerate((*began, "killed"), 1)]
    events += [Event(number, kind, 2) for number, kind in enumerate((*began, "killed"), 5)]
    both = [(kind, key) for kind in DONE[1:] for key in (1, 2)]
    events += [Event(number, kind, key) for number, (kind, key) in enumerate(both, 9)]
    assert Judge(events).verdict().repeats == [1, 1]
