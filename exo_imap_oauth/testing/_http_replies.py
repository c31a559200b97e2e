"""What the token endpoint's server sends: the right reply, or late, damaged or another one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exo_imap_oauth.testing._faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.testing._entra import Answer, TokenEndpoint
    from exo_imap_oauth.testing._faults import Injection

AFTER_A_REQUEST = (
    Fault.TOKEN_RESET,
    Fault.TOKEN_STALL,
    Fault.TOKEN_SLOW,
    Fault.TOKEN_THROTTLED,
    Fault.TOKEN_UNAVAILABLE,
    Fault.TOKEN_HTML,
    Fault.TOKEN_TRUNCATED_JSON,
    Fault.TOKEN_HUGE_BODY,
    Fault.TOKEN_REDIRECT,
)
_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Sign in</body></html>"
_HUGE = 64 * 1024 * 1024
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


async def spoil(injection: Injection, right: Callable[[], Reply]) -> Reply | None:
    """The right reply, late or damaged; None if the fault is of another kind."""
    match injection.fault:
        case Fault.TOKEN_STALL:
            await injection.wait()
            return right()
        case Fault.TOKEN_SLOW:
            return replace(right(), pace=injection)
        case Fault.TOKEN_TRUNCATED_JSON:
            reply = right()
            return replace(reply, body=reply.body[: len(reply.body) // 2])
        case _:
            return None


def instead(injection: Injection, endpoint: TokenEndpoint) -> Reply | None:
    """What is sent in place of the right reply; None if the connection is reset."""
    match injection.fault:
        case Fault.TOKEN_THROTTLED:
            return reply_with(endpoint.throttled(injection.seconds))
        case Fault.TOKEN_UNAVAILABLE:
            return reply_with(endpoint.unavailable(injection.seconds))
        case Fault.TOKEN_HTML:
            return Reply(200, _PAGE, HTML)
        case Fault.TOKEN_HUGE_BODY:
            return Reply(200, b" " * _HUGE)
        case Fault.TOKEN_REDIRECT:
            return Reply(302, b"", HTML, (("Location", "https://login.example/elsewhere"),))
        case _:
            return None
