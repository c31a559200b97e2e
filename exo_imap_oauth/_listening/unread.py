"""The unread messages of a folder: each handed to a function, then marked as read."""

from __future__ import annotations

import imaplib
import logging
import math
import time
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from exo_imap_oauth._imap.replies import is_broken, text_of
from exo_imap_oauth._text import one_line
from exo_imap_oauth.advice import advise
from exo_imap_oauth.errors import ExoImapOAuthError, ImapError
from exo_imap_oauth.imap import ok

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage

    from exo_imap_oauth.inbox import InboxConfig

_logger = logging.getLogger(__name__)


class MessageNotHandled(ExoImapOAuthError):
    """A message could not be fetched, handled or marked; what went wrong is its ``__cause__``.

    Attributes:
        uid: Its UID in the folder (RFC 3501 section 2.3.1.1).
        attempts: How often it was tried since the listener was made.
        given_up: Whether :meth:`give_up` was called.
    """

    __module__ = "exo_imap_oauth.listener"

    def __init__(self, message: str, *, uid: int = 0, attempts: int = 0) -> None:
        super().__init__(message, retryable=True)
        self.uid = uid
        self.attempts = attempts
        self.given_up: bool = False

    def give_up(self) -> None:
        """Have the message marked as read, so that it is not handed over again.

        To be called by ``on_failure``, which can first put the message aside.
        """
        self.given_up = True


class _Key(NamedTuple):
    """A message: its UID means nothing without the folder's UIDVALIDITY (RFC 3501)."""

    validity: object
    uid: int


class _Failed(NamedTuple):
    attempts: int
    again_at: float  # time.monotonic()


class Unread:
    """Hands over what is unread, and remembers what failed, over many connections.

    ``pause_after`` gives the seconds of pause after so many attempts in a row; ``tell`` is told
    each failure, and the seconds until the next attempt.
    """

    def __init__(
        self,
        inbox: InboxConfig,
        handle: Callable[[InboxConfig, EmailMessage], None],
        pause_after: Callable[[int], float],
        tell: Callable[[MessageNotHandled, float], None],
    ) -> None:
        self._inbox = inbox
        self._handle = handle
        self._pause_after = pause_after
        self._tell = tell
        # What was handed over and may not be marked, since the connection broke just then.
        self._unmarked: set[_Key] = set()
        self._failed: dict[_Key, _Failed] = {}

    def look(self, imap: imaplib.IMAP4, validity: object, has_to_stop: Callable[[], bool]) -> None:
        """Hand over and mark what is unread, one message after the other.

        ``validity`` is the folder's UIDVALIDITY; ``has_to_stop`` is asked before each message.

        Raises:
            ImapError: The connection is lost, the session has expired, or the server throttles.
        """
        (uids,) = ok(imap.uid("SEARCH", "UNSEEN"))
        keys = [_Key(validity, int(uid)) for uid in (uids or b"").split()]
        self._failed = {key: self._failed[key] for key in keys if key in self._failed}
        for key in keys:
            if has_to_stop():
                return
            failed = self._failed.get(key)
            if failed is None or time.monotonic() >= failed.again_at:
                self._take(imap, key)

    def seconds_to_next_try(self) -> float:
        """Until a message that failed is due again; infinite if there is none."""
        due = min((failed.again_at for failed in self._failed.values()), default=math.inf)
        return max(0.0, due - time.monotonic())

    def _take(self, imap: imaplib.IMAP4, key: _Key) -> None:
        """Hand a message over and mark it; what goes wrong with it alone is noted."""
        error = None if key in self._unmarked else self._hand_over(imap, key)
        if error is None:
            error = self._mark(imap, key)
        if error is not None and self._is_given_up(key, error):
            self._mark(imap, key)

    def _hand_over(self, imap: imaplib.IMAP4, key: _Key) -> Exception | None:
        try:
            raw = _literal(ok(imap.uid("FETCH", str(key.uid), "(BODY.PEEK[])")))
        except imaplib.IMAP4.error as error:
            return _of_one_message(error)
        if raw is None:  # somebody else removed it
            return None
        try:
            self._handle(self._inbox, message_from_bytes(raw, policy=policy.default))
        except Exception as error:  # noqa: BLE001 - it is not our function
            return error
        self._unmarked.add(key)
        return None

    def _mark(self, imap: imaplib.IMAP4, key: _Key) -> Exception | None:
        try:
            ok(imap.uid("STORE", str(key.uid), "+FLAGS.SILENT", r"(\Seen)"))
        except imaplib.IMAP4.error as error:
            return _of_one_message(error)
        self._unmarked.discard(key)
        self._failed.pop(key, None)
        return None

    def _is_given_up(self, key: _Key, error: Exception) -> bool:
        """Note that a message failed, and tell so; whether it shall not be tried again."""
        attempts = self._failed[key].attempts + 1 if key in self._failed else 1
        pause = self._pause_after(attempts)
        self._failed[key] = _Failed(attempts, time.monotonic() + pause)
        name = one_line(self._inbox.name)
        times = "once" if attempts == 1 else f"{attempts} times"
        what = f"inbox {name}: message {key.uid} failed {times}: {type(error).__name__}"
        traceback = error if attempts == 1 else None
        extra = {"exo_inbox": name}
        _logger.warning("%s. Next try in %.1f s", what, pause, exc_info=traceback, extra=extra)
        failure = MessageNotHandled(what, uid=key.uid, attempts=attempts)
        failure.__cause__ = error
        self._tell(failure, pause)
        if failure.given_up:
            _logger.warning("inbox %s: message %d is given up", name, key.uid, extra=extra)
        return failure.given_up


def _of_one_message(error: imaplib.IMAP4.error) -> Exception:
    """The error, if the server refused just this message, as it does for a damaged one."""
    is_of_session = type(error) not in (ImapError, imaplib.IMAP4.error) or is_broken(error)
    if is_of_session or advise(text_of(error), stage="runtime") is not None:
        raise error  # a lost connection, throttling, an expired session
    return error


def _literal(parts: list[Any]) -> bytes | None:
    for part in cast("list[bytes | tuple[bytes, bytes]]", parts):
        if isinstance(part, tuple):
            return part[1]
    return None
