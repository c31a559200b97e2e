"""One HTTPS exchange: over a connection of its own, trusted by one TLS context, and in time."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import logging
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL, InvalidURL, ReadTimeout
from requests.utils import get_environ_proxies, select_proxy
from typing_extensions import override
from urllib3.connection import HTTPSConnection
from urllib3.util import Timeout

from exo_imap_oauth._reach import addresses_of, cut_after, first_to_answer
from exo_imap_oauth._text import quotable
from exo_imap_oauth._tokens.request import check_trust
from exo_imap_oauth._trust import forget_errors, secured

if TYPE_CHECKING:
    from collections.abc import Generator

    from requests import PreparedRequest, Response

_logger = logging.getLogger(__name__)


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
        InsecureConnectionError: The context does not verify; nothing was sent.
    """
    check_trust(context)  # here, since its owner may have changed it since it was given
    with _Deadline(timeout) as deadline, _Session() as session:
        session.mount("https://", _Adapter(context, deadline))
        limits = Timeout(total=timeout)
        with session.send(prepared, allow_redirects=False, stream=True, timeout=limits) as response:
            try:
                yield response
            except requests.RequestException:
                if deadline.left > 0:
                    raise
            if deadline.left <= 0:  # cut off, which may look like the end of the body
                late = f"the answer was not complete within {timeout:.3g} s"
                raise ReadTimeout(late) from None


class Proxy(NamedTuple):
    """The proxy on the way to a server.

    Attributes:
        address: Its host and port, as they are written.
        variable: The variable that names it; empty where the system's settings do.
        secrets: What no error may show of it.
    """

    address: str
    variable: str
    secrets: list[str]

    @property
    def known(self) -> dict[str, str]:
        """What fills advice on it; nothing secret."""
        return {"proxy": self.address, "proxy_variable": self.variable}

    @property
    def shown(self) -> str:
        """The same for a message."""
        return f"the proxy {self.address}" + (f" ({self.variable})" if self.variable else "")


def proxy_of(url: str) -> Proxy | None:
    """The proxy that is used for a URL, malformed or not."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    before, _, place = proxy.rpartition("@")  # for malformed ones too, so by no parser of URLs
    secrets = _secrets_in(before.rpartition("//")[2])
    address = quotable(place.rpartition("//")[2].partition("/")[0], secrets)
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    variable = next((name for name in names if os.environ.get(name) == proxy), "")
    return Proxy(address, variable, secrets)


def _secrets_in(user_and_password: str) -> list[str]:
    password = user_and_password.partition(":")[2]
    if not password:
        return []
    basic = base64.b64encode(unquote(user_and_password).encode()).decode()
    return [user_and_password, password, unquote(password), basic]


class _Deadline(contextlib.ExitStack):
    """The end of an exchange, at which its connection is cut."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, 0 if it is over."""
        return max(0.0, self._at - time.monotonic())

    def cuts(self, connection: socket.socket) -> None:
        """Have this connection cut in time."""
        # A duplicate still reaches it when TLS has taken the original over.
        duplicate = self.enter_context(connection.dup())
        self.enter_context(cut_after(duplicate, self.left))

    def check(self) -> None:
        """Raise TimeoutError if it is over."""
        if self.left <= 0:
            # From None: what came of the cut would be taken for the cause.
            raise TimeoutError(f"no answer within {self._seconds:.3g} s") from None

    @contextlib.contextmanager
    def told(self) -> Generator[None]:
        """Say what the body's failure is: a connection that was cut looks as if the peer left."""
        try:
            yield
        except (socket.gaierror, ssl.SSLCertVerificationError):
            raise  # they say more
        except (OSError, http.client.HTTPException):
            forget_errors()
            if self.left > 0:
                raise
        else:
            return
        self.check()


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

    def wrap_socket(self, sock: socket.socket, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - the context's own
        """Put a connection under TLS."""
        return secured(sock, self._context, **options)

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """Leave the lender's as they are."""


class _Answer(http.client.HTTPResponse):
    """An answer whose head gives the libraries above nothing to speak about."""

    @override
    def begin(self) -> None:
        super().begin()
        if self.headers.defects or self.headers.get_payload():
            # urllib3 would log them as they are, and a server may echo the form in one.
            _logger.debug("the answer has malformed headers, which are left out")
            self.headers.defects.clear()
            self.headers.set_payload("")
        del self.headers["Set-Cookie"]  # an odd one makes the cookie jar warn


class _BoundedConnection(HTTPSConnection):
    """Ends in time, sends nothing over a context that does not verify, and prints nothing."""

    debuglevel = 0  # with http.client's own, it would print the form
    response_class = _Answer

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - whatever the pool gives to a connection
        context: ssl.SSLContext,
        deadline: _Deadline,
        **options: Any,  # noqa: ANN401 - the same
    ) -> None:
        # urllib3 leaves the type of its ssl_context open.
        super().__init__(*args, **options)  # pyright: ignore[reportUnknownMemberType]
        self._context = context
        self._deadline = deadline

    @override
    def _new_conn(self) -> socket.socket:
        """Connect in time: urllib3 lets each address use up the timeout, and Entra has many."""
        # Nothing bounds a name service that hangs: its thread stays until it answers.
        addresses = addresses_of(self._dns_host, self.port)
        if self._deadline.left <= 0:
            raise socket.gaierror(socket.EAI_AGAIN, "the name service answered too late")
        connection = first_to_answer(addresses, self._deadline.left)
        try:
            connection.settimeout(max(0.1, self._deadline.left))  # 0 would mean not to wait
            self._deadline.cuts(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @override
    def connect(self) -> None:
        try:
            with self._deadline.told():
                super().connect()
        finally:
            check_trust(self._context)  # it may have changed during the handshake
        self._deadline.check()  # nobody waits any more, so no secret is sent

    @override
    def getresponse(self) -> Any:
        with self._deadline.told():
            response = super().getresponse()
        try:
            self._deadline.check()  # cut off, which looks like the end of the head
        except TimeoutError:
            response.close()
            raise
        return response


class _Adapter(HTTPAdapter):
    """Uses one TLS context as given, to which requests' own adapter would add certifi."""

    def __init__(self, context: ssl.SSLContext, deadline: _Deadline) -> None:
        self._tls = {"ssl_context": _BorrowedContext(context)}
        self._connection = functools.partial(_BoundedConnection, context=context, deadline=deadline)
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
        if not proxy.startswith(("http://", "https://")):
            raise InvalidProxyURL  # SOCKS, which brings connections of its own
        tls = {"proxy_ssl_context": self._tls["ssl_context"]}
        return super().proxy_manager_for(proxy, **proxy_kwargs, **tls)

    @override
    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        try:
            pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
        except (TypeError, ValueError):  # its text may quote the proxy's password
            if select_proxy(str(request.url), proxies):
                raise InvalidProxyURL(
                    "the proxy of the environment (HTTPS_PROXY, ALL_PROXY) must be a URL like"
                    " http://proxy.example:8080"
                ) from None
            raise InvalidURL("the token URI is malformed") from None
        pool.ConnectionCls = self._connection
        return pool
