"""A submission server that lets applications in by their token, as Exchange Online does."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any, Self

import jwt
from aiosmtpd.smtp import SMTP, AuthResult

from exo_imap_oauth.testing._tokens import EXCHANGE_AUDIENCES
from support import HOST, server_context
from support.loop_thread import LoopThread

if TYPE_CHECKING:
    from email.message import EmailMessage

    from aiosmtpd.smtp import Envelope, Session

    from exo_imap_oauth.testing import LoopbackExchange

_UNSUCCESSFUL = "535 5.7.3 Authentication unsuccessful"
_DISABLED = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled"


class _Protocol(SMTP):
    line_length_limit = 12_290  # RFC 4954 section 4; a command has 512 all the same


@dataclass(eq=False)
class SubmissionServer:
    """A server with STARTTLS and AUTH XOAUTH2 for the mailboxes of an Exchange.

    Attributes:
        exchange: Its tokens are accepted, if they have the role ``SMTP.SendAsApp``.
        send_as: Each mailbox with the object ID that may send as it.
        disabled: Mailboxes for which submission is off.
        challenges: Whether a refused token gets a challenge with the reason first.
        offers_tls: Whether it offers STARTTLS.
        responses: What clients sent in place of a user name and a password.
        sent: The messages that were submitted, each with the mailbox that logged in.
        port: Where it listens.
    """

    exchange: LoopbackExchange
    send_as: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    disabled: set[str] = field(default_factory=set[str])
    challenges: bool = False
    offers_tls: bool = True
    responses: list[bytes] = field(default_factory=list[bytes])
    sent: list[tuple[str, EmailMessage]] = field(default_factory=list[tuple[str, Any]])
    port: int = 0

    def __enter__(self) -> Self:
        """Listen."""
        self._thread = LoopThread("smtp")
        self._loop = self._thread.loop
        self._server = self._loop.run_until_complete(
            self._loop.create_server(self._protocol, HOST, 0)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open and join the thread."""
        self._thread.stop([self._server])

    def _protocol(self) -> SMTP:
        context = server_context() if self.offers_tls else None
        return _Protocol(self, hostname="smtp.example", tls_context=context, loop=self._loop)

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802 - aiosmtpd's
        """Let an application in, or say what Exchange Online says."""
        response = base64.b64decode(args[1]) if args[1:] else await server.challenge_auth(b"")
        assert isinstance(response, bytes)
        self.responses.append(response)
        user = response.partition(b"\x01")[0].decode().removeprefix("user=")
        token = response.partition(b"auth=Bearer ")[2].rstrip(b"\x01").decode()
        claims = self._claims(token)
        if claims is None:
            if self.challenges:
                reason = json.dumps({"status": "400", "schemes": "bearer"}).encode()
                answer = await server.challenge_auth(reason)
                assert isinstance(answer, bytes)
                self.responses.append(answer)
            return AuthResult(success=False, handled=False, message=_UNSUCCESSFUL)
        if user in self.disabled:
            return AuthResult(success=False, handled=False, message=f"{_DISABLED} for the Mailbox.")
        return AuthResult(success=True, auth_data=(user, claims["oid"]))

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Take a message from whoever may send as its sender."""
        auth_data: Any = session.auth_data
        user, object_id = auth_data
        content = envelope.content
        assert isinstance(content, bytes)
        message: Any = message_from_bytes(content, policy=policy.default)
        (sender,) = message["From"].addresses
        if (sender.addr_spec, object_id) not in self.send_as:
            return f"554 5.2.252 SendAsDenied; {user} not allowed to send as {sender.addr_spec}"
        self.sent.append((user, message))
        return "250 2.0.0 OK"

    def _claims(self, token: str) -> dict[str, Any] | None:
        key = jwt.PyJWK(self.exchange._issuer.jwks()["keys"][0]).key  # pyright: ignore[reportPrivateUsage] # its keys
        try:
            claims = jwt.decode(token, key, algorithms=["RS256"], audience=EXCHANGE_AUDIENCES)
        except jwt.InvalidTokenError:
            return None
        return claims if "SMTP.SendAsApp" in claims.get("roles", ()) else None
