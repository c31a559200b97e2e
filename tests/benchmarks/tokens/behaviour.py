"""What the token endpoint can do, and what it counts."""

from __future__ import annotations

from typing import NamedTuple

HOST = "127.0.0.1"
LATENCY = 0.05  # s
HOLD = 15.0  # s, how long an endpoint that stalls, drips or stays silent does so
JSON, HTML = "application/json", "text/html"
_PAGE = "<html><body>Service Unavailable</body></html>"
_THROTTLED = '{"error": "temporarily_unavailable", "error_description": "AADSTS90055"}'

# kind -> status, content type, body, further header lines
ERRORS = {
    "429 JSON": (429, JSON, _THROTTLED, "Retry-After: 2\r\n"),
    "429 HTML": (429, HTML, _PAGE, ""),
    **{f"{status}": (status, HTML, _PAGE, "") for status in (500, 501, 502, 503, 504)},
    "200, no JSON": (200, HTML, _PAGE, ""),
}
_PER_REQUEST = ("reset", "stall", "dripping headers", "truncated", *ERRORS)
FAILURES = ("refused", "TLS failure", "silent", *_PER_REQUEST)


class Behaviour(NamedTuple):
    """What an endpoint does from now on.

    Attributes:
        kinds: ``token`` or members of :data:`FAILURES`, each with its weight.
    """

    kinds: tuple[tuple[str, float], ...] = (("token", 1.0),)
    latency: float = LATENCY
    expires_in: int = 3600
    refresh_in: int | None = 1800  # as Entra sends it
    hold: float = HOLD


class Counts(NamedTuple):
    """What an endpoint has seen so far."""

    http: int = 0
    posts: int = 0
    at_once: int = 0
    failed: int = 0
    stalled: int = 0


def failing(kind: str) -> Behaviour:
    """An endpoint that does nothing else."""
    return Behaviour(((kind, 1.0),))
