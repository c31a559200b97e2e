"""The one default TLS context, used for the token endpoint and for IMAP alike."""

from __future__ import annotations

import os
import socket
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any

_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def default_context() -> ssl.SSLContext:
    """A verifying client context that trusts what this machine trusts.

    It holds the system's store (OpenSSL reads ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` in its
    place), the bundle that ``REQUESTS_CA_BUNDLE`` or else ``CURL_CA_BUNDLE`` names, and
    certifi's only where there is no other. Building one takes tens of milliseconds, so it is
    kept until one of these variables changes.

    Raises:
        OSError: The bundle that a variable names cannot be read.
    """
    return _build(*map(os.environ.get, _VARIABLES))


@lru_cache(maxsize=1)
def _build(
    requests_bundle: str | None, curl_bundle: str | None, *_of_openssl: str | None
) -> ssl.SSLContext:
    bundle = requests_bundle or curl_bundle
    context = ssl.create_default_context()
    if bundle and Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
    elif bundle:
        try:
            context.load_verify_locations(cafile=bundle)
        except OSError as error:
            raise OSError(
                f"the CA bundle {bundle} that the environment names cannot be read: {error}"
            ) from error
    elif not context.cert_store_stats()["x509_ca"] and not _has_certificate_folder():
        import certifi  # noqa: PLC0415 - few machines need it

        context.load_verify_locations(cafile=certifi.where())
    return context


def _has_certificate_folder() -> bool:
    """Whether OpenSSL has a folder to look in; it reads that one only during a handshake."""
    folders = os.environ.get("SSL_CERT_DIR") or ssl.get_default_verify_paths().openssl_capath
    return any(
        Path(folder).is_dir() and any(Path(folder).iterdir())
        for folder in folders.split(os.pathsep)
    )


def secured(connection: socket.socket, context: ssl.SSLContext, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - those of wrap_socket
    """The connection under TLS, which owns it from then on.

    Args:
        connection: It is still the caller's if it was reset before.
        context: What the other side must prove itself to.
        **options: Those of :meth:`ssl.SSLContext.wrap_socket`.

    Raises:
        OSError: It was reset, or the handshake failed.
    """
    # wrap_socket() takes over one that was reset and, when it then fails, never closes it.
    if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))
    return context.wrap_socket(connection, **options)
