r"""The rules: what a server's log says of a listener, and why an event counts as it does.

The log is one list in one order. A message is known by its key, which is in its subject, whatever
UID it has at the moment. This is the account of each:

*needs* is set when a message becomes unread: it is delivered, or a person marks it as unread. It is
met by a ``handle`` that returns, by giving up, by a person who reads or removes it.

*owed* is the right to mark it: set when ``handle`` returned or the message was given up, and taken
away when the mark is *settled*, which means that the server said so and the listener went on; when
the listener is replaced by a new one, which knows of nothing; and when UIDVALIDITY changes.

*may repeat* says why a message that was handled may be handled again, and is taken away by the next
``handle`` that returns. These are all reasons:

- a person marked it as unread, or UIDVALIDITY changed, since then;
- the server named it as unread no longer though it was unread, when its mark was owed (*lied*);
- the process was killed by SIGKILL while its mark was owed: this is counted as a repeat, also if
  the server had refused the mark, and there may be as many as ``unconfirmed`` says;
- the listener was stopped while its mark was owed, and something had gone wrong with the connection
  or with a STORE since ``handle`` got it, or just before, so that the mark could not be sent.

A mark that comes while *needs* is set undoes what a person did. It is excused if the person marked
the message as unread while its mark was owed: no client could know.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

LOST, DOUBLED, REPEATS = "lost", "doubled", "too many repeats"
MARKED_WRONGLY, WRONG_BODY, DEFECT = "marked wrongly", "wrong body", "other defects"
RULES = (LOST, DOUBLED, REPEATS, MARKED_WRONGLY, WRONG_BODY, DEFECT)

_BY_A_PERSON = "handled again: a person marked it as unread"
_BY_UIDVALIDITY = "handled again: UIDVALIDITY changed"
_BY_A_LIE = "handled again: the server no longer named it, though it was unread"
_BY_A_STOP = "handled again: stopped after a failure that kept its mark from the server"
_BY_A_KILL = "handled again: killed while its mark was owed"
_UNDER_WAY = "marked though a person had marked it as unread: while its mark was owed"


UNCONFIRMED = 32
"""By default, how many messages a listener handles whose marks are not confirmed."""


class Event(NamedTuple):
    """A line of the log; ``key`` is 0 where it is about no message."""

    number: int
    kind: str
    key: int = 0
    note: str = ""

    def __str__(self) -> str:
        message = f" m{self.key}" if self.key else ""
        return f"{self.number:5} {self.kind}{message} {self.note}".rstrip()


class Breach(NamedTuple):
    """A rule that is broken."""

    rule: str
    key: int
    number: int  # of the event
    why: str

    def __str__(self) -> str:
        return f"{self.rule}: m{self.key} at event {self.number}: {self.why}"


@dataclass
class _Life:
    is_there: bool = False
    is_seen: bool = False
    needs: bool = False
    is_waived: bool = False  # whether the need may go unmet
    is_in_hand: bool = False
    is_owed: bool = False
    is_in_trouble: bool = False  # its mark may have been kept from the server
    handled_at: int = 0  # the event; 0 if never
    may_repeat: str = ""
    kill: int = 0  # the number of the SIGKILL that may have it repeated

    @property
    def waits_for_mark(self) -> bool:
        return self.is_there and self.is_owed and not self.is_seen and self.handled_at > 0


@dataclass
class Verdict:
    """What the judge found."""

    breaches: list[Breach] = field(default_factory=list[Breach])
    excused: Counter[str] = field(default_factory=Counter[str])
    repeats: list[int] = field(default_factory=list[int])  # of each SIGKILL
    in_hand: int = 0  # messages that handle had when SIGKILL came


class Judge:
    """Reads a log.

    Args:
        events: The log.
        unconfirmed: How many messages a SIGKILL may repeat.
    """

    def __init__(self, events: list[Event], unconfirmed: int = UNCONFIRMED) -> None:
        self._events = events
        self._unconfirmed = unconfirmed
        self._lives: dict[int, _Life] = {}
        self._is_in_trouble = False  # and no command has come since
        self._kills = [event.number for event in events if event.kind == "killed"]
        self._verdict = Verdict()

    def verdict(self) -> Verdict:
        """Go through the log and say what is broken."""
        for event in self._events:
            judge = getattr(self, f"_{event.kind.replace(' ', '_')}", None)
            if judge is not None:
                judge(event, self._lives.setdefault(event.key, _Life()))
        for key, life in self._lives.items():
            if not life.is_there:
                continue
            if not life.is_seen:
                state = "handled, but never marked" if life.handled_at else "never handled"
                self._breach(LOST, key, f"it is still unread at the end, {state}")
            elif life.needs:
                self._breach(LOST, key, "it was unread, and nobody handled it since")
        for number, repeats in zip(self._kills, self._verdict.repeats, strict=True):
            if repeats > self._unconfirmed:
                why = f"SIGKILL repeated {repeats} messages"
                self._verdict.breaches.append(Breach(REPEATS, 0, number, why))
        return self._verdict

    def _breach(self, rule: str, key: int, why: str, event: Event | None = None) -> None:
        number = event.number if event else len(self._events)
        self._verdict.breaches.append(Breach(rule, key, number, why))

    # ---- what people and the server do -------------------------------------------------------

    def _delivered(self, _: Event, life: _Life) -> None:
        life.is_there = life.needs = True

    def _read(self, _: Event, life: _Life) -> None:
        life.is_seen, life.needs = True, False

    def _unread(self, _: Event, life: _Life) -> None:
        life.is_seen, life.needs, life.may_repeat = False, True, _BY_A_PERSON
        life.is_waived = life.is_owed

    def _removed(self, _: Event, life: _Life) -> None:
        life.is_there = life.needs = False

    def _renumbered(self, event: Event, life: _Life) -> None:
        self._trouble(event, life)
        for each in self._lives.values():
            each.may_repeat, each.is_owed = _BY_UIDVALIDITY, False

    def _trouble(self, _: Event, __: _Life) -> None:
        self._is_in_trouble = True
        for life in self._lives.values():
            life.is_in_trouble = True

    def _refused(self, _: Event, life: _Life) -> None:
        life.is_in_trouble = True

    def _command(self, _: Event, __: _Life) -> None:
        self._is_in_trouble = False

    def _lied(self, _: Event, life: _Life) -> None:
        if life.waits_for_mark:
            life.may_repeat = _BY_A_LIE

    # ---- what the listener does --------------------------------------------------------------

    def _handling(self, event: Event, life: _Life) -> None:
        life.is_in_hand, life.is_in_trouble = True, self._is_in_trouble
        if life.handled_at and not life.may_repeat:
            why = f"it was handled at event {life.handled_at}, and there is no reason for again"
            self._breach(DOUBLED, event.key, why, event)

    def _handled(self, event: Event, life: _Life) -> None:
        life.is_in_hand = False
        if life.handled_at and life.may_repeat:
            self._verdict.excused[life.may_repeat] += 1
            if life.may_repeat == _BY_A_KILL:
                self._verdict.repeats[life.kill] += 1
        life.handled_at = event.number
        if event.note == "stale":  # its UID means nothing any more, so that it cannot be marked
            life.may_repeat = _BY_UIDVALIDITY
            return
        life.may_repeat, life.is_owed, life.needs = "", True, False

    def _raised(self, _: Event, life: _Life) -> None:
        life.is_in_hand = False

    def _given_up(self, _: Event, life: _Life) -> None:
        life.is_owed, life.needs = True, False

    def _marked(self, event: Event, life: _Life) -> None:
        life.is_seen = True
        if not life.is_owed:
            why = "it was neither handled nor given up since it became unread"
            self._breach(MARKED_WRONGLY, event.key, why, event)
        elif life.needs and life.is_waived:
            self._verdict.excused[_UNDER_WAY] += 1
            life.needs = False

    def _settled(self, _: Event, life: _Life) -> None:
        life.is_owed = life.is_in_hand and life.is_owed

    def _wrong_body(self, event: Event, _: _Life) -> None:
        self._breach(WRONG_BODY, event.key, event.note, event)

    def _defect(self, event: Event, _: _Life) -> None:
        self._breach(DEFECT, 0, event.note, event)

    # ---- the end of a listener ---------------------------------------------------------------

    def _stopped(self, _: Event, __: _Life) -> None:
        for life in self._lives.values():
            if life.waits_for_mark and life.is_in_trouble:
                life.may_repeat = life.may_repeat or _BY_A_STOP
            life.is_owed = life.is_in_hand = False

    def _killed(self, _: Event, __: _Life) -> None:
        self._verdict.repeats.append(0)
        for life in self._lives.values():
            self._verdict.in_hand += life.is_in_hand
            if life.waits_for_mark and not life.may_repeat:
                life.may_repeat, life.kill = _BY_A_KILL, len(self._verdict.repeats) - 1
            life.is_owed = life.is_in_hand = False
