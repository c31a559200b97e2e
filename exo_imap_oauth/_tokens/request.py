"""What is asked of the token endpoint: checked values, and the digest that tells them apart."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from exo_imap_oauth._arguments import TENANTS, require_context, require_text, what_is_unverified
from exo_imap_oauth._identifiers import problem_of_tenant, tenant_of
from exo_imap_oauth._text import check_seconds
from exo_imap_oauth.errors import InsecureConnectionError

if TYPE_CHECKING:
    import ssl

    from exo_imap_oauth._credentials.assertion import Purpose

_NOT_PLAIN = re.compile(r"[^\x21-\x7e]")


class Credential(Protocol):
    """What proves an application's identity."""

    @property
    def fingerprint(self) -> bytes:
        """A digest, equal for equal credentials; nothing can be told from it."""
        ...

    @property
    def known(self) -> dict[str, str]:
        """What :func:`~exo_imap_oauth.advice.advise` should know of it; nothing secret."""
        ...

    @property
    def may_change(self) -> bool:
        """Whether :meth:`current` may give another one next time."""
        ...

    @property
    def is_in_file(self) -> bool:
        """Whether tokens are kept by what :meth:`current` gives: other processes read it too."""
        ...

    @property
    def secrets(self) -> list[str]:
        """What no text may show, as far as it is known."""
        ...

    def current(self) -> Credential:
        """This credential as it is now, which does not change any more.

        Raises:
            TokenError: It cannot be obtained.
        """
        ...

    def form_fields(self, purpose: Purpose) -> dict[str, str]:
        """The form fields that carry it in one token request; new ones for each.

        Raises:
            TokenError: It cannot be obtained, or has expired.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A client-credentials request (RFC 6749 section 4.4.2).

    Attributes:
        tenant_id: The directory (tenant) ID or a domain name of the tenant.
        client_id: The application (client) ID.
        scope: One resource and ``/.default``.
        token_uri: The token endpoint; https.
        credential: What proves the application's identity.
        ssl_context: None for the default one.
        timeout: Seconds for one HTTP exchange.
        deadline: Seconds for all tries.
        refresh_margin: Seconds before expiry from which on a new token is wanted, where the
            answer does not say.

    Raises:
        TypeError: A text is not a string.
        ValueError: An argument cannot work.
        InsecureConnectionError: The TLS context does not verify.
    """

    tenant_id: str
    client_id: str
    scope: str
    token_uri: str
    credential: Credential = field(repr=False)
    ssl_context: ssl.SSLContext | None
    timeout: float
    deadline: float
    refresh_margin: float

    def __post_init__(self) -> None:
        for name in ("token_uri", "tenant_id", "client_id", "scope"):
            _check_text(name, getattr(self, name))
        _check_token_uri(self.token_uri)
        check_trust(self.ssl_context)
        for name in ("timeout", "deadline"):
            check_seconds(name, getattr(self, name))
        check_seconds("refresh_margin", self.refresh_margin, may_be_zero=True)

    @property
    def known(self) -> dict[str, str]:
        """What fills advice on it; nothing secret."""
        names = ("tenant_id", "client_id", "token_uri", "scope")
        return {name: getattr(self, name) for name in names} | self.credential.known

    @property
    def cache_key(self) -> str:
        """A digest over endpoint, client, scope and credential."""
        digest = hashlib.sha256()
        for part in (self.token_uri, self.client_id, self.scope):
            digest.update(b"%d:%s" % (len(part), part.encode()))
        digest.update(self.credential.fingerprint)
        return digest.hexdigest()


def token_uri_of(authority: str, tenant_id: str) -> str:
    """The v2.0 token endpoint of a tenant.

    Raises:
        TypeError: The tenant is not a string.
        ValueError: It is neither a GUID nor a domain name, or stands for many tenants.
    """
    _check_text("tenant_id", tenant_id)
    if "/" in tenant_id:
        raise ValueError(f"tenant_id must be the tenant alone, not a URL: {tenant_id!r}")
    if problem := problem_of_tenant(tenant_id):
        raise ValueError(f"tenant_id {tenant_id!r} {problem}")
    return f"{authority}/{tenant_id}/oauth2/v2.0/token"


def _check_text(name: str, value: str) -> None:
    require_text(name, value, "reference/api/token_source", TENANTS)
    if not value:
        raise ValueError(f"{name} is empty")
    if found := _NOT_PLAIN.search(value):
        raise ValueError(f"{name} holds {found[0]!r} at position {found.start()}: {value!r}")


def _check_token_uri(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme != "https" or not parts.hostname:
        message = f"token_uri must be an https URL, since the credential goes there, not {uri!r}"
    elif parts.username is not None or parts.password is not None or parts.fragment:
        message = "token_uri must have neither user, password nor fragment"
    elif (tenant := tenant_of(uri)) is not None and (problem := problem_of_tenant(tenant)):
        message = f"the tenant of token_uri, {tenant!r}, {problem}"
    else:
        return
    raise ValueError(message)


def check_trust(context: ssl.SSLContext | None) -> None:
    """Make sure that a TLS context verifies.

    Raises:
        InsecureConnectionError: It does not.
        TypeError: It is none.
    """
    require_context(context)
    unverified = "" if context is None else what_is_unverified(context)
    if unverified:
        raise InsecureConnectionError(
            f"the ssl_context does not verify {unverified}, so that the credential might go to"
            " anybody. Use: ssl_context=ssl.create_default_context()"
        )
