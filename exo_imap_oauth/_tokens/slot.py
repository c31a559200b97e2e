"""What the token sources of one identity share: the state machine of their token. No I/O.

A slot holds a token. It is *fresh* until ``refresh_on``, then *in its window* until
``expires_on``, then *expired*; a new slot holds an expired one. Beside it there may be a
*flight*, which is a fetch under way; a *pause* after one that failed; and, as long as the pause
is young, the *refusal* that it began with, or the *outage*. Whoever asks for a token gets this:

=============  ================  ================  ================  ============  ===========
token          nothing besides   flight            pause             refusal       outage
=============  ================  ================  ================  ============  ===========
fresh          the token         the token         the token         the token     the token
in its window  token, and fetch  the token         the token         the token     the token
expired        fetch, and wait   wait              fetch, and wait   the refusal   it, and
                                                                                   fetch
forced         fetch, and wait   wait (forced) or  fetch, and wait   fetch, and    fetch, and
                                 fetch, and wait                     wait          wait
=============  ================  ================  ================  ============  ===========

*Forced* asks past every cache (``claims=...``), so it joins a forced flight only. In an outage the
error is told at once, beside a flight too, of which there is one at a time. A credential
that may have changed since, which is a secret that a callable gives, is not refused here: it is
fetched with, and that flight, which asks the callable, brings the refusal again if it is of the
very same secret. And this is what happens to a slot:

======================  =====================================================================
a token lands           it is held; pause, refusal and outage end
a failure lands         a pause begins; a permanent one (400, 401) is the refusal for 5 s; one
                        that used up its deadline is the outage for 10 s, any other ends that
the refusal lands       nothing: it is the one that is remembered already
a flight is overdue     it is given up for lost, so whoever asks next fetches; if somebody
                        waited that long, it is the outage for 10 s
a lost flight lands     its token is held only if there is none yet; its failure is forgotten
a token is invalidated  it is dropped, here and in the cache, but only if it is still that one,
                        and is not taken out of the cache again
the process forks       the child forgets flight, pause, refusal and outage, and keeps the token
the wall clock is set   nothing: all times here are those of the monotonic clock
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
from exo_imap_oauth.access_token import AccessToken, expires_at, refresh_at
from exo_imap_oauth.errors import TokenRequestRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.errors import ExoImapOAuthError
    from exo_imap_oauth.token_cache import TokenCache

_logger = logging.getLogger(__name__)

NO_TOKEN = AccessToken(token="", expires_on=0, refresh_on=0, obtained_on=0.0)
PAUSE = 30.0  # s between tries to fetch ahead, unless the endpoint asked for more
REFUSAL_MEMORY = 5.0  # s for which a refusal is repeated without asking Entra again
OUTAGE_MEMORY = 10.0  # s for which an outage is told without waiting for another fetch
SYSTEM_CLOCK = time.monotonic


class Flight:
    """One fetch under way, and what came of it."""

    __slots__ = ("credential", "done", "forced", "in_vain", "outcome", "overdue_at")

    def __init__(self, overdue_at: float, *, forced: bool) -> None:
        self.overdue_at = overdue_at
        self.forced = forced
        self.credential = b""  # the digest of what it goes to Entra with, if it does
        self.in_vain = False  # it used up its deadline
        self.done = threading.Event()
        self.outcome: AccessToken | ExoImapOAuthError | None = None


class Answer(NamedTuple):
    """What somebody gets who asks: the token, an outage's error, or a flight to wait for."""

    token: AccessToken | None
    flight: Flight | None = None
    outage: ExoImapOAuthError | None = None
    starts_flight: bool = False  # the one who asked has to start it


class Slot:
    """The state of one identity's token in one cache."""

    __slots__ = (
        "__weakref__",
        "cache",
        "cache_key",
        "clock",
        "dropped",
        "flight",
        "held",
        "key",
        "outage",
        "outage_until",
        "paused_until",
        "refusal",
        "refused_credential",
        "refused_until",
    )

    def __init__(self, cache: TokenCache, key: str, clock: Callable[[], float]) -> None:
        self.cache = cache
        self.key = self.cache_key = key  # a fetch sets the latter where a credential is in a file
        self.clock = clock  # s; for tokens, flights and pauses alike
        self.dropped = ""  # the token that was invalidated last
        self.hold(NO_TOKEN)
        self.forget_failures()

    @property
    def token(self) -> AccessToken:
        """The token held, perhaps expired."""
        return self.held[0]

    def hold(self, token: AccessToken) -> None:
        """Have a token given from now on."""
        # One tuple, so that no reader sees halves: the token, until when it is fresh, and the
        # clock to compare that with.
        self.held = (token, refresh_at(token), self.clock)

    def forget_failures(self) -> None:
        """Begin as a new process does: without flight, pause, refusal and outage."""
        self.flight: Flight | None = None
        self.refusal: TokenRequestRejected | None = None
        self.outage: ExoImapOAuthError | None = None
        self.refused_credential = b""
        self.refused_until = self.outage_until = self.paused_until = 0.0

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
            token, now = self.token, self.clock()
            usable = None if forced or now >= expires_at(token) else token
            flight = self._flight_to_join(now, forced=forced)
            if usable is not None and (now < refresh_at(token) or now < self.paused_until):
                return Answer(usable)
            outage = None
            if usable is None and not forced:
                outage = self._told(now, refuses=flight is None and not may_have_changed)
            if flight is not None:
                return Answer(usable, flight, outage)
            self.flight = Flight(now + deadline, forced=forced)
            return Answer(usable, self.flight, outage, starts_flight=True)

    def _told(self, now: float, *, refuses: bool) -> ExoImapOAuthError | None:
        """A copy of the outage, if there is one; that of a refusal is raised."""
        if refuses and self.refusal is not None and now < self.refused_until:
            raise copy.copy(self.refusal)
        return copy.copy(self.outage) if now < self.outage_until else None

    def refusal_of(self, flight: Flight) -> TokenRequestRejected | None:
        """The refusal that is remembered of the very credential that a flight has."""
        with process_lock:
            if flight.forced or flight.credential != self.refused_credential:
                return None
            return self.refusal if self.clock() < self.refused_until else None

    def _flight_to_join(self, now: float, *, forced: bool) -> Flight | None:
        flight = self.flight
        if flight is None or now >= flight.overdue_at:  # its thread hangs, e.g. in DNS
            return None
        return flight if flight.forced or not forced else None

    def cached(self, *, may_fetch: bool) -> AccessToken | None:
        """The token in the cache, where it saves a request."""
        token = self.cache.get(self.cache_key)
        if token is None or token.token == self.dropped:
            return None
        held = self.token
        is_news = token.token != held.token
        if not is_news:
            token = held  # whatever the cache believes, its life is counted here
        # A valid token that is not held here yet serves while the next one is fetched, and so
        # does any token while another process fetches.
        serves_until = expires_at(token) if is_news or not may_fetch else refresh_at(token)
        return token if self.clock() < serves_until else None

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
                        self._take(outcome, flight)
                elif is_current and outcome is not self.refusal and self._remember(outcome, flight):
                    to_warn_of = outcome
        finally:
            flight.done.set()
        if to_warn_of is not None:
            self._warn(to_warn_of)  # without the lock: a log may be slow, or want a token itself

    def _take(self, token: AccessToken, flight: Flight) -> None:
        if not flight.credential and token.token == self.dropped:
            return  # it was dropped after it had been found in the cache
        self.hold(token)
        self.refusal, self.paused_until, self.outage_until = None, 0.0, 0.0

    def _remember(self, failure: ExoImapOAuthError, flight: Flight) -> bool:
        """Begin a pause; whether it is the first failure since the last one was over."""
        now = self.clock()
        _kept_after_failure[id(self.cache), self.key] = self
        self.outage_until = 0.0
        if isinstance(failure, TokenRequestRejected) and not failure.retryable:
            self.refusal, self.refused_until = failure, now + REFUSAL_MEMORY
            self.refused_credential = flight.credential
        if flight.in_vain:
            self.refusal = None
            self.outage, self.outage_until = failure, now + OUTAGE_MEMORY
        is_news = now >= self.paused_until
        # Random, so that a fleet does not ask all at once.
        pause = _pause_after(failure) * random.uniform(1.0, 1.1)  # noqa: S311 - no secret
        self.paused_until = now + pause
        return is_news

    def give_up(self, flight: Flight, failure: ExoImapOAuthError) -> None:
        """Take note that somebody waited for a flight until it was overdue."""
        with process_lock:
            now = self.clock()
            if self.flight is flight and now >= flight.overdue_at:
                _kept_after_failure[id(self.cache), self.key] = self
                self.outage, self.outage_until = failure, now + OUTAGE_MEMORY

    def _warn(self, failure: ExoImapOAuthError) -> None:
        """Tell a person while the token still serves; later the callers are told themselves."""
        serves_for = expires_at(self.token) - self.clock()
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
                self.dropped = token.token
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
