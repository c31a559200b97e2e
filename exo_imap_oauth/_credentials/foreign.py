"""A credential of another library, such as azure-identity: asked for its token, by its shape."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from exo_imap_oauth.access_token import AccessToken

if TYPE_CHECKING:
    from collections.abc import Callable

_ASYNC = (
    "{kind} is an asynchronous credential, which cannot be awaited here; use its synchronous twin:"
    " azure-identity has it in azure.identity, not in azure.identity.aio"
)


def require_get_token(credential: object) -> Callable[..., Any]:
    """Its ``get_token``.

    Raises:
        TypeError: It has none, or an asynchronous one.
    """
    kind = type(credential).__name__
    get_token = getattr(credential, "get_token", None)
    if not callable(get_token):
        raise TypeError(f"token_source must have a method get_token, which {kind} has not")
    if inspect.iscoroutinefunction(get_token):
        raise TypeError(_ASYNC.format(kind=kind))
    return cast("Callable[..., Any]", get_token)


def issued_by(credential: object, scope: str) -> AccessToken:
    """A token of the credential, in our own form; 0 where it does not tell when it expires.

    Raises:
        TypeError: What it gave has no text, or has to be awaited.
        Exception: Whatever the credential raises.
    """
    issued = require_get_token(credential)(scope)
    if inspect.isawaitable(issued):
        if inspect.iscoroutine(issued):
            issued.close()  # nobody will await it, which Python would warn of
        raise TypeError(_ASYNC.format(kind=type(credential).__name__))
    text = getattr(issued, "token", None)
    if not isinstance(text, str):
        kind = type(issued if text is None else text).__name__
        del issued, text  # tracebacks hold frames
        raise TypeError(f"get_token() gave no token with a text, but {kind}")
    expires_on = getattr(issued, "expires_on", 0)
    expires_on = int(expires_on) if isinstance(expires_on, (int, float)) else 0
    return AccessToken(token=text, expires_on=expires_on, refresh_on=0, obtained_on=0)
