"""What the leak tests do behind a proxy with a password, and with CA bundles that are not there."""

from __future__ import annotations

import base64
import itertools
import os
import socket
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import quote

from exo_imap_oauth import check_setup
from support import HOST
from support.connect_proxy import ConnectProxy
from support.leak_paths import LeakPath
from support.leaks import PROXY_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.leak_paths import World

_USER = f"user:{PROXY_PASSWORD}"
_BROKEN = (
    *(
        f"{scheme}://{_USER}@{place}"
        for scheme in ("http", "https", "socks5", "nonsense")
        for place in ("127.0.0.1:1", "[::1", "127.0.0.1:port", "nobody.invalid:3128", "")
    ),
    f"http://{_USER}",  # without its host, it stands where the port is
    f"{_USER}@127.0.0.1:1/{PROXY_PASSWORD}",
)
_ANSWERS = ("403 {}", "407 {}", "407 Unauthorized: http://user:{}@proxy", "502 {}", "200 {}", "{}")
_ECHOES: dict[str, Callable[[str], str]] = {
    "verbatim": str,
    "URL": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
}
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def proxy_paths() -> Iterator[LeakPath]:
    """Proxies that are malformed, are not there, refuse, echo their password or say nothing."""
    calls = {"get_token": _get_token, "check_setup": _check}
    for call, go in calls.items():
        for variable, url in itertools.product(("HTTPS_PROXY", "ALL_PROXY"), _BROKEN):
            yield LeakPath(f"{call}, {variable}={url}", _with, (go, {variable: url}))
        for answer, echo in itertools.product(_ANSWERS, _ECHOES):
            status = answer.format(_ECHOES[echo](PROXY_PASSWORD))
            name = f"{call}, proxy that answers {answer}, {echo}"
            yield LeakPath(name, _refused, (go, status))
        yield LeakPath(f"{call}, silent proxy", _silent, (go,))
        for variable in _BUNDLES:
            yield LeakPath(f"{call}, {variable}", _with, (go, {variable: "/nowhere/ca.pem"}))


def _get_token(world: World) -> object:
    return world.source(deadline=0.5, ssl_context=None).get_token()


def _check(world: World) -> object:
    return check_setup(world.inbox(), timeout=0.5)


def _with(world: World, go: Callable[[World], object], environment: dict[str, str]) -> object:
    with mock.patch.dict(os.environ, {**environment, "NO_PROXY": "", "no_proxy": ""}):
        return go(world)


def _refused(world: World, go: Callable[[World], object], status: str) -> object:
    upstream: Any = (HOST, world.endpoint.port)
    with ConnectProxy(upstream, status=status) as proxy:
        return _with(world, go, {"HTTPS_PROXY": f"http://{_USER}@{HOST}:{proxy.port}"})


def _silent(world: World, go: Callable[[World], object]) -> object:
    with socket.create_server((HOST, 0)) as silent:
        url = f"http://{_USER}@{HOST}:{silent.getsockname()[1]}"
        return _with(world, go, {"HTTPS_PROXY": url})
