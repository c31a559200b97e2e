"""The token source: a fresh token at once, and one fetch at a time when there is none."""

from __future__ import annotations

import _thread
import copy
import threading
import time
from typing import TYPE_CHECKING, Any, TypedDict

from typing_extensions import override

from exo_imap_oauth._process_lock import fork_safe_lock, process_lock
from exo_imap_oauth._token_request import TokenRequest, token_uri_of
from exo_imap_oauth._token_slot import NO_TOKEN, Flight, shared_slot
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.credentials import ClientSecret
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError
from exo_imap_oauth.token_cache import TokenCache, default_cache

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_GRACE = 0.1  # s for a fetch that met its deadline to say what happened
_LOOK_AGAIN = 0.05  # s between looks into a cache whose lock another process holds
_LONGEST_WAIT = 1.0  # s; a longer one was seen to swallow Ctrl-C on busy machines
_PROTOCOL_KEYWORDS = frozenset({"claims", "tenant_id", "enable_cae"})

_import_lock = fork_safe_lock()
_time = time.time


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
        if not isinstance(cloud, Cloud):
            del client_secret  # tracebacks hold frames
            raise TypeError(f"cloud must be a Cloud, not {type(cloud).__name__}")
        try:
            credential = ClientSecret(client_secret)
        finally:
            del client_secret  # the same
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
        if not isinstance(token, AccessToken):
            kind = type(token).__name__
            del token  # tracebacks hold frames
            raise TypeError(f"invalidate() takes an AccessToken, not {kind}")
        slot = self._slot
        try:  # the cache first, or a fetch that starts in between would bring it back
            slot.cache.discard(slot.key, token)
        finally:
            with process_lock:
                if slot.token.token == token.token:
                    slot.hold(NO_TOKEN)

    def _get_token(self, scopes: tuple[str, ...], options: dict[str, Any]) -> AccessToken:
        if scopes and scopes != (self.scope,):
            asked = " ".join(scopes)
            raise ValueError(f"this source is for the scope {self.scope!r}, not {asked!r}")
        if unknown := options.keys() - _PROTOCOL_KEYWORDS:
            raise TypeError(f"get_token() got unexpected keywords: {', '.join(sorted(unknown))}")
        forced = options.get("claims") is not None
        slot = self._slot
        with process_lock:
            token, now, ticks = slot.token, _time(), time.monotonic()
            held = not forced and now < token.expires_on
            flight = slot.flight_to_join(ticks, forced=forced)
            if held and (now < token.refresh_on or flight or ticks < slot.paused_until):
                return token
            if not (held or forced) and slot.refusal is not None and ticks < slot.refused_until:
                raise copy.copy(slot.refusal)
            if starts := flight is None:
                flight = slot.flight = Flight(ticks + self._request.deadline, forced=forced)
        if starts:
            self._launch(flight, may_wait=not held)
        return token if held else self._outcome(flight)

    def _launch(self, flight: Flight, *, may_wait: bool) -> None:
        """Fetch in a thread of its own; where none can start, here, or not at all."""
        thread = threading.Thread(
            target=self._fetch, args=(flight,), name="exo_imap_oauth-token", daemon=True
        )
        if may_wait:
            if not _started(thread):
                self._fetch(flight)
            return
        try:  # Thread.start() waits for its thread, for which a caller with a token need not
            _thread.start_new_thread(self._start_or_land, (thread, flight))
        except RuntimeError:
            self._slot.land(flight, TokenError("no thread can be started"))

    def _start_or_land(self, thread: threading.Thread, flight: Flight) -> None:
        if not _started(thread):
            self._slot.land(flight, TokenError("no thread can be started"))

    def _fetch(self, flight: Flight) -> None:
        outcome: AccessToken | TokenError = TokenError("the token request was interrupted")
        try:
            outcome = self._cached_or_requested(flight)
        except Exception as error:  # noqa: BLE001 - a user's cache may raise anything
            outcome = TokenError(f"getting a token failed: {type(error).__name__}: {error}")
        finally:
            self._slot.land(flight, outcome)

    def _cached_or_requested(self, flight: Flight) -> AccessToken | TokenError:
        with _import_lock:  # fork waits for it, and thus never sees a half-imported module
            from exo_imap_oauth.token_endpoint import request_token  # noqa: PLC0415 - slow

        slot, deadline = self._slot, self._request.deadline
        give_up_at = time.monotonic() + deadline
        while True:
            with slot.cache.lock(slot.key, deadline) as ours:
                token = None if flight.forced else slot.cache.get(slot.key)
                # A valid token that the sources do not hold yet serves while the next is fetched.
                use_up = not ours or (token and token.token != slot.token.token)
                if token and _time() < (token.expires_on if use_up else token.refresh_on):
                    return token
                if ours:
                    result = request_token(self._request)
                    if isinstance(result, AccessToken):
                        slot.cache.set(slot.key, result)
                    return result
            if time.monotonic() + _LOOK_AGAIN > give_up_at:
                return self._no_answer("another process has been fetching the token")
            time.sleep(_LOOK_AGAIN)

    def _outcome(self, flight: Flight) -> AccessToken:
        """Wait for a fetch; its token, or a copy of its error for this thread alone."""
        done = _wait(flight.done, self._request.deadline + _GRACE)
        outcome, held = flight.outcome, self._slot.token
        if isinstance(outcome, AccessToken):
            if outcome is held and outcome.refresh_on <= _time() < outcome.expires_on:
                return self._get_token((), {})  # it is a cached one: have the next fetched ahead
            return outcome
        if not flight.forced and _time() < held.expires_on:
            return held  # of a later fetch, that replaced a lost one
        if not done:
            raise self._no_answer("no answer")
        raise copy.copy(outcome or TokenError("nothing"))

    def _no_answer(self, what: str) -> TokenEndpointUnavailable:
        from exo_imap_oauth.advice import explain  # noqa: PLC0415 - seldom needed

        return TokenEndpointUnavailable(
            f"{self.token_uri}: {what} for {self._request.deadline:g} s",
            advice=explain("token-endpoint-unreachable", token_uri=self.token_uri),
        )


def _wait(event: threading.Event, seconds: float) -> bool:
    give_up_at = time.monotonic() + seconds
    while not event.wait(max(0.0, min(give_up_at - time.monotonic(), _LONGEST_WAIT))):
        if time.monotonic() >= give_up_at:
            return False
    return True


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
