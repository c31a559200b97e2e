"""A login does without Redis when that is late, dead, full, frozen or silent."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import pytest
from cryptography.fernet import Fernet
from support import HOST
from support.concurrency import together, until
from support.redis_server import RedisServer

from exo_imap_oauth.redis_cache import RedisTokenCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exo_imap_oauth import TokenSource
    from exo_imap_oauth.testing import ReadyExchange

KEY = Fernet.generate_key()


@pytest.fixture(name="server")
def _server(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(redis_binary, tmp_path) as server:
        yield server


def source_of(exchange: ReadyExchange, cache: RedisTokenCache) -> TokenSource:
    return exchange.inbox.token_source(cache=cache, ssl_context=exchange.ssl_context)


def impatient(server: RedisServer) -> Any:
    return server.client(socket_timeout=0.2, socket_connect_timeout=0.2)


@pytest.mark.parametrize("how", ["gone", "frozen", "read-only", "full"])
def test_a_login_does_without_redis(
    server: RedisServer, exchange: ReadyExchange, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with impatient(server) as client:
        if how == "gone":
            server.stop()
        elif how == "frozen":
            server.freeze()
        elif how == "read-only":
            client.replicaof("127.0.0.1", "1")
        else:
            client.config_set("maxmemory", "1")
        source = source_of(exchange, RedisTokenCache(client, key=KEY))
        for _ in range(3):
            first = source.get_token()
            source.invalidate(first)
        if how == "frozen":
            server.thaw()
    assert len(exchange.token_requests) == 3
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "fetched directly" in warnings[0]


def test_a_late_answer_leaves_no_lock_for_others_to_wait_for(
    server: RedisServer, exchange: ReadyExchange
) -> None:
    with impatient(server) as client, server.client() as other:
        assert client.ping()  # so that a question reaches it
        server.freeze()
        source_of(exchange, RedisTokenCache(client, key=KEY)).get_token()
        server.thaw()
        assert other.ping()  # it has worked off what waited
        assert other.keys("*:lock:*") == []


class Silent:
    """A server that takes connections and says nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.url = f"redis://{HOST}:{self._listener.getsockname()[1]}"
        self._taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._listener.accept()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in (self._listener, *self._taken):
            each.close()

    @property
    def questions(self) -> int:
        """Each comes over a connection of its own, since the last one failed."""
        return len(self._taken)


def test_after_one_question_without_an_answer_redis_is_left_alone(
    exchange: ReadyExchange, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Silent() as silent:
        cache = RedisTokenCache.from_url(silent.url, key=KEY, socket_timeout=0.2)
        source = source_of(exchange, cache)
        source.invalidate(source.get_token())
        source.get_token()
        assert silent.questions == 1
        monkeypatch.setattr("exo_imap_oauth.redis_cache._ASK_AGAIN_AFTER", 0.0)
        cache._ask_again_at = time.monotonic()  # five seconds later
        source.invalidate(source.get_token())
        assert silent.questions == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_many_who_find_redis_gone_at_once_give_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server((HOST, 0)) as closed:
        url = f"redis://{HOST}:{closed.getsockname()[1]}"
    cache = RedisTokenCache.from_url(url, key=KEY)
    assert together([lambda: cache.get("key")] * 32) == [None] * 32
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_redis_is_used_again_when_it_is_back(
    server: RedisServer,
    exchange: ReadyExchange,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    monkeypatch.setattr("exo_imap_oauth.redis_cache._ASK_AGAIN_AFTER", 0.0)
    with server.client() as client:
        server.stop()
        source = source_of(exchange, RedisTokenCache(client, key=KEY))
        source.invalidate(source.get_token())
        server.start()
        source.get_token()
        assert client.keys("*:token:*")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_host_takes_the_token_that_another_one_fetched_ahead(
    server: RedisServer, exchange: ReadyExchange
) -> None:
    with server.client() as client, server.client() as other:
        cache = RedisTokenCache(client, key=KEY)
        here = source_of(exchange, cache)
        there = source_of(exchange, RedisTokenCache(other, key=KEY))
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


# ---- late ------------------------------------------------------------------------------------


class Relay:
    """Stands before a server and passes on what that answers: late, or byte by byte."""

    def __init__(self, port: int, *, late: float = 0.0, drips: bool = False) -> None:
        self._port, self._late, self._drips = port, late, drips
        self._is_over = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self.url = f"redis://{HOST}:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._listener]
        self._spawn(self._take)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here = self._listener.accept()[0]
                there = socket.create_connection((HOST, self._port))
                self._sockets += [here, there]
                self._spawn(self._pass_on, here, there)
                self._spawn(self._answer, there, here)

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                there.sendall(data)

    def _answer(self, there: socket.socket, here: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := there.recv(65536):
                pieces = [bytes([each]) for each in data] if self._drips else [data]
                for piece in pieces:
                    if self._is_over.wait(self._late):
                        return
                    here.sendall(piece)


@pytest.mark.parametrize("lock", ["free", "of somebody else"])
@pytest.mark.parametrize("how", ["late", "drips"])
def test_a_redis_that_is_late_takes_no_time_of_the_endpoint(
    server: RedisServer, exchange: ReadyExchange, how: str, lock: str
) -> None:
    with Relay(server.port, late=0.4, drips=how == "drips") as relay, server.client() as client:
        cache = RedisTokenCache.from_url(relay.url, key=KEY, protocol=2)
        source = exchange.inbox.token_source(
            cache=cache, ssl_context=exchange.ssl_context, deadline=1.5
        )
        if lock == "of somebody else":
            client.set(f"exo-imap-oauth:1:lock:{source._slot.key}", "theirs")
        assert source.get_token().token
        assert source._slot.outage is None
