"""The way into a folder, and when its token makes it necessary to come again."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, NamedTuple, cast

from exo_imap_oauth._credentials.foreign import issued_by
from exo_imap_oauth._threads import in_thread
from exo_imap_oauth.access_token import AccessToken, at_ticks, ticks
from exo_imap_oauth.token_source import TokenSource

if TYPE_CHECKING:
    import imaplib
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from exo_imap_oauth._credentials.foreign import SupportsGetToken
    from exo_imap_oauth._imap.client import Client
    from exo_imap_oauth._listener.waker import Waker

_logger = logging.getLogger(__name__)

_LOOK_FOR_STOP = 0.2  # s between looks, while something is waited for that nothing wakes
_NEW_TOKEN_EVERY = 5.0  # s between looks for the new token, once it is time for one
_MARGIN = 300.0  # s before its end from which on a token that does not say is replaced
_SHORTEST_SESSION = 60.0  # s, with a token of a source that is not ours


class Opened(NamedTuple):
    """A folder that is open."""

    imap: Client
    renewal: Renewal
    stack: contextlib.ExitStack  # closes it


class Opening:
    """Opens a folder again and again.

    Args:
        mailbox: Gives the context manager that opens it.
        token: What it is opened with.
        scope: What a credential of somebody else is asked for.
        waker: Tells that it is time to stop.
    """

    def __init__(
        self,
        mailbox: Callable[[], AbstractContextManager[imaplib.IMAP4]],
        token: AccessToken | SupportsGetToken,
        scope: str,
        waker: Waker,
    ) -> None:
        self._mailbox = mailbox
        self._token = token
        self._scope = scope
        self._waker = waker

    def open(self, *, within: float | None = None) -> Opened | None:
        """The folder, open, or None if it is time to stop.

        Another thread opens it, since nothing wakes who waits for a name service or for a token.

        Args:
            within: Seconds that it may take, whether it is time to stop or not.
        """
        opening = in_thread("open", self._open)
        ends_at = None if within is None else time.monotonic() + within
        while not self._waker.is_set if ends_at is None else time.monotonic() < ends_at:
            if wait([opening], timeout=_LOOK_FOR_STOP).done:
                return opening.result()
        opening.add_done_callback(_close)
        return None

    def _open(self) -> Opened:
        with contextlib.ExitStack() as stack:
            token = self._current_token()
            imap = cast("Client", stack.enter_context(self._mailbox()))
            return Opened(imap, Renewal(self._token, token, self._current_token), stack.pop_all())

    def _current_token(self) -> AccessToken:
        """What the source gives now; asking for it is what has the next one fetched."""
        if isinstance(self._token, AccessToken):
            return self._token
        if isinstance(self._token, TokenSource):
            return self._token.get_token()
        return issued_by(self._token, self._scope)


class Renewal:
    """Whether another session would have another token than this one.

    The source is asked in a thread of its own and nobody waits for it: some take very long.
    """

    def __init__(
        self, source: object, token: AccessToken, current_token: Callable[[], AccessToken]
    ) -> None:
        self._token = token
        self._current_token = current_token
        self._asking: Future[AccessToken] | None = None
        self._ask_at = _ends_on(token)
        if isinstance(source, AccessToken):
            self._ask_at = math.inf  # there will be no other one
        elif not isinstance(source, TokenSource):
            # Others may give a new one each time that they are asked, so not too often, even if
            # this machine's clock makes each new one look old.
            self._ask_at = max(self._ask_at, ticks() + _SHORTEST_SESSION)

    def seconds(self) -> float:
        """Until it is worth to look again."""
        return max(self._ask_at - ticks(), _NEW_TOKEN_EVERY)

    def is_due(self) -> bool:
        """Whether there is another token by now."""
        if self._asking is None:
            if ticks() < self._ask_at:
                return False
            self._asking = in_thread("token", self._current_token)
        if not self._asking.done():
            return False
        asked, self._asking = self._asking, None
        self._ask_at = ticks() + _NEW_TOKEN_EVERY
        error = asked.exception()
        if error is not None:  # the session lasts until the server ends it, which is told then
            _logger.debug("no new token yet: %s", type(error).__name__)
            return False
        return asked.result().token != self._token.token


def _close(opening: Future[Opened]) -> None:
    """Close a folder that was opened too late."""
    if not opening.exception():
        opening.result().stack.close()


def _ends_on(token: AccessToken) -> float:
    """When to look for a new token, by :func:`ticks`; infinity where nothing tells."""
    exp = token.claims.get("exp")
    expires_on = token.expires_on or (exp if isinstance(exp, (int, float)) else 0)
    refresh_on = token.refresh_on or (expires_on - _MARGIN if expires_on else math.inf)
    return at_ticks(token, refresh_on)
