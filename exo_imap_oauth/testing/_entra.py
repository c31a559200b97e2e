"""The token endpoint's answers (RFC 6749 section 4.4, in Entra's words)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from exo_imap_oauth.testing._assertions import ASSERTION_TYPE, check_assertion
from exo_imap_oauth.testing._records import TokenRequest
from exo_imap_oauth.testing._refusals import Refused
from exo_imap_oauth.testing._tokens import EXCHANGE_AUDIENCES

if TYPE_CHECKING:
    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._directory import Directory
    from exo_imap_oauth.testing._records import App
    from exo_imap_oauth.testing._tokens import TokenIssuer

_RESOURCES = EXCHANGE_AUDIENCES | {"https://graph.microsoft.com"}
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DOMAIN = re.compile(r"([a-z0-9-]+\.)+[a-z]{2,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status, a JSON body, and ``Retry-After`` in seconds, 0 for none."""

    status: int
    body: dict[str, Any]
    retry_after: float = 0.0


class TokenEndpoint:
    """Entra's token endpoint.

    Attributes:
        base_uri: The authority, without a trailing slash; set once the port is known.
        refresh_in: What an answer says of it, in seconds; None for nothing.
    """

    def __init__(self, directory: Directory, issuer: TokenIssuer, clock: Clock) -> None:
        self.base_uri = ""
        self.refresh_in: int | None = None
        self._directory = directory
        self._issuer = issuer
        self._clock = clock

    def token_uri(self, tenant: str) -> str:
        """The token endpoint of a tenant."""
        return f"{self.base_uri}/{tenant}/oauth2/v2.0/token"

    def answer(self, tenant: str, method: str, body: bytes) -> Answer:
        """Answer one token request, and record it.

        Args:
            tenant: The tenant of the URL.
            method: The HTTP method.
            body: The form, as it came.
        """
        form, duplicate = _parse_form(body)
        try:
            answer = Answer(200, self._token(tenant, method, form, duplicate))
            outcome = "issued"
        except Refused as refused:
            answer = Answer(refused.status, self._error(refused))
            outcome = f"AADSTS{refused.code}"
        self._record(tenant, form, answer.status, outcome)
        return answer

    def fault(self, tenant: str, body: bytes, status: int, fault: str) -> None:
        """Record a request that is not answered as it should be.

        Args:
            tenant: The tenant of the URL.
            body: The form, as it came.
            status: The HTTP status of the answer, 0 if there is none.
            fault: What was injected.
        """
        form, _ = _parse_form(body)
        self._record(tenant, form, status, f"fault {fault}")

    def _record(self, tenant: str, form: dict[str, str], status: int, outcome: str) -> None:
        client_id, scope = form.get("client_id", ""), form.get("scope", "")
        request = TokenRequest(self._clock.now(), tenant, client_id, scope, status, outcome)
        self._directory.record(request)

    def throttled(self, retry_after: float) -> Answer:
        """HTTP 429."""
        text = "The request was throttled due to too many requests."
        refused = Refused(429, "temporarily_unavailable", 90055, text)
        return Answer(refused.status, self._error(refused), retry_after)

    def unavailable(self, retry_after: float) -> Answer:
        """HTTP 503."""
        text = "A transient error has occurred. Please try again."
        refused = Refused(503, "temporarily_unavailable", 90033, text)
        return Answer(refused.status, self._error(refused), retry_after)

    def refuse_tenant(self, tenant: str) -> Answer | None:
        """The answer to any request that names an unknown tenant; None for a known one."""
        try:
            self._check_tenant(tenant)
        except Refused as refused:
            return Answer(refused.status, self._error(refused))
        return None

    def _token(
        self, tenant: str, method: str, form: dict[str, str], duplicate: str | None
    ) -> dict[str, Any]:
        if method != "POST":
            text = f"The endpoint only accepts POST requests. Received a {method} request."
            raise Refused(400, "invalid_request", 900561, text)
        if duplicate is not None:
            text = (
                f"The request is not properly formatted. The parameter '{duplicate}' is duplicated."
            )
            raise Refused(400, "invalid_request", 9000411, text)
        self._check_tenant(tenant)
        _check_grant(form)
        resource = _resource(form)
        app = self._authenticate(tenant, form)
        if resource not in _RESOURCES:
            text = (
                f"The resource principal named {resource} was not found in the tenant named"
                f" {tenant}. This can happen if the application has not been installed by the"
                " administrator of the tenant or consented to by any user in the tenant. You"
                " might have sent your authentication request to the wrong tenant."
            )
            raise Refused(400, "invalid_resource", 500011, text)
        roles = self._directory.roles(app) if resource in EXCHANGE_AUDIENCES else []
        refresh_in = {} if self.refresh_in is None else {"refresh_in": self.refresh_in}
        return {
            "token_type": "Bearer",
            "expires_in": app.token_lifetime,
            "ext_expires_in": app.token_lifetime,
            **refresh_in,
            "access_token": self._issuer.issue(app, resource, roles),
        }

    def _check_tenant(self, tenant: str) -> None:
        if self._directory.has_tenant(tenant):
            return
        if tenant.lower() in {"common", "consumers"}:
            text = (
                "The grant type isn't supported over the /common or /consumers endpoints. Please"
                " use the /organizations or tenant-specific endpoint."
            )
            raise Refused(400, "invalid_request", 9001023, text)
        if not (_GUID.fullmatch(tenant) or _DOMAIN.fullmatch(tenant)):
            text = (
                f"Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid"
                " external domain."
            )
            raise Refused(400, "invalid_request", 900023, text)
        text = (
            f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and"
            " are signing into the correct cloud. Check with your subscription administrator,"
            " this may happen if there are no active subscriptions for the tenant."
        )
        raise Refused(400, "invalid_tenant", 90002, text)

    def _authenticate(self, tenant: str, form: dict[str, str]) -> App:
        client_id = form["client_id"]
        app = self._directory.find_app(tenant, client_id)
        if app is None:
            text = (
                f"Application with identifier '{client_id}' was not found in the directory"
                f" '{tenant}'. This can happen if the application has not been installed by the"
                " administrator of the tenant or consented to by any user in the tenant. You may"
                " have sent your authentication request to the wrong tenant."
            )
            raise Refused(400, "unauthorized_client", 700016, text)
        if form.get("client_secret"):
            self._check_secret(form["client_secret"], app)
        elif form.get("client_assertion") and form.get("client_assertion_type") == ASSERTION_TYPE:
            check_assertion(
                form["client_assertion"],
                app,
                token_uri=self.token_uri(tenant),
                certificates=self._directory.certificates(app),
                federated=self._directory.federated_credentials(app),
                now=self._clock.now(),
            )
        else:
            text = (
                "'client_assertion', 'client_secret' or 'request' is required for the"
                " 'client_credentials' grant type."
            )
            raise Refused(401, "invalid_client", 7000216, text)
        return app

    def _check_secret(self, value: str, app: App) -> None:
        secret = self._directory.find_secret(app, value)
        if secret is None:
            text = (
                "Invalid client secret provided. Ensure the secret being sent in the request is"
                " the client secret value, not the client secret ID, for a secret added to app"
                f" '{app.client_id}'."
            )
            raise Refused(401, "invalid_client", 7000215, text)
        if secret.expires_on <= self._clock.now():
            text = (
                f"The provided client secret keys for app '{app.client_id}' are expired. Visit the"
                " Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or"
                " consider using certificate credentials for added security:"
                " https://aka.ms/certCreds."
            )
            raise Refused(401, "invalid_client", 7000222, text)

    def _error(self, refused: Refused) -> dict[str, Any]:
        trace_id, correlation_id = str(uuid.uuid4()), str(uuid.uuid4())
        timestamp = f"{datetime.fromtimestamp(self._clock.now(), UTC):%Y-%m-%d %H:%M:%SZ}"
        return {
            "error": refused.error,
            "error_description": f"AADSTS{refused.code}: {refused} Trace ID: {trace_id}"
            f" Correlation ID: {correlation_id} Timestamp: {timestamp}",
            "error_codes": [refused.code],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
            "error_uri": f"https://login.microsoftonline.com/error?code={refused.code}",
        }


def _parse_form(body: bytes) -> tuple[dict[str, str], str | None]:
    """The form's fields, and the name of one that came twice."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except ValueError:
        return {}, None
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            return form, name
        form[name] = value
    return form, None


def _check_grant(form: dict[str, str]) -> None:
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name, "").strip():
            text = f"The request body must contain the following parameter: '{name}'."
            raise Refused(400, "invalid_request", 900144, text)
    if form["grant_type"] != "client_credentials":
        text = f"The app requested an unsupported grant type '{form['grant_type']}'."
        raise Refused(400, "unsupported_grant_type", 70003, text)


def _resource(form: dict[str, str]) -> str:
    scopes = form["scope"].split()
    for scope in scopes:
        if not scope.endswith("/.default"):
            text = (
                f"The provided value for scope {form['scope']} is not valid. Client credential"
                " flows must have a scope value with /.default suffixed to the resource identifier"
                " (application ID URI)."
            )
            raise Refused(400, "invalid_scope", 1002012, text)
    if len(scopes) != 1:
        text = (
            "Provided value for the input parameter scope is not valid because it contains more"
            " than one resource."
        )
        raise Refused(400, "invalid_scope", 700022, text)
    return scopes[0].removesuffix("/.default")
