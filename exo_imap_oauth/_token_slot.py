"""What the token sources of one identity share: the token held, and the fetch under way."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from cachetools import TTLCache

from exo_imap_oauth._logging import logger
from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.errors import TokenError, TokenRequestRejected

if TYPE_CHECKING:
    from exo_imap_oauth.token_cache import TokenCache

NO_TOKEN = AccessToken(token="", expires_on=0, refresh_on=0, obtained_on=0.0)
PAUSE = 30.0  # s between tries to refresh ahead, unless the endpoint asked for more
_REFUSAL_MEMORY = 5.0  # s for which a refusal is repeated without asking Entra again


class Flight:
    """One fetch under way, and what came of it."""

    __slots__ = ("done", "forced", "outcome", "overdue_at")

    def __init__(self, overdue_at: float, *, forced: bool) -> None:
        self.forced = forced
        self.done = threading.Event()
        self.outcome: AccessToken | TokenError | None = None
        self.overdue_at = overdue_at


class Slot:
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
        self.hold(NO_TOKEN)
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
        self.flight: Flight | None = None
        self.refusal: TokenError | None = None
        self.refused_until = self.paused_until = 0.0

    def flight_to_join(self, ticks: float, *, forced: bool) -> Flight | None:
        """The fetch under way, unless it is lost or might bring the token of the cache."""
        flight = self.flight
        if flight is None or ticks >= flight.overdue_at:  # lost to a hanging name service, say
            return None
        return flight if flight.forced or not forced else None

    def land(self, flight: Flight, outcome: AccessToken | TokenError) -> None:
        """Take over what a fetch brought, and wake those who wait for it."""
        try:
            with process_lock:
                flight.outcome = outcome
                current = self.flight is flight
                if current:
                    self.flight = None
                if isinstance(outcome, AccessToken):
                    # A late one is kept only if there is none yet.
                    if current or self.token is NO_TOKEN:
                        self.hold(outcome)
                        self.refusal, self.paused_until = None, 0.0
                elif current:  # a late failure knows nothing about now
                    self._remember_failure(outcome)
        finally:
            flight.done.set()

    def _remember_failure(self, error: TokenError) -> None:
        now = time.monotonic()
        _kept_after_failure[id(self.cache), self.key] = self
        if isinstance(error, TokenRequestRejected) and not error.retryable:
            self.refusal, self.refused_until = error, now + _REFUSAL_MEMORY
        pause = max(PAUSE, error.retry_after or 0.0)
        serves_for = self.token.expires_on - time.time()
        if serves_for > 0 and now >= self.paused_until:  # one warning a pause
            logger.warning(
                "no new access token could be fetched%s; the current one serves for another"
                " %d min, next try in %.0f s: %s",
                f" [{error.advice.id}]" if error.advice else "",
                serves_for // 60,
                pause,
                error,
            )
        self.paused_until = now + pause * random.uniform(1.0, 1.1)  # noqa: S311 - no secret


_slots: WeakValueDictionary[tuple[int, str], Slot] = WeakValueDictionary()
# A program that builds a source for each attempt must not forget its failures at once.
_kept_after_failure = TTLCache[tuple[int, str], Slot](maxsize=1_000, ttl=2 * PAUSE)


def _renew_slots() -> None:
    for slot in list(_slots.values()):
        slot.renew()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_slots)


def shared_slot(cache: TokenCache, key: str) -> Slot:
    """The slot of an identity; the sources that have it keep it alive."""
    with process_lock:
        slot = _slots.get((id(cache), key))
        if slot is None:
            # The slot keeps the cache alive, so that its id() stays its own.
            slot = _slots[id(cache), key] = Slot(cache, key)
        return slot
