"""Where access tokens are kept between token sources."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from cachetools import TLRUCache
from typing_extensions import override

from exo_imap_oauth._arguments import require_count
from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth.access_token import expires_at, ticks

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

    from exo_imap_oauth.access_token import AccessToken


class TokenCache(Protocol):
    """What a token source needs of a cache.

    Keys are opaque digests over endpoint, client, scope and credential. Implementations are
    thread-safe. A source reads its cache only when it holds no fresh token itself, in a thread of
    its own, for which it waits half of its ``deadline`` at most; then it does without the cache.
    """

    def get(self, key: str) -> AccessToken | None:
        """The token kept under ``key``, or None."""
        ...

    def set(self, key: str, token: AccessToken) -> None:
        """Keep ``token`` under ``key`` until it expires."""
        ...

    def discard(self, key: str, token: AccessToken) -> None:
        """Forget what is kept under ``key``, but only if it is still ``token``."""
        ...

    def lock(self, key: str, lease: float) -> AbstractContextManager[bool]:
        """Ask, without waiting, for the right to fetch the token of ``key``.

        Args:
            key: The digest.
            lease: Seconds after which the right lapses. Whoever has waited so long fetches the
                token without it.

        Returns:
            A context that yields True if the caller is to fetch the token, False if another
            process is fetching it.
        """
        ...


class MemoryTokenCache(TokenCache):
    """Keeps tokens in this process, each until it expires.

    Args:
        maxsize: Highest number of tokens; beyond it, the least recently used is forgotten.

    Raises:
        TypeError: ``maxsize`` is no whole number.
        ValueError: It is not positive.
    """

    def __init__(self, maxsize: int = 10_000) -> None:
        require_count("maxsize", maxsize, "reference/api/token_cache")
        self._tokens = TLRUCache[str, "AccessToken"](
            maxsize, ttu=lambda _key, token, _now: expires_at(token), timer=ticks
        )

    @override
    def get(self, key: str) -> AccessToken | None:
        with process_lock:
            return self._tokens.get(key)

    @override
    def set(self, key: str, token: AccessToken) -> None:
        with process_lock:
            self._tokens[key] = token

    @override
    def discard(self, key: str, token: AccessToken) -> None:
        with process_lock:
            if (kept := self._tokens.get(key)) is not None and kept.token == token.token:
                del self._tokens[key]

    @override
    def lock(self, key: str, lease: float) -> AbstractContextManager[bool]:
        # Threads of one process already share one fetch (see token_source).
        return nullcontext(True)

    def clear(self) -> None:
        """Forget all tokens."""
        with process_lock:
            self._tokens.clear()


_default = MemoryTokenCache()


def default_cache() -> MemoryTokenCache:
    """The cache that all token sources of this process share unless they are given another."""
    return _default


@contextmanager
def replaced_default(cache: MemoryTokenCache) -> Generator[None]:
    """Make another cache the default one inside a ``with`` block, in all threads; for tests."""
    global _default  # noqa: PLW0603 - there is one in a process
    before, _default = _default, cache
    try:
        yield
    finally:
        _default = before
