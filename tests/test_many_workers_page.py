"""The token cache in SQLite of docs/how-to/many-workers.md, as it stands there."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from support.pages import DOCS, blocks, run
from support.redis_server import RedisServer

from exo_imap_oauth import AccessToken, TokenSource

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/many-workers.md"


@pytest.fixture(name="cache")
def _cache(tmp_path: Path) -> Any:
    names: dict[str, Any] = {}
    run(blocks(PAGE, "python")[-1], names)
    return names["SqliteTokenCache"](tmp_path / "tokens")


def test_a_token_goes_to_redis_and_is_taken_from_there(
    redis_binary: str,
    trusted_exchange: ReadyExchange,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    trusted_exchange.write_config(tmp_path)
    page = blocks(PAGE, "python")[0]
    names: list[dict[str, Any]] = [{"key": Fernet.generate_key()}]
    names.append(dict(names[0]))
    with RedisServer(redis_binary, tmp_path) as server:
        address = "rediss://:password@redis.example:6380/0"
        assert address in page.text
        for process in names:
            run(page._replace(text=page.text.replace(address, server.url)), process)
            assert process["source"].get_token().claims["appid"]
            assert process["cache"]._client.dbsize() == 1
            process["cache"]._client.close()
    assert len(trusted_exchange.token_requests) == 1


def token(text: str, lives_for: float = 60.0) -> AccessToken:
    now = time.time()
    return AccessToken(
        token=text, expires_on=int(now + lives_for), refresh_on=int(now), obtained_on=now
    )


def test_it_keeps_tokens_until_they_expire(cache: Any) -> None:
    assert cache.get("key") is None
    cache.set("key", token("a.token"))
    assert cache.get("key").token == "a.token"
    cache.set("key", token("expired", lives_for=-5))
    assert cache.get("key") is None


def test_it_discards_only_the_same_token(cache: Any) -> None:
    cache.set("key", token("newer"))
    cache.discard("key", token("older"))
    assert cache.get("key") is not None
    cache.discard("key", token("newer"))
    assert cache.get("key") is None


def test_one_at_a_time_holds_its_lock_and_no_longer_than_its_lease(cache: Any) -> None:
    with cache.lock("key", 60) as ours, cache.lock("key", 60) as theirs:
        assert (ours, theirs) == (True, False)
    with cache.lock("key", -1) as ours, cache.lock("key", 60) as theirs:
        assert (ours, theirs) == (True, True)


def test_token_sources_of_several_caches_share_one_request(
    cache: Any, exchange: ReadyExchange
) -> None:
    caches = [cache, *(type(cache)(cache._path) for _ in range(7))]
    tokens: set[str] = set()

    def ask(each: Any) -> None:
        source = TokenSource(
            exchange.tenant_id,
            exchange.app.client_id,
            exchange.secret.value,
            token_uri=exchange.token_uri(),
            ssl_context=exchange.ssl_context,
            cache=each,
        )
        tokens.add(source.get_token().token)

    threads = [threading.Thread(target=ask, args=(each,)) for each in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tokens) == len(exchange.token_requests) == 1
