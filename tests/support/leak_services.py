"""What the leak tests do with the listener and with the cache in Redis."""

from __future__ import annotations

import base64
import contextlib
import itertools
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import redis

from exo_imap_oauth import AccessToken
from exo_imap_oauth.listener import InboxListener
from exo_imap_oauth.redis_cache import RedisTokenCache
from support.leak_paths import ENCODINGS, USER, LeakPath, World, an_access_token
from support.leaks import REDIS_KEY, SECRET, TOKEN
from support.token_endpoint import CLIENT, TENANT, token

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from email.message import EmailMessage

    from exo_imap_oauth import InboxConfig

KEY = REDIS_KEY.encode()
PASSWORD = SECRET


class _Answering:
    """A client of Redis whose every answer is an error, or a text."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __repr__(self) -> str:
        return "_Answering()"

    def _told(self, *_: object, **__: object) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    get = set = eval = _told

    def lock(self, *_: object, **__: object) -> Any:
        return self

    acquire = release = _told

    @contextlib.contextmanager
    def pipeline(self, **_: object) -> Generator[Any]:
        yield self

    pttl = _told

    def execute(self) -> Any:
        return [self._told(), 60_000]


def _gone() -> Any:
    client: Any = redis.Redis
    return client.from_url(f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:1/0")


def _used(client: Any, **options: Any) -> object:
    """Every method of a cache, whatever Redis says."""
    options = {"key": KEY} | options
    cache = RedisTokenCache(client, **options)
    cache.set("key", _long_lived())
    found = cache.get("key")
    cache.discard("key", _long_lived())
    with cache.lock("key", 1.0):
        return found


def _long_lived() -> AccessToken:
    now = time.time()
    return AccessToken(TOKEN, int(now) + 3600, int(now) + 1800, now)


def _source_over(world: World, client: Any) -> object:
    world.endpoint.then(token(TOKEN))
    cache = RedisTokenCache(client, key=KEY)
    return world.endpoint.source(SECRET, cache=cache).get_token()


def redis_paths() -> Iterator[LeakPath]:
    """A cache with good and bad keys, and a Redis that is gone, lies or complains."""
    calls: dict[str, Callable[[World], object]] = {
        "made": lambda _: RedisTokenCache(_gone(), key=KEY),
        "made with two keys": lambda _: RedisTokenCache(_gone(), key=[KEY, KEY]),
        "gone": lambda _: _used(_gone()),
        "gone, plain text": lambda _: _used(_gone(), key=None, allow_plaintext=True),
        "source over one that is gone": lambda world: _source_over(world, _gone()),
        "pickled": lambda _: pickle.dumps(RedisTokenCache(_gone(), key=KEY)),
    }
    bad_keys = (KEY[:-1], KEY + b"x", REDIS_KEY[:-2], [KEY[1:]], SECRET, TOKEN.encode(), [None])
    for number, key in enumerate(bad_keys):
        calls[f"bad key {number}"] = lambda _, key=key: RedisTokenCache(_gone(), key=key)  # type: ignore[misc] # bound
    answers = (TOKEN.encode(), SECRET.encode(), KEY, f'{{"token": "{TOKEN}"'.encode())
    for number, answer in enumerate(answers):
        for coded in (answer, base64.urlsafe_b64encode(answer), answer.decode()):
            calls[f"lies {number}, {type(coded).__name__} {len(coded)}"] = (
                lambda _, coded=coded: _used(_Answering(coded))  # type: ignore[misc] # bound
            )
    for encoding, encode in ENCODINGS.items():
        error = redis.RedisError(f"READONLY {encode(TOKEN)}")
        calls[f"complains, {encoding}"] = lambda _, error=error: _used(_Answering(error))  # type: ignore[misc] # bound
    for name, call in calls.items():
        yield LeakPath(f"RedisTokenCache, {name}", call)


# ---- the listener ----------------------------------------------------------------------------

_ONE_MESSAGE = {
    "UID": "* SEARCH 7\r\n* 1 FETCH (UID 7 BODY[] {9}\r\nSubject: )\r\n{tag} OK done\r\n"
}
_REPLIES = (
    "{tag} NO %s\r\n",
    "{tag} BAD %s\r\n",
    "* BYE %s\r\n",
    "%s\r\n",
    "{tag} NO Request is throttled. Suggested Backoff Time: 1 milliseconds %s\r\n",
)
_STAGES = ("GREETING", "AUTHENTICATE", "SELECT", "UID")


def listener_paths() -> Iterator[LeakPath]:
    """A listener on servers that echo, with functions that raise."""
    calls: dict[str, Callable[[World], object]] = {
        "made": lambda world: InboxListener(world.inbox(), _handle),
        "token": lambda world: _made(world, token=TOKEN),
        "access token": lambda world: _made(world, token=an_access_token()),
        "bad token": lambda world: _made(world, token=[TOKEN]),
        "bad time": lambda world: _made(world, token=TOKEN, pause=0),
    }
    for name, call in calls.items():
        yield LeakPath(f"InboxListener, {name}", call)
    for stage, reply, encoding in itertools.product(_STAGES, _REPLIES, ("verbatim", "SASL", "URL")):
        text = reply.replace("%s", ENCODINGS[encoding](TOKEN))
        name = f"InboxListener, echo at {stage} in {reply[:12].strip()}: {encoding}"
        yield LeakPath(name, _listen, ({stage: text},), echoes=True)
    yield LeakPath("InboxListener, handle raises", _listen, (_ONE_MESSAGE,))


def _made(world: World, **options: Any) -> object:
    return InboxListener(world.inbox(), _handle, **options)


def _handle(_inbox: InboxConfig, _message: EmailMessage) -> None:
    raise ZeroDivisionError


def _listen(world: World, replies: dict[str, Any]) -> object:
    """Listen until something fails; what was told of it."""
    failed = threading.Event()
    told: list[Exception] = []

    def on_failure(_inbox: InboxConfig, error: Exception, _pause: float) -> None:
        told.append(error)
        failed.set()

    world.imap.replies = replies
    listener = InboxListener(
        world.inbox(user=USER, client_id=CLIENT),
        _handle,
        token=TOKEN,
        ssl_context=world.imap.ssl_context,
        on_failure=on_failure,
        timeout=10.0,
    )
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        assert failed.wait(30), TENANT
    finally:
        listener.stop()
        thread.join(30)
        world.imap.replies = {}
    raise told[0]
