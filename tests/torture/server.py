"""The server of a run: it keeps the log that the judge reads, and lets people act in between."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from support.mail_server import SEEN, MailServer
from torture.judge import Event
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.mail_server import Command, Hook, _Session
    from torture.faults import Fault

_KEY = re.compile(rb"(?m)^Subject: m(\d+)")
ACTIONS = ("read", "unread", "remove", "move", "move back", "renumber", "drop", "deliver")


class Planned(NamedTuple):
    """What is done when so many things have happened."""

    tick: int
    what: str  # one of ACTIONS, or a name for the log
    do: Callable[[], object] | None = None  # in place of an action
    choice: float = 0.0  # which of the messages that it can be done to: from 0 to 1


class TortureServer(MailServer):
    """A :class:`MailServer` whose messages have keys, by which the log speaks of them.

    Attributes:
        events: The log; its lock is :attr:`changed`.
        acted: How often each action was done.
        struck_by: How often each fault struck.
        ticks: How many commands came, and how often ``handle`` began or ended.
        begun: How often ``handle`` began.
        before_event: Called before anything is logged; it may log what has happened before.
    """

    def __init__(self, messages: int) -> None:
        super().__init__()
        self.uidvalidity: int = 14
        self.events: list[Event] = []
        self.acted: dict[str, int] = defaultdict(int)
        self.struck_by: dict[str, int] = defaultdict(int)
        self.ticks = self.begun = 0
        self.plan: list[Planned] = []
        self.before_event: Callable[[], object] = lambda: None
        self.sessions_end_in_trouble = False  # with a short timeout the client may leave any time
        self._names: dict[tuple[int, int], int] = {}  # keys by UIDVALIDITY and UID
        self._keys = 0
        self._faults: dict[Hook, Fault] = {}
        self._settling: dict[int, set[int]] = defaultdict(set)  # keys, by thread of a connection
        self._owed: set[int] = set()  # keys of what may be marked
        self._doing: dict[int, tuple[Command, Hook | None]] = {}  # by thread
        self._said_goodbye: set[int] = set()
        for _ in range(messages):
            self.deliver(self.fresh())

    def fresh(self) -> bytes:
        """The content of a message that has a new key."""
        with self.changed:
            self._keys += 1
            return b"Subject: m%d\r\nMessage-ID: <m%d@contoso.example>\r\n\r\nBody.\r\n" % (
                self._keys, self._keys
            )  # fmt: skip

    @property
    def count(self) -> int:
        """How many messages there have been."""
        return self._keys

    @property
    def strikes(self) -> int:
        """How many faults there have been; a connection that is cut is one, too."""
        return sum(self.struck_by.values()) + self.acted["drop"] + self.acted["renumber"]

    def key_of(self, uid: int) -> int:
        """The key of a message that is there."""
        found = _KEY.search(self.messages[uid])
        assert found is not None
        return int(found[1])

    # ---- the log -----------------------------------------------------------------------------

    def event(self, kind: str, key: int = 0, note: str = "") -> None:
        """Log something."""
        with self.changed:
            self.before_event()
            self.add(kind, key, note)

    def add(self, kind: str, key: int = 0, note: str = "") -> None:
        """Log something of which :attr:`before_event` knows."""
        with self.changed:
            self.events.append(Event(len(self.events) + 1, kind, key, note))

    def called(self, kind: str, validity: int, uid: int, subject: str) -> None:
        """Log that ``handle`` has begun (*handling*), returned (*handled*) or raised."""
        with self.changed:
            key = self._names.get((validity, uid), 0)
            if kind == "handling" and subject != f"m{key}":
                self.add("wrong body", key, f"UID {uid} of {validity} came as {subject}")
            self.begun += kind == "handling"
            if kind == "handled":
                self._owed.add(key)
            self.add(kind, key, "stale" if validity != self.uidvalidity else "")

    def gave_up(self, uid: int) -> None:
        """Log that a message was given up."""
        with self.changed:
            if uid in self.messages:
                self._owed.add(self.key_of(uid))
                self.add("given up", self.key_of(uid))

    # ---- what the sessions do ----------------------------------------------------------------

    @override
    def note(self, line: str) -> None:
        with self.changed:
            me = threading.get_ident()
            # Others may be sent before the replies to those before them are read.
            if line.upper().startswith(("IDLE", "UID SEARCH UNSEEN")):
                for key in sorted(self._settling.pop(me, set()) & self._owed):
                    self._owed.remove(key)
                    self.event("settled", key)
            self.event("command", note=line)
            if line.upper() == "LOGOUT":
                self._said_goodbye.add(me)
            super().note(line)
            self.tick()

    @override
    def struck(self, command: Command) -> Hook | None:
        with self.changed:
            hook = super().struck(command)
            self._doing[threading.get_ident()] = command, hook
            fault = self._faults.get(hook) if hook else None
            if fault is not None and hook is not None:
                self._log_fault(
                    fault,
                    [
                        uid
                        for uid in command.named(sorted(self.messages))
                        if hook.uid in {None, uid}
                    ],
                )
                if fault.is_lie:
                    for uid in self._asked(command):
                        self.event("lied", self.key_of(uid))
            return hook

    def _log_fault(self, fault: Fault, uids: list[int]) -> None:
        self.struck_by[str(fault)] += 1
        if not fault.is_trouble or not fault.is_of_one:
            self.event("trouble" if fault.is_trouble else "fault", note=str(fault))
            return
        for uid in uids:
            self.event("refused", self.key_of(uid), str(fault))

    @override
    def happened(self, what: str, uids: Iterable[int]) -> None:
        keys = {self.key_of(uid) for uid in uids}
        if what != "listed":
            for key in sorted(keys):
                self.event(what, key)
        me = threading.get_ident()
        command, hook = self._doing[me]
        if hook is not None:
            return
        if what == "marked":
            self._settling[me] |= keys
        elif what == "listed":
            self._settling[me] |= {self.key_of(uid) for uid in self._asked(command)} - keys

    def _asked(self, command: Command) -> list[int]:
        """The messages that a SEARCH is about."""
        uids = sorted(self.messages)
        return command.named(uids) if " UID " in f" {command.args}" else uids

    @override
    def _serve(self, session: _Session) -> None:
        super()._serve(session)
        me = threading.get_ident()
        with self.changed:
            if self.sessions_end_in_trouble and me not in self._said_goodbye:
                self.event("trouble", note="a connection ended without LOGOUT")
            self._settling.pop(me, None)  # another thread may get its number
            self._doing.pop(me, None)
            self._said_goodbye.discard(me)

    @property
    def is_alone(self) -> bool:
        """Whether there is no connection."""
        with self.changed:
            return not self._sessions

    # ---- what people do ----------------------------------------------------------------------

    @override
    def deliver(self, content: bytes, uid: int | None = None) -> int:
        with self.changed:
            uid = self.uidnext if uid is None else uid
            found = _KEY.search(content)
            assert found is not None
            self._names[self.uidvalidity, uid] = int(found[1])
            self.event("delivered", int(found[1]), f"UID {uid}")
            return super().deliver(content, uid)

    @override
    def remove(self, uid: int) -> None:
        with self.changed:
            self.event("removed", self.key_of(uid))
            super().remove(uid)

    @override
    def drop(self) -> None:
        """Cut all connections; what has come and is not done is not done any more."""
        with self.changed:
            super().drop()
            self._settling.clear()
            for session in self._sessions:
                session.numbered.clear()
                session._is_open = False

    def act(self, what: str, choice: float = 0.0) -> None:
        """Do one of ACTIONS, if there is a message that it can be done to."""
        with self.changed:
            uids = sorted({"read": self.unseen, "unread": self.seen}.get(what, self.messages))
            if not uids and what not in {"deliver", "drop", "renumber"}:
                return
            self.acted[what] += 1
            uid = uids[int(choice * len(uids))] if uids else 0
            self._act(what, uid)

    def _act(self, what: str, uid: int) -> None:
        match what:
            case "read":
                self.event("read", self.key_of(uid))
                self.set_flags(uid, {SEEN})
            case "unread":
                for settling in self._settling.values():
                    settling.discard(self.key_of(uid))
                self.event("unread", self.key_of(uid))
                self.set_flags(uid, set())
            case "deliver":
                self.deliver(self.fresh())
            case "drop":
                self.event("trouble", note="all connections are cut")
                self.drop()
            case "renumber":
                self._renumber(uid % 3)
            case _:
                self.remove(uid)
                if what == "move back":  # as a message of its own
                    self.deliver(self.fresh())

    def _renumber(self, how: int) -> None:
        """Change UIDVALIDITY; the UIDs stay, begin from 1 anew, or go on."""
        self.drop()
        self.uidvalidity += 1
        highest = self.uidnext - 1
        old = list(self.messages)
        new = [old, range(1, len(old) + 1), range(highest + 1, highest + len(old) + 1)][how]
        self.messages = dict(zip(new, self.messages.values(), strict=True))
        self.flags = dict(zip(new, self.flags.values(), strict=True))
        self._highest = max([0, *self.messages])
        self._names |= {(self.uidvalidity, uid): self.key_of(uid) for uid in new}
        self.event("renumbered", note=f"UIDVALIDITY {self.uidvalidity}")
        self.tell()

    # ---- faults and plans --------------------------------------------------------------------

    def arm(self, fault: Fault, times: int | None, uid: int | None) -> None:
        """Let a fault strike."""
        with self.changed:
            hook = self.at(fault.command, fault.answer, times=times, uid=uid)
            self._faults[hook] = fault

    def disarm(self) -> None:
        """The faults are over."""
        with self.changed:
            for hook in self._faults:
                hook.remove()
            self._hooks.clear()
            self._faults.clear()
            self.event("the faults are over")

    def tick(self) -> None:
        """Something happened, so that what was planned for now is done."""
        with self.changed:
            self.ticks += 1
            while self.plan and self.plan[0].tick <= self.ticks:
                self.hurry()

    def hurry(self) -> None:
        """Do what is planned next, if anything is."""
        with self.changed:
            if self.plan:
                planned = self.plan.pop(0)
                if planned.do is None:
                    self.act(planned.what, planned.choice)
                else:
                    planned.do()

    def wait_until(self, predicate: Callable[[], bool], seconds: float) -> bool:
        """Whether it became true in time."""
        end = time.monotonic() + seconds
        with self.changed:
            while not predicate():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(min(left, 0.02))
        return True
