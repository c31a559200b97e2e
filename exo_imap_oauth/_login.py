"""Who logs in: a user, and a token in any of the forms that applications hold."""

from __future__ import annotations

import base64
import math
import time
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from cachetools import TTLCache

from exo_imap_oauth._logging import logger
from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.xoauth2 import check_user, initial_response

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECOND_TRY_INTERVAL = 60.0  # s
# By the hash of the source, which is that of its identity: to hold a source would hold its secret.
_second_tries: TTLCache[int, None] = TTLCache(maxsize=10_000, ttl=_SECOND_TRY_INTERVAL)


class _HasToken(Protocol):
    @property
    def token(self) -> str: ...


class SupportsGetToken(Protocol):
    """A token source: ours, or any credential of azure-identity."""

    def get_token(self, *scopes: str) -> _HasToken:
        """A token for the scope; its ``token`` is the string."""
        ...


@runtime_checkable
class _Invalidates(Protocol):
    def invalidate(self, token: Any) -> None: ...  # noqa: ANN401 - whatever it issues


Token = str | AccessToken | SupportsGetToken
"""What can log in: a token's text, an :class:`AccessToken`, or what gives one."""


class Login:
    """A user and a token, kept out of the local variables that a traceback shows."""

    __slots__ = ("_began", "_issued", "_scope", "_token", "user")

    def __init__(self, user: str, token: Token, scope: str | None) -> None:
        self.user = user
        self._token = sealed(token)
        self._scope = scope
        self._began = time.time()
        self._issued: AccessToken | None = None

    def check(self) -> None:
        """Raise TypeError or ValueError for a user or token that cannot work."""
        if not isinstance(self.user, str):
            raise TypeError(f"user must be a string, not {type(self.user).__name__}")
        if problem := check_user(self.user):
            raise ValueError(problem)
        if isinstance(self._token, AccessToken):
            self.obtain()
            self.message()  # refuses a malformed token before anything is connected
        elif not callable(getattr(self._token, "get_token", None)):
            raise TypeError(
                "token must be a TokenSource, a credential, an AccessToken or a string,"
                f" not {type(self._token).__name__}"
            )

    def obtain(self) -> None:
        """Get the token that the next attempt uses.

        Raises:
            TokenError: The source got none. Foreign credentials raise their own errors.
        """
        if isinstance(self._token, AccessToken):
            self._issued = self._token
        else:
            own = getattr(self._token, "scope", None)  # a TokenSource has one
            default = own if isinstance(own, str) else Cloud.WORLDWIDE.scope
            scope = self._scope or default
            issued = self._token.get_token(scope)
            if isinstance(issued, AccessToken):
                self._issued = issued
            else:
                text = getattr(issued, "token", None)
                kind = type(issued if text is None else text).__name__
                self._issued = _access_token(text) if isinstance(text, str) else None
                if self._issued is None:
                    del issued, text  # tracebacks hold frames
                    raise TypeError(f"get_token() gave no token with a text, but {kind}")

    def message(self) -> bytes:
        """The SASL message."""
        return initial_response(self.user, self._issued.token if self._issued else "")

    def renew(self) -> bool:
        """After a refusal: drop a token that was cached, unless that was done lately.

        Returns:
            Whether another attempt makes sense.
        """
        source, issued = self._token, self._issued
        if issued is None or issued.obtained_on >= self._began:
            return False
        if not isinstance(source, _Invalidates):
            return False
        try:
            with process_lock:
                if hash(source) in _second_tries:
                    return False
                _second_tries[hash(source)] = None
            source.invalidate(issued)
        except Exception as error:  # noqa: BLE001 - whatever it is, the refusal says more
            logger.debug("no second try: %s: %s", type(error).__name__, error)
            return False
        return True

    def known(self) -> dict[str, str]:
        """What :func:`advise` may use: names and the token's claims."""
        claims: Mapping[str, Any] = self._issued.claims if self._issued else {}
        named = {
            "mailbox": self.user,
            "tenant_id": claims.get("tid"),
            "client_id": claims.get("appid") or claims.get("azp"),
            "aud": claims.get("aud"),
            "oid": claims.get("oid"),
        }
        known = {name: value for name, value in named.items() if isinstance(value, str)}
        if claims:
            roles = claims.get("roles")
            roles = cast("list[object]", roles) if isinstance(roles, list) else []
            known["roles"] = " ".join(map(str, roles))
        return known

    def redact(self, text: str) -> str:
        """``text`` without the token, should a server echo it."""
        if self._issued is not None and self._issued.token:
            encoded = base64.b64encode(self.message()).decode()
            for secret in (self._issued.token, encoded):
                text = text.replace(secret, "(the token)")
        return text


def sealed(token: Token) -> AccessToken | SupportsGetToken:
    """A token's text in an :class:`AccessToken`, whose ``repr()`` hides it; others as they are."""
    if isinstance(token, str):
        return _access_token(token)
    text = getattr(token, "token", None)  # azure-core's AccessToken has it, credentials do not
    if isinstance(text, str) and not (
        isinstance(token, AccessToken) or hasattr(token, "get_token")
    ):
        return _access_token(text)
    return token


def _access_token(text: str) -> AccessToken:
    """A token whose times are not known: as if it were obtained just now."""
    return AccessToken(token=text, expires_on=0, refresh_on=0, obtained_on=math.inf)
