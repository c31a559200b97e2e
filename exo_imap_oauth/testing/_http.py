"""HTTP for the token endpoint: one request per connection, parsed by h11."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import h11

from exo_imap_oauth.testing._entra import Answer
from exo_imap_oauth.testing._http_replies import (
    AFTER_A_REQUEST,
    Reply,
    instead,
    reply_with,
    spoil,
)
from exo_imap_oauth.testing._loop import reset

if TYPE_CHECKING:
    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._entra import TokenEndpoint
    from exo_imap_oauth.testing._faults import Faults
    from exo_imap_oauth.testing._tokens import TokenIssuer

_MAX_BODY = 1024 * 1024
_CHUNK = 64 * 1024


class _Request(NamedTuple):
    method: str
    path: str
    body: bytes


class EntraServer:
    """Serves the token endpoint, its OpenID configuration and its keys."""

    def __init__(
        self, endpoint: TokenEndpoint, issuer: TokenIssuer, clock: Clock, faults: Faults
    ) -> None:
        self._endpoint = endpoint
        self._issuer = issuer
        self._clock = clock
        self._faults = faults

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request of one connection."""
        connection = h11.Connection(h11.SERVER)
        try:
            request = await _read_request(connection, reader)
        except h11.RemoteProtocolError as error:
            answer = Answer(error.error_status_hint, {"error": "invalid_request"})
            reply: Reply | None = reply_with(answer)
        else:
            if request is None:
                return
            reply = await self._reply(request)
        if reply is None:
            reset(writer)
        elif connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send(reply, connection, reader, writer)

    async def _reply(self, request: _Request) -> Reply | None:
        """The reply to a request, or None to reset the connection."""
        _, tenant, *rest = request.path.split("/", 2)
        match rest:
            case ["oauth2/v2.0/token"]:
                return await self._reply_with_token(tenant, request)
            case ["v2.0/.well-known/openid-configuration"]:
                refusal = self._endpoint.refuse_tenant(tenant)
                return reply_with(refusal or Answer(200, self._openid_configuration(tenant)))
            case ["discovery/v2.0/keys"]:
                return reply_with(Answer(200, self._issuer.jwks()))
            case _:
                return reply_with(None)

    async def _reply_with_token(self, tenant: str, request: _Request) -> Reply | None:
        def right() -> Reply:
            return reply_with(self._endpoint.answer(tenant, request.method, request.body))

        injection = self._faults.strike(*AFTER_A_REQUEST)
        if injection is None:
            return right()
        reply = await spoil(injection, right)
        if reply is None:
            reply = instead(injection, self._endpoint)
            status = reply.status if reply else 0
            self._endpoint.fault(tenant, request.body, status, injection.fault.value)
        return reply

    def _openid_configuration(self, tenant: str) -> dict[str, Any]:
        base = f"{self._endpoint.base_uri}/{tenant}"
        return {
            "token_endpoint": self._endpoint.token_uri(tenant),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        }

    async def _send(
        self,
        reply: Reply,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        headers = [
            ("Date", formatdate(self._clock.now(), usegmt=True)),
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            ("Cache-Control", "no-store, no-cache"),
            ("Connection", "close"),
            *reply.headers,
        ]
        head = h11.Response(
            status_code=reply.status, headers=headers, reason=HTTPStatus(reply.status).phrase
        )
        events = head, h11.Data(data=reply.body), h11.EndOfMessage()
        wire = memoryview(b"".join(connection.send(event) or b"" for event in events))
        size = 1 if reply.pace else _CHUNK
        for start in range(0, len(wire), size):
            writer.write(wire[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)  # drain() alone does not let us hear that the client has left
            if reader.at_eof():
                return
            if reply.pace:
                await reply.pace.wait()


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> _Request | None:
    """The request, or None if the client went away without one."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_BODY:
                message = "request body too large"
                raise h11.RemoteProtocolError(message, error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            path = head.target.decode("ascii").partition("?")[0]
            return _Request(head.method.decode("ascii"), path, bytes(body))
        else:
            return None
