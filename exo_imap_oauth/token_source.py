"""The token source: a fresh token at once, and one fetch at a time when there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from typing_extensions import override

from exo_imap_oauth._arguments import (
    FILES,
    Instead,
    refuses_inbox,
    require_cloud,
    require_text,
    wrong_kind,
)
from exo_imap_oauth._tokens.fetch import get_token
from exo_imap_oauth._tokens.request import TokenRequest, token_uri_of
from exo_imap_oauth._tokens.slot import NO_TOKEN, shared_slot
from exo_imap_oauth.access_token import AccessToken, expires_at, wall_clock_of
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.credentials import ClientAssertion, ClientCertificate, ClientSecret
from exo_imap_oauth.token_cache import TokenCache, default_cache

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from exo_imap_oauth._tokens.request import Credential

_PAGE = "reference/api/token_source"
_ONE_BY_ONE = Instead("pass what is in it: get_token(*scopes)")
_SCOPES = {"builtins.list": _ONE_BY_ONE, "builtins.tuple": _ONE_BY_ONE}
_PROTOCOL_KEYWORDS = frozenset({"claims", "tenant_id", "enable_cae"})


class TokenSourceOptions(TypedDict, total=False):
    """The options of a :class:`TokenSource` that are not part of its identity."""

    cache: TokenCache | None
    ssl_context: ssl.SSLContext | None
    timeout: float
    deadline: float
    refresh_margin: float


class TokenSource:
    """Access tokens of one application, by the client-credentials grant (RFC 6749 section 4.4).

    It has the shape of azure-core's ``TokenCredential``. Any number of threads may share one;
    sources with the same endpoint, client, scope and credential share their token too. It
    cannot be pickled; build one in each process from the same arguments.

    Args:
        tenant_id: The directory (tenant) ID, or one of the tenant's domain names.
        client_id: The application (client) ID.
        client_secret: The client secret's *Value*, or a callable that returns the current one.
            The callable is called for each token request, in another thread, and again at once if
            the last secret was refused; equal callables count as the same secret.
        certificate: In place of a secret: signs an assertion for each token request.
        assertion: In place of a secret, for workload identity federation: a callable that
            returns the current assertion of the other issuer, a JWT. It is called for each token
            request, in another thread; equal callables count as the same credential.
        cloud: Supplies the authority and the default scope.
        scope: One resource and ``/.default``. Default: the cloud's.
        token_uri: The token endpoint, https. Default: the one of the cloud and the tenant.
        cache: Where tokens are kept. Default: one cache for the whole process.
        ssl_context: Used as it is; it must verify. Default: what this machine trusts.
        timeout: Seconds for one HTTP exchange.
        deadline: Seconds for all tries of one fetch; no caller waits longer.
        refresh_margin: Seconds before expiry from which on a new token is fetched ahead, where
            the endpoint's answer does not say (``refresh_in``); at most half of a token's life.

    Raises:
        TypeError: No credential, more than one, or one of a wrong type.
        ValueError: An argument that cannot work; the text says which and why.
        InsecureConnectionError: ``ssl_context`` does not verify.

    Example:
        >>> source = TokenSource("contoso.com", "0b5e...", "the secret's value")
        >>> source.get_token().expires_on  # doctest: +SKIP
        1798765432
    """

    __slots__ = ("__weakref__", "_request", "_slot")

    @refuses_inbox("TokenSource()", "has one: inbox.token_source()")
    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        client_secret: str | Callable[[], str] | None = None,
        *,
        certificate: ClientCertificate | None = None,
        assertion: Callable[[], str] | None = None,
        cloud: Cloud = Cloud.WORLDWIDE,
        scope: str | None = None,
        token_uri: str | None = None,
        cache: TokenCache | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        deadline: float = 30.0,
        refresh_margin: float = 300.0,
    ) -> None:
        credential = _credential(client_secret, certificate, assertion)
        del client_secret, certificate, assertion  # tracebacks hold frames
        if isinstance(credential, Exception):
            raise credential
        require_cloud(cloud, Cloud)
        if cache is not None and not _is_cache(cache):
            raise wrong_kind("cache", cache, "a TokenCache", page="how-to/many-workers")
        self._request = TokenRequest(
            tenant_id=tenant_id,
            client_id=client_id,
            scope=cloud.scope if scope is None else scope,
            token_uri=token_uri_of(cloud.authority, tenant_id) if token_uri is None else token_uri,
            credential=credential,
            ssl_context=ssl_context,
            timeout=timeout,
            deadline=deadline,
            refresh_margin=refresh_margin,
        )
        cache = default_cache() if cache is None else cache
        self._slot = shared_slot(cache, self._request.cache_key)

    @property
    def tenant_id(self) -> str:
        """The directory (tenant) ID."""
        return self._request.tenant_id

    @property
    def client_id(self) -> str:
        """The application (client) ID."""
        return self._request.client_id

    @property
    def scope(self) -> str:
        """The scope of the tokens."""
        return self._request.scope

    @property
    def token_uri(self) -> str:
        """The token endpoint."""
        return self._request.token_uri

    @override
    def __repr__(self) -> str:
        if not hasattr(self, "_request"):  # in a traceback of __init__
            return object.__repr__(self)
        return (
            f"{type(self).__name__}(tenant_id={self.tenant_id!r}, client_id={self.client_id!r},"
            f" scope={self.scope!r}, token_uri={self.token_uri!r})"
        )

    def _repr_html_(self) -> str:
        """Identity and state for notebooks: no token is fetched for it, none is shown."""
        from exo_imap_oauth import _html  # noqa: PLC0415 - few need it, and loading it takes time

        token, fresh_until, clock = self._slot.held
        now = wall_clock_of(token)
        rows = {
            "tenant": self.tenant_id,
            "application": self.client_id,
            "credential": _credential_text(self._request.credential, now),
            "scope": self.scope,
            "token endpoint": self.token_uri,
        }
        badge: str = "no token yet"
        status: _html.Badge = "skipped"
        if token is not NO_TOKEN:
            claims = {
                name: token.claims[name] for name in _html.SHOWN_CLAIMS if name in token.claims
            }
            rows |= _html.time_rows(token, now) | _html.claim_rows(claims, token.token, now)
            badge = "token expired"
        if clock() < expires_at(token):
            badge, status = "in its refresh window", "warning"
        if clock() < fresh_until:
            badge, status = "token fresh", "passed"
        return _html.panel("Source of access tokens", _html.table(rows), badge=badge, status=status)

    # Sources of one identity are equal: they give the same tokens.
    @override
    def __eq__(self, other: object) -> bool:
        return self._slot is other._slot if isinstance(other, TokenSource) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash((id(self._slot.cache), self._slot.key))

    @override
    def __reduce__(self) -> str:
        raise TypeError(
            "a TokenSource is not pickled, it holds a secret; build one in each process from the"
            " same arguments, for example with InboxConfig.token_source()"
        )

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:  # noqa: ANN401 - the protocol's
        """A valid token: the one at hand, or a new one.

        A token inside its refresh window is returned at once while a new one is fetched in the
        background; if that fails, the old one is still returned until it expires.

        Args:
            *scopes: None, or this source's own scope (azure-core's ``TokenCredential``).
            **kwargs: ``claims`` other than None forces a new token; ``tenant_id`` and
                ``enable_cae`` are accepted and ignored.

        Raises:
            TokenRequestRejected: Entra refused; the same answer is given for up to 5 s without
                asking again.
            TokenEndpointUnavailable: No usable answer before the deadline; the same error is
                given for 10 s without waiting, while one more fetch is under way.
            TokenError: The credential cannot be obtained, the certificate has expired, or the
                cache raised something.
            InsecureConnectionError: The TLS context no longer verifies.
            ValueError: Another scope than this source's.
        """
        token, fresh_until, now = self._slot.held
        if now() < fresh_until and not scopes and not kwargs:
            return token
        for scope in scopes:
            require_text("scope", scope, _PAGE, _SCOPES)
        if scopes and scopes != (self.scope,):
            asked = " ".join(scopes)
            raise ValueError(f"this source is for the scope {self.scope!r}, not {asked!r}")
        if unknown := kwargs.keys() - _PROTOCOL_KEYWORDS:
            raise TypeError(f"get_token() got unexpected keywords: {', '.join(sorted(unknown))}")
        return get_token(self._slot, self._request, forced=kwargs.get("claims") is not None)

    def invalidate(self, token: AccessToken) -> None:
        """Forget ``token`` because a server refused it, but only if it is still the one held.

        This reaches all sources of the same identity and the cache.
        """
        if not isinstance(token, AccessToken):
            problem = wrong_kind("token", token, "an AccessToken", page=_PAGE)
            del token  # tracebacks hold frames
            raise problem
        self._slot.invalidate(token)


def _is_cache(given: object) -> bool:
    """Whether it has what :class:`TokenCache` asks for, which is not checked by isinstance()."""
    if isinstance(given, type):
        return False
    return all(hasattr(given, name) for name in ("get", "set", "discard", "lock"))


def _credential_text(credential: Credential, now: float) -> str:
    from exo_imap_oauth import _html  # noqa: PLC0415 - as above

    if isinstance(credential, ClientCertificate):
        return _html.certificate_text(credential, now)
    if isinstance(credential, ClientAssertion):
        return _html.ASSERTION
    return _html.secret_text(is_called=credential.may_change)


def _credential(
    client_secret: str | Callable[[], str] | None,
    certificate: ClientCertificate | None,
    assertion: Callable[[], str] | None,
) -> Credential | TypeError | ValueError:
    """The one credential that was given; or what is wrong, for the caller to raise."""
    given = {"client_secret": client_secret, "certificate": certificate, "assertion": assertion}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        found = f"not {' and '.join(names)}" if names else "and none was given"
        return TypeError(
            f"a TokenSource needs one of client_secret, certificate and assertion, {found}"
        )
    try:
        if client_secret is not None:
            return ClientSecret(client_secret)
        if assertion is not None:
            return ClientAssertion(assertion)
    except (TypeError, ValueError) as error:
        return error.with_traceback(None)
    if isinstance(certificate, ClientCertificate):
        return certificate
    page = "how-to/certificate"
    return wrong_kind("certificate", certificate, "a ClientCertificate", page=page, instead=FILES)
