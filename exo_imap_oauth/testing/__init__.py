"""A loopback Exchange Online: token endpoint and IMAP server in this process, for tests.

It is set up with the administrator's steps, and leaving one out gives the answer that the real
service gives. Needs the extra ``testing``: ``pip install 'exo-imap-oauth[testing]'``.

Example:
    >>> from exo_imap_oauth.imap import ok
    >>> from exo_imap_oauth.testing import ready_exchange
    >>> with ready_exchange() as exchange:
    ...     with exchange.inbox.open() as imap:
    ...         ok(imap.search(None, "ALL"))
    [b'1 2 3']

Its servers log to ``exo_imap_oauth.testing``.
"""

from __future__ import annotations

try:
    from exo_imap_oauth.testing._exchange import LoopbackExchange
    from exo_imap_oauth.testing._identities import AppCertificate, FederatedCredential
    from exo_imap_oauth.testing._pool import ExchangeFactory
    from exo_imap_oauth.testing._ready import ReadyExchange, ready_exchange
except ModuleNotFoundError as _error:
    _missing = (_error.name or "").partition(".")[0]
    if _missing == "exo_imap_oauth":
        raise
    raise ImportError(
        f"exo_imap_oauth.testing needs {_missing}, which is not installed; "
        "install it with: pip install 'exo-imap-oauth[testing]'",
        name=_error.name,
    ) from _error

from exo_imap_oauth.testing._faults import Fault, Injection
from exo_imap_oauth.testing._records import App, ClientSecret, Login, TokenRequest

__all__ = [
    "App",
    "AppCertificate",
    "ClientSecret",
    "ExchangeFactory",
    "Fault",
    "FederatedCredential",
    "Injection",
    "Login",
    "LoopbackExchange",
    "ReadyExchange",
    "TokenRequest",
    "ready_exchange",
]
