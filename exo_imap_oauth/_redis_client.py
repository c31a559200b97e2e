"""A client of redis-py that does not wait: what is wrong with one, and how to make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exo_imap_oauth._arguments import Instead, wrong_kind
from exo_imap_oauth._text import described

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LONGEST_WAIT = 2.0  # s; what one question to Redis may cost a login
_WAIT = 1.0  # s, of the clients made here
_MADE_HERE: dict[str, Any] = {
    "socket_timeout": _WAIT,
    "socket_connect_timeout": _WAIT,
    # With RESP3, a server may lengthen these timeouts while it is maintained.
    "protocol": 2,
}
_METHODS = ("get", "set", "eval", "pipeline")
_LIBRARIES = ("redis", "valkey")
_ASYNC: Final = Instead("it is asynchronous, pass one of redis.Redis")
_PIPELINE: Final = Instead("pass the client that it is of")
_INSTEAD: Final[Mapping[str, Instead]] = {
    "builtins.str": Instead("RedisTokenCache.from_url(url, key=key) takes it"),
    "redis.asyncio.client": _ASYNC,
    "redis.asyncio.cluster": _ASYNC,
    "redis.client.Pipeline": _PIPELINE,
    "redis.cluster.ClusterPipeline": _PIPELINE,
    "redis.sentinel.Sentinel": Instead("pass the client that its master_for(name) makes"),
    "redis": Instead("make one of it, or write RedisTokenCache.from_url(url, key=key)"),
}


def client_from_url(url: str, options: dict[str, Any]) -> Any:  # noqa: ANN401 - of redis-py
    """A ``redis.Redis`` that waits one second for an answer, and tries once.

    Raises:
        ImportError: The extra ``redis`` is not installed.
        ValueError: The URL cannot be read.
    """
    try:
        import redis  # noqa: PLC0415 - of the extra
    except ImportError:
        raise ImportError(
            "RedisTokenCache.from_url needs redis-py: pip install 'exo-imap-oauth[redis]'"
        ) from None
    kind: Any = redis.Redis
    try:
        return kind.from_url(url, **_MADE_HERE | options)
    except (AttributeError, TypeError, ValueError):  # its text may hold a piece of the password
        pass
    raise ValueError(
        "url must be rediss://[[user]:password@]host[:port][/database], redis://... or"
        " unix://[[user]:password@]/path; in user and password, write each character that is"
        " neither a letter nor a digit as urllib.parse.quote(password, '') does"
    )


def problem_of_client(client: object) -> TypeError | ValueError | None:
    """Why a client cannot be used, or None."""
    if not _is_client(client):
        return wrong_kind(
            "client", client, "a redis.Redis", page="how-to/many-workers", instead=_INSTEAD
        )
    try:
        waits = [wait for each in _connecting(client) for wait in _waits(each)]
    except Exception as error:  # noqa: BLE001 - redis-py's, or one of a class that it was given
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return kind(f"client can make no connection with its options: {described(error)}")
    waits += _waits_of_cluster(client)
    if not waits:
        return None
    found = ", ".join(dict.fromkeys(waits))
    return ValueError(
        "a login would wait for this client when Redis is down, or could not use it at all:"
        f" {found}. Write RedisTokenCache.from_url(url, key=key), or for a client of your own"
        f" {_line(client)}"
    )


def _is_client(client: object) -> bool:
    modules = [kind.__module__ for kind in type(client).__mro__]
    if not any(name.partition(".")[0] in _LIBRARIES for name in modules):
        return False
    if any(".asyncio" in name for name in modules) or hasattr(client, "execute"):  # a pipeline
        return False
    return all(callable(getattr(client, name, None)) for name in _METHODS)


def _line(client: Any) -> str:  # noqa: ANN401 - of redis-py
    """How a client of its kind is made so that it can be used."""
    timeouts = "socket_timeout=1, socket_connect_timeout=1"
    if hasattr(client, "cluster_error_retry_attempts"):  # before redis-py 6
        return f"RedisCluster.from_url(url, {timeouts}, cluster_error_retry_attempts=0)"
    if hasattr(client, "get_nodes"):
        return f"RedisCluster.from_url(url, {timeouts}, retry=Retry(NoBackoff(), 0))"
    if hasattr(client.connection_pool, "sentinel_manager"):
        return (
            f"once = dict({timeouts}, retry=None);"
            " Sentinel(hosts, sentinel_kwargs=once, **once).master_for(name)"
        )
    return f"redis.Redis(..., {timeouts}, retry=None)"


def _connecting(client: Any) -> Iterator[Any]:  # noqa: ANN401 - of redis-py, of any version
    """The clients that connect for this one: to the nodes of a cluster, or to Sentinel first."""
    if hasattr(client, "get_nodes"):
        yield from (client.get_redis_connection(node) for node in client.get_nodes())
    else:
        yield client
        sentinel = getattr(client.connection_pool, "sentinel_manager", None)
        yield from sentinel.sentinels if sentinel else ()


def _waits(client: Any) -> Iterator[str]:  # noqa: ANN401 - the same
    """What lets a client wait longer than one question may take."""
    pool = client.connection_pool
    # Nothing is connected by that; its options have defaults that depend on the version.
    connection = pool.connection_class(**pool.connection_kwargs)
    for name in ("socket_timeout", "socket_connect_timeout"):
        yield from _no_wait(name, getattr(connection, name))
    yield from _no_wait("pool's timeout", getattr(pool, "timeout", 0.0), may_be_zero=True)
    yield from _tries_again(connection.retry)


def _waits_of_cluster(client: Any) -> Iterator[str]:  # noqa: ANN401 - the same
    if hasattr(client, "get_nodes"):
        yield from _tries_again(getattr(client, "retry", None))
        attempts = getattr(client, "cluster_error_retry_attempts", 0)  # before redis-py 6
        if attempts:
            yield f"cluster_error_retry_attempts is {attempts}"


def _no_wait(name: str, seconds: object, *, may_be_zero: bool = False) -> Iterator[str]:
    """Why that is no time to wait for Redis."""
    if seconds is None:
        yield f"its {name} is None, which is for ever"
    elif not isinstance(seconds, (int, float)):
        yield f"its {name} is {seconds!r}, no positive number of seconds"
    elif seconds > _LONGEST_WAIT:
        yield f"its {name} is {seconds:g} s, more than {_LONGEST_WAIT:g} s"
    elif not seconds > 0 and not (may_be_zero and seconds == 0):  # NaN too
        yield f"its {name} is {seconds!r}, no positive number of seconds"


def _tries_again(retry: object) -> Iterator[str]:
    times = getattr(retry, "_retries", 0)
    if times:
        yield f"it tries again {times} times" if times > 0 else "it tries again for ever"
