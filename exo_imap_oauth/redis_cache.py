"""A token cache in Redis or Valkey: one token request a lifetime for a whole fleet.

Needs the extra ``redis``: ``pip install 'exo-imap-oauth[redis]'``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import described, json_object
from exo_imap_oauth._threads import let_program_end
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.token_cache import TokenCache

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import redis
    from cryptography.fernet import MultiFernet

__all__ = ["RedisTokenCache"]

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_VERSION = 1  # of the entries; a change of their form makes those of others absent
_ANSWER_WITHIN = 1.0  # s; what one question to Redis may cost a login
_ASK_AGAIN_AFTER = 5.0  # s without Redis, after it could not be asked
_CLOCK_TOLERANCE = 300.0  # s that the clocks of two hosts may differ
_TIMES = ("obtained_on", "refresh_on", "expires_on")
_DISCARD = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""


class RedisTokenCache(TokenCache):
    """Keeps tokens in Redis, encrypted, each until it expires; thread-safe, and safe across fork.

    The process that needs a token first fetches it, under a lock that lapses if the process
    dies; the others wait for it. If Redis is slow, full, read-only or gone, tokens are fetched
    directly, with one warning in the log. No login fails because of it, or waits more than one
    second for an answer; after a failure Redis is left alone for five seconds.

    Entries do not depend on the clock of a host: each lives in Redis as long as its token, so
    hosts whose clocks differ by some minutes can share them. An entry that was tampered with, that
    another key encrypted, or that another version of this library wrote counts as absent.

    Args:
        client: From redis-py, for example
            ``redis.Redis.from_url("rediss://:password@host:6380/0")``; TLS keeps its password
            and the entries' times private. Not the asynchronous one.
        key: A Fernet key, as ``cryptography.fernet.Fernet.generate_key()`` makes them, or several
            for rotation: the first encrypts, all decrypt. A token opens a mailbox: without the
            key, whoever reads Redis finds nothing of use.
        namespace: What the names of all keys in Redis begin with.
        allow_plaintext: Whether to store tokens as they are, with ``key=None``. Then whoever
            reads Redis can read the mailboxes.

    Raises:
        ImportError: The extra ``redis`` is not installed.
        TypeError: ``client`` is asynchronous, or not a client.
        ValueError: There is no key, or one of them is not a Fernet key.

    Example:
        >>> cache = RedisTokenCache(redis.Redis(), key=key)  # doctest: +SKIP
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
        _check_client(client)
        self._client: Any = client  # its types fit neither pipelines nor all of its versions
        # What Redis has not answered in time; of a thread, since in a child it is not alive.
        self._question: threading.Thread | None = None
        self._ask_again_at = 0.0  # time.monotonic()
        self._has_warned = False  # of an entry

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, '_prefix', '')}>"

    @override
    def __reduce__(self) -> str:
        raise TypeError("a RedisTokenCache is not pickled, it holds a key; build one per process")

    @override
    def get(self, key: str) -> AccessToken | None:
        name = self._name("token", key)

        def ask() -> list[Any]:
            with self._client.pipeline(transaction=True) as both:
                answers: list[Any] = both.get(name).pttl(name).execute()
            return answers

        entry, milliseconds = self._asked(ask) or (None, 0)
        if entry is None:
            return None
        token = self._opened(key, _octets(entry), milliseconds / 1000)
        if token is None and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "an entry in Redis was not written by this version of exo_imap_oauth with one of"
                " the keys at hand, or was tampered with; it counts as absent"
            )
        return token

    @override
    def set(self, key: str, token: AccessToken) -> None:
        lives_for = int((token.expires_on - time.time()) * 1000)
        if lives_for <= 0:
            return
        name, entry = self._name("token", key), self._sealed(key, token)
        self._asked(lambda: self._client.set(name, entry, px=lives_for), token.token)

    @override
    def discard(self, key: str, token: AccessToken) -> None:
        name = self._name("token", key)

        def ask() -> None:
            entry = self._client.get(name)
            kept = None if entry is None else self._opened(key, _octets(entry), 1.0)
            if kept is not None and kept.token == token.token:
                self._client.eval(_DISCARD, 1, name, entry)

        self._asked(ask, token.token)

    @override
    @contextlib.contextmanager
    def lock(self, key: str, lease: float) -> Generator[bool]:
        lock = self._client.lock(self._name("lock", key), timeout=lease, thread_local=False)
        is_ours = self._asked(lambda: bool(lock.acquire(blocking=False)))
        try:
            yield is_ours is not False  # without Redis, each process fetches its own
        finally:
            if is_ours:
                self._asked(lambda: _release(lock))

    # ---- entries -----------------------------------------------------------------------------

    def _name(self, kind: str, key: str) -> str:
        return f"{self._prefix}:{kind}:{key}"

    def _sealed(self, key: str, token: AccessToken) -> bytes:
        # With its key, so that an entry that was moved to another name is not taken for it.
        text = json.dumps({"version": _VERSION, "key": key, **asdict(token)}).encode()
        return text if self._fernet is None else self._fernet.encrypt(text)

    def _opened(self, key: str, entry: bytes, lives_for: float) -> AccessToken | None:
        """The token of an entry, its times by the clock of this host; None if it is not ours."""
        values = json_object(self._decrypted(entry) or b"") or {}
        if values.get("version") != _VERSION or values.get("key") != key:
            return None
        if not isinstance(values.get("token"), str) or not _holds_times(values):
            return None
        expires_here = time.time() + lives_for
        ahead = expires_here - values["expires_on"]
        if lives_for <= 0 or ahead > _CLOCK_TOLERANCE:
            return None  # somebody made it live longer than its token
        return AccessToken(
            token=values["token"],
            expires_on=int(expires_here),
            refresh_on=int(values["refresh_on"] + ahead),
            obtained_on=values["obtained_on"] + ahead,
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

    def _asked(self, ask: Callable[[], _T], secret: str = "") -> _T | None:
        """What Redis answers; None if it does not, and for a while after that.

        It is asked in a thread: a client without a ``socket_timeout`` waits indefinitely.
        """
        unanswered = self._question
        if time.monotonic() < self._ask_again_at or (unanswered and unanswered.is_alive()):
            return None
        answer: Future[_T] = Future()
        question = threading.Thread(target=_answer, args=(ask, answer), name="exo_imap_oauth-redis")
        let_program_end(question)
        try:
            question.start()
            result = answer.result(_ANSWER_WITHIN)
        except TimeoutError:
            self._question = question
            self._go_without(f"no answer within {_ANSWER_WITHIN:g} s")
        except Exception as error:  # noqa: BLE001 - of redis-py, or no thread can start
            self._go_without(described(error, [secret]))
        else:
            if self._ask_again_at:
                self._ask_again_at = 0.0
                _logger.info("Redis answers again")
            return result
        return None

    def _go_without(self, why: str) -> None:
        if not self._ask_again_at:  # one warning an outage
            _logger.warning(
                "Redis cannot be used, so tokens are fetched directly meanwhile: %s", why
            )
        self._ask_again_at = time.monotonic() + _ASK_AGAIN_AFTER


def _holds_times(values: Mapping[str, Any]) -> bool:
    return all(isinstance(values.get(name), (int, float)) for name in _TIMES)


def _answer(ask: Callable[[], _T], answer: Future[_T]) -> None:
    try:
        answer.set_result(ask())
    except BaseException as error:  # noqa: BLE001 - result() raises it
        answer.set_exception(error)


def _release(lock: Any) -> None:  # noqa: ANN401 - redis-py's, of any client
    from redis.exceptions import LockError  # noqa: PLC0415 - of the extra

    with contextlib.suppress(LockError):  # it lapsed
        lock.release()


def _octets(entry: bytes | str) -> bytes:
    """An entry's bytes, from a client with ``decode_responses`` too."""
    return entry.encode() if isinstance(entry, str) else entry


def _check_client(client: object) -> None:
    if not all(callable(getattr(client, name, None)) for name in ("get", "set", "lock", "eval")):
        raise TypeError(f"client must be a redis.Redis, not {type(client).__name__}")
    if ".asyncio" in type(client).__module__:
        raise TypeError("client must be a redis.Redis, not the one of redis.asyncio")


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
