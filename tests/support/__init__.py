"""Servers on loopback for the tests, and the throw-away CA that they share."""

from __future__ import annotations

import functools
import ssl

import trustme

HOST = "127.0.0.1"


@functools.cache
def authority() -> trustme.CA:
    """The throw-away certificate authority of this process."""
    return trustme.CA()


@functools.cache
def server_certificate() -> trustme.LeafCert:
    """A certificate of :func:`authority` for ``127.0.0.1`` and ``localhost``."""
    return authority().issue_cert(HOST, "localhost")


def server_context() -> ssl.SSLContext:
    """A new server side TLS context with :func:`server_certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # trustme also names pyOpenSSL's context, which is not installed.
    server_certificate().configure_cert(context)  # pyright: ignore[reportUnknownMemberType] # see above
    return context


def client_context() -> ssl.SSLContext:
    """A new verifying client side TLS context that trusts :func:`authority` and nothing else."""
    return ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
