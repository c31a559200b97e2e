"""What is said of an argument of a wrong kind: what it is, what to pass, and where to read on."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Final, NamedTuple, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    import ssl

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SITE: Final = "https://exo-imap-oauth.github.io/exo-imap-oauth/"


class Instead(NamedTuple):
    """What to pass in place of something that people have at hand, and the page that shows it."""

    what: str
    page: str = ""


_WITH: Final = "how-to/use-with/"
_INBOX: Final = "exo_imap_oauth.inbox.InboxConfig"
_SOURCE: Final = "exo_imap_oauth.token_source.TokenSource"
_CONFIG: Final = "exo_imap_oauth.config.CmsbsConfig"
_ASYNC: Final = Instead("it has to be awaited first: give what `await` returns")

# By class, or by the package that a class or one of its bases comes from.
CLIENTS: Final[Mapping[str, Instead]] = {
    "imapclient": Instead("give its imaplib client: client._imap", f"{_WITH}imapclient"),
    "imap_tools": Instead("give its imaplib client: mailbox.client", f"{_WITH}imap-tools"),
    "aioimaplib": Instead(
        "it is asynchronous: log in with its own xoauth2() and a token of the source",
        f"{_WITH}aioimaplib",
    ),
    "smtplib": Instead("it sends mail, and this logs in over IMAP", "how-to/answer-by-smtp"),
    "poplib": Instead("it speaks POP3, and this logs in over IMAP"),
    "exchangelib": Instead("it speaks EWS, and this logs in over IMAP"),
    "contextlib": Instead("enter it first: with … as imap"),
    "builtins.coroutine": _ASYNC,
    "socket": Instead("give the client, not its socket"),
    _INBOX: Instead("an inbox logs in by itself: with inbox.open() as imap"),
}
TOKENS: Final[Mapping[str, Instead]] = {
    _INBOX: Instead("pass inbox.token_source(), or open it with inbox.open()"),
    _CONFIG: Instead("pass config.default.token_source(), or open config.default.open()"),
    "exo_imap_oauth.credentials": Instead("pass TokenSource(tenant_id, client_id, certificate=…)"),
    "msal": Instead("pass a function that asks it for the token's text", f"{_WITH}msal"),
    "builtins.dict": Instead("pass the text in it, such as answer['access_token']", f"{_WITH}msal"),
    "builtins.bytes": Instead("pass its text: token.decode()"),
    "builtins.coroutine": _ASYNC,
}
INBOXES: Final = {
    _CONFIG: Instead(
        "take one of its inboxes: config.default or config['name'], or config.values() in a loop"
    ),
    _SOURCE: Instead("it knows no mailbox: pass an InboxConfig, and this as token="),
    "builtins.str": Instead("load_config(path).default has one, InboxConfig(user=…) makes one"),
    "builtins.list": Instead("pass one of them"),
    "builtins.tuple": Instead("pass one of them"),
    "builtins.dict": Instead("pass one of them, or InboxConfig(**fields)"),
}
CONTEXTS: Final[Mapping[str, Instead]] = {
    "builtins.str": Instead("for a file of CA certificates: ssl.create_default_context(cafile=…)"),
    "pathlib": Instead("for a file of CA certificates: ssl.create_default_context(cafile=…)"),
    "builtins.bool": Instead("leave it out: certificates are always verified"),
}
TENANTS: Final = {
    _INBOX: Instead("it has all of them: inbox.token_source()"),
    _CONFIG: Instead("take one of its inboxes: config.default.token_source()"),
}
CERTIFICATE: Final = "a key with its certificate"
FILES: Final = {"builtins": Instead("use ClientCertificate.from_pem() or from_pfx()")}
CLOUDS: Final[Mapping[str, Instead]] = {
    "builtins.str": Instead("such as Cloud.CHINA, or Cloud[name]")
}
REPLIES: Final[Mapping[str, Instead]] = {
    "builtins.coroutine": _ASYNC,
    "builtins.bytes": Instead(
        "for a message's own text: email.message_from_bytes(text, policy=email.policy.default)"
    ),
    "email": Instead("this is a message already"),
}


def wrong_kind(
    name: str,
    value: object,
    expected: str,
    *,
    page: str,
    instead: Mapping[str, Instead] | None = None,
) -> TypeError:
    """The error for an argument of a wrong kind, for the caller to raise.

    Args:
        name: The argument.
        value: What was given; only its kind is told.
        expected: What the argument must be.
        page: The page of the documentation, such as ``how-to/listen``.
        instead: What to pass in place of what people give by mistake.
    """
    _close_if_coroutine(value)
    found = _found(value, instead or {})
    hint = f": {found.what}" if found else ""
    return TypeError(
        f"{name} must be {expected}, not {kind_of(value)}{hint}."
        f" See {_SITE}{found.page if found and found.page else page}.html"
    )


def refuses_inbox(what: str, to_do: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Make a call tell whoever gives it an inbox, and thus too few arguments, what to do.

    Args:
        what: The call, as people write it.
        to_do: What an inbox does by itself, and how.
    """

    def decorated(call: Callable[_P, _T]) -> Callable[_P, _T]:
        @functools.wraps(call)
        def called(*arguments: _P.args, **options: _P.kwargs) -> _T:
            if any(_name_of(type(given)) == _INBOX for given in arguments[:2]):
                raise TypeError(
                    f"{what} takes no {_INBOX}, which {to_do}. See {_SITE}reference/api/inbox.html"
                )
            try:
                return call(*arguments, **options)
            except BaseException:
                del arguments, options  # tracebacks hold frames
                raise

        return called

    return decorated


def kind_of(value: object) -> str:
    """What something is: its class with the module, but for the built-in ones."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {_name_of(value)} itself"
    return _name_of(type(value))


def require(
    name: str,
    value: object,
    kinds: type | tuple[type, ...],
    expected: str,
    *,
    page: str,
    instead: Mapping[str, Instead] | None = None,
) -> None:
    """Check the kind of an argument; True and False are no numbers.

    Raises:
        TypeError: It is of none of these kinds; see :func:`wrong_kind`.
    """
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise wrong_kind(name, value, expected, page=page, instead=instead)


def require_text(
    name: str, value: object, page: str, instead: Mapping[str, Instead] | None = None
) -> None:
    """Check that an argument is a string.

    Raises:
        TypeError: It is none.
    """
    require(name, value, str, "a string", page=page, instead=instead)


def require_cloud(given: object, kind: type) -> None:
    """Check that an argument is a cloud; ``kind`` is :class:`~exo_imap_oauth.Cloud`.

    Raises:
        TypeError: It is none.
    """
    require("cloud", given, kind, "a Cloud", page="reference/api/clouds", instead=CLOUDS)


def require_count(name: str, value: object, page: str) -> None:
    """Check that an argument is a whole number, and positive.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is not positive.
    """
    require(name, value, int, "a whole number", page=page)
    if cast("int", value) < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def checked_environ(given: object, page: str) -> Mapping[str, str]:
    """The variables that were given; those of the process in place of None.

    Raises:
        TypeError: They are no mapping of strings.
    """
    if given is None:
        return os.environ
    require("environ", given, Mapping, "a mapping of strings, such as os.environ", page=page)
    variables = cast("Mapping[object, object]", given)
    for name, value in variables.items():
        require_text("a name in environ", name, page)
        require_text(f"environ[{name!r}]", value, page)
    return cast("Mapping[str, str]", variables)


def require_inbox(given: object, page: str, instead: Mapping[str, Instead] | None = None) -> None:
    """Check that something is an InboxConfig, whose module is not loaded for this.

    Raises:
        TypeError: It is none.
    """
    if not any(_name_of(kind) == _INBOX for kind in type(given).__mro__):
        raise wrong_kind("inbox", given, "an InboxConfig", page=page, instead=instead or INBOXES)


def require_context(context: object) -> None:
    """Check the kind of a TLS context.

    Raises:
        TypeError: It is neither an ``ssl.SSLContext`` nor None.
    """
    loaded = sys.modules.get("ssl")  # not loaded for this: without it there is no context
    if context is not None and not (loaded and isinstance(context, loaded.SSLContext)):
        raise wrong_kind(
            "ssl_context", context, "an ssl.SSLContext", page="how-to/proxies", instead=CONTEXTS
        )


def what_is_unverified(context: ssl.SSLContext) -> str:
    """What a TLS context leaves unverified of a server, as a part of a sentence; empty: nothing."""
    if not context.verify_mode:  # CERT_NONE is 0; ssl itself is not loaded for this
        return "the server's certificate"
    if not context.check_hostname:
        return "that the certificate is the server's: its name is not compared (check_hostname)"
    return ""


def _close_if_coroutine(value: object) -> None:
    if isinstance(value, CoroutineType):
        value.close()  # nobody will await it, which Python would warn of


def _name_of(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _found(value: object, instead: Mapping[str, Instead]) -> Instead | None:
    kinds = (value if isinstance(value, type) else type(value)).__mro__
    for kind in kinds:
        module = str(kind.__module__)
        for key in (f"{module}.{kind.__qualname__}", module, module.partition(".")[0]):
            if key in instead:
                return instead[key]
    return None
