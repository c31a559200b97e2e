"""The way of one fetch through the cache, in a thread of its own: a cache may be late, or hang."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

from exo_imap_oauth._threads import started, thread_of

if TYPE_CHECKING:
    from exo_imap_oauth._tokens.slot import Flight, Slot
    from exo_imap_oauth.access_token import AccessToken

_logger = logging.getLogger(__name__)

_LOOK_AGAIN = 0.05  # s between looks into a cache whose lock another process holds


class CacheVisit:
    """Finds a token in the cache, or has the right to fetch one, and keeps that in the cache.

    A visit that is late is not waited for, and goes on by itself: it gives a lock back that it is
    given too late, and keeps the token that was fetched meanwhile.

    Args:
        slot: Whose cache is visited.
        flight: The fetch.
        lease: Seconds that another process may take to fetch the token; after that it is fetched
            here, whatever the cache says.
    """

    def __init__(self, slot: Slot, flight: Flight, lease: float) -> None:
        self._slot, self._flight, self._lease = slot, flight, lease
        self._key = slot.cache_key  # the slot may have another one before the visit ends
        self._has_looked, self._has_fetched = threading.Event(), threading.Event()
        self._is_over = threading.Event()
        self._is_late = False
        self._found: AccessToken | None = None
        self._fetched: AccessToken | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        # Where no thread can start, the token is fetched without the cache.
        self._is_late = not started(thread_of("cache", self._take))
        return self

    def __exit__(self, *_: object) -> None:
        self._has_fetched.set()

    def find(self, seconds: float) -> AccessToken | Exception | None:
        """The token in the cache, or what the cache raised; None if one is to be fetched.

        Args:
            seconds: How long to wait for the cache.
        """
        if self._is_late:
            return None
        if not self._has_looked.wait(seconds):
            self._is_late = True
            _logger.warning(
                "the token cache did not answer within %.1f s, so a token is fetched without it",
                seconds,
            )
            return None
        return self._failure or self._found

    def end(self, fetched: AccessToken | None, seconds: float) -> Exception | None:
        """Keep the token that was fetched, if it was, and give the lock back.

        Args:
            fetched: The token.
            seconds: How long to wait for the cache, unless it was late before.

        Returns:
            What the cache raised, if it did in time.
        """
        self._fetched = fetched
        self._has_fetched.set()
        if not self._is_late:
            self._is_over.wait(seconds)
        return self._failure

    # ---- its thread --------------------------------------------------------------------------

    def _take(self) -> None:
        try:
            self._look_and_keep()
        except Exception as error:  # noqa: BLE001 - a user's cache may raise anything
            self._failure = error.with_traceback(None)
        finally:
            self._has_looked.set()
            self._is_over.set()

    def _look_and_keep(self) -> None:
        began_at = time.monotonic()
        # It only reads, so a cache whose answer comes too late holds no lock that nobody knows of.
        if self._finds(may_fetch=True):
            return
        while True:
            with self._slot.cache.lock(self._key, self._lease) as ours:
                is_patient = time.monotonic() - began_at < self._lease
                is_to_wait = not (ours or self._flight.forced or self._has_fetched.is_set())
                may_fetch = not (is_to_wait and is_patient)
                if self._finds(may_fetch=may_fetch):
                    return
                if may_fetch:
                    self._has_looked.set()
                    self._has_fetched.wait()
                    if self._fetched is not None:
                        self._slot.cache.set(self._key, self._fetched)
                    return
            time.sleep(_LOOK_AGAIN)

    def _finds(self, *, may_fetch: bool) -> bool:
        if not self._flight.forced:
            self._found = self._slot.cached(may_fetch=may_fetch)
        return self._found is not None
