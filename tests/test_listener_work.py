"""The table of _listener/work.py, walked cell by cell; no network, and a clock that is set."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from exo_imap_oauth._listener import work as module
from exo_imap_oauth._listener.work import Failure, State, Work

if TYPE_CHECKING:
    from collections.abc import Callable

UID = 7
PAUSE = 10.0  # s after the first failure, 20 after the second
ERROR = ZeroDivisionError("of handle")
LOST = ConnectionError("lost")


class Machine:
    """Work with a clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0
        self.work = Work(lambda attempts, _: PAUSE * attempts, lambda: self.now)
        self.work.opened(1)
        self.failure: Failure | None = None

    @property
    def state(self) -> State:
        return self.state_of(UID)

    def state_of(self, uid: int) -> State:
        message = self.work._messages.get(uid)
        if message is not None:
            return message.state
        return State.DUE if uid in self.work._due else State.UNKNOWN

    def is_now(self, state: State) -> bool:
        return self.state is state

    def look(self, *uids: int) -> None:
        self.work.listed(uids)

    def reconnect(self) -> None:
        self.work.opened(1)

    def ask(self) -> None:
        assert self.work.next_to_ask() == [UID]

    def fail(self) -> None:
        self.failure = self.work.failed(UID, ERROR)

    def mark(self) -> None:
        assert self.work.next_to_mark() == [UID]

    def not_marked(self) -> None:
        self.failure = self.work.not_marked(UID, ERROR)

    def end(self) -> None:
        self.work.ended()

    def lose(self) -> None:
        failures = self.work.lost(LOST) if self.state is State.ASKED else self.work.lost(LOST, None)
        self.failure = failures[0] if failures else None


def unknown() -> Machine:
    return Machine()


def due() -> Machine:
    machine = Machine()
    machine.look(UID)
    return machine


def asked() -> Machine:
    machine = due()
    machine.ask()
    return machine


def suspect() -> Machine:
    machine = asked()
    machine.lose()
    machine.reconnect()
    machine.look(UID)
    return machine


def handed() -> Machine:
    machine = asked()
    machine.work.came(UID)
    return machine


def handled() -> Machine:
    machine = handed()
    machine.work.returned(UID)
    return machine


def marked() -> Machine:
    machine = handled()
    machine.mark()
    return machine


def failed() -> Machine:
    machine = handed()
    machine.fail()
    return machine


def given_up() -> Machine:
    machine = failed()
    machine.work.give_up(UID)
    return machine


IN_STATE: dict[str, Callable[[], Machine]] = {
    "-": unknown,
    "due": due,
    "suspect": suspect,
    "asked": asked,
    "handed": handed,
    "handled": handled,
    "marked": marked,
    "failed": failed,
    "given up": given_up,
}
EVENTS: dict[str, Callable[[Machine], object]] = {
    "listed": lambda machine: machine.look(UID),
    "not listed": lambda machine: machine.look(UID + 1),
    "asked": Machine.ask,
    "came": lambda machine: machine.work.came(UID),
    "gone": lambda machine: machine.work.gone(UID),
    "refused": lambda machine: machine.work.refused([UID]),
    "failed": lambda machine: machine.work.failed(UID, ERROR),
    "returned": lambda machine: machine.work.returned(UID),
    "marking": Machine.mark,
    "confirmed": lambda machine: machine.work.confirmed(UID),
    "not marked": lambda machine: machine.work.not_marked(UID, ERROR),
    "given up": lambda machine: machine.work.give_up(UID),
    "lost": Machine.lose,
    "ended": Machine.end,
}


class Cell(NamedTuple):
    event: str
    state: str
    after: str  # empty for what cannot happen


def cells() -> list[Cell]:
    """The table of events, as the docstring shows it."""
    lines = (module.__doc__ or "").splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("event "))
    columns = [(match.start(), match.end()) for match in re.finditer("=+", lines[head - 1])]

    def words(line: str) -> list[str]:
        # What stands in a column may be longer than its rule, where the next one is blank.
        starts = [start for start, _ in columns] + [len(line)]
        return [line[a:b].strip() for a, b in itertools.pairwise(starts)]

    _, *states = words(lines[head])
    rows = itertools.takewhile(lambda line: not line.startswith("="), lines[head + 2 :])
    return [
        Cell(event, state, after.removesuffix("*"))
        for event, *row in map(words, rows)
        for state, after in zip(states, row, strict=True)
    ]


def test_the_table_names_every_state_and_every_event() -> None:
    assert {cell.state for cell in cells()} == {state.value for state in State} == set(IN_STATE)
    assert {cell.event for cell in cells()} == set(EVENTS)
    assert len(cells()) == len(State) * len(EVENTS)


@pytest.mark.parametrize("name", IN_STATE)
def test_each_state_can_be_reached(name: str) -> None:
    assert IN_STATE[name]().state.value == name


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: f"{cell.event}, {cell.state}")
def test_a_cell_of_the_table(cell: Cell) -> None:
    machine = IN_STATE[cell.state]()
    if cell.after:
        EVENTS[cell.event](machine)
        assert machine.state.value == cell.after
    else:
        with pytest.raises((RuntimeError, KeyError, AssertionError)):
            EVENTS[cell.event](machine)
        assert machine.state.value == cell.state


# ---- the notes of the table ------------------------------------------------------------------


def test_a_failed_message_is_due_when_its_pause_is_over() -> None:
    machine = failed()
    machine.now += PAUSE - 0.001
    machine.look(UID)
    assert machine.is_now(State.FAILED)
    assert machine.work.next_to_ask() == []
    machine.now += 0.001
    machine.look(UID)
    assert machine.is_now(State.DUE)
    assert machine.work.next_to_ask() == [UID]


def test_it_is_suspect_when_its_pause_is_over_if_it_was_before() -> None:
    machine = suspect()
    machine.ask()
    machine.lose()
    assert machine.is_now(State.FAILED)
    machine.now += PAUSE
    machine.reconnect()
    machine.look(UID, UID + 1)
    assert machine.is_now(State.SUSPECT)
    assert machine.work.next_to_ask() == [UID + 1]


def test_one_loss_of_the_connection_is_held_against_no_message() -> None:
    machine = asked()
    machine.lose()
    assert machine.failure is None
    machine.reconnect()
    machine.look(UID)
    machine.ask()
    machine.lose()
    assert machine.failure == Failure(UID, 1, PAUSE, LOST, is_new=True)


def test_a_suspect_that_came_is_none_any_more() -> None:
    machine = suspect()
    machine.ask()
    machine.work.came(UID)
    machine.fail()
    machine.now += PAUSE
    machine.look(UID)
    assert machine.state is State.DUE
    machine.ask()
    machine.lose()
    assert (machine.state, machine.failure) == (State.SUSPECT, None)


def test_attempts_are_counted_and_pauses_grow() -> None:
    machine = failed()
    assert machine.failure == Failure(UID, 1, PAUSE, ERROR, is_new=True)
    assert machine.work.seconds_to_next_try() == PAUSE
    machine.now += 2 * PAUSE
    assert machine.work.seconds_to_next_try() == 0
    machine.look(UID)
    machine.ask()
    machine.fail()
    assert machine.failure == Failure(UID, 2, 2 * PAUSE, ERROR, is_new=False)
    machine.now += 2 * PAUSE
    machine.look(UID)
    machine.ask()
    failure = machine.work.failed(UID, LOST)
    assert (failure.attempts, failure.is_new) == (3, True)


@pytest.mark.parametrize("end", [Machine.lose, Machine.end])
def test_a_mark_that_was_under_way_is_owed_to_the_next_session(
    end: Callable[[Machine], None],
) -> None:
    machine = marked()
    end(machine)
    machine.reconnect()
    machine.look(UID)
    assert machine.work.next_to_ask() == []
    machine.mark()
    machine.work.confirmed(UID)
    machine.look(UID)  # somebody marked it as unread
    assert machine.state is State.DUE


def test_a_mark_that_took_effect_after_all_is_forgotten() -> None:
    machine = marked()
    machine.lose()
    machine.reconnect()
    machine.look()
    machine.look(UID)
    assert machine.state is State.DUE


def test_a_refused_mark_is_told_and_sent_again_after_a_pause() -> None:
    machine = marked()
    machine.not_marked()
    assert machine.failure == Failure(UID, 1, PAUSE, ERROR, is_new=True)
    machine.look(UID)
    assert (machine.work.next_to_mark(), machine.work.next_to_ask()) == ([], [])
    assert machine.work.seconds_to_next_try() == PAUSE
    assert machine.work.failing == 1
    machine.now += PAUSE
    machine.look(UID)
    machine.mark()


def test_what_was_given_up_stays_so_and_nobody_is_told_any_more() -> None:
    machine = given_up()
    machine.mark()
    machine.not_marked()
    assert (machine.state, machine.failure) == (State.GIVEN_UP, None)
    assert machine.work.failing == 0
    machine.now += 2 * PAUSE
    machine.look(UID)
    machine.mark()
    machine.lose()
    assert machine.state is State.GIVEN_UP


def test_a_message_whose_mark_is_refused_can_be_given_up() -> None:
    machine = marked()
    machine.not_marked()
    machine.work.give_up(UID)
    assert machine.state is State.GIVEN_UP
    assert machine.work.next_to_mark() == []
    machine.now += PAUSE
    machine.look(UID)
    machine.mark()
    machine.not_marked()
    assert machine.failure is None


def test_what_was_given_up_is_marked_at_once() -> None:
    machine = given_up()
    machine.mark()
    machine.work.confirmed(UID)
    assert machine.state is State.UNKNOWN


def test_another_uidvalidity_makes_all_of_it_other_messages() -> None:
    for state in IN_STATE.values():
        machine = state()
        machine.work.opened(2)
        assert machine.state is State.UNKNOWN
        assert machine.work.seconds_to_next_try() == math.inf


def test_the_same_uidvalidity_keeps_what_is_known() -> None:
    machine = handled()
    machine.reconnect()
    assert machine.work.next_to_mark() == []  # before the first SEARCH
    machine.look(UID)
    machine.mark()


def test_messages_are_asked_for_by_their_uids_and_suspects_last() -> None:
    machine = suspect()
    machine.reconnect()
    machine.look(3, UID, 9)
    assert machine.work.next_to_ask(10) == [3, 9]
    assert machine.work.next_to_ask(10) == []  # a suspect is asked for when nothing else is
    machine.work.came(3)
    machine.work.came(9)
    assert machine.work.next_to_ask(10) == [UID]
    assert machine.work.next_to_ask(10) == []


def test_what_a_search_no_longer_names_waits_for_nothing() -> None:
    machine = failed()
    machine.look()
    assert machine.work.seconds_to_next_try() == math.inf
    assert machine.work.failing == 0


# ---- several at once -------------------------------------------------------------------------


def test_a_batch_is_as_large_as_is_allowed() -> None:
    machine = Machine()
    machine.look(1, 2, 3, 4, 5)
    assert machine.work.due_next(3) == [1, 2, 3]
    assert machine.work.next_to_ask(2) == [1, 2]
    assert machine.work.next_to_ask(3, fits=lambda uid: uid < 4) == [3]
    assert machine.work.next_to_ask(3, fits=lambda _: False) == [4]
    assert machine.work.due_next(3) == [5]


def test_a_batch_that_was_refused_is_asked_for_again_in_order() -> None:
    machine = Machine()
    machine.look(1, 2, 3, 4)
    asked_for = machine.work.next_to_ask(3)
    machine.work.refused(asked_for)
    assert machine.work.next_to_ask(4) == [1, 2, 3, 4]


def test_the_first_that_did_not_come_is_the_suspect() -> None:
    machine = Machine()
    machine.look(1, 2, 3)
    machine.work.next_to_ask(3)
    assert machine.work.lost(LOST, {1}) == []
    states = [machine.state_of(uid) for uid in (1, 2, 3)]
    assert states == [State.DUE, State.SUSPECT, State.DUE]


@pytest.mark.parametrize("came", [None, {1, 2, 3}])
def test_nobody_is_if_all_came_or_something_else_was_waited_for(came: set[int] | None) -> None:
    machine = Machine()
    machine.look(1, 2, 3)
    machine.work.next_to_ask(3)
    for _ in range(3):
        assert machine.work.lost(LOST, came) == []
        assert {machine.state_of(uid) for uid in (1, 2, 3)} == {State.DUE}
        machine.reconnect()
        machine.look(1, 2, 3)
        machine.work.next_to_ask(3)


def test_marks_that_were_on_their_way_at_two_losses_go_out_one_by_one() -> None:
    machine = Machine()
    machine.look(1, 2, 3)
    for uid in machine.work.next_to_ask(3):
        machine.work.came(uid)
        machine.work.returned(uid)
    for together in ([1, 2, 3], [1, 2, 3], [1]):
        assert machine.work.next_to_mark() == together
        machine.work.lost(ERROR, None)
        machine.reconnect()
        machine.now += 1_000  # all pauses are over
        machine.look(1, 2, 3)
    assert [machine.work.next_to_mark() for _ in range(4)] == [[2], [3], [1], []]


def test_all_marks_that_are_owed_go_out_together_and_are_counted() -> None:
    machine = Machine()
    machine.look(1, 2, 3)
    for uid in machine.work.next_to_ask(3):
        machine.work.came(uid)
        machine.work.returned(uid)
    assert machine.work.unconfirmed == 3
    assert machine.work.next_to_mark() == [1, 2, 3]
    assert machine.work.unconfirmed == 3
    machine.work.confirmed(1)
    machine.work.not_marked(2, ERROR)
    assert machine.work.unconfirmed == 2  # also if it is refused
    machine.work.give_up(2)
    assert machine.work.unconfirmed == 1
    machine.look(1)
    assert machine.work.unconfirmed == 1  # is on its way
    machine.work.ended()
    machine.look(1)
    assert machine.work.unconfirmed == 0


def test_what_is_put_back_is_due_again_by_the_next_search() -> None:
    machine = Machine()
    machine.look(1, 2)
    machine.work.next_to_ask(2)
    machine.work.put_back()
    assert machine.work.next_to_ask() == []
    machine.look(1, 2)
    assert machine.work.next_to_ask(2) == [1, 2]
