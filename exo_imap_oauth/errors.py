"""The error tree.

Every error says what happened, the likely cause and the next step, and never holds a secret
or a token. Errors survive :mod:`pickle` and :mod:`copy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_imap_oauth._errors_base import (
    ConfigError,
    ConfigProblem,
    ExoImapOAuthError,
    InsecureConnectionError,
    PropertiesError,
    TokenEndpointUnavailable,
    TokenError,
    TokenRequestRejected,
    UnverifiedTlsWarning,
)
from exo_imap_oauth._process_lock import no_fork

if TYPE_CHECKING:
    from exo_imap_oauth._errors_imap import (
        AuthenticationRefused,
        ConnectionFailed,
        ImapError,
        MailboxNotConnected,
        MessageUnavailable,
        SessionExpired,
        Throttled,
    )
else:

    def __getattr__(name):  # noqa: ANN001, ANN202 - type checkers must not see it
        # These have imaplib's errors for a base, and loading imaplib takes its time (PEP 562).
        if name.startswith("_") or name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with no_fork:
            from exo_imap_oauth import _errors_imap  # noqa: PLC0415 - so it is loaded on use

        value = globals()[name] = getattr(_errors_imap, name)
        return value

    def __dir__():  # noqa: ANN202 - the same
        return sorted({*globals(), *__all__})


__all__ = [
    "AuthenticationRefused",
    "ConfigError",
    "ConfigProblem",
    "ConnectionFailed",
    "ExoImapOAuthError",
    "ImapError",
    "InsecureConnectionError",
    "MailboxNotConnected",
    "MessageUnavailable",
    "PropertiesError",
    "SessionExpired",
    "Throttled",
    "TokenEndpointUnavailable",
    "TokenError",
    "TokenRequestRejected",
    "UnverifiedTlsWarning",
]
