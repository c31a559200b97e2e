"""Puts throw-away CAs into the default trust of this process."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import certifi

if TYPE_CHECKING:
    from collections.abc import Generator

_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_KEPT_FILES = 16  # bundles that stay in the folder, while it is in use, for CAs to come back


class _DefaultTrust:
    """The bundles that the environment names while a loopback Exchange is trusted.

    The environment belongs to the whole process. So there is one of these for all ``with``
    blocks in it, which may end in any order and in any thread: what the environment named
    before the first of them, it names again after the last.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._folder_users = 0
        self._files: dict[Path, None] = {}  # in the order in which they were written
        self._before: dict[str, str | None] = {}
        self._bases: dict[str, bytes] = {}  # what was trusted besides our CAs
        self._named: dict[str, str] = {}  # what we let the variables name
        self._authorities: list[bytes] = []

    @contextmanager
    def kept(self) -> Generator[None]:
        """A ``with`` block in which the same CAs always get files of the same name.

        A TLS context that was built from such a file, which costs tens of milliseconds, can
        then be used again.
        """
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="exo-imap-oauth-")
            self._folder_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._folder_users -= 1
                if self._folder_users == 0:
                    self._folder.cleanup()
                    self._folder = None
                    self._files.clear()

    @contextmanager
    def trusted(self, ca_pem: bytes) -> Generator[None]:
        """A ``with`` block in which a CA is trusted besides those that were trusted before."""
        with self.kept():
            with self._lock:
                if not self._authorities:
                    self._begin()
                self._authorities.append(ca_pem)
            try:
                self._write()
                yield
            finally:
                with self._lock:
                    self._authorities.remove(ca_pem)
                    if self._authorities:
                        self._write()
                    else:
                        self._end()

    def _begin(self) -> None:
        self._before = {name: os.environ.get(name) for name in _VARIABLES}
        self._named.clear()

    def _write(self) -> None:
        with self._lock:
            for name in _VARIABLES:
                now = os.environ.get(name)
                if name not in self._named or now != self._named[name]:  # somebody else set it
                    self._bases[name] = _certificates(now or _default(name))
                file = self._file(self._bases[name] + b"".join(self._authorities))
                self._named[name] = os.environ[name] = str(file)

    def _file(self, bundle: bytes) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(bundle).hexdigest()
        file = Path(self._folder.name, f"{digest[:16]}.pem")
        if file not in self._files:
            file.write_bytes(bundle)
            self._files[file] = None
        return file

    def _end(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        # Only now: another thread may still be about to read what the environment named.
        for file in list(self._files)[:-_KEPT_FILES]:
            file.unlink(missing_ok=True)
            del self._files[file]


DEFAULT_TRUST = _DefaultTrust()


def _default(name: str) -> str | None:
    """The bundle that is used where the variable is not set."""
    if name == "SSL_CERT_FILE":
        return ssl.get_default_verify_paths().cafile
    return os.environ.get("CURL_CA_BUNDLE") or certifi.where()


def _certificates(path: str | None) -> bytes:
    """What is trusted by a bundle, a folder of certificates, or nothing."""
    place = Path(path or "")
    files = sorted(place.iterdir()) if path and place.is_dir() else [place]
    return b"".join(file.read_bytes() + b"\n" for file in files if file.is_file())
