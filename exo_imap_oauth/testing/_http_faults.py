"""What goes wrong at the token endpoint once it has read a request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exo_imap_oauth.testing._faults import Fault
from exo_imap_oauth.testing._http_reply import HTML, Reply, reply_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.testing._entra import TokenEndpoint
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
