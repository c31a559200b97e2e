"""Tokens in a real Redis: shared by processes, encrypted, and never in the way of a login."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.fernet import Fernet
from support.concurrency import until
from support.redis_server import RedisServer

from exo_imap_oauth import AccessToken, TokenSource
from exo_imap_oauth.redis_cache import RedisTokenCache
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

KEY = Fernet.generate_key()
LIMIT = 60.0  # s


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


@pytest.mark.parametrize("entry", [b"", b"{", b"[]", b"\xff", b"null"])
def test_an_entry_that_is_none_is_absent(client: Any, entry: bytes) -> None:
    plain = RedisTokenCache(client, key=None, allow_plaintext=True)
    client.set("exo-imap-oauth:1:token:key", entry, px=100_000)
    assert plain.get("key") is None


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


def test_other_clients_are_refused() -> None:
    import redis.asyncio

    with pytest.raises(TypeError, match=r"redis\.asyncio"):
        RedisTokenCache(cast("Any", redis.asyncio.Redis()), key=KEY)
    with pytest.raises(TypeError, match="not str"):
        RedisTokenCache(cast("Any", "redis://"), key=KEY)


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


# ---- without Redis ---------------------------------------------------------------------------


@pytest.fixture(name="own_server")
def _own_server(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    """One that a test may stop."""
    with RedisServer(redis_binary, tmp_path) as own:
        yield own


@pytest.mark.parametrize("how", ["gone", "frozen", "read-only", "full"])
def test_a_login_does_without_redis(
    own_server: RedisServer,
    exchange: ReadyExchange,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    with own_server.client(socket_timeout=None) as client:  # as older ones have it
        if how == "gone":
            own_server.stop()
        elif how == "frozen":
            own_server.freeze()
        elif how == "read-only":
            client.replicaof("127.0.0.1", "1")
        else:
            client.config_set("maxmemory", "1")
        cache = RedisTokenCache(client, key=KEY)
        source = source_of(exchange, cache)
        for _ in range(3):
            first = source.get_token()
            source.invalidate(first)
        if how == "frozen":
            own_server.thaw()
    assert len(exchange.token_requests) == 3
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "fetched directly" in warnings[0]


def test_redis_is_used_again_when_it_is_back(
    own_server: RedisServer,
    exchange: ReadyExchange,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    monkeypatch.setattr("exo_imap_oauth.redis_cache._ASK_AGAIN_AFTER", 0.0)
    with own_server.client() as client:
        cache = RedisTokenCache(client, key=KEY)
        own_server.stop()
        source = source_of(exchange, cache)
        source.invalidate(source.get_token())
        own_server.start()
        source.get_token()
        assert client.keys("*:token:*")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def source_of(exchange: ReadyExchange, cache: RedisTokenCache, **options: Any) -> TokenSource:
    return TokenSource(
        exchange.tenant_id,
        exchange.app.client_id,
        exchange.secret.value,
        token_uri=exchange.token_uri(),
        ssl_context=exchange.ssl_context,
        cache=cache,
        **options,
    )


def test_a_host_takes_the_token_that_another_one_fetched_ahead(
    server: RedisServer, cache: RedisTokenCache, exchange: ReadyExchange
) -> None:
    with server.client() as client:
        here = source_of(exchange, cache)
        there = source_of(exchange, RedisTokenCache(client, key=KEY))
        first = here.get_token()
        assert there.get_token().token == first.token
        due = replace(first, refresh_on=int(time.time()) - 1)
        cache.set(here._slot.key, due)
        for source in (here, there):
            source._slot.hold(due)
        exchange.advance_clock(1)  # the next token is another one
        until(lambda: here.get_token().token != first.token)
        until(lambda: there.get_token().token != first.token)
        assert there.get_token().token == here.get_token().token
    assert len(exchange.token_requests) == 2


# ---- a fleet ---------------------------------------------------------------------------------

PROCESSES, THREADS = 32, 8

MEMBER = """
import json, os, sys, threading, time
import redis
from exo_imap_oauth import TokenSource, redis_cache
from exo_imap_oauth.redis_cache import RedisTokenCache

redis_cache._ANSWER_WITHIN = 30.0  # s; a busy machine is not the subject
arguments = json.loads(sys.argv[1])
cache = RedisTokenCache(redis.Redis.from_url(arguments["redis"]), key=arguments["key"].encode())
source = TokenSource(
    arguments["tenant_id"], arguments["client_id"], arguments["secret"],
    token_uri=arguments["token_uri"], cache=cache, **arguments["options"],
)

def in_processes(work):
    # All are forked before any of them begins.
    held, let_go = os.pipe()
    children = []
    for _ in range(arguments["processes"]):
        child = os.fork()
        if child == 0:
            os.close(let_go)
            os.read(held, 1)
            os.write(1, (json.dumps(work()) + "\\n").encode())
            os._exit(0)
        children.append(child)
    os.close(let_go)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
"""
"""What a program begins with that is a fleet of processes."""

ASK = (
    MEMBER
    + """
def work():
    results, start, ends_on = [], threading.Barrier(arguments["threads"]), [0.0]

    def ask():
        start.wait()
        began = time.monotonic()
        token = source.get_token()
        results.append((token.token[-20:], time.monotonic() - began))
        ends_on[0] = token.expires_on

    for _ in range(arguments["rounds"]):
        time.sleep(max(0.0, ends_on[0] + 0.01 - time.time()))  # until the last one has expired
        threads = [threading.Thread(target=ask) for _ in range(arguments["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results

in_processes(work)
"""
)


class Fleet:
    """Processes that ask for a token of one identity, all at the same time."""

    def __init__(self, exchange: ReadyExchange, server: RedisServer, tmp_path: Path) -> None:
        self._environment = os.environ | {"SSL_CERT_FILE": str(exchange.write_ca(tmp_path / "ca"))}
        self.arguments: dict[str, Any] = {
            "redis": server.url,
            "key": KEY.decode(),
            "tenant_id": exchange.tenant_id,
            "client_id": exchange.app.client_id,
            "secret": exchange.secret.value,
            "token_uri": exchange.token_uri(),
            "processes": PROCESSES,
            "threads": THREADS,
            "rounds": 1,
            "options": {},
        }

    def start(self, program: str, **arguments: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(self.arguments | arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )

    def ask(self, **arguments: Any) -> list[tuple[str, float]]:
        """Have processes ask; the end of each token, and the seconds it took."""
        with self.start(ASK, **arguments) as members:
            output, _ = members.communicate(timeout=LIMIT)
        assert members.returncode == 0
        lines = [json.loads(line) for line in output.splitlines()]
        return [(text, seconds) for line in lines for text, seconds in line]


@pytest.fixture(name="fleet")
def _fleet(exchange: ReadyExchange, server: RedisServer, client: Any, tmp_path: Path) -> Fleet:
    del client  # has Redis emptied
    return Fleet(exchange, server, tmp_path)


@pytest.mark.slow
def test_a_cold_fleet_makes_one_request_and_so_it_does_at_expiry(
    fleet: Fleet, exchange: ReadyExchange
) -> None:
    app = exchange.register_app("short", token_lifetime=3)
    fleet.arguments |= {
        "client_id": app.client_id,
        "secret": exchange.add_client_secret(app).value,
    }
    answers = fleet.ask(rounds=2)
    assert len(answers) == 2 * PROCESSES * THREADS
    assert len({text for text, _ in answers}) == 2
    assert len(exchange.token_requests) == 2


@pytest.mark.slow
def test_a_killed_process_keeps_nobody_waiting_longer_than_its_lease(
    fleet: Fleet, exchange: ReadyExchange
) -> None:
    lease = 2.0  # s, as long as one exchange with the endpoint may take
    fleet.arguments["options"] = {"timeout": lease, "deadline": LIMIT}
    stalled = exchange.inject(Fault.TOKEN_STALL, seconds=LIMIT)
    with fleet.start(ASK, processes=1) as holder:
        stalled.wait_for_hits(timeout=LIMIT)
        os.killpg(holder.pid, signal.SIGKILL)
    answers = fleet.ask()
    assert len({text for text, _ in answers}) == 1
    assert stalled.hits + len(exchange.token_requests) == 2
    assert max(seconds for _, seconds in answers) < lease + LIMIT / 4


ASK_FOR_A_WHILE = (
    MEMBER
    + """
def work():
    slowest = 0.0
    for number in range(arguments["calls"]):
        if number == arguments["calls"] // 2:
            with open(arguments["halfway"], "a") as file:
                file.write("x")
            while not os.path.exists(arguments["redis_is_gone"]):
                time.sleep(0.01)
            source.invalidate(source.get_token())  # as after a refusal: now one is needed
        began = time.monotonic()
        source.get_token()
        slowest = max(slowest, time.monotonic() - began)
    return slowest

in_processes(work)
"""
)


@pytest.mark.slow
def test_a_fleet_goes_on_while_redis_is_gone(
    exchange: ReadyExchange, own_server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(exchange, own_server, tmp_path)
    gone, halfway, processes = tmp_path / "gone", tmp_path / "halfway", 8
    halfway.touch()
    fleet.arguments |= {"processes": processes, "calls": 10_000 // processes}
    with fleet.start(ASK_FOR_A_WHILE, redis_is_gone=str(gone), halfway=str(halfway)) as members:
        until(lambda: halfway.stat().st_size == processes)
        own_server.stop()
        gone.touch()
        output, _ = members.communicate(timeout=LIMIT)
    assert members.returncode == 0  # no call raised
    slowest = [json.loads(line) for line in output.splitlines()]
    assert len(slowest) == processes
    assert max(slowest) < 30  # s, the deadline of a call
    assert len(exchange.token_requests) <= 1 + processes
