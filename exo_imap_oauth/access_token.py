"""An access token, what can be read from it, and how long it lives.

Its times are Unix seconds, by a wall clock that somebody may put right by hours. So they are noted
by the monotonic clock too: for a token that was just fetched from when its request was sent, for
any other as the wall clock is when it is first looked at. Whether it is still good is judged by
these alone.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from math import isinf
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from exo_imap_oauth._arguments import require, require_text
from exo_imap_oauth._text import HiddenText, json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AccessToken"]

_PAGE = "reference/api/access_token"


class _Counted:
    """Holds what makes the token's times those of :func:`ticks`; no field, so not in a pickle."""

    __slots__ = ("_offset",)
    _offset: float


@dataclass(frozen=True, slots=True, eq=False)
class AccessToken(_Counted):
    """A bearer token with its times, shaped like azure-core's ``AccessToken``.

    ``repr()``, ``str()`` and HTML leave the token out. :attr:`token`,
    :func:`dataclasses.asdict` and :mod:`pickle` hold it, so treat them as secrets. Two tokens are
    equal only if they are the same object.

    Attributes:
        token: The token itself, as it goes to the server.
        expires_on: When it expires, Unix seconds.
        refresh_on: From when on the next one is fetched ahead of time, Unix seconds.
        obtained_on: When the request for it was sent, Unix seconds.

    Raises:
        TypeError: The token is no string, or a time no number.
    """

    token: str = field(repr=False)
    expires_on: int
    refresh_on: int
    obtained_on: float

    def __post_init__(self) -> None:
        require_text("token", self.token, _PAGE)
        for name in ("expires_on", "refresh_on", "obtained_on"):
            expected = "a number of Unix seconds"
            require(name, getattr(self, name), (int, float), expected, page=_PAGE)
        object.__setattr__(self, "token", HiddenText(self.token))

    # pytest takes a dataclass apart, and shows its fields, unless it has an __eq__ of its own.
    @override
    def __eq__(self, other: object) -> bool:
        return self is other

    @override
    def __hash__(self) -> int:
        return object.__hash__(self)

    @property
    def claims(self) -> Mapping[str, Any]:
        """The JWT's payload, not verified; empty if the token is opaque.

        Microsoft reserves the right to change or encrypt it: read it to explain a failure,
        never to decide a success.
        """
        _, _, rest = self.token.partition(".")
        payload, _, _ = rest.partition(".")
        try:
            decoded = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        except ValueError:
            return {}
        return json_object(decoded) or {}

    def _repr_html_(self) -> str:
        """Times and claims for notebooks, without the token."""
        from exo_imap_oauth import _html  # noqa: PLC0415 - few need it, and loading it takes time

        now = wall_clock_of(self)
        is_valid = now < self.expires_on
        return _html.panel(
            "Access token",
            _html.table(
                _html.time_rows(self, now) | _html.claim_rows(self.claims, self.token, now)
            ),
            badge="valid" if is_valid else "expired",
            status="passed" if is_valid else "skipped",
        )


# ---- by the monotonic clock ------------------------------------------------------------------


def ticks() -> float:
    """Seconds, by the clock that a token's life is counted by."""
    return time.monotonic()


def count_from(token: AccessToken, sent: float) -> AccessToken:
    """The token, whose times count from when its request was sent, by :func:`ticks`."""
    object.__setattr__(token, "_offset", sent - token.obtained_on)
    return token


def _offset_of(token: AccessToken) -> float:
    offset: float | None = getattr(token, "_offset", None)
    if offset is None:  # the first look at one that was not fetched here
        now = time.time()  # first, or a token of just now might seem to be there before it was
        offset = ticks() - now
        object.__setattr__(token, "_offset", offset)
    return offset


def at_ticks(token: AccessToken, unix_seconds: float) -> float:
    """When that is, by :func:`ticks`: one of the token's times, or of its claims."""
    return unix_seconds + _offset_of(token)


def refresh_at(token: AccessToken) -> float:
    """Its :attr:`~AccessToken.refresh_on` by :func:`ticks`."""
    return at_ticks(token, token.refresh_on)


def expires_at(token: AccessToken) -> float:
    """Its :attr:`~AccessToken.expires_on` by :func:`ticks`."""
    return at_ticks(token, token.expires_on)


def wall_clock_of(token: AccessToken) -> float:
    """What its times are to be compared with: the wall clock, had nobody set it since."""
    return ticks() - _offset_of(token)


def was_obtained_before(token: AccessToken, began: float) -> bool:
    """Whether a token was there before, by :func:`ticks`; False if its age is not known.

    One that comes out of a cache as if it were of the future was kept while the clock was wrong.
    """
    if isinf(token.obtained_on):
        return False
    return not began <= at_ticks(token, token.obtained_on) <= ticks()
