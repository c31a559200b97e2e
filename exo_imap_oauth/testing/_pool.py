"""What the pytest fixtures share: servers that stay up, and a clean state for each test."""

from __future__ import annotations

import hashlib
import os
import ssl
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import certifi

from exo_imap_oauth.testing._exchange import LoopbackExchange
from exo_imap_oauth.testing._ready import ReadyExchange
from exo_imap_oauth.token_cache import MemoryTokenCache, replaced_default

if TYPE_CHECKING:
    from collections.abc import Generator

_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class ExchangePool(ExitStack):
    """Running servers that are handed out one after the other; leaving it stops them.

    Starting one costs some ten milliseconds, cleaning one about one.

    Args:
        folder: Where the CA bundles are written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._idle: list[LoopbackExchange] = []

    @contextmanager
    def factory(self) -> Generator[ExchangeFactory]:
        """A factory for one test; at its end everything is as it was before.

        Tokens that are cached meanwhile are not seen before or after it.
        """
        with (
            replaced_default(MemoryTokenCache()),
            closing(Trust(self._folder)) as trust,
        ):
            factory = ExchangeFactory(self, trust)
            try:
                yield factory
            finally:
                for exchange in factory.made:
                    with suppress(RuntimeError):  # it was stopped by the test
                        exchange.reset()
                        self._idle.append(exchange)

    def take(self, kind: type[LoopbackExchange]) -> LoopbackExchange:
        """A clean one that nobody else uses."""
        for exchange in self._idle:
            if type(exchange) is kind:
                self._idle.remove(exchange)
                return exchange
        return self.enter_context(kind())


class ExchangeFactory:
    """Gives loopback Exchanges, which run until the test ends.

    Attributes:
        made: Those that were given.
    """

    def __init__(self, pool: ExchangePool, trust: Trust) -> None:
        self._pool = pool
        self._trust = trust
        self.made: list[LoopbackExchange] = []

    @overload
    def __call__(self, *, ready: Literal[True]) -> ReadyExchange: ...

    @overload
    def __call__(self, *, ready: Literal[False] = False) -> LoopbackExchange: ...

    def __call__(self, *, ready: bool = False) -> LoopbackExchange:
        """Another exchange, whose CA is in the default trust from now on.

        Args:
            ready: Whether every step of the administrator is done in it; by default none is.
        """
        exchange = self._pool.take(ReadyExchange if ready else LoopbackExchange)
        self.made.append(exchange)
        self._trust.add(exchange.ca_pem)
        return exchange


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
