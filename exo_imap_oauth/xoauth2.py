"""SASL XOAUTH2: the client's two messages. Bytes in, bytes out, no I/O.

The mechanism is documented by Google and Microsoft; its error challenge is the one of
OAUTHBEARER (RFC 7628 section 3.2.2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeGuard

from exo_imap_oauth._arguments import require, wrong_kind
from exo_imap_oauth._text import holds_control, json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAGE = "reference/api/xoauth2"
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 section 2.1

AFTER_ERROR_CHALLENGE = b""
"""The answer to an error challenge: an empty line, after which the server sends its refusal."""


def initial_response(user: str, token: str) -> bytes:
    r"""The client's first message, not yet base64: ``user=…\x01auth=Bearer …\x01\x01``.

    Args:
        user: The mailbox to open, such as ``inbox@contoso.com``.
        token: The access token.

    Raises:
        TypeError: One of them is no string.
        ValueError: ``user`` is empty or holds a control character, or ``token`` is not a bearer
            token; either would let a caller's data forge another field of the message.
    """
    problem = _problem_of(user, token)
    if problem is not None:
        del token  # tracebacks hold frames
        raise problem
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()


def decode_challenge(challenge: bytes) -> Mapping[str, Any] | None:
    """The server's error challenge as a mapping, or None if it is not a JSON object.

    Args:
        challenge: The challenge without its base64.
    """
    require("challenge", challenge, (bytes, bytearray, str), "bytes", page=_PAGE)
    return json_object(challenge)


def check_user(user: str) -> str | None:
    """What is wrong with a mailbox name, or None."""
    if not isinstance(user, str):
        return f"the user must be a string, not {type(user).__name__}"
    if not user:
        return "the user is empty; it is the address of the mailbox to open"
    if holds_control(user):
        return f"the user {user!r} holds a control character, a line separator or a lone surrogate"
    return None


def is_bearer_token(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be sent as a bearer token (RFC 6750 section 2.1)."""
    return isinstance(value, str) and _BEARER_TOKEN.fullmatch(value) is not None


def _problem_of(user: str, token: str) -> TypeError | ValueError | None:
    """Why these make no message, or None."""
    for name, value in (("user", user), ("token", token)):
        if not isinstance(value, str):
            return wrong_kind(name, value, "a string", page=_PAGE)
    problem = check_user(user) or _check_token(token)
    return ValueError(problem) if problem else None


def _check_token(token: str) -> str | None:
    if not token:
        return "the access token is empty"
    if not is_bearer_token(token):
        return "the access token holds characters that no bearer token has (RFC 6750)"
    return None
