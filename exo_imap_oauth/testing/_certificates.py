"""The throw-away CA, the servers' TLS, and what can be wrong with it."""

from __future__ import annotations

import functools
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trustme

from exo_imap_oauth.testing._faults import Fault

if TYPE_CHECKING:
    from exo_imap_oauth.testing._faults import Faults

HOST = "localhost"
_NAMES = (HOST, "127.0.0.1", "::1")


class Certificates:
    """One CA and the TLS contexts of its servers.

    Attributes:
        ca_pem: The certificate of the CA.
        server: The servers' context.
    """

    def __init__(self, faults: Faults) -> None:
        self._authority = trustme.CA()
        self._faults = faults
        self.ca_pem: bytes = self._authority.cert_pem.bytes()
        self.server = _server_context(self._authority.issue_cert(*_NAMES, common_name=HOST))

    def imap(self) -> ssl.SSLContext:
        """The context for a connection to the IMAP server."""
        return self.server

    def token_endpoint(self) -> ssl.SSLContext | None:
        """The context for a connection to the token endpoint; None turns it away."""
        struck = self._faults.strike(
            Fault.TOKEN_REFUSE, Fault.TOKEN_EXPIRED_CERTIFICATE, Fault.TOKEN_FOREIGN_CERTIFICATE
        )
        if struck is None:
            return self.server
        if struck.fault is Fault.TOKEN_REFUSE:
            return None
        return self._foreign if struck.fault is Fault.TOKEN_FOREIGN_CERTIFICATE else self._expired

    @functools.cached_property
    def _expired(self) -> ssl.SSLContext:
        now = datetime.now(UTC)
        certificate = self._authority.issue_cert(
            *_NAMES,
            common_name=HOST,
            not_before=now - timedelta(days=2),
            not_after=now - timedelta(days=1),
        )
        return _server_context(certificate)

    @functools.cached_property
    def _foreign(self) -> ssl.SSLContext:
        return _server_context(trustme.CA().issue_cert(*_NAMES, common_name=HOST))


def _server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with certificate.private_key_and_cert_chain_pem.tempfile() as file:
        context.load_cert_chain(file)
    return context
