"""Tokens in a real Redis: what is kept, what is hidden, what is absent, and the lock."""

from __future__ import annotations

import json
import logging
import pickle
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from support.concurrency import until
from support.redis_server import RedisServer

from exo_imap_oauth import AccessToken
from exo_imap_oauth.access_token import count_from, ticks
from exo_imap_oauth.redis_cache import RedisTokenCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth.testing import ReadyExchange

KEY = Fernet.generate_key()
NAME = "exo-imap-oauth:1:token:key"
LOCK = "exo-imap-oauth:1:lock:key"


@pytest.fixture(scope="module", name="server")
def _server(redis_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(redis_binary, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(name="client")
def _client(server: RedisServer) -> Iterator[Any]:
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture(name="cache")
def _cache(client: Any) -> RedisTokenCache:
    return RedisTokenCache(client, key=KEY)


def token(text: str = "a.token", lives_for: float = 3600.0) -> AccessToken:
    now = time.time()
    return AccessToken(
        token=text,
        expires_on=int(now + lives_for),
        refresh_on=int(now + lives_for / 2),
        obtained_on=now,
    )


def entry_of(client: Any) -> tuple[bytes, bytes]:
    (name,) = client.keys("*:token:*")
    return name, client.get(name)


# ---- what is kept ----------------------------------------------------------------------------


def test_what_is_set_is_got_by_all(server: RedisServer, cache: RedisTokenCache) -> None:
    kept = token()
    cache.set("key", kept)
    with server.client() as other:
        found = RedisTokenCache(other, key=KEY).get("key")
    assert found is not None
    assert found.token == kept.token
    assert abs(found.expires_on - kept.expires_on) <= 1
    assert abs(found.refresh_on - kept.refresh_on) <= 2
    assert abs(found.obtained_on - kept.obtained_on) <= 2
    assert cache.get("another key") is None


def test_it_lives_as_long_as_its_token(client: Any, cache: RedisTokenCache) -> None:
    cache.set("key", token(lives_for=100))
    name, _ = entry_of(client)
    assert 98_000 < client.pttl(name) <= 100_000
    cache.set("expired", token(lives_for=-1))
    assert cache.get("expired") is None


def test_names_have_a_namespace_and_a_version(client: Any) -> None:
    RedisTokenCache(client, key=KEY, namespace="mail").set("key", token())
    assert client.keys("*") == [b"mail:1:token:key"]


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_only_the_same_token_is_discarded(client: Any, key: bytes | None) -> None:
    cache = RedisTokenCache(client, key=key, allow_plaintext=key is None)
    cache.set("key", token("newer.token"))
    cache.discard("key", token("older.token"))
    assert cache.get("key") is not None
    cache.discard("key", token("newer.token"))
    assert cache.get("key") is None
    cache.discard("key", token("newer.token"))


def test_a_client_that_decodes_works_too(server: RedisServer, cache: RedisTokenCache) -> None:
    with server.client(decode_responses=True) as decoding:
        other = RedisTokenCache(decoding, key=KEY)
        cache.set("key", token())
        found = other.get("key")
        assert found is not None
        other.discard("key", found)
        assert cache.get("key") is None


@pytest.mark.parametrize("minutes", [-1, 1])
def test_hosts_whose_clocks_differ_share_a_token(
    cache: RedisTokenCache, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    kept = token(lives_for=600)
    cache.set("key", kept)
    real, off = time.time, 60 * minutes
    monkeypatch.setattr(time, "time", lambda: real() + off)
    found = cache.get("key")
    assert found is not None
    assert abs(found.expires_on - (kept.expires_on + off)) <= 1
    assert abs(found.obtained_on - (kept.obtained_on + off)) <= 1


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_put_right_during_the_request_changes_no_life(
    server: RedisServer, client: Any, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    kept = token(lives_for=600)
    kept = count_from(kept, ticks() - (time.time() - kept.obtained_on))
    real, off = time.time, 3600 * hours
    monkeypatch.setattr(time, "time", lambda: real() + off)
    RedisTokenCache(client, key=KEY).set("key", kept)
    name, _ = entry_of(client)
    assert 590_000 < client.pttl(name) <= 600_000
    with server.client() as other:
        found = RedisTokenCache(other, key=KEY).get("key")
    assert found is not None
    assert abs(found.expires_on - (kept.expires_on + off)) <= 1
    assert abs(found.refresh_on - (kept.refresh_on + off)) <= 2
    assert abs(found.obtained_on - (kept.obtained_on + off)) <= 2


# ---- what is hidden --------------------------------------------------------------------------


def test_redis_holds_nothing_of_the_token(client: Any, cache: RedisTokenCache) -> None:
    text = "eyJhbGciOiJSUzI1NiJ9.a-token-that-nobody-may-read.signature"
    cache.set("key", token(text))
    everything = repr([(name, client.get(name)) for name in client.keys("*")])
    assert not any(text[at : at + 6] in everything for at in range(len(text) - 5))
    assert KEY.decode() not in repr(cache) + repr(vars(type(cache)))
    assert RedisTokenCache(client, key=Fernet.generate_key()).get("key") is None


def test_keys_can_be_rotated(client: Any, cache: RedisTokenCache) -> None:
    newer = Fernet.generate_key()
    cache.set("key", token())
    both = RedisTokenCache(client, key=[newer, KEY])
    assert both.get("key") is not None
    both.set("key", token())
    assert cache.get("key") is None
    assert RedisTokenCache(client, key=newer).get("key") is not None


def test_the_steps_of_a_rotation_leave_no_process_without_the_others_tokens(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As the page says: during each step, processes before and after it run side by side."""
    newer = Fernet.generate_key()
    steps = [[KEY], [KEY, newer], [newer, KEY], [newer]]
    for before, after in pairwise(steps):
        caches = [RedisTokenCache(client, key=keys) for keys in (before, after)]
        for writer in caches:
            client.flushall()
            writer.set("key", token())
            assert all(reader.get("key") is not None for reader in caches)
    assert not caplog.records


def test_an_entry_with_one_bit_changed_is_absent(
    client: Any, cache: RedisTokenCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.set("key", token())
    name, entry = entry_of(client)
    for place in range(0, len(entry), 7):
        changed = bytearray(entry)
        changed[place] ^= 1
        client.set(name, bytes(changed), px=100_000)
        assert cache.get("key") is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_entry_under_another_name_is_absent(client: Any, cache: RedisTokenCache) -> None:
    cache.set("key", token())
    _, entry = entry_of(client)
    client.set("exo-imap-oauth:1:token:other", entry, px=100_000)
    assert cache.get("other") is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": 2},
        {"token": 5},
        {"expires_on": "soon"},
        {"obtained_on": None},
    ],
)
def test_an_entry_of_another_form_is_absent(
    client: Any, cache: RedisTokenCache, change: dict[str, Any]
) -> None:
    cache.set("key", token())
    name, entry = entry_of(client)
    values = json.loads(Fernet(KEY).decrypt(entry)) | change
    client.set(name, Fernet(KEY).encrypt(json.dumps(values).encode()), px=100_000)
    assert cache.get("key") is None


@pytest.fixture(name="plain")
def _plain(client: Any) -> RedisTokenCache:
    return RedisTokenCache(client, key=None, allow_plaintext=True)


@pytest.mark.parametrize(
    "entry", [b"", b"{", b"[]", b"\xff", b"null", b"5", b"[" * 10_000], ids=lambda e: repr(e[:4])
)
def test_an_entry_that_is_none_is_absent(client: Any, plain: RedisTokenCache, entry: bytes) -> None:
    client.set(NAME, entry, px=100_000)
    assert plain.get("key") is None


@pytest.mark.parametrize(
    "damage",
    [
        {"expires_on": float("nan")},
        {"expires_on": 10**400},
        {"expires_on": -1},
        {"expires_on": True},
        {"refresh_on": float("nan")},
        {"refresh_on": float("inf")},
        {"refresh_on": -float("inf")},
        {"refresh_on": 10**400},
        {"obtained_on": float("nan")},
        {"obtained_on": float("-inf")},
        {"obtained_on": 10**400},
        {"obtained_on": "1"},
        {"token": ""},
        {"token": "a\r\nb"},
        {"token": "a b"},
        {"token": "ä"},
        {"token": "\ud800"},
        {"token": None},
        {"token": ["a"]},
        {"version": float("nan")},
    ],
    ids=lambda damage: ascii(damage)[:30],
)
@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_a_damaged_entry_is_absent_and_replaced(
    client: Any, key: bytes | None, damage: dict[str, Any]
) -> None:
    cache = RedisTokenCache(client, key=key, allow_plaintext=key is None)
    cache.set("key", token())
    text = client.get(NAME) if key is None else Fernet(KEY).decrypt(client.get(NAME))
    damaged = json.dumps(json.loads(text) | damage).encode()
    client.set(NAME, damaged if key is None else Fernet(KEY).encrypt(damaged), px=100_000)
    assert cache.get("key") is None
    cache.discard("key", token())
    cache.set("key", token("another.token"))
    found = cache.get("key")
    assert found is not None
    assert found.token == "another.token"


def test_no_entry_is_fresh_longer_than_it_is_valid_or_was_obtained_later_than_now(
    client: Any, plain: RedisTokenCache
) -> None:
    plain.set("key", token(lives_for=60))
    late = {"refresh_on": 9e10, "obtained_on": 9e10}
    client.set(NAME, json.dumps(json.loads(client.get(NAME)) | late), px=60_000)
    found = plain.get("key")
    assert found is not None
    assert found.refresh_on <= found.expires_on
    assert found.obtained_on <= time.time()


@pytest.mark.parametrize("decodes", [False, True])
def test_a_key_of_another_type_is_absent_and_replaced(
    server: RedisServer, client: Any, caplog: pytest.LogCaptureFixture, decodes: bool
) -> None:
    with server.client(decode_responses=decodes) as other:
        cache = RedisTokenCache(other, key=KEY)
        for kind in ("list", "hash", "not text"):
            client.flushall()
            if kind == "list":
                client.lpush(NAME, "a", "b")
            elif kind == "hash":
                client.hset(NAME, "a", "b")
            else:
                client.set(NAME, b"\xff\xfe")
            assert cache.get("key") is None
            cache.discard("key", token())
            cache.set("key", token())
            assert cache.get("key") is not None
    assert "Redis cannot be used" not in caplog.text


def test_nobody_makes_a_token_live_longer(client: Any, cache: RedisTokenCache) -> None:
    cache.set("key", token(lives_for=60))
    name, entry = entry_of(client)
    client.pexpire(name, 3_600_000)
    assert cache.get("key") is None
    client.set(name, entry)  # for ever
    assert cache.get("key") is None


# ---- how it is made --------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"", b"short", [b"short"], [], "ä", 5, [None]])
def test_what_is_not_a_key_is_refused_and_not_shown(client: Any, key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="key must be one or several keys") as raised:
        RedisTokenCache(client, key=key)
    assert "short" not in str(raised.value)


def test_without_a_key_plain_text_must_be_meant(client: Any) -> None:
    with pytest.raises(ValueError, match="allow_plaintext=True"):
        RedisTokenCache(client, key=None)
    RedisTokenCache(client, key=None, allow_plaintext=True)


def test_a_namespace_must_be_printable(client: Any) -> None:
    for namespace in ("", "a\nb"):
        with pytest.raises(ValueError, match="namespace"):
            RedisTokenCache(client, key=KEY, namespace=namespace)


def test_it_is_not_pickled(cache: RedisTokenCache) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(cache)


# ---- the lock --------------------------------------------------------------------------------


def test_one_holds_the_lock(client: Any, cache: RedisTokenCache) -> None:
    other = RedisTokenCache(client, key=KEY)
    with cache.lock("key", 30) as ours:
        assert ours
        with other.lock("key", 30) as theirs:
            assert not theirs
        with other.lock("another key", 30) as theirs:
            assert theirs
    with other.lock("key", 30) as theirs:
        assert theirs


def test_a_lock_lapses(client: Any, cache: RedisTokenCache) -> None:
    other = RedisTokenCache(client, key=KEY)

    def is_free() -> bool:
        with other.lock("key", 30) as theirs:
            return theirs

    with cache.lock("key", 0.05) as ours:
        assert ours
        until(is_free)


@pytest.mark.parametrize("kind", ["for ever", "a list", "for long"])
@pytest.mark.parametrize("limits", [{"timeout": 0.3}, {"deadline": 2.0}], ids=repr)
def test_a_lock_of_somebody_else_costs_no_login(
    client: Any, cache: RedisTokenCache, exchange: ReadyExchange, kind: str, limits: Any
) -> None:
    context = exchange.ssl_context
    source = exchange.inbox.token_source(cache=cache, ssl_context=context, **limits)
    lock = f"exo-imap-oauth:1:lock:{source._slot.key}"
    if kind == "a list":
        client.lpush(lock, "thief")
    else:
        client.set(lock, b"\xff", px=None if kind == "for ever" else 10**9)
    assert source.get_token().token
    assert len(exchange.token_requests) == 1
    assert cache.get(source._slot.key) is not None


def test_a_lock_that_lapsed_is_not_taken_from_the_next_one(
    client: Any, cache: RedisTokenCache
) -> None:
    with cache.lock("key", 30) as ours:
        assert ours
        client.set(LOCK, "of another process")
    assert client.get(LOCK) == b"of another process"
