"""A client of redis-py that waits is refused with the line to write; from_url makes a right one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
import redis
from cryptography.fernet import Fernet
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel
from support import HOST
from support.pages import DOCS, blocks, run
from support.redis_server import RedisServer

from exo_imap_oauth import AccessToken
from exo_imap_oauth.redis_cache import RedisTokenCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = Fernet.generate_key()
URL = "redis://127.0.0.1:1/0"
FAST: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1}
ONCE: dict[str, Any] = FAST | {"retry": None}
PASSWORD = "p4ss/w0rd-of-Redis"

library: Any = redis  # its types fit not all of its versions


def refused(client: Any) -> str:
    with pytest.raises(ValueError, match="a login would wait for this client") as raised:
        RedisTokenCache(client, key=KEY)
    return str(raised.value)


# ---- from_url --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", [URL, "rediss://:password@127.0.0.1:1/0", "unix:///nowhere/redis.sock", "redis://[::1]"]
)
def test_from_url_makes_a_client_that_does_not_wait(url: str) -> None:
    cache = RedisTokenCache.from_url(url, key=KEY, namespace="mail")
    assert repr(cache) == "<RedisTokenCache mail:1>"
    RedisTokenCache.from_url(url, key=None, allow_plaintext=True)
    RedisTokenCache(cache._client, key=KEY)


def test_from_url_takes_what_redis_py_takes() -> None:
    cache = RedisTokenCache.from_url(URL, key=KEY, client_name="mail", socket_timeout=0.5)
    options = cache._client.connection_pool.connection_kwargs
    assert options["client_name"] == "mail"
    assert options["socket_timeout"] == 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"socket_timeout": None},
        {"socket_connect_timeout": 60},
        {"retry": Retry(NoBackoff(), 1)},
        {"retry_on_timeout": True},
        {"retry_on_error": [RedisTimeoutError]},
    ],
    ids=" ".join,
)
def test_from_url_cannot_be_made_to_wait(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a login would wait for this client"):
        RedisTokenCache.from_url(URL, key=KEY, **options)
    with pytest.raises(ValueError, match="its socket_timeout is 9 s"):
        RedisTokenCache.from_url(f"{URL}?socket_timeout=9", key=KEY)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1", "http://x", f"redis://:{PASSWORD}@host:6379/0", f"{URL}?socket_timeout=x", 5],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: Any) -> None:
    with pytest.raises(ValueError, match="url must be rediss://") as raised:
        RedisTokenCache.from_url(url, key=KEY)
    assert "w0rd" not in str(raised.value)
    assert raised.value.__cause__ is raised.value.__context__ is None


def test_an_option_that_redis_py_does_not_know_is_named() -> None:
    with pytest.raises(TypeError, match="socket_timeuot"):
        RedisTokenCache.from_url(URL, key=KEY, socket_timeuot=1)


# ---- clients of one's own --------------------------------------------------------------------


TAKEN: dict[str, Callable[[], Any]] = {
    "once": lambda: library.Redis(**ONCE),
    "from_url": lambda: library.Redis.from_url(URL, **FAST),
    "patient": lambda: library.Redis(socket_timeout=2.0, socket_connect_timeout=2.0, retry=None),
    "decoding": lambda: library.Redis(decode_responses=True, **ONCE),
    "no retries": lambda: library.Redis(retry=Retry(NoBackoff(), 0), **FAST),
    "unix socket": lambda: library.Redis.from_url("unix:///nowhere/redis.sock", **FAST),
    "pool": lambda: library.Redis(connection_pool=library.ConnectionPool(**FAST)),
    "blocking pool": lambda: library.Redis(
        connection_pool=library.BlockingConnectionPool(timeout=1, **FAST)
    ),
    "sentinel": lambda: sentinel(sentinel_kwargs=ONCE, **ONCE).master_for("mail"),
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_a_client_that_does_not_wait_is_taken(make: Callable[[], Any]) -> None:
    RedisTokenCache(make(), key=KEY)


def sentinel(**options: Any) -> Any:
    kind: Any = Sentinel
    return kind([("127.0.0.1", 1)], **options)


REFUSED: dict[str, Callable[[], Any]] = {
    "its socket_timeout is": library.Redis,
    "its socket_connect_timeout is": lambda: library.Redis.from_url(URL),
    "it tries again 3 times": lambda: library.Redis(**FAST | {"retry": Retry(NoBackoff(), 3)}),
    "it tries again for ever": lambda: library.Redis(**FAST | {"retry": Retry(NoBackoff(), -1)}),
    "its socket_timeout is 2.1 s, more than 2 s": lambda: library.Redis(
        **ONCE | {"socket_timeout": 2.1}
    ),
    "its socket_timeout is None, which is for ever": lambda: library.Redis(
        **ONCE | {"socket_timeout": None}
    ),
    "its socket_connect_timeout is 5 s": lambda: library.Redis(
        **ONCE | {"socket_connect_timeout": 5}
    ),
    "its pool's timeout is 20 s": lambda: library.Redis(
        connection_pool=library.BlockingConnectionPool(**FAST)
    ),
    "its pool's timeout is None": lambda: library.Redis(
        connection_pool=library.BlockingConnectionPool(timeout=None, **FAST)
    ),
}


@pytest.mark.parametrize(("why", "make"), REFUSED.items(), ids=REFUSED)
def test_a_client_that_waits_is_refused_with_the_line_to_write(
    make: Callable[[], Any], why: str
) -> None:
    text = refused(make())
    assert why in text
    assert "RedisTokenCache.from_url(url, key=key)" in text
    assert "redis.Redis(..., socket_timeout=1, socket_connect_timeout=1, retry=None)" in text


def test_sentinel_must_not_wait_either() -> None:
    assert "socket_timeout" in refused(sentinel().master_for("mail"))
    text = refused(
        sentinel(sentinel_kwargs=FAST | {"retry": Retry(NoBackoff(), 3)}, **ONCE).master_for("mail")
    )
    assert "tries again 3 times" in text
    assert "Sentinel(hosts, sentinel_kwargs=once, **once).master_for(name)" in text


def no_client() -> dict[str, tuple[Callable[[], Any], str]]:
    import redis.asyncio

    return {
        "asynchronous": (
            redis.asyncio.Redis,
            r"not redis\.asyncio\.client\.Redis: it is asynchronous",
        ),
        "a URL": (lambda: URL, r"not str: RedisTokenCache\.from_url\(url, key=key\)"),
        "a class": (
            lambda: library.Redis,
            r"not the class redis\.client\.Redis itself: .*url",
        ),
        "a pipeline": (
            lambda: library.Redis(**ONCE).pipeline(),
            r"not redis\.client\.Pipeline: pass the client",
        ),
        "a Sentinel": (sentinel, r"not redis\.sentinel\.Sentinel: .*master_for\(name\)"),
        "a pool": (library.ConnectionPool, r"not redis\.connection\.ConnectionPool"),
        "a mock": (MagicMock, r"not unittest\.mock\.MagicMock"),
        "a mock of one": (lambda: MagicMock(spec=redis.Redis), r"not unittest\.mock\.MagicMock"),
        "None": (lambda: None, "not None"),
    }


@pytest.mark.parametrize(("make", "what"), no_client().values(), ids=no_client())
def test_what_is_no_client_is_told_with_what_to_pass(make: Callable[[], Any], what: str) -> None:
    with pytest.raises(TypeError, match=rf"client must be a redis\.Redis.*{what}") as raised:
        RedisTokenCache(make(), key=KEY)
    assert "how-to/many-workers" in str(raised.value)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "1", b"1"], ids=repr)
@pytest.mark.parametrize("name", ["socket_timeout", "socket_connect_timeout"])
def test_what_is_no_time_to_wait_is_refused(name: str, seconds: Any) -> None:
    text = refused(library.Redis(**ONCE | {name: seconds}))
    assert f"its {name} is {seconds!r}, no positive number of seconds" in text


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1"], ids=repr)
def test_what_is_no_time_to_wait_for_a_pool_is_refused(seconds: Any) -> None:
    pool = library.BlockingConnectionPool(timeout=seconds, **FAST)
    assert f"its pool's timeout is {seconds!r}, no" in refused(library.Redis(connection_pool=pool))
    pool = library.BlockingConnectionPool(timeout=0, **FAST)  # it does not wait
    RedisTokenCache(library.Redis(connection_pool=pool), key=KEY)


def test_options_that_make_no_connection_are_told_without_the_password() -> None:
    url = f"redis://:{PASSWORD.replace('/', '%2F')}@127.0.0.1:1/0?protocol=7"
    with pytest.raises(ValueError, match=r"its options.*protocol must be either 2 or 3") as raised:
        RedisTokenCache.from_url(url, key=KEY)
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert "w0rd" not in str(raised.value)
    with pytest.raises(TypeError, match=r"its options.*'protocoll'"):
        RedisTokenCache.from_url(f"{URL}?protocoll=2", key=KEY)


# ---- a cluster -------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="cluster")
def _cluster(redis_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(redis_binary, tmp_path_factory.mktemp("redis"), cluster=True) as server:
        yield server


BEFORE_6 = int(redis.__version__.partition(".")[0]) < 6
CLUSTER_ONCE: dict[str, Any] = (
    {"cluster_error_retry_attempts": 0} if BEFORE_6 else {"retry": Retry(NoBackoff(), 0)}
)


def test_a_cluster_keeps_tokens(cluster: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with cluster.client(**CLUSTER_ONCE) as client:
        cache = RedisTokenCache(client, key=KEY)
        token = AccessToken("a.token", 2**32, 2**31, 0.0)
        assert cache.get("key") is None
        with cache.lock("key", 30) as ours, cache.lock("key", 30) as theirs:
            assert (ours, theirs) == (True, False)
        cache.set("key", token)
        found = cache.get("key")
        assert found is not None
        assert found.token == token.token
        cache.discard("key", token)
        assert cache.get("key") is None
    assert not caplog.records


@pytest.mark.skipif(BEFORE_6, reason="the page is for redis-py 6 and later")
def test_the_clients_of_the_page_are_taken(cluster: RedisServer) -> None:
    page = blocks(DOCS / "how-to/many-workers.md", "python")[1]
    names: dict[str, Any] = {"password": "of nobody"}
    clients: list[Any] = []
    text = page.text.replace(
        'host="redis.example", port=7000', f'host="{HOST}", port={cluster.port}'
    )
    for part in text.split("\n\n"):
        run(page._replace(text=part), names)
        if "client" in names:
            clients.append(names["client"])
            RedisTokenCache(names["client"], key=KEY)
    assert [type(client).__name__ for client in clients] == ["Redis", "Redis", "RedisCluster"]
    clients[-1].close()


def test_a_pipeline_of_a_cluster_is_no_client(cluster: RedisServer) -> None:
    with cluster.client(**CLUSTER_ONCE) as client:
        pipeline: Any = client.pipeline()
        with pytest.raises(TypeError, match=r"ClusterPipeline: pass the client"):
            RedisTokenCache(pipeline, key=KEY)


def test_a_cluster_that_tries_again_is_refused_with_the_line_to_write(
    cluster: RedisServer,
) -> None:
    with cluster.client() as client:
        text = refused(client)
    assert "RedisCluster.from_url(url, socket_timeout=1, socket_connect_timeout=1, " in text
    assert ("cluster_error_retry_attempts=0" in text) == BEFORE_6
    assert ("retry=Retry(NoBackoff(), 0)" in text) != BEFORE_6
    with cluster.client(socket_timeout=3, **CLUSTER_ONCE) as client:
        assert "socket_timeout is 3 s" in refused(client)
