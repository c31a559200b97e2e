"""One HTTPS exchange: over a connection of its own, trusted by one TLS context, and in time."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util import Timeout

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator

    from requests import PreparedRequest, Response


@contextlib.contextmanager
def exchange(
    prepared: PreparedRequest, context: ssl.SSLContext, timeout: float
) -> Generator[Response]:
    """Send a request and give the answer, its head complete and its body still to be read.

    Sent as it was prepared, the request takes nothing from ``~/.netrc`` or a bundle variable;
    the proxies of the environment are used, redirects are not followed.

    Args:
        prepared: The request.
        context: Used exactly as it is.
        timeout: Seconds for all of it; then the connection is cut.

    Raises:
        requests.RequestException: There is no answer in time.
    """
    adapter = _Adapter(context, time.monotonic() + timeout)
    with _Session() as session:
        session.mount("https://", adapter)
        limits = Timeout(total=timeout)
        try:
            with session.send(
                prepared, allow_redirects=False, stream=True, timeout=limits
            ) as response:
                yield response
        finally:
            for watchdog in adapter.watchdogs:
                watchdog.cancel()


class _Session(requests.Session):
    @override
    def get_redirect_target(self, resp: Response) -> None:
        """Find none: requests would read the whole body even of one that is not followed."""
        return None  # noqa: RET501 - it is the answer


class _BorrowedContext:
    """Lends a TLS context to urllib3, which would otherwise change its ALPN for IMAP too."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.verify_mode = context.verify_mode  # urllib3 assigns it

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - it stands for any attribute
        return getattr(self._context, name)

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """Leave the lender's as they are."""


class _BoundedConnection(HTTPSConnection):
    """Ends in time where timeouts see nothing: the name service hangs, or headers drip."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - whatever the pool gives to a connection
        ends_at: float,
        watchdogs: list[threading.Timer],
        **options: Any,  # noqa: ANN401 - the same
    ) -> None:
        # urllib3 leaves the type of its ssl_context open.
        super().__init__(*args, **options)  # pyright: ignore[reportUnknownMemberType]
        self._ends_at = ends_at
        self._watchdogs = watchdogs

    @override
    def connect(self) -> None:
        super().connect()
        if time.monotonic() > self._ends_at:  # nobody waits any more, so no secret is sent
            raise NewConnectionError(self, "connected too late")

    @override
    def getresponse(self) -> Any:
        left = max(0.0, self._ends_at - time.monotonic())
        watchdog = threading.Timer(left, _cut, (self.sock,))
        self._watchdogs.append(watchdog)
        watchdog.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread can start: unbounded then
            watchdog.start()
        response = super().getresponse()
        if time.monotonic() > self._ends_at:  # cut off, which looks like the end of the head
            response.close()
            raise TimeoutError("the answer's head was not complete in time")
        return response


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Unbound, since SSLSocket.shutdown() would first drop the TLS layer under the reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Uses one TLS context as given, to which requests' own adapter would add certifi."""

    def __init__(self, context: ssl.SSLContext, ends_at: float) -> None:
        self.watchdogs: list[threading.Timer] = []
        self._tls = {"ssl_context": _BorrowedContext(context)}
        self._connection = functools.partial(
            _BoundedConnection, ends_at=ends_at, watchdogs=self.watchdogs
        )
        super().__init__(pool_connections=1, pool_maxsize=1)

    @override
    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add nothing: requests would load certifi into the context, which itself verifies."""
        return None  # noqa: RET501 - nothing is to be done

    @override
    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, dict(self._tls)

    @override
    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        tls = {"proxy_ssl_context": self._tls["ssl_context"]}
        return super().proxy_manager_for(proxy, **proxy_kwargs, **tls)

    @override
    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = self._connection
        return pool
