"""The IMAP branch of the error tree, apart from the rest since it needs imaplib."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._errors_base import ExoImapOAuthError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_imap_oauth.advice import Advice

__all__ = [
    "AuthenticationRefused",
    "ConnectionFailed",
    "ImapError",
    "MailboxNotConnected",
    "MessageUnavailable",
    "SessionExpired",
    "Throttled",
]


class ImapError(ExoImapOAuthError, imaplib.IMAP4.error):
    """The IMAP server refused something. Also an :class:`imaplib.IMAP4.error`."""


class AuthenticationRefused(ImapError):
    """The server answered NO to AUTHENTICATE.

    Attributes:
        challenge: The server's JSON error challenge, decoded (RFC 7628 section 3.2.2), or None.
    """

    def __init__(
        self,
        message: str,
        advice: Advice | None = None,
        *,
        challenge: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, advice=advice)
        self.challenge = challenge


class MailboxNotConnected(ImapError):
    """The token was accepted, but the mailbox does not open.

    Retryable where Exchange gave a reason that can pass, such as a mailbox that is being moved.
    """


class MessageUnavailable(ImapError):
    """The server lists a message and does not hand it out. It stays in its folder, unread.

    Attributes:
        uid: Its UID in the folder (RFC 3501 section 2.3.1.1), 0 if it is not known.
        size: Its RFC822.SIZE in octets, or None if it is not known.
    """

    def __init__(
        self,
        message: str,
        advice: Advice | None = None,
        *,
        uid: int = 0,
        size: int | None = None,
    ) -> None:
        super().__init__(message, advice=advice, retryable=True)
        self.uid = uid
        self.size = size


class Throttled(ImapError):
    """Exchange asks to slow down. Retryable after ``retry_after`` seconds."""

    def __init__(
        self, message: str, advice: Advice | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message, advice=advice, retryable=True, retry_after=retry_after)


class SessionExpired(ImapError, imaplib.IMAP4.abort):
    """Exchange ended the session because its token expired. Reconnect with a fresh token."""

    def __init__(self, message: str, advice: Advice | None = None) -> None:
        super().__init__(message, advice=advice, retryable=True)


class ConnectionFailed(ImapError, imaplib.IMAP4.abort):
    """The connection could not be made, or the server closed it.

    Attributes:
        last_reply: The last thing the server said, such as a BYE, or None.
    """

    def __init__(
        self,
        message: str,
        advice: Advice | None = None,
        *,
        retryable: bool = True,
        last_reply: str | None = None,
    ) -> None:
        super().__init__(message, advice=advice, retryable=retryable)
        self.last_reply = last_reply


for _name in __all__:  # where users find them, and where pickles and texts of errors look
    globals()[_name].__module__ = "exo_imap_oauth.errors"
