"""The IMAP front end: Exchange's greeting, capabilities and refusals over pymap's commands."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from pymap.backend.dict import Config, Session
from pymap.backend.dict import Login as PymapLogin
from pymap.backend.dict.filter import FilterSet
from pymap.concurrent import Subsystem
from pymap.parsing.command import CommandAuth, CommandNonAuth, CommandSelect
from pymap.parsing.commands import InvalidCommand
from pymap.parsing.response import (
    ResponseBad,
    ResponseBye,
    ResponseNo,
    ResponseOk,
    UntaggedResponse,
)
from pymap.parsing.response.code import Capability
from typing_extensions import override

from exo_imap_oauth.testing import _imap_wire as wires
from exo_imap_oauth.testing._commands import exchange_commands, parse_xoauth2
from exo_imap_oauth.testing._directory import Verdict
from exo_imap_oauth.testing._faults import Fault
from exo_imap_oauth.testing._imap_connection import Connection, State
from exo_imap_oauth.testing._imap_faults import WRONG_SERVER
from exo_imap_oauth.testing._imap_mail import INVALID_STATE
from exo_imap_oauth.testing._records import Login
from exo_imap_oauth.testing._tokens import TokenRefused

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Mapping

    from pymap.parsing.command import Command
    from pymap.parsing.command.any import CapabilityCommand, LogoutCommand
    from pymap.parsing.command.nonauth import LoginCommand
    from pymap.parsing.response import CommandResponse
    from pymap.parsing.specials import ObjectId

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._commands import NamespaceCommand, UnselectCommand
    from exo_imap_oauth.testing._directory import Directory
    from exo_imap_oauth.testing._faults import Faults, Injection
    from exo_imap_oauth.testing._imap_mail import Result
    from exo_imap_oauth.testing._imap_wire import Wire
    from exo_imap_oauth.testing._mailboxes import Mailbox
    from exo_imap_oauth.testing._records import LoginOutcome
    from exo_imap_oauth.testing._tokens import TokenIssuer

_BEFORE_LOGIN = wires.BEFORE_LOGIN_2026
_AFTER_LOGIN = wires.AFTER_LOGIN_2026
_NOT_CONNECTED = b"User is authenticated but not connected."
_LACKING = {Fault.IMAP_NO_XOAUTH2: b"AUTH=XOAUTH2", Fault.IMAP_NO_SASL_IR: b"SASL-IR"}


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
        *,
        wire: Wire,
    ) -> None:
        self.faults = faults
        self.wire: Wire = wire
        self.greeting = wires.greeting(wire)
        self.directory = directory
        self.issuer = issuer
        self.clock = clock
        self.mailboxes: dict[str, Mailbox] = {}
        self.commands = exchange_commands(enable=wire != "2025")
        self._connections: set[Connection] = set()
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
        connection = Connection(self.commands, self.config, self.faults, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve(_State(self), self.greeting)
        finally:
            self._connections.discard(connection)

    def end_sessions(self, folder: ObjectId) -> None:
        """Say goodbye to all who have a folder open."""
        for connection in tuple(self._connections):
            if connection.has_open(folder):
                connection.say_goodbye()


class _State(State):
    """What one connection may do."""

    def __init__(self, service: ImapService) -> None:
        super().__init__(service.login, service.config, service.faults, rev2=service.wire == "rev2")
        self._service = service
        self._expires_on: float | None = None

    @property
    @override
    def authenticated(self) -> bool:
        return self._expires_on is not None

    @property
    @override
    def expired(self) -> bool:
        return self._expires_on is not None and self._service.clock.now() >= self._expires_on

    @override
    def xoauth2(self, response: bytes, fault: Injection | None, *, initial: bool) -> Verdict:
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
        self._record(user, "XOAUTH2", initial, client_id, verdict)
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
            self.mailbox = self._service.mailboxes[user.lower()]
            self._session = Session(user, self._service.config, self.mailbox, FilterSet())

    @override
    def refuse(self, mechanism: str, reason: str, *, user: str = "", initial: bool = False) -> None:
        self._record(user, mechanism, initial, None, Verdict("refused", reason))

    def _record(
        self, user: str, mechanism: str, initial: bool, client_id: str | None, verdict: Verdict
    ) -> None:
        now = self._service.clock.now()
        self._service.directory.record(
            Login(now, user, mechanism, initial, client_id, verdict.outcome, verdict.reason)
        )

    @property
    @override
    def capability(self) -> Capability:
        before, after = _BEFORE_LOGIN, _AFTER_LOGIN
        if self._service.wire == "2025":
            before, after = wires.BEFORE_LOGIN_2025, wires.AFTER_LOGIN_2025
        return Capability((after if self.authenticated else before).split())

    @override
    async def do_command(self, cmd: Command) -> CommandResponse:
        if isinstance(cmd, InvalidCommand):
            known = cmd.command_type is not None
            return ResponseBad(
                cmd.tag, b"Command Argument Error. 11" if known else b"Command Error. 12"
            )
        if self._comes_at_a_wrong_time(cmd):
            return ResponseBad(cmd.tag, INVALID_STATE)
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
    async def do_capability(self, cmd: CapabilityCommand) -> Result:
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
    async def do_login(self, cmd: LoginCommand) -> Result:
        user = cmd.userid.decode(errors="replace")
        self.refuse("LOGIN", "basic authentication no longer exists", user=user)
        return ResponseNo(cmd.tag, b"LOGIN failed."), None

    @override
    @classmethod
    async def do_logout(cls, cmd: LogoutCommand) -> Any:
        response = ResponseOk(cmd.tag, b"LOGOUT completed.")
        response.add_untagged(ResponseBye(b"Microsoft Exchange Server IMAP4 server signing off."))
        return response, None

    async def do_namespace(self, cmd: NamespaceCommand) -> Result:
        response = ResponseOk(cmd.tag, b"NAMESPACE completed.")
        response.add_untagged(UntaggedResponse(b'NAMESPACE (("" "/")) NIL NIL'))
        return response, None

    async def do_unselect(self, cmd: UnselectCommand) -> Result:
        self._selected = None
        return ResponseOk(cmd.tag, b"UNSELECT completed."), None
