"""What the token sources of one identity share: the state machine of their token. No I/O.

A slot holds a token. It is *fresh* until ``refresh_on``, then *in its window* until
``expires_on``, then *expired*; a new slot holds an expired one. Beside it there may be a
*flight*, which is a fetch under way; a *pause* after one that failed; and, as long as the pause
is young, the *refusal* that it began with. Whoever asks for a token gets this:

=============  ================  ================  ================  ================
token          nothing besides   flight            pause             refusal
=============  ================  ================  ================  ================
fresh          the token         the token         the token         the token
in its window  token, and fetch  the token         the token         the token
expired        fetch, and wait   wait              fetch, and wait   the refusal
forced         fetch, and wait   wait (forced) or  fetch, and wait   fetch, and wait
                                 fetch, and wait
=============  ================  ================  ================  ================

*Forced* asks past every cache (``claims=...``), so it joins a forced flight only. A credential
that may have changed since, which is a secret that a callable gives, is not refused here: it is
fetched with, and that flight, which asks the callable, brings the refusal again if it is of the
very same secret. And this is what happens to a slot:

======================  =====================================================================
a token lands           it is held; pause and refusal end
a failure lands         a pause begins; a permanent one (400, 401) is the refusal for 5 s
the refusal lands       nothing: it is the one that is remembered already
a flight is overdue     it is given up for lost, so whoever asks next fetches
a lost flight lands     its token is held only if there is none yet; its failure is forgotten
a token is invalidated  it is dropped, here and in the cache, but only if it is still that one
the process forks       the child forgets flight, pause and refusal, and keeps the token
======================  =====================================================================
"""

from __future__ import annotations

import copy
import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from cachetools import TTLCache

from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.errors import TokenRequestRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.errors import ExoImapOAuthError
    from exo_imap_oauth.token_cache import TokenCache

_logger = logging.getLogger(__name__)

NO_TOKEN = AccessToken(token="", expires_on=0, refresh_on=0, obtained_on=0.0)
PAUSE = 30.0  # s between tries to fetch ahead, unless the endpoint asked for more
REFUSAL_MEMORY = 5.0  # s for which a refusal is repeated without asking Entra again


class Clock(NamedTuple):
    """Where a slot looks at the time."""

    time: Callable[[], float]  # Unix seconds, for tokens
    monotonic: Callable[[], float]  # s, for flights and pauses


SYSTEM_CLOCK = Clock(time.time, time.monotonic)


class Flight:
    """One fetch under way, and what came of it."""

    __slots__ = ("credential", "done", "forced", "outcome", "overdue_at")

    def __init__(self, overdue_at: float, *, forced: bool) -> None:
        self.overdue_at = overdue_at
        self.forced = forced
        self.credential = b""  # the digest of what it goes to Entra with
        self.done = threading.Event()
        self.outcome: AccessToken | ExoImapOAuthError | None = None


class Answer(NamedTuple):
    """What somebody who asks for a token gets: the token, or a flight to wait for."""

    token: AccessToken | None
    flight: Flight | None = None
    starts_flight: bool = False  # the one who asked has to start it


class Slot:
    """The state of one identity's token in one cache."""

    __slots__ = (
        "__weakref__",
        "cache",
        "cache_key",
        "clock",
        "flight",
        "held",
        "key",
        "paused_until",
        "refusal",
        "refused_credential",
        "refused_until",
    )

    def __init__(self, cache: TokenCache, key: str, clock: Clock) -> None:
        self.cache = cache
        self.key = self.cache_key = key  # a fetch sets the latter where a credential is in a file
        self.clock = clock
        self.hold(NO_TOKEN)
        self.forget_failures()

    @property
    def token(self) -> AccessToken:
        """The token held, perhaps expired."""
        return self.held[0]

    def hold(self, token: AccessToken) -> None:
        """Have a token given from now on."""
        # One tuple, so that no reader sees halves: the token, until when it is fresh, and the
        # clock to compare that with. A float, since comparing a clock's float with an int costs
        # as much as the rest of the hot path.
        self.held = (token, float(token.refresh_on), self.clock.time)

    def forget_failures(self) -> None:
        """Begin as a new process does: without flight, pause and refusal."""
        self.flight: Flight | None = None
        self.refusal: TokenRequestRejected | None = None
        self.refused_credential = b""
        self.refused_until = self.paused_until = 0.0

    # ---- somebody asks -----------------------------------------------------------------------

    def ask(
        self, deadline: float, *, forced: bool = False, may_have_changed: bool = False
    ) -> Answer:
        """What to do for somebody who wants a token, by the first table above.

        Args:
            deadline: Seconds after which a flight that starts now is given up for lost.
            forced: Whether the token must be a new one.
            may_have_changed: Whether the credential may be another one than at the last refusal.

        Raises:
            TokenRequestRejected: A copy of the refusal that is remembered.
        """
        with process_lock:
            token, now, ticks = self.token, self.clock.time(), self.clock.monotonic()
            usable = None if forced or now >= token.expires_on else token
            flight = self._flight_to_join(ticks, forced=forced)
            if usable is not None and (now < token.refresh_on or ticks < self.paused_until):
                return Answer(usable)
            if flight is not None:
                return Answer(usable, flight)
            if usable is None and not forced and not may_have_changed:
                self._raise_refusal(ticks)
            self.flight = Flight(ticks + deadline, forced=forced)
            return Answer(usable, self.flight, starts_flight=True)

    def _raise_refusal(self, ticks: float) -> None:
        if self.refusal is not None and ticks < self.refused_until:
            raise copy.copy(self.refusal)

    def refusal_of(self, flight: Flight) -> TokenRequestRejected | None:
        """The refusal that is remembered of the very credential that a flight has."""
        with process_lock:
            if flight.forced or flight.credential != self.refused_credential:
                return None
            return self.refusal if self.clock.monotonic() < self.refused_until else None

    def _flight_to_join(self, ticks: float, *, forced: bool) -> Flight | None:
        flight = self.flight
        if flight is None or ticks >= flight.overdue_at:  # its thread hangs, e.g. in DNS
            return None
        return flight if flight.forced or not forced else None

    def cached(self, *, may_fetch: bool) -> AccessToken | None:
        """The token in the cache, where it saves a request."""
        token = self.cache.get(self.cache_key)
        if token is None:
            return None
        # A valid token that is not held here yet serves while the next one is fetched, and so
        # does any token while another process fetches.
        is_news = token.token != self.token.token
        serves_until = token.expires_on if is_news or not may_fetch else token.refresh_on
        return token if self.clock.time() < serves_until else None

    # ---- what happens to it ------------------------------------------------------------------

    def land(self, flight: Flight, outcome: AccessToken | ExoImapOAuthError) -> None:
        """Take over what a flight brought, and wake those who wait for it."""
        to_warn_of: ExoImapOAuthError | None = None
        try:
            with process_lock:
                flight.outcome = outcome
                is_current = self.flight is flight
                if is_current:
                    self.flight = None
                if isinstance(outcome, AccessToken):
                    if is_current or self.token is NO_TOKEN:
                        self.hold(outcome)
                        self.refusal, self.paused_until = None, 0.0
                elif (
                    is_current
                    and outcome is not self.refusal
                    and self._remember(outcome, flight.credential)
                ):
                    to_warn_of = outcome
        finally:
            flight.done.set()
        if to_warn_of is not None:
            self._warn(to_warn_of)  # without the lock: a log may be slow, or want a token itself

    def _remember(self, failure: ExoImapOAuthError, credential: bytes) -> bool:
        """Begin a pause; whether it is the first failure since the last one was over."""
        ticks = self.clock.monotonic()
        _kept_after_failure[id(self.cache), self.key] = self
        if isinstance(failure, TokenRequestRejected) and not failure.retryable:
            self.refusal, self.refused_until = failure, ticks + REFUSAL_MEMORY
            self.refused_credential = credential
        is_news = ticks >= self.paused_until
        # Random, so that a fleet does not ask all at once.
        pause = _pause_after(failure) * random.uniform(1.0, 1.1)  # noqa: S311 - no secret
        self.paused_until = ticks + pause
        return is_news

    def _warn(self, failure: ExoImapOAuthError) -> None:
        """Tell a person while the token still serves; later the callers are told themselves."""
        serves_for = self.token.expires_on - self.clock.time()
        if serves_for <= 0:
            return
        advice = failure.advice.id if failure.advice else None
        _logger.warning(
            "no new access token could be fetched%s; the current one serves for another %d min,"
            " next try in %.0f s: %s",
            f" [{advice}]" if advice else "",
            serves_for // 60,
            _pause_after(failure),
            failure,
            extra={"exo_advice": advice},
        )

    def invalidate(self, token: AccessToken) -> None:
        """Drop a token that a server refused, but only if it is still the one held."""
        try:  # the cache first, or a fetch that starts in between would bring it back
            self.cache.discard(self.cache_key, token)
        finally:
            with process_lock:
                if self.token.token == token.token:
                    self.hold(NO_TOKEN)


def _pause_after(failure: ExoImapOAuthError) -> float:
    """Seconds until the next try to fetch ahead: what the endpoint asked for, if that is more."""
    return max(PAUSE, failure.retry_after or 0.0)


_slots: WeakValueDictionary[tuple[int, str], Slot] = WeakValueDictionary()
# A program that builds a source for each attempt must not forget its failures at once.
_kept_after_failure = TTLCache[tuple[int, str], Slot](maxsize=1_000, ttl=2 * PAUSE)


def shared_slot(cache: TokenCache, key: str) -> Slot:
    """The slot of an identity; the sources that have it keep it alive."""
    with process_lock:
        slot = _slots.get((id(cache), key))
        if slot is None:
            # The slot keeps the cache alive, so that its id() stays its own.
            slot = _slots[id(cache), key] = Slot(cache, key, SYSTEM_CLOCK)
        return slot


def _forget_failures_of_all() -> None:
    for slot in list(_slots.values()):
        slot.forget_failures()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_failures_of_all)
