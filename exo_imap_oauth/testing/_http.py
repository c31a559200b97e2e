"""HTTP for the token endpoint: one request per connection, parsed by h11."""

from __future__ import annotations

import json
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11

from exo_imap_oauth.testing._entra import Answer

if TYPE_CHECKING:
    import asyncio

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._entra import TokenEndpoint
    from exo_imap_oauth.testing._tokens import TokenIssuer

_MAX_BODY = 1024 * 1024
_NOT_FOUND = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"


class EntraServer:
    """Serves the token endpoint, its OpenID configuration and its keys.

    Attributes:
        base_uri: The authority, without a trailing slash; set once the port is known.
    """

    def __init__(self, endpoint: TokenEndpoint, issuer: TokenIssuer, clock: Clock) -> None:
        self.base_uri = ""
        self._endpoint = endpoint
        self._issuer = issuer
        self._clock = clock

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request of one connection."""
        connection = h11.Connection(h11.SERVER)
        try:
            request, body = await _read_request(connection, reader)
        except h11.RemoteProtocolError as error:
            answer: Answer | None = Answer(error.error_status_hint, {"error": "invalid_request"})
        else:
            if request is None:
                return
            path = request.target.decode("ascii").partition("?")[0]
            answer = self._route(request.method.decode("ascii"), path, body)
        if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        for event in self._response(answer):
            writer.write(connection.send(event) or b"")
        await writer.drain()

    def _route(self, method: str, path: str, body: bytes) -> Answer | None:
        _, tenant, *rest = path.split("/", 2)
        match rest:
            case ["oauth2/v2.0/token"]:
                return self._endpoint.answer(tenant, method, body)
            case ["v2.0/.well-known/openid-configuration"]:
                refusal = self._endpoint.refuse_tenant(tenant)
                return refusal or Answer(200, self._openid_configuration(tenant))
            case ["discovery/v2.0/keys"]:
                return Answer(200, self._issuer.jwks())
            case _:
                return None

    def _openid_configuration(self, tenant: str) -> dict[str, Any]:
        base = f"{self.base_uri}/{tenant}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        }

    def _response(self, answer: Answer | None) -> tuple[h11.Response, h11.Data, h11.EndOfMessage]:
        if answer is None:
            status, kind, body = HTTPStatus.NOT_FOUND, "text/html; charset=utf-8", _NOT_FOUND
        else:
            status, kind = HTTPStatus(answer.status), "application/json; charset=utf-8"
            body = json.dumps(answer.body).encode()
        headers = [
            ("Date", formatdate(self._clock.now(), usegmt=True)),
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store, no-cache"),
            ("Connection", "close"),
        ]
        head = h11.Response(status_code=status, headers=headers, reason=status.phrase)
        return head, h11.Data(data=body), h11.EndOfMessage()


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request | None, bytes]:
    """The request and its body, or None if the client went away without one."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_BODY:
                message = "request body too large"
                raise h11.RemoteProtocolError(message, error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            return request, bytes(body)
        else:
            return None, b""
