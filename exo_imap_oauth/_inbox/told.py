"""What an inbox with ``debug = true`` tells of its tokens and logins, a line for each step.

Lower modules log the same at DEBUG, for all inboxes and without saying for which.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from typing_extensions import override

from exo_imap_oauth._credentials.foreign import issued_by, name_of, problem_of_source
from exo_imap_oauth._html import SHOWN_CLAIMS
from exo_imap_oauth._text import quotable
from exo_imap_oauth.access_token import (
    AccessToken,
    ticks,
    wall_clock_of,
    was_obtained_before,
)
from exo_imap_oauth.errors import ExoImapOAuthError, TokenRequestRejected

if TYPE_CHECKING:
    import imaplib
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from typing import Any

    from exo_imap_oauth.imap import SupportsGetToken

_SHOWN_IN_MINUTES = 120.0  # s; less is shown in seconds


class ToldSource:
    """A source of tokens that tells of each one it gives; in all else it is the source.

    Args:
        source: The source.
        token_uri: Where a :class:`TokenSource` gets its tokens.
        tell: Gets each line.
    """

    def __init__(
        self, source: SupportsGetToken, token_uri: str, tell: Callable[[str], None]
    ) -> None:
        self._source = source
        self._token_uri = token_uri
        self._tell = tell

    @property
    def scope(self) -> str | None:
        """The source's own; foreign credentials have none."""
        return getattr(self._source, "scope", None)

    @override
    def __hash__(self) -> int:  # by which a second try for the same source is known
        return hash(self._source)

    def get_token(self, *scopes: str) -> AccessToken:
        """Get a token of the source, and tell whether it is a new one."""
        asked_at, started = ticks(), time.perf_counter()
        issued = issued_by(self._source, *scopes)
        self._tell(f"{self._origin(issued, asked_at, _since(started))}, {_valid_for(issued)}")
        _tell_claims(issued, self._tell)
        return issued

    def _origin(self, issued: AccessToken, asked_at: float, after: str) -> str:
        if math.isinf(issued.obtained_on):  # it does not say
            return f"token from {name_of(self._source)} after {after}"
        if was_obtained_before(issued, asked_at):
            return "cached token"
        return f"new token from {self._token_uri} after {after}"


class _Renewable(ToldSource):
    """The same for a source that can drop a token."""

    def invalidate(self, token: object) -> None:
        """Drop a token that was refused, and tell that another one is tried."""
        cast("Any", self._source).invalidate(token)  # if this fails, there is no second try
        self._tell("the server refused the cached token; second try, with a new one")


def told_source(
    token: AccessToken | SupportsGetToken, token_uri: str, tell: Callable[[str], None]
) -> AccessToken | SupportsGetToken:
    """A source that tells of its tokens; what is none comes back as it is."""
    if isinstance(token, AccessToken) or problem_of_source(token, "token", "") is not None:
        return token
    kind = _Renewable if hasattr(token, "invalidate") else ToldSource
    return kind(token, token_uri, tell)


@contextmanager
def told_mailbox(
    mailbox: AbstractContextManager[imaplib.IMAP4],
    token: object,
    where: str,
    tell: Callable[[str], None],
) -> Generator[imaplib.IMAP4]:
    """The mailbox; how it opened, and with which error it ended, is told."""
    started = time.perf_counter()
    is_open = False
    if isinstance(token, AccessToken):
        tell(f"token as it was given, {_valid_for(token)}")
        _tell_claims(token, tell)
    try:
        with mailbox as imap:
            is_open = True
            reason = getattr(imap, "login_said", "")  # Exchange may say OK, and yet what is wrong
            said = f"; the login said: {reason}" if reason else ""
            tell(f"opened {where} after {_since(started)}{said}")
            yield imap
    except ExoImapOAuthError as error:
        verb = "ended" if is_open else "refused"
        tell(f"{verb} after {_since(started)}: {_in_short(error)}")
        raise
    except Exception as error:
        if not is_open:  # of a foreign credential; once it is open, errors are the caller's
            tell(f"refused after {_since(started)}: {type(error).__name__}")
        raise


def _since(started: float) -> str:
    """The time since ``time.perf_counter()`` was that."""
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"


def _in_short(error: ExoImapOAuthError) -> str:
    facts = [type(error).__name__]
    if isinstance(error, TokenRequestRejected):
        facts += [f"status {error.status}", f"correlation ID {error.correlation_id}"]
    if error.advice is not None:
        facts.append(f"advice {error.advice.id}")
    if error.retry_after is not None:
        facts.append(f"try again in {error.retry_after:.0f} s")
    return f"{', '.join(facts)}: {quotable(str(error.args[0]))}"


def _valid_for(token: AccessToken) -> str:
    """How long a token is valid; those of others need not say."""
    if not token.expires_on:
        return "valid for a time that is not known"
    seconds = token.expires_on - wall_clock_of(token)
    if seconds < _SHOWN_IN_MINUTES:
        return f"valid for {seconds:.0f} s"
    return f"valid for {seconds // 60:.0f} min"


def _tell_claims(token: AccessToken, tell: Callable[[str], None]) -> None:
    claims = {name: token.claims.get(name) for name in SHOWN_CLAIMS}
    tell(f"token claims {quotable(str(claims), [token.token])}")
