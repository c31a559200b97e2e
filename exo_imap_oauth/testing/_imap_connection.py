"""One IMAP connection: reading, answering, and when to say goodbye."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from proxyprotocol.sock import SocketInfoLocal
from pymap.bytes import WriteStream
from pymap.context import subsystem
from pymap.exceptions import ResponseError
from pymap.imap import IMAPConnection
from pymap.parsing.command.select import IdleCommand
from pymap.parsing.response import (
    ResponseBad,
    ResponseBye,
    ResponseContinuation,
    ResponseNo,
    ResponseOk,
)
from typing_extensions import override

from exo_imap_oauth.testing._commands import SaslCommand
from exo_imap_oauth.testing._faults import AT_A_COMMAND, AT_IDLE, Fault
from exo_imap_oauth.testing._imap_faults import (
    CHALLENGE,
    CLOSED,
    SESSION_INVALIDATED,
    misbehave,
)
from exo_imap_oauth.testing._imap_mail import INVALID_STATE, MailState, ReplyLostError
from exo_imap_oauth.testing._loop import reset
from exo_imap_oauth.testing._mail_faults import COMMAND_ARGUMENT_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymap.backend.dict import Config
    from pymap.parsing.command import Command
    from pymap.parsing.commands import Commands
    from pymap.parsing.response import Response
    from pymap.parsing.specials import ObjectId

    from exo_imap_oauth.testing._directory import Verdict
    from exo_imap_oauth.testing._faults import Faults, Injection

_AT_A_LOGIN = (
    Fault.IMAP_AUTHENTICATE_FAILED,
    Fault.IMAP_CHALLENGE,
    Fault.IMAP_WRONG_SERVER,
)
_SERVERS = "Proxy=LOOPBACK.EURP000.PROD.OUTLOOK.COM:1993:SSL"
_PATIENCE = 3  # commands to a mailbox that is not connected, before the connection is closed
_IDLING = ResponseContinuation(b"Idling.")


class State(MailState):
    """What one connection may do, and how it logs in.

    Attributes:
        not_connected_replies: How many commands met a mailbox that is not connected.
    """

    not_connected_replies = 0

    @property
    @abstractmethod
    def authenticated(self) -> bool:
        """Whether somebody has logged in."""

    @property
    @abstractmethod
    def expired(self) -> bool:
        """Whether the token with which somebody did has expired."""

    @abstractmethod
    def xoauth2(self, response: bytes, fault: Injection | None, *, initial: bool) -> Verdict:
        """Judge a SASL response, and open the mailbox if it may be opened."""

    @abstractmethod
    def refuse(self, mechanism: str, reason: str, *, user: str = "", initial: bool = False) -> None:
        """Keep an attempt to log in that no token came with."""


def _completed(told: str) -> bytes:
    """The text of the OK to AUTHENTICATE, with what Exchange tells in it."""
    code = f"[{told} {_SERVERS} Service=Imap4] " if told else ""
    return f"{code}AUTHENTICATE completed.".encode()


class _Whole(WriteStream):
    """Collects a response."""

    def __init__(self) -> None:
        self.data = bytearray()

    @override
    def write(self, data: bytes) -> None:
        self.data += data


class Connection(IMAPConnection):
    """One connection. To be used in the loop only."""

    def __init__(
        self,
        commands: Commands,
        config: Config,
        faults: Faults,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        super().__init__(commands, config, reader, writer, SocketInfoLocal(writer))
        self._faults = faults
        self._state: State | None = None

    def has_open(self, folder: ObjectId) -> bool:
        """Whether this folder is selected."""
        return self._state is not None and self._state.selected_id == folder

    def say_goodbye(self) -> None:
        """End it with a BYE, also in the middle of an IDLE."""
        self.writer.write(bytes(ResponseBye(CLOSED)))
        self.writer.close()

    @override
    @classmethod
    def _print(cls, log_format: str, output: str | bytes) -> None:
        """Log nothing: what goes over the wire holds tokens."""

    @override
    async def write_response(self, resp: Response) -> None:
        await self._write([resp])

    async def _write(self, responses: Iterable[Response]) -> None:
        """Write them in one packet, if they fit into one."""
        # pymap writes each of its words on its own: a TLS record for every UID of a search.
        whole = _Whole()
        for response in responses:
            await response.async_write(whole)
        with suppress(ConnectionError):
            self.writer.write(whole.data)
            await self.writer.drain()

    async def serve(self, state: State, greeting: bytes) -> None:
        """Serve it until it ends."""
        self._state = state
        if fault := self._faults.strike(Fault.IMAP_NO_GREETING):
            await fault.wait()
        if self._faults.strike(Fault.IMAP_BYE_GREETING):
            await self.write_response(ResponseBye(CLOSED))
            return
        await self.write_response(ResponseOk(b"*", greeting))
        with suppress(EOFError, ConnectionError):
            while not await self._serve_command(state):
                pass

    async def _serve_command(self, state: State) -> bool:
        """Answer one command: whether the connection is to be closed."""
        try:
            command = await self.read_command(state)
        except ValueError:  # a line beyond the reader's limit
            response: Response = ResponseBye(CLOSED)
        else:
            response = await self._respond(state, command)
        await self.write_response(response)
        if state.not_connected_replies >= _PATIENCE:
            response = ResponseBye(CLOSED)
            await self.write_response(response)
        return response.is_terminal

    async def _respond(self, state: State, command: Command) -> Response:
        names = partial(state.names, command)
        fault = self._faults.strike(*AT_A_COMMAND, command=command.command.decode(), names=names)
        if fault:
            response = await misbehave(fault, command.tag, self.reader, self.writer)
            if response:
                return response
        try:
            return await self._answer(state, command)
        except ResponseError as error:
            return error.get_response(command.tag)
        except ReplyLostError:
            reset(self.writer)
            raise

    async def _answer(self, state: State, command: Command) -> Response:
        if state.expired:
            return ResponseBye(SESSION_INVALIDATED)
        if isinstance(command, SaslCommand) and not state.authenticated:
            return await self._sasl(state, command)
        if isinstance(command, IdleCommand):
            return await self._idle(state, command)
        return await state.do_command(command)

    async def _idle(self, state: State, command: IdleCommand) -> Response:
        begun = await state.do_command(command)
        if not isinstance(begun, ResponseOk):
            return begun
        fault = self._faults.strike(*AT_IDLE)
        if fault and fault.fault is Fault.IMAP_IDLE_REFUSED:
            return ResponseBad(command.tag, COMMAND_ARGUMENT_ERROR)
        cut = self._faults.strike(Fault.IMAP_IDLE_RESET)
        await self._begin_idle(state, command, fault)
        cutting = asyncio.create_task(self._cut(cut)) if cut else None
        try:
            await self._announce_until_done(state, command)
        finally:
            if cutting:
                cutting.cancel()
        return begun

    async def _begin_idle(
        self, state: State, command: IdleCommand, fault: Injection | None
    ) -> None:
        news = await state.news_of_an_arrival(command) if fault else ()
        if fault and fault.fault is Fault.IMAP_IDLE_EXISTS_WITH:
            await self._write([_IDLING, *news])
        else:
            await self.write_updates(news)
            await self.write_response(_IDLING)

    async def _announce_until_done(self, state: State, command: IdleCommand) -> None:
        done = subsystem.get().new_event()
        announcing = asyncio.create_task(self.handle_updates(state, done, command))
        try:
            await self._read_until_done()
        except asyncio.CancelledError:  # whoever cuts connections does not wait for the news
            announcing.cancel()
            raise
        finally:
            done.set()
            await asyncio.wait([announcing])
        await announcing

    async def _read_until_done(self) -> None:
        while (line := bytes(await self.readline()).strip()).upper() != b"DONE":
            tag = line.partition(b" ")[0] or b"*"
            await self.write_response(ResponseBad(tag, INVALID_STATE))

    async def _cut(self, fault: Injection) -> None:
        await fault.wait()
        reset(self.writer)

    async def _sasl(self, state: State, command: SaslCommand) -> Response:
        response = command.initial_response
        initial = response is not None
        if response is None:
            await self.write_response(ResponseContinuation(b""))
            response = bytes(await self.readline()).strip()
            if response == b"*":
                return ResponseBad(command.tag, b"Command Argument Error. 11")
        if command.mech_name != b"XOAUTH2":
            mechanism = command.mech_name.decode(errors="replace")
            state.refuse(mechanism, "only XOAUTH2 can log in", initial=initial)
        else:
            fault = self._faults.strike(*_AT_A_LOGIN)
            verdict = state.xoauth2(response, fault, initial=initial)
            if verdict.outcome != "refused":
                return ResponseOk(command.tag, _completed(verdict.told))
            if fault and fault.fault is Fault.IMAP_CHALLENGE:
                await self.write_response(CHALLENGE)
                await self.readline()
        return ResponseNo(command.tag, b"AUTHENTICATE failed.")
