"""The IMAP front end: Exchange's greeting, capabilities and refusals over pymap's commands."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from proxyprotocol.sock import SocketInfoLocal
from pymap.backend.dict import Config, Session
from pymap.backend.dict import Login as PymapLogin
from pymap.backend.dict.filter import FilterSet
from pymap.bytes import WriteStream
from pymap.concurrent import Subsystem
from pymap.exceptions import ResponseError
from pymap.imap import IMAPConnection
from pymap.imap.state import ConnectionState
from pymap.parsing.command import CommandAuth, CommandNonAuth, CommandSelect
from pymap.parsing.command.select import IdleCommand
from pymap.parsing.commands import InvalidCommand
from pymap.parsing.response import (
    ResponseBad,
    ResponseBye,
    ResponseContinuation,
    ResponseNo,
    ResponseOk,
    UntaggedResponse,
)
from pymap.parsing.response.code import Capability
from typing_extensions import override

from exo_imap_oauth.testing._certificates import HOST
from exo_imap_oauth.testing._commands import SaslCommand, exchange_commands, parse_xoauth2
from exo_imap_oauth.testing._directory import Verdict
from exo_imap_oauth.testing._faults import AT_A_COMMAND, Fault
from exo_imap_oauth.testing._imap_faults import (
    CHALLENGE,
    CLOSED,
    SESSION_INVALIDATED,
    WRONG_SERVER,
    misbehave,
)
from exo_imap_oauth.testing._loop import reset
from exo_imap_oauth.testing._records import Login
from exo_imap_oauth.testing._tokens import TokenRefused

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from pymap.parsing.command import Command
    from pymap.parsing.command.any import CapabilityCommand, LogoutCommand
    from pymap.parsing.command.nonauth import LoginCommand
    from pymap.parsing.response import CommandResponse, Response
    from pymap.selected import SelectedMailbox

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._commands import NamespaceCommand, UnselectCommand
    from exo_imap_oauth.testing._directory import Directory
    from exo_imap_oauth.testing._faults import Faults, Injection
    from exo_imap_oauth.testing._mailboxes import Mailbox
    from exo_imap_oauth.testing._records import LoginOutcome
    from exo_imap_oauth.testing._tokens import TokenIssuer

    _Result = tuple[CommandResponse, SelectedMailbox | None]

_GREETING = b"The Microsoft Exchange IMAP4 service is ready. [%b]" % b64encode(
    HOST.encode("utf-16-le")
)
_BEFORE_LOGIN = (
    b"IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN IDLE"
    b" NAMESPACE LITERAL+"
)
_AFTER_LOGIN = (
    b"IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT"
    b" CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE CHILDREN IDLE"
    b" NAMESPACE LITERAL+"
)
_INVALID_STATE = b"Command received in Invalid state."
_NOT_CONNECTED = b"User is authenticated but not connected."
_LACKING = {Fault.IMAP_NO_XOAUTH2: b"AUTH=XOAUTH2", Fault.IMAP_NO_SASL_IR: b"SASL-IR"}
_AT_A_LOGIN = (
    Fault.IMAP_AUTHENTICATE_FAILED,
    Fault.IMAP_CHALLENGE,
    Fault.IMAP_WRONG_SERVER,
)
_SERVERS = "Proxy=LOOPBACK.EURP000.PROD.OUTLOOK.COM:1993:SSL"
_PATIENCE = 3  # commands to a mailbox that is not connected, before the connection is closed


class ImapService:
    """What all IMAP connections share. To be used in the loop only.

    Attributes:
        mailboxes: The mailboxes' contents by address in lower case.
    """

    def __init__(
        self,
        directory: Directory,
        issuer: TokenIssuer,
        clock: Clock,
        tls: ssl.SSLContext,
        faults: Faults,
    ) -> None:
        self.faults = faults
        self.directory = directory
        self.issuer = issuer
        self.clock = clock
        self.mailboxes: dict[str, Mailbox] = {}
        self.commands = exchange_commands()
        # With another subsystem pymap would start threads, and without a context of ours it
        # would read certificate files.
        asyncio_only = Subsystem.for_asyncio()
        self.config = Config(
            Namespace(passlib_cfg=None, proxy_protocol=None),
            host=None,
            port=0,
            demo_data=False,
            demo_user="",
            demo_password="",
            ssl_context=tls,
            subsystem=asyncio_only,
            cpu_subsystem=asyncio_only,
        )
        self.login = PymapLogin(self.config)  # never asked: tokens are ours to judge

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        await _Connection(self, reader, writer).serve(_State(self))


class _State(ConnectionState):
    """What one connection may do."""

    def __init__(self, service: ImapService) -> None:
        super().__init__(service.login, service.config)
        self._service = service
        self._expires_on: float | None = None
        self.not_connected_replies = 0

    @property
    def authenticated(self) -> bool:
        return self._expires_on is not None

    @property
    def expired(self) -> bool:
        return self._expires_on is not None and self._service.clock.now() >= self._expires_on

    def xoauth2(self, response: bytes, fault: Injection | None, *, initial: bool) -> Verdict:
        """Judge a SASL response, and open the mailbox if it may be opened."""
        user, client_id = "", None
        credentials = parse_xoauth2(response)
        if credentials is None:
            verdict = Verdict("refused", "malformed XOAUTH2 response")
        else:
            user, token = credentials
            try:
                claims = self._service.issuer.verify(token)
            except TokenRefused as refused:
                client_id, verdict = refused.client_id, Verdict("refused", str(refused))
            else:
                client_id = claims["appid"]
                verdict = self._verdict(user, claims, fault)
                self._open(user, verdict.outcome, claims["exp"])
        self.record(
            user,
            "XOAUTH2",
            verdict.reason,
            initial=initial,
            client_id=client_id,
            outcome=verdict.outcome,
        )
        return verdict

    def _verdict(self, user: str, claims: Mapping[str, Any], fault: Injection | None) -> Verdict:
        verdict = self._service.directory.may_open(user, claims)
        if fault is None:
            return verdict
        reason = f"fault {fault.fault.value}"
        if fault.fault is not Fault.IMAP_WRONG_SERVER:
            return Verdict("refused", reason)
        if verdict.outcome == "connected":
            return Verdict("not connected", reason, WRONG_SERVER)
        return verdict

    def _open(self, user: str, outcome: LoginOutcome, expires_on: float) -> None:
        if outcome == "refused":
            return
        self._expires_on = expires_on
        if outcome == "connected":
            mailbox = self._service.mailboxes[user.lower()]
            self._session = Session(user, self._service.config, mailbox, FilterSet())

    def record(
        self,
        user: str,
        mechanism: str,
        reason: str,
        *,
        initial: bool = False,
        client_id: str | None = None,
        outcome: LoginOutcome = "refused",
    ) -> None:
        """Keep an attempt to log in."""
        now = self._service.clock.now()
        self._service.directory.record(
            Login(now, user, mechanism, initial, client_id, outcome, reason)
        )

    @property
    @override
    def capability(self) -> Capability:
        return Capability((_AFTER_LOGIN if self.authenticated else _BEFORE_LOGIN).split())

    @override
    async def do_command(self, cmd: Command) -> CommandResponse:
        if isinstance(cmd, InvalidCommand):
            known = cmd.command_type is not None
            return ResponseBad(
                cmd.tag, b"Command Argument Error. 11" if known else b"Command Error. 12"
            )
        if self._comes_at_a_wrong_time(cmd):
            return ResponseBad(cmd.tag, _INVALID_STATE)
        if isinstance(cmd, CommandAuth) and self._session is None:
            self.not_connected_replies += 1
            return ResponseBad(cmd.tag, _NOT_CONNECTED)
        return await super().do_command(cmd)

    def _comes_at_a_wrong_time(self, cmd: Command) -> bool:
        """Whether a command belongs in another state of the session."""
        if not self.authenticated:
            return isinstance(cmd, CommandAuth)
        needs_folder = isinstance(cmd, CommandSelect) and self._session is not None
        return isinstance(cmd, CommandNonAuth) or (needs_folder and self._selected is None)

    @override
    async def do_capability(self, cmd: CapabilityCommand) -> _Result:
        lacking = self._service.faults.strike(*_LACKING)
        names = [
            name
            for name in self.capability.capabilities
            if lacking is None or name != _LACKING[lacking.fault]
        ]
        response = ResponseOk(cmd.tag, b"CAPABILITY completed.")
        response.add_untagged(UntaggedResponse(b"CAPABILITY " + b" ".join(names)))
        return response, None

    @override
    async def do_login(self, cmd: LoginCommand) -> _Result:
        user = cmd.userid.decode(errors="replace")
        self.record(user, "LOGIN", "basic authentication no longer exists")
        return ResponseNo(cmd.tag, b"LOGIN failed."), None

    @override
    @classmethod
    async def do_logout(cls, cmd: LogoutCommand) -> Any:
        response = ResponseOk(cmd.tag, b"LOGOUT completed.")
        response.add_untagged(ResponseBye(b"Microsoft Exchange Server IMAP4 server signing off."))
        return response, None

    async def do_namespace(self, cmd: NamespaceCommand) -> _Result:
        response = ResponseOk(cmd.tag, b"NAMESPACE completed.")
        response.add_untagged(UntaggedResponse(b'NAMESPACE (("" "/")) NIL NIL'))
        return response, None

    async def do_unselect(self, cmd: UnselectCommand) -> _Result:
        self._selected = None
        return ResponseOk(cmd.tag, b"UNSELECT completed."), None


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


class _Connection(IMAPConnection):
    """One connection: reading, answering, and when to say goodbye."""

    def __init__(
        self, service: ImapService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = SocketInfoLocal(writer)
        super().__init__(service.commands, service.config, reader, writer, peer)
        self._faults = service.faults

    @override
    @classmethod
    def _print(cls, log_format: str, output: str | bytes) -> None:
        """Log nothing: what goes over the wire holds tokens."""

    @override
    async def write_response(self, resp: Response) -> None:
        # pymap writes each of its words on its own: a TLS record for every UID of a search.
        whole = _Whole()
        await resp.async_write(whole)
        with suppress(ConnectionError):
            self.writer.write(whole.data)
            await self.writer.drain()

    async def serve(self, state: _State) -> None:
        if fault := self._faults.strike(Fault.IMAP_NO_GREETING):
            await fault.wait()
        if self._faults.strike(Fault.IMAP_BYE_GREETING):
            await self.write_response(ResponseBye(CLOSED))
            return
        await self.write_response(ResponseOk(b"*", _GREETING))
        with suppress(EOFError, ConnectionError):
            while not await self._serve_command(state):
                pass

    async def _serve_command(self, state: _State) -> bool:
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

    async def _respond(self, state: _State, command: Command) -> Response:
        fault = self._faults.strike(*AT_A_COMMAND, command=command.command.decode())
        if fault:
            response = await misbehave(fault, command.tag, self.reader, self.writer)
            if response:
                return response
        try:
            return await self._answer(state, command)
        except ResponseError as error:
            return error.get_response(command.tag)

    async def _answer(self, state: _State, command: Command) -> Response:
        if state.expired:
            return ResponseBye(SESSION_INVALIDATED)
        if isinstance(command, SaslCommand) and not state.authenticated:
            return await self._sasl(state, command)
        if isinstance(command, IdleCommand):
            return await self._idle(state, command)
        return await state.do_command(command)

    async def _idle(self, state: _State, command: IdleCommand) -> Response:
        fault = self._faults.strike(Fault.IMAP_IDLE_RESET)
        if fault is None:
            return await self.idle(state, command)
        cutting = asyncio.create_task(self._cut(fault))
        try:
            return await self.idle(state, command)
        finally:
            cutting.cancel()

    async def _cut(self, fault: Injection) -> None:
        await fault.wait()
        reset(self.writer)

    async def _sasl(self, state: _State, command: SaslCommand) -> Response:
        response = command.initial_response
        initial = response is not None
        if response is None:
            await self.write_response(ResponseContinuation(b""))
            response = bytes(await self.readline()).strip()
            if response == b"*":
                return ResponseBad(command.tag, b"Command Argument Error. 11")
        if command.mech_name != b"XOAUTH2":
            mechanism = command.mech_name.decode(errors="replace")
            state.record("", mechanism, "only XOAUTH2 can log in", initial=initial)
        else:
            fault = self._faults.strike(*_AT_A_LOGIN)
            verdict = state.xoauth2(response, fault, initial=initial)
            if verdict.outcome != "refused":
                return ResponseOk(command.tag, _completed(verdict.told))
            if fault and fault.fault is Fault.IMAP_CHALLENGE:
                await self.write_response(CHALLENGE)
                await self.readline()
        return ResponseNo(command.tag, b"AUTHENTICATE failed.")
