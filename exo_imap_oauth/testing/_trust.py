"""Puts throw-away CAs into the default trust of this process."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import certifi

if TYPE_CHECKING:
    from collections.abc import Generator

_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@contextmanager
def trusted(ca_pem: bytes) -> Generator[None]:
    """A ``with`` block in which a CA is trusted besides those that were trusted before."""
    with (
        tempfile.TemporaryDirectory(prefix="exo-imap-oauth-") as folder,
        closing(Trust(Path(folder))) as trust,
    ):
        trust.add(ca_pem)
        yield


class Trust:
    """Adds CAs to the bundles that the environment names.

    Args:
        folder: Where the new bundles are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = before = {name: os.environ.get(name) for name in _VARIABLES}
        default = ssl.get_default_verify_paths().cafile
        requests_default = os.environ.get("CURL_CA_BUNDLE") or certifi.where()
        self._bundles = {
            "SSL_CERT_FILE": _certificates(before["SSL_CERT_FILE"] or default),
            "REQUESTS_CA_BUNDLE": _certificates(before["REQUESTS_CA_BUNDLE"] or requests_default),
        }

    def add(self, ca_pem: bytes) -> None:
        """Trust this CA too."""
        for name in self._bundles:
            self._bundles[name] += ca_pem
            # The same bundle has the same name, so that contexts made of it can be kept.
            digest = hashlib.sha256(self._bundles[name]).hexdigest()
            file = self._folder / f"{digest[:16]}.pem"
            file.write_bytes(self._bundles[name])
            os.environ[name] = str(file)

    def close(self) -> None:
        """Let the environment name what it named before."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _certificates(path: str | None) -> bytes:
    """What is trusted by a bundle, a folder of certificates, or nothing."""
    place = Path(path or "")
    files = sorted(place.iterdir()) if path and place.is_dir() else [place]
    return b"".join(file.read_bytes() + b"\n" for file in files if file.is_file())
