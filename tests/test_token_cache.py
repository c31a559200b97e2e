"""The cache in memory: each token until it expires, and no more of them than it may hold."""

from __future__ import annotations

import time

import pytest

from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.token_cache import MemoryTokenCache, default_cache


def test_the_default_cache_is_one_for_the_process() -> None:
    assert default_cache() is default_cache()
    with pytest.raises(ValueError, match="maxsize"):
        MemoryTokenCache(0)


def test_a_cache_forgets_expired_tokens_and_discards_only_the_one_meant() -> None:
    cache = MemoryTokenCache()
    now = int(time.time())
    old, new = (AccessToken(text, now + 60, now, now) for text in ("old", "new"))
    cache.set("key", new)
    cache.discard("key", old)
    assert cache.get("key") is new
    cache.discard("key", new)
    assert cache.get("key") is None
    cache.set("key", AccessToken("gone", now - 1, now - 1, now))
    assert cache.get("key") is None
    cache.set("key", new)
    cache.clear()
    assert cache.get("key") is None


def test_the_least_recently_used_token_is_forgotten_first() -> None:
    cache = MemoryTokenCache(maxsize=2)
    now = int(time.time())
    for key in ("one", "two"):
        cache.set(key, AccessToken(key, now + 60, now, now))
    assert cache.get("one")
    cache.set("three", AccessToken("three", now + 60, now, now))
    assert cache.get("two") is None
    assert cache.get("one")


def test_the_lock_is_always_given_since_threads_share_one_fetch_anyway() -> None:
    cache = MemoryTokenCache()
    with cache.lock("key", 1.0) as first, cache.lock("key", 1.0) as second:
        assert first
        assert second
