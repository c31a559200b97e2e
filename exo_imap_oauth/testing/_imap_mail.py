"""What a session does with mail, as Exchange does it where pymap would do otherwise."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from pymap.backend.dict.mailbox import Message
from pymap.imap.state import ConnectionState
from pymap.parsing.command.auth import LSubCommand
from pymap.parsing.command.select import (
    CopyCommand,
    ExpungeCommand,
    FetchCommand,
    MoveCommand,
    StoreCommand,
)
from pymap.parsing.response import (
    CommandResponse,
    ResponseBad,
    ResponseCode,
    ResponseNo,
    ResponseOk,
    UntaggedResponse,
)
from pymap.parsing.response.specials import FetchResponse, FlagsResponse, RecentResponse
from pymap.parsing.specials import SequenceSet
from pymap.parsing.specials.fetchattr import FetchAttribute, FetchValue
from pymap.parsing.specials.flag import Recent
from pymap.parsing.specials.sequenceset import MaxValue
from typing_extensions import override

from exo_imap_oauth.testing._commands import ExchangeSearchCommand
from exo_imap_oauth.testing._faults import AT_A_FETCH, AT_A_SEARCH, AT_A_STORE, Fault
from exo_imap_oauth.testing._mail_faults import (
    COMMAND_ARGUMENT_ERROR,
    fetch_line,
    foreign_lines,
    is_content,
    not_named,
    search_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymap.backend.dict import Config
    from pymap.concurrent import Event
    from pymap.interfaces.login import LoginInterface
    from pymap.parsing.command import Command
    from pymap.parsing.command.select import CloseCommand, IdleCommand, SearchCommand
    from pymap.parsing.specials import ObjectId
    from pymap.selected import SelectedMailbox

    from exo_imap_oauth.testing._commands import EnableCommand
    from exo_imap_oauth.testing._faults import Faults, Injection
    from exo_imap_oauth.testing._mailboxes import Mailbox

    Result = tuple[CommandResponse, SelectedMailbox | None]
    _Messages = Iterable[tuple[int, Message]]

INVALID_STATE = b"Command received in Invalid state."
_REV2 = b"IMAP4rev2"
_OF_MESSAGES = (FetchCommand, StoreCommand, CopyCommand, MoveCommand)
_WRITES = (StoreCommand, MoveCommand, ExpungeCommand)
_FLAGS = FetchAttribute(b"FLAGS")
_UID = FetchAttribute(b"UID")


class ReplyLostError(ConnectionError):
    """The command was carried out, and its reply is not to be sent."""


class MailState(ConnectionState):
    """The commands that a folder and its messages answer.

    Attributes:
        rev2: Whether IMAP4rev2 is enabled in this session.
        mailbox: The mailbox, once it is open.
    """

    def __init__(
        self, login: LoginInterface, config: Config, faults: Faults, *, rev2: bool
    ) -> None:
        super().__init__(login, config)
        self._faults = faults
        self.rev2 = rev2
        self.mailbox: Mailbox | None = None

    @property
    def selected_id(self) -> ObjectId | None:
        """What the folder is known by that is selected."""
        return self._selected.mailbox_id if self._selected else None

    def names(self, command: Command, uid: int) -> bool:
        """Whether a command's message set names a message, be it by sequence number."""
        numbers = _message_set(command)
        if numbers is None or self._selected is None:
            return False
        return any(uid == named for _, named in self._selected.messages.get_uids(numbers))

    @override
    async def do_command(self, cmd: Command) -> CommandResponse:
        response = self._refusal(cmd) or await super().do_command(cmd)
        if self.rev2:
            _Lines.forget_recent(response)
        return response

    def _refusal(self, cmd: Command) -> CommandResponse | None:
        if isinstance(cmd, LSubCommand) and self.rev2:
            return ResponseBad(cmd.tag, b"Command Error. 12")
        if isinstance(cmd, ExchangeSearchCommand) and cmd.has_bad_charset:
            text = b"The specified charset is not supported."
            return ResponseNo(cmd.tag, text, ResponseCode.of(b"BADCHARSET (US-ASCII)"))
        return self._refusal_in(self._selected, cmd) if self._selected else None

    @staticmethod
    def _refusal_in(folder: SelectedMailbox, cmd: Command) -> CommandResponse | None:
        if isinstance(cmd, _WRITES) and folder.readonly:
            return ResponseNo(cmd.tag, INVALID_STATE)
        numbers = _message_set(cmd)
        if numbers is not None and _goes_beyond(numbers, folder.messages.exists):
            return ResponseBad(cmd.tag, b"The specified message set is invalid.")
        return None

    async def do_enable(self, cmd: EnableCommand) -> Result:
        response = ResponseOk(cmd.tag, b"ENABLE completed.")
        enabled = _REV2.upper() in cmd.names
        self.rev2 = self.rev2 or enabled
        response.add_untagged(UntaggedResponse(b"ENABLED" + (b" " + _REV2 if enabled else b"")))
        return response, None

    @override
    async def do_close(self, cmd: CloseCommand) -> Result:
        if self.selected.readonly:  # RFC 3501 section 6.4.2: no error, and nothing is removed
            self._selected = None
            return ResponseOk(cmd.tag, b"CLOSE completed."), None
        return await super().do_close(cmd)

    # ---- FETCH -------------------------------------------------------------------------------

    @override
    async def do_fetch(self, cmd: FetchCommand) -> Result:
        struck = self._strike(cmd, *AT_A_FETCH) if any(map(is_content, cmd.attributes)) else None
        fault = struck.fault if struck else None
        concerned = dict.fromkeys(self._concerned(cmd, struck), fault)
        response = ResponseOk(cmd.tag, b"FETCH completed.")
        wanted: SequenceSet | None = cmd.sequence_set
        if fault is Fault.IMAP_FETCH_NOTHING:
            wanted = self._without(cmd.sequence_set, frozenset(concerned))
        elif fault is Fault.IMAP_FETCH_FOREIGN_FIRST:
            response.add_untagged(*await self._foreign(cmd.sequence_set))
        if wanted is None:
            return response, None
        return response, await self._fetch_into(response, cmd, wanted, concerned)

    async def _fetch_into(
        self,
        response: ResponseOk,
        cmd: FetchCommand,
        wanted: SequenceSet,
        faults: Mapping[int, Fault | None],
    ) -> SelectedMailbox:
        """Add the lines of the messages to a response, with what goes wrong by UID."""
        if not cmd.uid:
            self.selected.hide_expunged = True
        seen = not self.selected.readonly and any(a.set_seen for a in cmd.attributes)
        messages, updates = await self._messages(wanted, seen=seen)
        for number, message in messages:
            if message.expunged:
                response.code = ResponseCode.of(b"EXPUNGEISSUED")
            fault = faults.get(message.uid)
            response.add_untagged(
                await fetch_line(number, message, self.selected, cmd.attributes, fault)
            )
        return updates

    async def _messages(
        self, numbers: SequenceSet, *, seen: bool = False
    ) -> tuple[_Messages, SelectedMailbox]:
        messages, updates = await self.session.fetch_messages(self.selected, numbers, seen)
        return [(n, message) for n, message in messages if isinstance(message, Message)], updates

    async def _foreign(self, numbers: SequenceSet) -> list[UntaggedResponse]:
        other = not_named(self.selected, numbers)
        if other is None:
            return await foreign_lines(self.selected, None)
        [foreign], _ = await self._messages(other)
        return await foreign_lines(self.selected, foreign)

    # ---- SEARCH ------------------------------------------------------------------------------

    @override
    async def do_search(self, cmd: SearchCommand) -> Result:
        if not cmd.uid:
            self.selected.hide_expunged = True
        struck = self._faults.strike(*AT_A_SEARCH)
        fault = struck.fault if struck else Fault.IMAP_SEARCH_ESEARCH if self.rev2 else None
        messages, updates = await self.session.search_mailbox(self.selected, cmd.keys)
        found = [message.uid if cmd.uid else number for number, message in messages]
        response = ResponseOk(cmd.tag, b"SEARCH completed.")
        response.add_untagged(*map(UntaggedResponse, search_lines(cmd, found, fault)))
        return response, updates

    # ---- STORE -------------------------------------------------------------------------------

    @override
    async def do_store(self, cmd: StoreCommand) -> Result:
        struck = self._strike(cmd, *AT_A_STORE)
        if struck is None:
            return await super().do_store(cmd)
        if struck.fault is Fault.IMAP_STORE_REFUSED:
            refuse = ResponseNo if struck.reply == "NO" else ResponseBad
            return refuse(cmd.tag, COMMAND_ARGUMENT_ERROR), None
        if struck.fault is Fault.IMAP_STORE_REPLY_LOST:
            await super().do_store(cmd)
            raise ReplyLostError
        return await self._store_without(cmd, self._concerned(cmd, struck))

    async def _store_without(self, cmd: StoreCommand, left_alone: frozenset[int]) -> Result:
        response: CommandResponse = ResponseOk(cmd.tag, b"STORE completed.")
        updates: SelectedMailbox | None = None
        if rest := self._without(cmd.sequence_set, left_alone):
            narrowed = copy.copy(cmd)
            narrowed.sequence_set = rest
            response, updates = await super().do_store(narrowed)
        if not cmd.silent and left_alone:
            messages, _ = await self._messages(SequenceSet.build(left_alone, uid=True))
            response.add_untagged(*(self._flags(cmd, *message) for message in messages))
        return response, updates

    def _flags(self, cmd: StoreCommand, number: int, message: Message) -> FetchResponse:
        flags = sorted(map(bytes, message.get_flags(self.selected.session_flags)))
        values = [FetchValue.of(_FLAGS, b"(%b)" % b" ".join(flags))]
        if cmd.uid:
            values.append(FetchValue.of(_UID, b"%d" % message.uid))
        return FetchResponse(number, values)

    # ---- IDLE --------------------------------------------------------------------------------

    @override
    async def receive_updates(self, cmd: IdleCommand, done: Event) -> Iterable[UntaggedResponse]:
        untagged = await super().receive_updates(cmd, done)
        return _without_recent(untagged) if self.rev2 else untagged

    async def news_of_an_arrival(self, cmd: IdleCommand) -> Iterable[UntaggedResponse]:
        """What there is to announce once another message has arrived in the folder."""
        assert self.mailbox is not None
        await self.mailbox.arrive(self.selected.lookup)
        selected = await self.session.check_mailbox(self.selected)
        self._selected, untagged = selected.fork(cmd)
        return _without_recent(untagged) if self.rev2 else list(untagged)

    # ---- message sets ------------------------------------------------------------------------

    def _strike(self, cmd: FetchCommand | StoreCommand, *faults: Fault) -> Injection | None:
        return self._faults.strike(*faults, names=lambda uid: self.names(cmd, uid))

    def _concerned(
        self, cmd: FetchCommand | StoreCommand, struck: Injection | None
    ) -> frozenset[int]:
        """The UIDs of the messages that a fault concerns."""
        if struck is None:
            return frozenset()
        if struck.uid is not None:
            return frozenset({struck.uid})
        named = self.selected.messages.get_uids(cmd.sequence_set)
        return frozenset(uid for _, uid in named)

    def _without(self, numbers: SequenceSet, left_out: frozenset[int]) -> SequenceSet | None:
        """The rest of a message set; None if nothing is left."""
        named = self.selected.messages.get_uids(numbers)
        rest = [uid if numbers.uid else n for n, uid in named if uid not in left_out]
        return SequenceSet.build(rest, uid=numbers.uid) if rest else None


def _message_set(command: Command) -> SequenceSet | None:
    if isinstance(command, _OF_MESSAGES):
        return command.sequence_set
    return command.uid_set if isinstance(command, ExpungeCommand) else None


def _goes_beyond(numbers: SequenceSet, exists: int) -> bool:
    """Whether a set of sequence numbers names one that does not exist."""
    if numbers.uid:
        return False
    ends = (e for part in numbers.sequences for e in (part if isinstance(part, tuple) else (part,)))
    return any(exists < (1 if isinstance(end, MaxValue) else end) for end in ends)


# ---- IMAP4rev2 knows no RECENT ---------------------------------------------------------------


def _without_recent(lines: Iterable[UntaggedResponse]) -> list[UntaggedResponse]:
    return [_unmarked(line) for line in lines if not isinstance(line, RecentResponse)]


def _unmarked(line: UntaggedResponse) -> UntaggedResponse:
    if isinstance(line, FlagsResponse):
        return FlagsResponse([flag for flag in line.flags if flag != Recent])
    if isinstance(line, FetchResponse) and _FLAGS in line.data:
        flags = re.sub(rb"\\Recent ?", b"", bytes(line.data[_FLAGS])).replace(b" )", b")")
        line.data[_FLAGS] = FetchValue.of(_FLAGS, flags.removeprefix(b"FLAGS "))
    return line


class _Lines(CommandResponse):
    """Looks into responses, whose untagged lines only their class can see."""

    @staticmethod
    def forget_recent(response: CommandResponse) -> None:
        response._untagged[:] = _without_recent(response._untagged)  # noqa: SLF001 - see above
