"""All faults of :mod:`support.mail_answers` that are no lie about what a message is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from support import mail_answers as answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.mail_server import Reply

    Answer = Callable[[Reply], None]


_NOT_DONE = {"NO", "BAD", "without_effect", "bare_ok_without_effect"}


class Fault(NamedTuple):
    """What is drawn.

    Attributes:
        command: The prefix of the commands that it bends.
        name: That of the answer.
        answer: What is said.
        is_trouble: Whether it may keep a mark from the server.
        is_lie: Whether it leaves out unread messages that it is asked for.
        has_uid: Whether it can be for one message alone.
    """

    command: str
    name: str
    answer: Answer
    is_trouble: bool = False
    is_lie: bool = False
    has_uid: bool = False

    @property
    def is_of_one(self) -> bool:
        """Whether it keeps only those marks from the server that the command names."""
        return self.command == "UID STORE" and self.name in _NOT_DONE

    def __str__(self) -> str:
        return f"{self.command} {self.name}"


def _at_once(answer: Answer) -> Answer:
    """Nobody else does anything meanwhile; what has gone before is not spoken of."""

    def locked(reply: Reply) -> None:
        with reply.server.changed:
            known = reply.server.messages.keys() & set(reply._session.numbered)
            reply.uids = [uid for uid in reply.uids if uid in known]
            reply.others = [uid for uid in reply.others if uid in known]
            answer(reply)

    return locked


def _another(reply: Reply) -> int | None:
    known = [uid for uid in reply._session.numbered if uid in reply.server.messages]
    others = [uid for uid in known if uid not in reply.uids]
    return others[len(reply.server.log) % len(others)] if others else None


def _foreign(make: Callable[[int], Answer]) -> Answer:
    def answer(reply: Reply) -> None:
        uid = _another(reply)
        (make(uid) if uid else Answers.usual)(reply)

    return answer


class Answers:
    """Answers that need something of the moment."""

    @staticmethod
    def usual(reply: Reply) -> None:
        reply.usual()

    @staticmethod
    def expunge_first(reply: Reply) -> None:
        """The first message that is there is removed."""
        numbers = [n for n, uid in enumerate(reply._session.numbered, 1) if _is_there(reply, uid)]
        (answers.expunge_first(numbers[0]) if numbers else Answers.usual)(reply)

    @staticmethod
    def quoted(reply: Reply) -> None:
        """As a quoted string, which has no line breaks."""
        content = reply.server.messages[reply.uids[0]] if len(reply.uids) == 1 else None
        line = content.partition(b"\r\n")[0] if content else b""
        (answers.quoted(line) if content else Answers.usual)(reply)

    @staticmethod
    def exists_before_plus(reply: Reply) -> None:
        answers.exists_before_plus(reply.server.fresh())(reply)  # type: ignore[attr-defined] # ours

    @staticmethod
    def exists_with_plus(reply: Reply) -> None:
        answers.exists_with_plus(reply.server.fresh())(reply)  # type: ignore[attr-defined] # ours


def _is_there(reply: Reply, uid: int) -> bool:
    return uid in reply.server.messages


class _Of(NamedTuple):
    """Makes the faults of one command."""

    command: str
    has_uid: bool = False
    is_trouble: bool = False
    is_lie: bool = False

    def __call__(self, name: str, answer: Answer, *, locked: bool = True) -> Fault:
        said = _at_once(answer) if locked else answer
        return Fault(self.command, name, said, self.is_trouble, self.is_lie, self.has_uid)


_FETCH = _Of("UID FETCH", has_uid=True)
_SEARCH = _Of("UID SEARCH")
_LYING_SEARCH = _Of("UID SEARCH", is_lie=True)
_STORE = _Of("UID STORE", has_uid=True, is_trouble=True)
_DONE_STORE = _Of("UID STORE", has_uid=True)
_IDLE = _Of("IDLE")
_COMMANDS = (
    "CAPABILITY", "AUTHENTICATE", "SELECT", "UID SEARCH", "UID FETCH", "UID STORE", "IDLE", "LOGOUT"
)  # fmt: skip
_ANYWHERE: dict[str, Answer] = {
    "NO": answers.refused("Server Unavailable. 15"),
    "BAD": answers.says("BAD", "Command Argument Error. 11"),
    "throttled by BAD": answers.throttled(3),
    "throttled by NO": answers.throttled(3, "NO"),
    "BYE": answers.bye("Session invalidated - AccessTokenExpired"),
    "closes": answers.closes,
    "resets": answers.resets,
}
STALLS = "stalls"

FAULTS: tuple[Fault, ...] = (
    _FETCH("nothing", answers.nothing),
    _FETCH("nil", answers.nil),
    _FETCH("empty_string", answers.empty_string),
    _FETCH("quoted", Answers.quoted),
    _FETCH("stand_in", answers.stand_in),
    _FETCH("flags_only", answers.flags_only),
    _FETCH("no_uid", answers.no_uid),
    _FETCH("uid_last", answers.uid_last),
    _FETCH("twice", answers.twice),
    _FETCH("foreign_literal", _foreign(answers.foreign_literal)),
    _FETCH("foreign_first", _foreign(answers.foreign_first)),
    _FETCH("exists_first", answers.exists_first(900)),
    _FETCH("expunge_first", Answers.expunge_first),
    _SEARCH("esearch", answers.esearch),
    _SEARCH("two_lines", answers.two_lines),
    _SEARCH("doubled_unsorted", answers.doubled_unsorted),
    _SEARCH("modseq", answers.modseq),
    _SEARCH("no_line", answers.no_line),
    _SEARCH("garbage", answers.garbage(b"1 two 3")),
    _SEARCH("exists_first", answers.exists_first(900)),
    _SEARCH("expunge_first", Answers.expunge_first),
    _LYING_SEARCH("esearch_empty", answers.esearch_empty),
    _LYING_SEARCH("many", answers.many(3, first=1_000_000)),
    _STORE("without_effect", answers.without_effect),
    _STORE("bare_ok_without_effect", answers.bare_ok_without_effect),
    _DONE_STORE("bare_ok", answers.bare_ok),
    _STORE("reply_lost", answers.reply_lost),
    _DONE_STORE("exists_first", answers.exists_first(900)),
    _DONE_STORE("expunge_first", Answers.expunge_first),
    _IDLE("exists_before_plus", Answers.exists_before_plus, locked=False),
    _IDLE("exists_with_plus", Answers.exists_with_plus, locked=False),
    _IDLE("drops_after", answers.drops_after(0.002), locked=False),
    _IDLE("idle_bye", answers.idle_bye("Connection is closed. 13", 0.002), locked=False),
    *(
        _Of(command, command in {"UID FETCH", "UID STORE"}, is_trouble=True)(
            name, answer, locked=False
        )
        for command in _COMMANDS
        for name, answer in (*_ANYWHERE.items(), (STALLS, answers.stalls))
    ),
)
