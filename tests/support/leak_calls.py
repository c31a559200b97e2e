"""The rest of what the leak tests do: calls that end well, wrong calls, broken callables."""

from __future__ import annotations

import contextlib
import imaplib
import itertools
import ssl
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import (
    TokenSource,
    authenticate_xoauth2,
    check_setup,
    open_mailbox,
    properties,
)
from exo_imap_oauth.credentials import ClientSecret
from exo_imap_oauth.testing import ready_exchange
from exo_imap_oauth.token_cache import MemoryTokenCache
from support.leak_paths import TAKES_ASSERTION, USER, LeakPath, World, an_access_token
from support.leaks import ASSERTION, CALLED_SECRET, SECRET, TOKEN
from support.token_endpoint import CLIENT, TENANT, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# ---- calls that end well ---------------------------------------------------------------------


def good_paths() -> Iterator[LeakPath]:
    """Every public call as it is meant, on polite servers."""
    calls: dict[str, Callable[[World], object]] = {
        "get_token": _get_token,
        "get_token, forced": lambda world: _asked(world, claims="{}"),
        "get_token, secret of a callable": lambda world: _asked(world, lambda: CALLED_SECRET),
        "a token source": lambda world: world.source(),
        "a token source with a token": _source_with_token,
        "a client secret": lambda _: ClientSecret(SECRET),
        "a client secret of a callable": lambda _: ClientSecret(lambda: CALLED_SECRET),
        "an access token": lambda _: an_access_token(),
        "a cache that holds a token": _cache,
        "invalidate": _invalidate,
        "an inbox": lambda world: world.inbox(),
        "an inbox's source": lambda world: world.inbox().token_source(),
        "the options of a source": lambda world: world.source()._request,
        "open_mailbox, text": lambda world: _opened(world, TOKEN),
        "open_mailbox, access token": lambda world: _opened(world, an_access_token()),
        "open_mailbox, source": lambda world: _opened(world, _good_source(world)),
        "open_mailbox, foreign credential": lambda world: _opened(world, _Foreign()),
        "open_mailbox, foreign token": lambda world: _opened(world, _Foreign().get_token()),
        "open_mailbox, body fails": _body_fails,
        "InboxConfig.open": _inbox_open,
        "InboxConfig.open, token": lambda world: _inbox_open(world, token=TOKEN),
        "authenticate_xoauth2": _authenticate,
        "check_setup": _check,
        "check_setup, foreign source": lambda world: _check(world, token_source=world.source()),
        "properties.parse": lambda _: properties.parse(f"a.clientSecret = {SECRET}")[0],
        "loopback Exchange": _loopback,
    }
    if TAKES_ASSERTION:
        calls["get_token, assertion"] = lambda world: _asked(world, None, assertion=_assertion)
    for name, call in calls.items():
        yield LeakPath(name, call)


def _assertion() -> str:
    return ASSERTION


def _good_source(world: World) -> TokenSource:
    world.endpoint.then(token(TOKEN))
    return world.source()


def _get_token(world: World) -> object:
    return _good_source(world).get_token()


def _source_with_token(world: World) -> object:
    source = _good_source(world)
    source.get_token()
    return source


def _asked(
    world: World, secret: Any = SECRET, *, claims: str | None = None, **options: Any
) -> object:
    world.endpoint.then(token(TOKEN))
    return world.source(secret, **options).get_token(claims=claims)


def _cache(world: World) -> object:
    source = _good_source(world)
    source.get_token()
    return source._slot.cache


def _invalidate(world: World) -> object:
    source = _good_source(world)
    source.invalidate(source.get_token())
    return source


def _opened(world: World, bearer: Any) -> object:
    with open_mailbox(USER, bearer, **world.server(world.imap)) as imap:
        imap.noop()
        return imap


def _body_fails(world: World) -> object:
    with open_mailbox(USER, TOKEN, **world.server(world.imap)):
        raise ZeroDivisionError


def _inbox_open(world: World, **options: Any) -> object:
    world.endpoint.then(token(TOKEN))
    with world.inbox().open(ssl_context=world.imap.ssl_context, **options) as imap:
        return imap


def _authenticate(world: World) -> object:
    server = world.imap
    with imaplib.IMAP4_SSL(server.host, server.port, ssl_context=server.ssl_context) as imap:
        authenticate_xoauth2(imap, USER, TOKEN)
        return imap


def _check(world: World, **options: Any) -> object:
    world.endpoint.then(token(TOKEN))
    return check_setup(world.inbox(), ssl_context=world.imap.ssl_context, timeout=10, **options)


def _loopback(_: World) -> object:
    with ready_exchange() as exchange:
        plain = TokenSource(
            exchange.app.tenant_id,
            exchange.app.client_id,
            exchange.secret.value,
            token_uri=exchange.token_uri(),
            ssl_context=exchange.ssl_context,
            cache=MemoryTokenCache(),
        )
        return plain.get_token().expires_on


class _Foreign:
    """Another library's credential."""

    class Token:
        token = TOKEN
        expires_on = 0

    def get_token(self, *_: str) -> Any:
        return self.Token()


# ---- wrong calls -----------------------------------------------------------------------------


class _Raising:
    """A cache, a callable, a credential: whatever it is, it raises an error with a secret in it."""

    def __init__(self, text: str, kind: type[Exception]) -> None:
        self._text, self._kind = text, kind

    def __repr__(self) -> str:
        return "_Raising()"

    def __call__(self, *_: object, **__: object) -> Any:
        try:
            raise LookupError(self._text)  # noqa: TRY301 - it is to be behind the other
        except LookupError as error:
            failure = self._kind(f"backend refused {self._text}")
            failure.add_note(self._text)
            raise failure from error

    def lock(self, *_: object) -> Any:
        return contextlib.nullcontext(True)

    def get(self, *_: object) -> Any:
        return self()

    def set(self, *_: object) -> Any:
        return self()

    def get_token(self, *_: object) -> Any:
        return self()


class _RaisingAtSet(_Raising):
    def get(self, *_: object) -> Any:
        return None


class _RaisingLater(_Raising):
    """A callable that gives its secret, and raises an error with it when it is asked again."""

    is_asked_again = False

    def __call__(self, *_: object, **__: object) -> Any:
        if self.is_asked_again:
            return super().__call__()
        self.is_asked_again = True
        return self._text


_KINDS = (ValueError, OSError, RuntimeError, KeyError, TimeoutError, imaplib.IMAP4.error)
_TEXTS = {"secret": SECRET, "token": TOKEN}


def bad_paths() -> Iterator[LeakPath]:
    """Wrong arguments, unusable secrets and tokens, and callables that raise."""
    for kind, (name, text) in itertools.product(_KINDS, _TEXTS.items()):
        yield from _raising_paths(f"{kind.__name__} with the {name}", text, kind)
    for (name, text), damage in itertools.product(_TEXTS.items(), _DAMAGE):
        yield from _spoilt_paths(f"{name} as {damage!r}", damage.replace("%s", text))
    for name, text in _TEXTS.items():
        for wrong in (text.encode(), [text], {"token": text}, (text,), {text}):
            yield from _spoilt_paths(f"{name} in a {type(wrong).__name__}", wrong)
    for name, options in _WRONG_OPTIONS.items():
        yield LeakPath(f"TokenSource, {name}", _a_source, (options,))
        yield LeakPath(f"InboxConfig, {name}", _used, (options,))
    for name, changes in _WRONG_FIELDS.items():
        yield LeakPath(f"InboxConfig, {name}", _used, (changes,))
        yield LeakPath(f"check_setup, {name}", _checked, (changes,))
    for name, options in _WRONG_OPENING.items():
        yield LeakPath(f"open_mailbox, {name}", _badly_opened, (options,))


_DAMAGE = ("%s\n", "%s\x00", " ", "%sé", "%s %s")


def _raising_paths(what: str, text: str, kind: type[Exception]) -> Iterator[LeakPath]:
    yield LeakPath(f"callable raises {what}", _asked_twice, (_RaisingLater, text, kind))
    yield LeakPath(f"cache.get raises {what}", _with_cache, (_Raising(text, kind),))
    yield LeakPath(f"cache.set raises {what}", _with_cache, (_RaisingAtSet(text, kind),))
    yield LeakPath(f"credential raises {what}", _broken_credential, (_Raising(text, kind),))
    yield LeakPath(f"body raises {what}", _raise_in_body, (_Raising(text, kind),))


def _spoilt_paths(what: str, spoilt: Any) -> Iterator[LeakPath]:
    yield LeakPath(f"TokenSource, {what}", _a_source, ({"client_secret": spoilt},))
    yield LeakPath(f"callable gives {what}", _asked_callable, (spoilt,))
    yield LeakPath(f"open_mailbox, {what}", _opened, (spoilt,))
    yield LeakPath(f"InboxConfig, {what}", _used, ({"client_secret": spoilt},))
    yield LeakPath(f"InboxConfig.open, {what}", _inbox_open_with, (spoilt,))
    yield LeakPath(f"invalidate, {what}", _invalidate_wrongly, (spoilt,))
    if isinstance(spoilt, str):
        yield LeakPath(f"endpoint gives {what}", _given, (spoilt,))


_ARGUMENTS: dict[str, Any] = {
    "tenant_id": TENANT,
    "client_id": CLIENT,
    "client_secret": SECRET,
}
_NOT_VERIFYING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_NOT_VERIFYING.check_hostname = False
_WRONG_OPTIONS: dict[str, dict[str, Any]] = {
    "tenant": {"tenant_id": "<tenant id>"},
    "tenant None": {"tenant_id": None},
    "client": {"client_id": "a b"},
    "client None": {"client_id": None},
    "cloud": {"cloud": "worldwide"},
    "scope": {"scope": "x y"},
    "plain token_uri": {"token_uri": "http://login.example/token"},
    "token_uri": {"token_uri": "https://user:pass@login.example/token"},
    "timeout": {"timeout": -1.0},
    "timeout of text": {"timeout": "soon"},
    "deadline": {"deadline": 0.0},
    "margin": {"refresh_margin": -5.0},
    "context": {"ssl_context": _NOT_VERIFYING},
    "no context": {"ssl_context": "yes"},
    "unknown option": {"colour": "red"},
    "two secrets": {"certificate": "x"},
}
_WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "user": {"user": "a\x01b"},
    "user with an escape": {"user": "a\x1b[31m@b"},
    "port": {"port": "993"},
    "port 0": {"port": 0},
    "closed port": {"port": 1},
    "tls": {"tls": "none"},
    "other tls": {"tls": "maybe"},
    "folder": {"folder": "a\nb"},
    "host": {"host": ""},
    "host with a blank": {"host": "a b"},
    "host None": {"host": None},
    "unknown host": {"host": "nobody.invalid"},
    "placeholder": {"client_secret": f"<{SECRET}>"},
    "unknown field": {"pasword": SECRET},
}
_WRONG_OPENING: dict[str, dict[str, Any]] = {
    "user": {"user": "a\nb"},
    "host": {"host": ""},
    "port": {"port": 70_000},
    "closed port": {"port": 1},
    "folder": {"folder": ""},
    "folder of bytes": {"folder": b"x"},
    "timeout": {"timeout": 0},
    "context": {"ssl_context": _NOT_VERIFYING},
    "untrusted": {"ssl_context": ssl.create_default_context()},
    "STARTTLS on a TLS port": {"starttls": True, "timeout": 0.2},
}


def _a_source(_: World, options: dict[str, Any]) -> object:
    return TokenSource(**_ARGUMENTS | options)


def _asked_callable(world: World, given: Any) -> object:
    return _asked(world, lambda: given)


def _asked_twice(
    world: World, kind: type[_RaisingLater], text: str, error: type[Exception]
) -> object:
    world.endpoint.then(token(TOKEN))
    source = world.source(kind(text, error))
    source.get_token()
    return source.get_token(claims="{}")


def _inbox_open_with(world: World, bearer: Any) -> object:
    return _inbox_open(world, token=bearer)


def _invalidate_wrongly(world: World, wrong: Any) -> object:
    world.source().invalidate(wrong)
    return None


def _with_cache(world: World, cache: Any) -> object:
    world.endpoint.then(token(TOKEN))
    return world.endpoint.source(SECRET, cache=cache).get_token()


def _broken_credential(world: World, credential: Any) -> object:
    """A foreign credential's error is its author's and passes; what is said of it is ours."""
    with contextlib.suppress(*_KINDS):
        _opened(world, credential)
    return None


def _raise_in_body(world: World, raising: Callable[[], object]) -> object:
    """The body's own error passes unchanged too."""
    with contextlib.suppress(*_KINDS), open_mailbox(USER, TOKEN, **world.server(world.imap)):
        raising()
    return None


def _given(world: World, text: str) -> object:
    world.endpoint.then(token(text))
    return world.source().get_token().expires_on


def _used(world: World, changes: dict[str, Any]) -> object:
    inbox = world.inbox(**changes)
    with inbox.open(timeout=0.5, ssl_context=ssl.create_default_context()):
        return inbox


def _checked(world: World, changes: dict[str, Any]) -> object:
    world.endpoint.then(token(TOKEN))
    inbox = world.inbox(**changes)
    return check_setup(inbox, ssl_context=world.imap.ssl_context, timeout=2)


def _badly_opened(world: World, options: dict[str, Any]) -> object:
    user = options.get("user", USER)
    others = {name: value for name, value in options.items() if name != "user"}
    with open_mailbox(user, TOKEN, **world.server(world.imap) | others) as imap:
        return imap
