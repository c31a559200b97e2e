"""What the token endpoint's server sends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exo_imap_oauth.testing._entra import Answer
    from exo_imap_oauth.testing._faults import Injection

HTML = "text/html; charset=utf-8"
_NOT_FOUND = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response.

    Attributes:
        status: The HTTP status.
        body: Its body.
        content_type: The type of the body.
        headers: Headers besides the usual ones.
        pace: Waited for after each byte, if given.
    """

    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    pace: Injection | None = None


def reply_with(answer: Answer | None) -> Reply:
    """The response for an answer of Entra's; None is a page that does not exist."""
    if answer is None:
        return Reply(404, _NOT_FOUND, HTML)
    wait = (("Retry-After", f"{answer.retry_after:.0f}"),) if answer.retry_after else ()
    return Reply(answer.status, json.dumps(answer.body).encode(), headers=wait)
