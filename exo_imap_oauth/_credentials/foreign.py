"""What gives a token, whoever wrote it: a credential such as azure-identity's, or a function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from exo_imap_oauth._arguments import TOKENS, wrong_kind
from exo_imap_oauth._credentials.callables import is_async
from exo_imap_oauth._errors_base import lines_of
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.advice import advise
from exo_imap_oauth.errors import ExoImapOAuthError

_LAST_SECOND = 2**53  # far beyond every expiry; what is more is none


class HasToken(Protocol):
    """A token by its shape: ours, azure-core's, or any object with the text."""

    @property
    def token(self) -> str:
        """The text."""
        ...


class SupportsGetToken(Protocol):
    """A token source: ours, or any credential of azure-identity."""

    def get_token(self, *scopes: str) -> HasToken:
        """A token for the scope, whose ``token`` is the text."""
        ...


GivesToken = SupportsGetToken | Callable[[], str | HasToken]
"""What gives a token each time that it is asked: a credential, or a plain function."""


class _Function:
    """A function that returns a token, in the shape of a credential."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], str | HasToken]) -> None:
        self.function = function

    def get_token(self, *_scopes: str) -> HasToken:
        token = self.function()
        return of_unknown_age(token) if isinstance(token, str) else token


def as_source(given: GivesToken) -> SupportsGetToken:
    """A function in the shape of a credential; anything else as it is."""
    if hasattr(given, "get_token") or not callable(given):
        return cast("SupportsGetToken", given)  # or what problem_of_source finds
    return _Function(given)


def name_of(source: object) -> str:
    """What a source is called in messages: a function by its name, a credential by its class."""
    if isinstance(source, _Function):
        return str(getattr(source.function, "__name__", type(source.function).__name__))
    return type(source).__name__


def problem_of_source(source: object, name: str, expected: str) -> TypeError | None:
    """Why something cannot be asked for a token, or None.

    The error is returned, since tracebacks hold frames, and a dict may hold the token's text.

    Args:
        source: What :func:`as_source` returned.
        name: The argument that it was given as.
        expected: What that argument may be.
    """
    given: object = source.function if isinstance(source, _Function) else source
    asked = getattr(given, "get_token", given)
    if isinstance(given, type) or not callable(asked):
        page = "reference/api/imap"
        return wrong_kind(name, given, expected, page=page, instead=TOKENS)
    return _to_be_awaited(source) if is_async(asked) else None


def issued_by(source: SupportsGetToken, scope: str) -> AccessToken:
    """A token of the source, in our own form; its times are 0 where it does not tell them.

    Raises:
        TypeError: What it gave has no text, or has to be awaited.
        Exception: Whatever the source raises; where its text is known, with advice as a note.
    """
    try:
        issued: object = source.get_token(scope)
    except ExoImapOAuthError:
        raise
    except Exception as error:
        _add_advice(error)
        raise
    if isinstance(issued, AccessToken):
        return issued
    if inspect.isawaitable(issued):
        if inspect.iscoroutine(issued):
            issued.close()  # nobody will await it, which Python would warn of
        raise _to_be_awaited(source)
    text = getattr(issued, "token", None)
    if isinstance(text, str):
        return AccessToken(
            token=text,
            expires_on=_seconds(issued, "expires_on"),
            refresh_on=_seconds(issued, "refresh_on"),
            obtained_on=math.inf,
        )
    kind = type(issued if text is None else text).__name__
    del issued, text  # tracebacks hold frames
    asked = name_of(source) if isinstance(source, _Function) else "get_token"
    raise TypeError(f"{asked}() gave no token with a text, but {kind}")


def of_unknown_age(text: str) -> AccessToken:
    """A token whose times are not known: as if it were obtained just now."""
    return AccessToken(token=text, expires_on=0, refresh_on=0, obtained_on=math.inf)


def _seconds(issued: object, name: str) -> int:
    with suppress(Exception):  # of a property; the frame that it would leave holds the token
        value = getattr(issued, name, 0)
        if isinstance(value, (int, float)) and 0 < value < _LAST_SECOND:
            return int(value)
    return 0


def _to_be_awaited(source: object) -> TypeError:
    if isinstance(source, _Function):
        return TypeError(
            f"the function {name_of(source)} has to be awaited, which is not possible here; give"
            " a plain function"
        )
    return TypeError(
        f"{name_of(source)} is an asynchronous credential, which cannot be awaited here; use its"
        " synchronous twin: azure-identity has it in azure.identity, not in azure.identity.aio"
    )


def _add_advice(error: Exception) -> None:
    """Say below an error what its text means, if that is known; a traceback shows it.

    No stage is given, so that a refused connection, to a vault perhaps, means nothing.
    """
    with suppress(Exception):  # it is not ours: its text may fail, and it may take no note
        advice = advise(str(error))
        if advice is not None:
            note = "\n  ".join(lines_of(advice))
            if note not in getattr(error, "__notes__", ()):  # the same error, raised again
                error.add_note(note)
