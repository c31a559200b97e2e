"""Who bears what token: a user, and a token in any of the forms that applications hold."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from cachetools import TTLCache

from exo_imap_oauth._arguments import require_text
from exo_imap_oauth._credentials.foreign import (
    GivesToken,
    SupportsGetToken,
    as_source,
    issued_by,
    of_unknown_age,
    problem_of_source,
)
from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth._text import one_line
from exo_imap_oauth.access_token import AccessToken, ticks, was_obtained_before
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.xoauth2 import check_user, initial_response

if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = logging.getLogger(__name__)

_PAGE = "reference/api/imap"
_SECOND_TRY_INTERVAL = 60.0  # s
# By the hash of the source, which is that of its identity: to hold a source would hold its secret.
_second_tries: TTLCache[int, None] = TTLCache(maxsize=10_000, ttl=_SECOND_TRY_INTERVAL)


@runtime_checkable
class _Invalidates(Protocol):
    def invalidate(self, token: Any) -> None: ...  # noqa: ANN401 - whatever it issues


Token = str | AccessToken | GivesToken
"""What a login takes: a token's text, an :class:`AccessToken`, or something that gives one."""

_EXPECTED = (
    "a TokenSource, a credential, a function that returns a token, an AccessToken or a string"
)


class Bearer:
    """A user and a token, kept out of the local variables that a traceback shows."""

    __slots__ = ("_began", "_issued", "_refused", "_scope", "_token", "host", "login_said", "user")

    def __init__(self, user: str, token: Token, scope: str | None) -> None:
        self.user = user
        self.host = ""  # of the server, once there is a login
        self.login_said = ""  # a reason in the server's OK, fit to be quoted
        self._token = sealed(token)
        self._scope = scope
        self._began = ticks()
        self._issued: AccessToken | None = None
        self._refused: AccessToken | None = None

    @property
    def shown(self) -> str:
        """The user, fit to be quoted."""
        return one_line(self.user)

    def check(self) -> None:
        """Raise TypeError or ValueError for a user or token that cannot work."""
        require_text("user", self.user, _PAGE)
        if self._scope is not None:
            require_text("scope", self._scope, _PAGE)
        if problem := check_user(self.user):
            raise ValueError(problem)
        if isinstance(self._token, AccessToken):
            self.obtain()
            self.message()  # refuses a malformed token before anything is connected
        elif unusable := problem_of_source(self._token, "token", _EXPECTED):
            raise unusable

    def obtain(self) -> None:
        """Get the token that the next attempt uses, unless there is one already.

        Raises:
            TokenError: The source got none. Foreign credentials raise their own errors.
            TypeError: What the source gave has no text, or has to be awaited.
        """
        if self._issued is not None:
            return  # a function may ask for a new one each time
        if isinstance(self._token, AccessToken):
            self._issued = self._token
            return
        own = getattr(self._token, "scope", None)  # a TokenSource has one
        default = own if isinstance(own, str) else Cloud.WORLDWIDE.scope
        self._issued = issued_by(self._token, self._scope or default)

    def message(self) -> bytes:
        """The SASL message."""
        return initial_response(self.user, self._issued.token if self._issued else "")

    def drop_refused(self) -> bool:
        """Drop a token that was cached before this login, unless that was done lately.

        Returns:
            Whether another attempt makes sense.
        """
        source, issued = self._token, self._issued
        if issued is None or not was_obtained_before(issued, self._began):
            return False
        if not isinstance(source, _Invalidates):
            return False
        try:
            identity = hash(source)  # perhaps by somebody else's code, so without the lock
            with process_lock:
                if identity in _second_tries:
                    return False
                _second_tries[identity] = None
            source.invalidate(issued)
        except Exception as error:  # noqa: BLE001 - whatever it is, the refusal says more
            _logger.debug("no second try: %s", type(error).__name__)
            return False
        self._refused, self._issued = issued, None  # the server knows it, and may echo it still
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
            "host": self.host or None,
        }
        known = {name: value for name, value in named.items() if isinstance(value, str)}
        if claims:
            roles = claims.get("roles")
            roles = cast("list[object]", roles) if isinstance(roles, list) else []
            known["roles"] = " ".join(map(str, roles))
        return known

    def secrets(self) -> tuple[str, ...]:
        """What a server must not be quoted with, should it echo it."""
        told = [token.token for token in (self._issued, self._refused) if token and token.token]
        return tuple(form for text in told for form in (text, *_as_sent(self.user, text)))


def _as_sent(user: str, token: str) -> tuple[str, ...]:
    """The base64 of the SASL message; none of a token that cannot be sent."""
    try:
        return (base64.b64encode(initial_response(user, token)).decode(),)
    except ValueError:
        return ()


def sealed(token: Token) -> AccessToken | SupportsGetToken:
    """A token's text in an :class:`AccessToken`, whose ``repr()`` hides it; else what gives one."""
    if isinstance(token, str):
        return of_unknown_age(token)
    if isinstance(token, AccessToken):
        return token
    text = getattr(token, "token", None)  # azure-core's AccessToken has it, credentials do not
    if isinstance(text, str) and not hasattr(token, "get_token"):
        return of_unknown_age(text)
    return as_source(token)
