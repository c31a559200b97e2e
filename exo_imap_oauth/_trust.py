"""The one default TLS context, used for the token endpoint and for IMAP alike."""

from __future__ import annotations

import math
import os
import selectors
import ssl
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._process_lock import using_openssl

if TYPE_CHECKING:
    import socket

_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_LONGEST_WAIT = 86_400.0  # s; poll refuses more than 24 days
# Poll needs no descriptor of its own.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)
# OpenSSL's codes for an issuer that is unknown or not trusted (X509_V_ERR_…, x509_vfy.h).
_UNKNOWN_ISSUER = (18, 19, 20, 21)


def default_context() -> ssl.SSLContext:
    """A verifying client context that trusts what this machine trusts.

    It holds the system's store (OpenSSL reads ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` in its
    place), the bundle that ``REQUESTS_CA_BUNDLE`` or else ``CURL_CA_BUNDLE`` names, and
    certifi's only where there is no other. Building one takes tens of milliseconds, so it is
    kept until one of these variables changes, or a file or folder that they name.

    Raises:
        OSError: The bundle that a variable names cannot be read.
    """
    state = _state()  # of before it is read
    with using_openssl():
        return _build(*map(os.environ.get, _VARIABLES), as_of=state)


def _state() -> tuple[tuple[object, ...], ...]:
    """What changes when one of the files and folders does that a context is built from."""
    *files, folders = (os.environ.get(variable, "") for variable in _VARIABLES)
    named = [path for path in (*files, *folders.split(os.pathsep)) if path]
    system = ssl.get_default_verify_paths()  # its tools replace files, which changes the folder
    paths = [Path(path) for path in (*named, system.openssl_cafile, system.openssl_capath)]
    inside = [entry for path in named for entry in _entries(path)]
    return (*map(_identity, paths), *map(_identity, inside))


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:  # it is a file, or there is none
        return []


def _identity(at: Path | os.DirEntry[str]) -> tuple[object, ...]:
    path = os.fspath(at)
    try:
        now = at.stat()
    except OSError:
        return (path,)
    return (path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


@lru_cache(maxsize=1)
def _build(
    requests_bundle: str | None,
    curl_bundle: str | None,
    *_of_openssl: str | None,
    as_of: object,  # noqa: ARG001 - a part of the cache's key
) -> ssl.SSLContext:
    bundle = requests_bundle or curl_bundle
    context = ssl.create_default_context()
    if bundle and Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
    elif bundle:
        try:
            context.load_verify_locations(cafile=bundle)
        except OSError as error:
            variable = "REQUESTS_CA_BUNDLE" if requests_bundle else "CURL_CA_BUNDLE"
            raise OSError(
                f"{variable} names the CA bundle {bundle}, which cannot be read: {error}"
            ) from error
    elif not context.cert_store_stats()["x509_ca"] and not _has_certificate_folder():
        import certifi  # noqa: PLC0415 - few machines need it

        context.load_verify_locations(cafile=certifi.where())
    return context


def unreadable_bundle(error: BaseException) -> dict[str, str]:
    """What fills the advice, if the default context failed for a bundle that cannot be read.

    OpenSSL passes over such an ``SSL_CERT_FILE``, so it shows only where no issuer is found.

    Args:
        error: That of :func:`default_context`, or of the handshake.
    """
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code not in _UNKNOWN_ISSUER:
        return {}
    of_requests = "REQUESTS_CA_BUNDLE" if os.environ.get("REQUESTS_CA_BUNDLE") else "CURL_CA_BUNDLE"
    for variable in (of_requests, "SSL_CERT_FILE"):
        path = os.environ.get(variable)
        if path and not _is_readable(path, may_be_folder=variable == of_requests):
            return {"bundle": path, "bundle_variable": variable}
    return {}


def _is_readable(path: str, *, may_be_folder: bool) -> bool:
    try:
        with using_openssl():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError:
        return may_be_folder and Path(path).is_dir()
    return True


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
        connection: To be closed by the caller if this fails: it may not have been taken over.
        context: What the other side must prove itself to.
        **options: Those of :meth:`ssl.SSLContext.wrap_socket`.

    Raises:
        OSError: It was reset, or the handshake failed.
    """
    try:
        if type(context).wrap_socket is not ssl.SSLContext.wrap_socket:
            return context.wrap_socket(connection, **options)  # truststore's looks at the peer too
        with using_openssl():
            wrapped = context.wrap_socket(connection, do_handshake_on_connect=False, **options)
    except BaseException as error:
        _close_abandoned(error)
        raise
    try:
        _shake_hands(wrapped)
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _close_abandoned(error: BaseException) -> None:
    """Close what wrap_socket() made, which it does not after a reset before TLS, or Ctrl-C."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        made = frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()


def _shake_hands(connection: ssl.SSLSocket) -> None:
    """Do the handshake within the connection's timeout, and let a fork in where it waits only."""
    timeout = connection.gettimeout()
    ends_at = math.inf if timeout is None else time.monotonic() + timeout
    connection.settimeout(0)
    while True:
        try:
            with using_openssl():
                connection.do_handshake()
        except ssl.SSLWantReadError:
            event = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            event = selectors.EVENT_WRITE
        else:
            break
        if (left := ends_at - time.monotonic()) <= 0:
            raise TimeoutError("the TLS handshake timed out")
        with _Selector() as selector:
            selector.register(connection, event)
            selector.select(min(left, _LONGEST_WAIT))
    connection.settimeout(timeout)


def forget_errors() -> None:
    """Empty the list of errors that OpenSSL keeps for each thread.

    CPython leaves in it why a write failed, and from OpenSSL 3.6 on takes that for the result of
    each read that has to wait, of whatever connection (python/cpython issue 148594).
    """
    with using_openssl():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
