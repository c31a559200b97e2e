"""A token cache in Redis or Valkey: one token request a lifetime for a whole fleet.

Needs the extra ``redis``: ``pip install 'exo-imap-oauth[redis]'``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from typing_extensions import override

from exo_imap_oauth._process_lock import no_fork, process_lock
from exo_imap_oauth._redis_client import client_from_url, problem_of_client
from exo_imap_oauth._text import described, json_object
from exo_imap_oauth.access_token import AccessToken, expires_at, ticks, wall_clock_of
from exo_imap_oauth.token_cache import TokenCache
from exo_imap_oauth.xoauth2 import is_bearer_token

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import redis
    from cryptography.fernet import MultiFernet

__all__ = ["RedisTokenCache"]

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_VERSION = 1  # of the entries; a change of their form makes those of others absent
_ASK_AGAIN_AFTER = 5.0  # s without Redis, after it could not be asked
_CLOCK_TOLERANCE = 300.0  # s that the clocks of two hosts may differ
_TIMES = ("obtained_on", "refresh_on", "expires_on")
_LATEST_TIME = 1e11  # Unix seconds: the year 5138
_NO_KEY = -2  # what PTTL says of it
_DELETE_IF_EQUAL = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""


class RedisTokenCache(TokenCache):
    """Keeps tokens in Redis, encrypted, each until it expires; thread-safe, and safe across fork.

    The process that needs a token first fetches it, under a lock that lapses if the process
    dies; the others wait for it. If Redis is slow, full, read-only or gone, tokens are fetched
    directly, with one warning in the log. No login fails because of it, whatever its keys hold.

    Redis is asked in the thread that fetches the token, so its client must not wait: one question
    takes as long as its ``socket_timeout`` at most, which is one second with :meth:`from_url`.
    After a failure Redis is left alone for five seconds. A login waits for it for half of the
    token request's ``deadline`` at most, however late or slowly it answers.

    Entries do not depend on the clock of a host: each lives in Redis as long as its token, so
    hosts whose clocks differ by some minutes can share them. An entry that was tampered with, that
    another key encrypted, or that another version of this library wrote counts as absent.

    Args:
        client: From redis-py, a ``Redis`` or a ``RedisCluster``, not an asynchronous one:
            ``socket_timeout`` and ``socket_connect_timeout`` of at most two seconds, and no
            retries. :meth:`from_url` makes one.
        key: A Fernet key, as ``cryptography.fernet.Fernet.generate_key()`` makes them, or several
            for rotation: the first encrypts, all decrypt. A token opens a mailbox: without the
            key, whoever reads Redis finds nothing of use.
        namespace: What the names of all keys in Redis begin with.
        allow_plaintext: Whether to store tokens as they are, with ``key=None``. Then whoever
            reads Redis can read the mailboxes.

    Raises:
        ImportError: The extra ``redis`` is not installed.
        TypeError: ``client`` is not a client, such as a URL, a pipeline or an asynchronous one.
        ValueError: There is no key, or one of them is not a Fernet key; or the client waits too
            long, or its options are wrong: the text shows what to write.

    Example:
        >>> cache = RedisTokenCache.from_url(url, key=key)  # doctest: +SKIP
        >>> source = inbox.token_source(cache=cache)  # doctest: +SKIP
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        key: bytes | Sequence[bytes] | None,
        namespace: str = "exo-imap-oauth",
        allow_plaintext: bool = False,
    ) -> None:
        if not namespace or not namespace.isprintable():
            raise ValueError(f"namespace must be a printable text, not {namespace!r}")
        self._prefix = f"{namespace}:{_VERSION}"
        fernet = _fernet(key, allow_plaintext=allow_plaintext)
        del key  # tracebacks hold frames
        if isinstance(fernet, Exception):
            raise fernet
        self._fernet = fernet
        if problem := problem_of_client(client):
            raise problem
        self._client: Any = client  # its types fit neither pipelines nor all of its versions
        self._ask_again_at = 0.0  # time.monotonic(); 0 while Redis answers
        self._has_warned = False  # of an entry

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        key: bytes | Sequence[bytes] | None,
        namespace: str = "exo-imap-oauth",
        allow_plaintext: bool = False,
        **options: Any,  # noqa: ANN401 - redis-py's
    ) -> Self:
        """A cache whose client waits one second for Redis, and tries once.

        Args:
            url: ``rediss://:password@host:6380/0``, ``redis://...`` or ``unix://...``. TLS
                (``rediss``) keeps the password and the entries' times private.
            key: As for the class.
            namespace: As for the class.
            allow_plaintext: As for the class.
            **options: Of ``redis.Redis.from_url``, such as ``ssl_ca_certs``.

        Raises:
            Exception: As for the class.
            ValueError: The URL cannot be read; it is not shown, as it may hold a password.
        """
        client = client_from_url(url, options)
        return cls(client, key=key, namespace=namespace, allow_plaintext=allow_plaintext)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, '_prefix', '')}>"

    @override
    def __reduce__(self) -> str:
        raise TypeError("a RedisTokenCache is not pickled, it holds a key; build one per process")

    @override
    def get(self, key: str) -> AccessToken | None:
        found = self._asked(lambda: self._read(key))
        if found is None or found.lives_for == _NO_KEY:
            return None
        token = self._opened(key, found)
        if token is None and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "an entry in Redis was not written by this version of exo_imap_oauth with one of"
                " the keys at hand, or was tampered with; it counts as absent"
            )
        return token

    @override
    def set(self, key: str, token: AccessToken) -> None:
        lives_for = int((expires_at(token) - ticks()) * 1000)
        if lives_for <= 0:
            return
        name, entry = self._name("token", key), self._sealed(key, token)
        self._asked(lambda: self._client.set(name, entry, px=lives_for), token.token)

    @override
    def discard(self, key: str, token: AccessToken) -> None:
        def ask() -> None:
            found = self._read(key)
            kept = self._opened(key, found)
            if kept is not None and kept.token == token.token:
                self._delete_if_equal(self._name("token", key), found.entry)

        self._asked(ask, token.token)

    @override
    @contextlib.contextmanager
    def lock(self, key: str, lease: float) -> Generator[bool]:
        name, owner = self._name("lock", key), os.urandom(16)
        lapses_after = max(1, int(lease * 1000))
        is_ours = self._asked(lambda: bool(self._client.set(name, owner, nx=True, px=lapses_after)))
        try:
            yield is_ours is not False  # without Redis, each process fetches its own
        finally:
            if is_ours:
                self._asked(lambda: self._delete_if_equal(name, owner))

    # ---- entries -----------------------------------------------------------------------------

    def _name(self, kind: str, key: str) -> str:
        return f"{self._prefix}:{kind}:{key}"

    def _sealed(self, key: str, token: AccessToken) -> bytes:
        # With its key, so that an entry that was moved to another name is not taken for it.
        values: dict[str, Any] = {"version": _VERSION, "key": key, **asdict(token)}
        set_by = time.time() - wall_clock_of(token)  # s, that the clock was put right since
        values |= {name: max(0.0, values[name] + set_by) for name in _TIMES}
        text = json.dumps(values).encode()
        return text if self._fernet is None else self._fernet.encrypt(text)

    def _opened(self, key: str, found: _Found) -> AccessToken | None:
        """The token of an entry, its times by the clock of this host; None if it is not ours."""
        values = json_object(self._decrypted(found.entry) or b"") or {}
        if values.get("version") != _VERSION or values.get("key") != key:
            return None
        if not is_bearer_token(values.get("token")) or not _holds_times(values):
            return None
        now = time.time()
        expires_here = now + found.lives_for / 1000
        ahead = expires_here - values["expires_on"]
        if found.lives_for <= 0 or ahead > _CLOCK_TOLERANCE:
            return None  # somebody made it live longer than its token
        return AccessToken(
            token=values["token"],
            expires_on=int(expires_here),
            refresh_on=int(min(values["refresh_on"] + ahead, expires_here)),
            obtained_on=min(values["obtained_on"] + ahead, now),
        )

    def _decrypted(self, entry: bytes) -> bytes | None:
        if self._fernet is None:
            return entry
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - of the extra

        try:
            return self._fernet.decrypt(entry)
        except InvalidToken:
            return None

    # ---- Redis -------------------------------------------------------------------------------

    def _read(self, key: str) -> _Found:
        """What is there, and for how long: in this order, so that a new entry never lives longer.

        Not in a transaction, which clusters did not have in earlier versions of redis-py.
        """
        name = self._name("token", key)
        with self._client.pipeline(transaction=False) as both:
            both.pttl(name)
            both.execute_command("GET", name, NEVER_DECODE=True)  # whatever the client does else
            milliseconds, entry = both.execute(raise_on_error=False)
        for answer in (milliseconds, entry):
            if isinstance(answer, Exception) and not str(answer).startswith("WRONGTYPE"):
                raise answer
        if entry is None:
            milliseconds = _NO_KEY  # it has expired in between
        return _Found(entry if isinstance(entry, bytes) else b"", milliseconds)

    def _delete_if_equal(self, name: str, value: bytes) -> None:
        self._client.eval(_DELETE_IF_EQUAL, 1, name, value)

    def _asked(self, ask: Callable[[], _T], secret: str = "") -> _T | None:
        """What Redis answers; None if it does not, and for a while after that."""
        ask_again_at = self._ask_again_at
        if time.monotonic() < ask_again_at:
            return None
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001 - redis-py's, or a system's
            self._go_without(described(error, [secret]))
            return None
        if ask_again_at:
            self._go_on_with_it()
        return answer

    def _go_without(self, why: str) -> None:
        with process_lock:
            is_news = not self._ask_again_at  # one warning an outage
            self._ask_again_at = time.monotonic() + _ASK_AGAIN_AFTER
        if is_news:
            _logger.warning(
                "Redis cannot be used, so tokens are fetched directly meanwhile: %s", why
            )

    def _go_on_with_it(self) -> None:
        with process_lock:
            is_news, self._ask_again_at = bool(self._ask_again_at), 0.0
        if is_news:
            _logger.info("Redis answers again")


class _Found(NamedTuple):
    """An entry."""

    entry: bytes  # empty where there is something else than a string
    lives_for: int  # ms; -1 is for ever


def _holds_times(values: Mapping[str, Any]) -> bool:
    found = [values.get(name) for name in _TIMES]
    return all(isinstance(each, (int, float)) and 0 <= each < _LATEST_TIME for each in found)


def _fernet(
    key: bytes | Sequence[bytes] | None, *, allow_plaintext: bool
) -> MultiFernet | ImportError | ValueError | None:
    """What encrypts and decrypts, None for plain text; or why there is nothing of the kind."""
    if key is None and allow_plaintext:
        return None
    if key is None:
        return ValueError(
            "tokens in Redis are encrypted: pass key=Fernet.generate_key() of"
            " cryptography.fernet, the same in all processes, or key=None and allow_plaintext=True"
        )
    try:
        with no_fork:
            from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - of the extra
    except ImportError:
        return ImportError(
            "a RedisTokenCache needs cryptography: pip install 'exo-imap-oauth[redis]'"
        )
    try:
        keys = [key] if isinstance(key, (bytes, str)) else key
        return MultiFernet([Fernet(each) for each in keys])
    except (TypeError, ValueError):
        return ValueError(
            "key must be one or several keys of Fernet.generate_key(): 32 bytes in base64"
        )
