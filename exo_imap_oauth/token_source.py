"""The token source: a fresh token at once, and one fetch at a time when there is none."""

from __future__ import annotations

import copy
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any, TypedDict
from weakref import WeakValueDictionary

from typing_extensions import override

from exo_imap_oauth._logging import logger
from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth._token_request import TokenRequest, token_uri_of
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.advice import explain
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.credentials import ClientSecret
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected
from exo_imap_oauth.token_cache import TokenCache, default_cache

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_NO_TOKEN = AccessToken(token="", expires_on=0, refresh_on=0, obtained_on=0.0)
_REFUSAL_MEMORY = 5.0  # s for which a refusal is repeated without asking Entra again
_PAUSE = 30.0  # s between tries to refresh ahead, unless the endpoint asked for more
_LOOK_AGAIN = 0.05  # s between looks into a cache whose lock another process holds
_PROTOCOL_KEYWORDS = frozenset({"claims", "tenant_id", "enable_cae"})

_time = time.time


class TokenSourceOptions(TypedDict, total=False):
    """The options of a :class:`TokenSource` that are not part of its identity."""

    cache: TokenCache | None
    ssl_context: ssl.SSLContext | None
    timeout: float
    deadline: float
    refresh_margin: float


class _Flight:
    """One fetch under way, and what came of it."""

    __slots__ = ("done", "forced", "outcome", "overdue_at")

    def __init__(self, deadline: float, *, forced: bool) -> None:
        self.forced = forced
        self.done = threading.Event()
        self.outcome: AccessToken | TokenError | None = None
        self.overdue_at = time.monotonic() + deadline


class _Slot:
    """What the sources of one identity and cache share."""

    __slots__ = (
        "__weakref__",
        "cache",
        "flight",
        "held",
        "key",
        "paused_until",
        "refusal",
        "refused_until",
    )

    def __init__(self, cache: TokenCache, key: str) -> None:
        self.cache = cache
        self.key = key
        self.hold(_NO_TOKEN)
        self.renew()

    def hold(self, token: AccessToken) -> None:
        """Have a token given from now on, together with when to fetch a new one."""
        # One tuple, so that no reader sees halves; a float, since comparing a clock's float
        # with an int costs as much as the rest of the hot path.
        self.held = (token, float(token.refresh_on))

    @property
    def token(self) -> AccessToken:
        """The token held, perhaps expired."""
        return self.held[0]

    def renew(self) -> None:
        """Forget what belongs to threads: a forked child has none of them."""
        self.flight: _Flight | None = None
        self.refusal: TokenError | None = None
        self.refused_until = self.paused_until = 0.0

    def land(self, flight: _Flight, outcome: AccessToken | TokenError) -> None:
        """Take over what a fetch brought, and wake those who wait for it."""
        with process_lock:
            current = self.flight is flight
            if current:
                self.flight = None
            if isinstance(outcome, AccessToken):
                # One that was given up for lost fills a gap, but replaces nothing.
                if current or self.token is _NO_TOKEN:
                    self.hold(outcome)
                    self.refusal = None
            else:
                self._remember_failure(outcome)
            flight.outcome = outcome
        flight.done.set()

    def _remember_failure(self, error: TokenError) -> None:
        if isinstance(error, TokenEndpointUnavailable) and error.retry_after is None:
            error.retry_after = _PAUSE
        now = time.monotonic()
        if isinstance(error, TokenRequestRejected) and not error.retryable:
            self.refusal, self.refused_until = error, now + _REFUSAL_MEMORY
        pause = max(_PAUSE, error.retry_after or 0.0)
        self.paused_until = now + pause * random.uniform(1.0, 1.1)  # noqa: S311 - no secret
        if _time() < self.token.expires_on:
            logger.debug(
                "refreshing ahead failed, the token held serves until %d, next try in %d s: %s",
                self.token.expires_on,
                pause,
                error.args[0],
            )


_slots: WeakValueDictionary[tuple[int, str], _Slot] = WeakValueDictionary()


def _renew_slots() -> None:
    for slot in list(_slots.values()):
        slot.renew()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_slots)


class TokenSource:
    """Access tokens of one application, by the client-credentials grant (RFC 6749 section 4.4).

    It has the shape of azure-core's ``TokenCredential``. Any number of threads may share one;
    sources with the same endpoint, client, scope and credential share their token too. It
    does not survive :mod:`pickle`; build one in each process from the same arguments.

    Args:
        tenant_id: The directory (tenant) ID, or one of the tenant's domain names.
        client_id: The application (client) ID.
        client_secret: The client secret's *Value*, or a callable that returns the current one.
            The callable is asked once per token request, in another thread; equal callables
            count as the same secret.
        cloud: Supplies the authority and the default scope.
        scope: One resource and ``/.default``. Default: the cloud's.
        token_uri: The token endpoint, https. Default: the one of the cloud and the tenant.
        cache: Where tokens are kept. Default: one cache for the whole process.
        ssl_context: Used as given. Default: what this machine trusts.
        timeout: Seconds for one HTTP exchange.
        deadline: Seconds for all tries of one fetch; no caller waits longer.
        refresh_margin: Seconds before expiry from which on a new token is fetched ahead, where
            the endpoint's answer does not say (``refresh_in``); at most half of a token's life.

    Raises:
        TypeError: No credential, or one of a wrong type.
        ValueError: An argument that cannot work; the text says which and why.
        InsecureConnectionError: ``ssl_context`` does not verify.

    Example:
        >>> source = TokenSource("contoso.com", "0b5e...", "the secret's value")
        >>> source.get_token().expires_on  # doctest: +SKIP
        1798765432
    """

    __slots__ = ("__weakref__", "_request", "_slot")

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        client_secret: str | Callable[[], str] | None = None,
        *,
        cloud: Cloud = Cloud.WORLDWIDE,
        scope: str | None = None,
        token_uri: str | None = None,
        cache: TokenCache | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        deadline: float = 30.0,
        refresh_margin: float = 300.0,
    ) -> None:
        if client_secret is None:
            raise TypeError("a TokenSource needs a client_secret")
        credential = ClientSecret(client_secret)
        del client_secret
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
        self._slot = _shared_slot(default_cache() if cache is None else cache, self._request)

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
        return (
            f"{type(self).__name__}(tenant_id={self.tenant_id!r}, client_id={self.client_id!r},"
            f" scope={self.scope!r}, token_uri={self.token_uri!r})"
        )

    # Sources of one identity are equal: they give the same tokens.
    @override
    def __eq__(self, other: object) -> bool:
        return self._slot is other._slot if isinstance(other, TokenSource) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(self._slot)

    @override
    def __reduce__(self) -> str:
        raise TypeError(
            "a TokenSource is not pickled, it holds a secret; build one in each process from the"
            " same arguments, for example with InboxConfig.token_source()"
        )

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:  # noqa: ANN401 - the protocol's
        """A valid token: the one at hand, or a new one.

        A token inside its refresh window is returned at once while a new one is fetched in the
        background; if that fails, it goes on being returned until it expires.

        Args:
            *scopes: None, or this source's own scope (azure-core's ``TokenCredential``).
            **kwargs: ``claims`` other than None forces a new token; ``tenant_id`` and
                ``enable_cae`` are accepted and ignored.

        Raises:
            TokenRequestRejected: Entra refused; the same answer is given for up to 5 s without
                asking again.
            TokenEndpointUnavailable: No usable answer before the deadline.
            TokenError: The client secret or the cache raised something.
            ValueError: Another scope than this source's.
        """
        token, fresh_until = self._slot.held
        if _time() < fresh_until and not scopes and not kwargs:
            return token
        return self._get_token(scopes, kwargs)

    def invalidate(self, token: AccessToken) -> None:
        """Forget ``token`` because a server refused it, but only if it is still the one held.

        This reaches all sources of the same identity and the cache.
        """
        slot = self._slot
        with process_lock:
            if slot.token.token == token.token:
                slot.hold(_NO_TOKEN)
        slot.cache.discard(slot.key, token)

    def _get_token(self, scopes: tuple[str, ...], options: dict[str, Any]) -> AccessToken:
        if scopes and scopes != (self.scope,):
            raise ValueError(
                f"this source is for the scope {self.scope!r}, not {' '.join(scopes)!r}"
            )
        if unknown := options.keys() - _PROTOCOL_KEYWORDS:
            raise TypeError(f"get_token() got unexpected keywords: {', '.join(sorted(unknown))}")
        force = options.get("claims") is not None
        slot = self._slot
        with process_lock:
            token, now, ticks = slot.token, _time(), time.monotonic()
            held = not force and now < token.expires_on
            flight = slot.flight
            if flight is not None and ticks >= flight.overdue_at:
                flight = None  # lost to a hanging name service, say
            if held and (now < token.refresh_on or flight or ticks < slot.paused_until):
                return token
            if flight is not None and force and not flight.forced:
                flight = None  # it may bring the token from the cache
            refused = ticks < slot.refused_until and not held and not force
            refusal = slot.refusal if refused else None
            starts = flight is None and refusal is None
            if flight is None:
                flight = _Flight(self._request.deadline, forced=force)
            if starts:
                slot.flight = flight
        if refusal is not None:
            raise copy.copy(refusal)
        if starts:
            self._launch(flight, may_wait=not held)
        return token if held else self._outcome(flight)

    def _launch(self, flight: _Flight, *, may_wait: bool) -> None:
        """Fetch in a thread of its own; where none can start, here, or not at all."""
        try:
            threading.Thread(
                target=self._fetch, args=(flight,), name="exo_imap_oauth-token", daemon=True
            ).start()
        except RuntimeError:
            if may_wait:
                self._fetch(flight)
            else:
                self._slot.land(flight, TokenError("no thread can be started"))

    def _fetch(self, flight: _Flight) -> None:
        outcome: AccessToken | TokenError = TokenError("the token request was interrupted")
        try:
            outcome = self._cached_or_requested(forced=flight.forced)
        except Exception as error:  # noqa: BLE001 - a user's cache may raise anything
            outcome = TokenError(f"the token cache failed: {type(error).__name__}: {error}")
        finally:
            self._slot.land(flight, outcome)

    def _cached_or_requested(self, *, forced: bool) -> AccessToken | TokenError:
        with process_lock:  # fork waits for it, and thus never sees a half-imported module
            from exo_imap_oauth.token_endpoint import request_token  # noqa: PLC0415 - slow

        slot, deadline = self._slot, self._request.deadline
        give_up_at = time.monotonic() + deadline
        while True:
            with slot.cache.lock(slot.key, deadline) as ours:
                token = None if forced else slot.cache.get(slot.key)
                if token and _time() < (token.refresh_on if ours else token.expires_on):
                    return token
                if ours:
                    result = request_token(self._request)
                    if isinstance(result, AccessToken):
                        slot.cache.set(slot.key, result)
                    return result
            if time.monotonic() + _LOOK_AGAIN > give_up_at:
                return self._no_answer("another process has been fetching the token")
            time.sleep(_LOOK_AGAIN)

    def _outcome(self, flight: _Flight) -> AccessToken:
        """Wait for a fetch; its token, or a copy of its error for this thread alone."""
        if not flight.done.wait(self._request.deadline):
            raise self._no_answer("no answer")
        if isinstance(flight.outcome, AccessToken):
            return flight.outcome
        raise copy.copy(flight.outcome or TokenError("nothing"))

    def _no_answer(self, what: str) -> TokenEndpointUnavailable:
        return TokenEndpointUnavailable(
            f"{self.token_uri}: {what} for {self._request.deadline:g} s",
            advice=explain("token-endpoint-unreachable", token_uri=self.token_uri),
            retry_after=_PAUSE,
        )


def _shared_slot(cache: TokenCache, request: TokenRequest) -> _Slot:
    key = request.cache_key
    with process_lock:
        slot = _slots.get((id(cache), key))
        if slot is None:
            # The slot keeps the cache alive, so that its id() stays its own.
            slot = _slots[id(cache), key] = _Slot(cache, key)
        return slot
