"""An access token and what can be read from it."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from exo_imap_oauth._text import HiddenText, json_object

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, eq=False)
class AccessToken:
    """A bearer token with its times, shaped like azure-core's ``AccessToken``.

    ``repr()``, ``str()`` and HTML leave the token out. :attr:`token`,
    :func:`dataclasses.asdict` and :mod:`pickle` hold it, so treat them as secrets. Two tokens are
    equal only if they are the same object.

    Attributes:
        token: The token itself, as it goes to the server.
        expires_on: When it expires, Unix seconds.
        refresh_on: From when on the next one is fetched ahead of time, Unix seconds.
        obtained_on: When the request for it was sent, Unix seconds.
    """

    token: str = field(repr=False)
    expires_on: int
    refresh_on: int
    obtained_on: float

    def __post_init__(self) -> None:
        if isinstance(self.token, str):
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

        now = time.time()
        is_valid = now < self.expires_on
        return _html.panel(
            "Access token",
            _html.table(
                _html.time_rows(self, now) | _html.claim_rows(self.claims, self.token, now)
            ),
            badge="valid" if is_valid else "expired",
            status="passed" if is_valid else "skipped",
        )
