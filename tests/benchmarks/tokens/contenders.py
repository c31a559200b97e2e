"""This library, its five peers and the floor, each set up as its documentation says.

Each asks for a token as a client that makes a request with it would: the call returns the
token at hand while the peer finds it good enough, and gets one otherwise.
"""

# Most of the peers have no types, and none need be installed where types are checked: hence
# import_module, whose attributes are Any.

from __future__ import annotations

import http.client
import json
import ssl
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import Endpoint

    GetToken = Callable[[], object]

CLIENT, SECRET = "6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d", "s3cr3t~Value"
SCOPE = "https://outlook.office365.com/.default"
_time = time.time


def ours(endpoint: Endpoint, tenant: str) -> GetToken:
    from exo_imap_oauth import TokenSource

    source = TokenSource(tenant, CLIENT, SECRET, token_uri=endpoint.token_uri(tenant))
    return source.get_token


def msal(endpoint: Endpoint, tenant: str) -> GetToken:
    application: Any = import_module("msal").ConfidentialClientApplication(
        CLIENT,
        client_credential=SECRET,
        authority=f"{endpoint.origin}/{tenant}",
        instance_discovery=False,
    )

    def get() -> object:
        answer = application.acquire_token_for_client([SCOPE])
        if "access_token" not in answer:
            raise RuntimeError(answer.get("error"))
        return answer

    return get


def azure_identity(endpoint: Endpoint, tenant: str) -> GetToken:
    credential: Any = import_module("azure.identity").ClientSecretCredential(
        tenant, CLIENT, SECRET, authority=endpoint.origin, disable_instance_discovery=True
    )
    return lambda: credential.get_token(SCOPE)


def authlib(endpoint: Endpoint, tenant: str) -> GetToken:
    session: Any = import_module("authlib.integrations.requests_client").OAuth2Session(
        CLIENT,
        SECRET,
        scope=SCOPE,
        token_endpoint=endpoint.token_uri(tenant),
        token_endpoint_auth_method="client_secret_post",
        grant_type="client_credentials",
    )

    def get() -> object:
        if session.token is None:
            session.fetch_token()
        session.ensure_active_token()  # as its every request does
        return session.token

    return get


def requests_oauthlib(endpoint: Endpoint, tenant: str) -> GetToken:
    oauthlib = import_module("oauthlib.oauth2")
    client: Any = oauthlib.BackendApplicationClient(CLIENT)
    session: Any = import_module("requests_oauthlib").OAuth2Session(client=client, scope=SCOPE)
    expired: type[Exception] = oauthlib.TokenExpiredError
    uri = endpoint.token_uri(tenant)

    def fetch() -> object:
        return session.fetch_token(uri, client_secret=SECRET, include_client_id=True)

    def get() -> object:
        if client.access_token is None:
            return fetch()
        try:
            return client.add_token(uri, http_method="GET")  # as its every request does
        except expired:
            return fetch()

    return get


def google_auth(endpoint: Endpoint, tenant: str, *, background: bool = False) -> GetToken:
    # It has no client-credentials grant; its refresh-token grant costs the same one POST.
    credentials: Any = import_module("google.oauth2.credentials").Credentials(
        None,
        refresh_token="r",
        token_uri=endpoint.token_uri(tenant),
        client_id=CLIENT,
        client_secret=SECRET,
        scopes=[SCOPE],
    )
    if background:
        credentials.with_non_blocking_refresh()
    request: Any = import_module("google.auth.transport.requests").Request()

    def get() -> object:
        credentials.before_request(request, "GET", SCOPE, {})
        return credentials.token

    return get


def google_auth_background(endpoint: Endpoint, tenant: str) -> GetToken:
    return google_auth(endpoint, tenant, background=True)


class _Floor:
    """The least that a source of tokens that expire can do: a clock read and an attribute."""

    __slots__ = ("token",)

    def __init__(self, token: object) -> None:
        self.token = token

    def get_token(self) -> object:
        _time()
        return self.token


def floor(endpoint: Endpoint, tenant: str) -> GetToken:
    """The floor, after one bare HTTPS exchange."""
    host = urlsplit(endpoint.origin).netloc
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context())
    form = {
        "client_id": CLIENT,
        "client_secret": SECRET,
        "scope": SCOPE,
        "grant_type": "client_credentials",
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", endpoint.token_uri(tenant), urlencode(form), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return _Floor(answer["access_token"]).get_token


class Contender(NamedTuple):
    """Who takes part.

    Attributes:
        name: For the table.
        build: Makes a source.
        window: Seconds after which a token of an hour, whose ``refresh_in`` is half an hour, is
            one that this contender itself wants to replace ahead of time.
        imports: What its user imports.
    """

    name: str
    build: Callable[[Endpoint, str], GetToken]
    window: float = 0.0
    imports: str = ""


_HALF_AN_HOUR = 1860.0  # refresh_in is over
_LAST_MINUTES = 3480.0  # google-auth: 3 min 45 s before expiry
_LAST_MINUTE = 3570.0  # authlib: 60 s before; requests-oauthlib: never ahead
OURS = Contender("exo_imap_oauth", ours, _HALF_AN_HOUR, "import exo_imap_oauth")
FLOOR = Contender("floor", floor)
PEERS = (
    Contender("msal", msal, _HALF_AN_HOUR, "import msal"),
    Contender("azure-identity", azure_identity, _HALF_AN_HOUR, "import azure.identity"),
    Contender("authlib", authlib, _LAST_MINUTE, "import authlib.integrations.requests_client"),
    Contender("requests-oauthlib", requests_oauthlib, _LAST_MINUTE, "import requests_oauthlib"),
    Contender(
        "google-auth",
        google_auth,
        _LAST_MINUTES,
        "import google.oauth2.credentials, google.auth.transport.requests",
    ),
    Contender("google-auth, background", google_auth_background, _LAST_MINUTES),
)
ALL = (OURS, *PEERS)
