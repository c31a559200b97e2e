"""What a listener is given: what cannot work is refused, and it is said what to pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

from exo_imap_oauth._arguments import INBOXES, Instead, require_count, wrong_kind
from exo_imap_oauth._credentials.callables import is_async
from exo_imap_oauth._text import check_seconds, one_line
from exo_imap_oauth.inbox import InboxConfig

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from exo_imap_oauth.imap import Token
    from exo_imap_oauth.token_cache import TokenCache


class OldOptions(TypedDict, total=False):
    """Names of 0.2.0, which work until 0.4."""

    look_every: float
    pause: float
    longest_pause: float


class ListenerOptions(OldOptions, total=False):
    """The options of an :class:`InboxListener`, and so of :func:`listen`."""

    token: Token | None
    cache: TokenCache | None
    ssl_context: ssl.SSLContext | None
    longest: int | None
    unconfirmed: int
    on_failure: Callable[[InboxConfig, Exception, float], bool | None] | None
    timeout: float
    poll_interval: float
    initial_backoff: float
    max_backoff: float


_RENAMED = {
    "look_every": "poll_interval",
    "pause": "initial_backoff",
    "longest_pause": "max_backoff",
}


_PAGE = "how-to/listen"
_SEVERAL = "a configuration or a list of InboxConfig"
_LISTEN = Instead("for several inboxes there is listen()")
_OF_ONE = INBOXES | {
    "exo_imap_oauth.config.CmsbsConfig": _LISTEN,
    "builtins.list": _LISTEN,
    "builtins.dict": _LISTEN,
}
_ONE = {"exo_imap_oauth": Instead("put a single one into a list: [inbox]")}


def several(inboxes: object) -> list[InboxConfig]:
    """The inboxes, each of them another folder."""
    if isinstance(inboxes, InboxConfig):
        raise wrong_kind("inboxes", inboxes, _SEVERAL, page=_PAGE, instead=_ONE)
    if isinstance(inboxes, Mapping):
        inboxes = cast("Mapping[str, object]", inboxes).values()
    if not isinstance(inboxes, Iterable) or isinstance(inboxes, str):
        raise wrong_kind("inboxes", inboxes, _SEVERAL, page=_PAGE, instead=INBOXES)
    listed = [checked_inbox(inbox) for inbox in cast("Iterable[object]", inboxes)]
    if not listed:
        raise ValueError("there is no inbox to listen to")
    folders: dict[tuple[str, str, str], str] = {}
    for inbox in listed:
        is_inbox = inbox.folder.upper() == "INBOX"
        place = inbox.host.lower(), inbox.user.lower(), "INBOX" if is_inbox else inbox.folder
        if place in folders:
            names = f"{one_line(folders[place])} and {one_line(inbox.name)}"
            raise ValueError(
                f"the inboxes {names} are the same folder ({one_line(inbox.folder)} of"
                f" {one_line(inbox.user)}): each message would be handled twice; leave one out"
            )
        folders[place] = inbox.name
    return listed


def checked_inbox(inbox: object) -> InboxConfig:
    if isinstance(inbox, InboxConfig):
        return inbox
    raise wrong_kind("inbox", inbox, "an InboxConfig", page=_PAGE, instead=_OF_ONE)


def check_function(name: str, function: object) -> None:
    if not callable(function):
        raise wrong_kind(name, function, "a function, to be called with the inbox", page=_PAGE)
    if is_async(function):
        raise TypeError(f"{name} is async, so nobody would await it; give a plain function")


def check_counts(longest: object, unconfirmed: object) -> None:
    """Check the numbers of bytes and messages; None is no limit of the bytes."""
    if longest is not None:
        require_count("longest", longest, _PAGE)
    require_count("unconfirmed", unconfirmed, _PAGE)


def checked_seconds(renamed: dict[str, Any], **seconds: float) -> dict[str, float]:
    """Numbers of seconds by their names; those that were given by an old name count."""
    if unknown := renamed.keys() - seconds.keys():
        raise TypeError(f"InboxListener() takes no argument {min(unknown)!r}")
    checked = seconds | renamed
    for name, value in checked.items():
        check_seconds(name, value)
    return checked


def with_new_names(options: dict[str, Any]) -> dict[str, Any]:
    """The options by their names of today."""
    for old, new in _RENAMED.items():
        if old in options:
            warnings.warn(
                f"{old}= is deprecated and ends with 0.4: it is called {new}= now",
                DeprecationWarning,
                stacklevel=3,
            )
            options[new] = options.pop(old)
    return options
