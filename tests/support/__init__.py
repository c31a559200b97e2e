"""Servers on loopback for the tests, and the throw-away CA that they share."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import trustme
from typing_extensions import override

HOST = "127.0.0.1"


@functools.cache
def authority() -> trustme.CA:
    """The throw-away certificate authority of this process."""
    return trustme.CA()


@functools.cache
def server_certificate() -> trustme.LeafCert:
    """A certificate of :func:`authority` for ``127.0.0.1`` and ``localhost``."""
    return authority().issue_cert(HOST, "localhost")


class _ServerSocket(ssl.SSLSocket):
    @override
    def getpeername(self) -> Any:
        """Close it if nobody is there: wrap_socket() asks, fails then, and does not close it."""
        try:
            return super().getpeername()
        except OSError:
            self.close()
            raise ConnectionResetError("the client has left") from None


def server_context(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A new server side TLS context, by default with :func:`server_certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _ServerSocket
    # trustme also names pyOpenSSL's context, which is not installed.
    (certificate or server_certificate()).configure_cert(context)  # pyright: ignore[reportUnknownMemberType] # see above
    return context


def client_context() -> ssl.SSLContext:
    """A new verifying client side TLS context that trusts :func:`authority` and nothing else."""
    return ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
