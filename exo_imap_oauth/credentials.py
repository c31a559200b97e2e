"""What an application proves its identity with at the token endpoint."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, cached

from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth._text import is_guid

if TYPE_CHECKING:
    from collections.abc import Callable


class ClientSecret:
    """A client secret, or a callable that returns the current one (RFC 6749 section 2.3.1).

    Neither ``repr()`` nor a traceback shows it.

    Args:
        secret: The secret's *Value* as the Entra admin center showed it once.

    Raises:
        TypeError: It is neither a string nor callable.
        ValueError: It is empty.
    """

    __slots__ = ("_secret", "fingerprint")

    fingerprint: bytes
    """A digest, equal for equal secrets and for equal callables, which are not called for it."""

    def __init__(self, secret: str | Callable[[], str]) -> None:
        problem = _problem_of(secret)
        if problem is not None:
            del secret  # raised here and without it, so that no frame of a traceback holds it
            raise problem
        self._secret = secret
        if isinstance(secret, str):
            self.fingerprint = sha256(secret.encode()).digest()
        else:
            self.fingerprint = _callable_fingerprint(secret)

    @property
    def looks_like_guid(self) -> bool:
        """Whether this is probably the secret's ID from the portal, not its Value."""
        return isinstance(self._secret, str) and is_guid(self._secret)

    def __reduce__(self) -> str:
        raise TypeError("a client secret is not pickled")

    def form_fields(self) -> dict[str, str]:
        """The form fields that carry the credential in a token request.

        Raises:
            ValueError: The callable returned something that cannot be a secret.
        """
        if isinstance(self._secret, str):
            return {"client_secret": self._secret}
        secret = self._secret()
        if (problem := _problem_of_text(secret)) is not None:
            del secret
            raise problem
        return {"client_secret": secret}


def _problem_of(secret: object) -> Exception | None:
    """Why this can be neither a secret nor a callable that returns one, or None."""
    if isinstance(secret, str):
        return _problem_of_text(secret)
    kind = type(secret).__name__
    if not callable(secret):
        return TypeError(
            f"client_secret must be a string or a callable that returns one, not {kind}"
        )
    if not _is_hashable(secret):
        return TypeError(f"the client_secret callable {kind} has no hash")
    return None


def _problem_of_text(secret: object) -> ValueError | None:
    if not isinstance(secret, str):
        return ValueError(f"the callable returned {type(secret).__name__}, not a client secret")
    if not secret:
        return ValueError("the client secret is empty")
    if not secret.isprintable() or secret.isspace():
        return ValueError("the client secret holds a line end or another invisible character")
    return None


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@cached(LRUCache[Any, bytes](maxsize=10_000), lock=process_lock)
def _callable_fingerprint(secret: Callable[[], str]) -> bytes:  # noqa: ARG001 - it is the cache key
    return os.urandom(32)  # as long as a digest, and equal to none
