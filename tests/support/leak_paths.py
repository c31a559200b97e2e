"""What the leak tests do: every public call, good and bad, and every echo at every stage.

A path is a function of the :class:`World`; it returns a value or raises. The tables that it is
made from are products: every place where a peer can put a text,
with every encoding of every text.
"""

from __future__ import annotations

import base64
import html
import imaplib
import inspect
import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus

from exo_imap_oauth import (
    AccessToken,
    InboxConfig,
    TokenSource,
    authenticate_xoauth2,
    check_setup,
    open_mailbox,
)
from exo_imap_oauth.token_cache import MemoryTokenCache
from support.leaks import ASSERTION, CALLED_SECRET, SECRET, TOKEN
from support.token_endpoint import CLIENT, TokenEndpoint, http, rejected, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.echoing_imap import EchoingImap

USER = "inbox@contoso.example"
TAKES_ASSERTION = "assertion" in inspect.signature(TokenSource).parameters


class World(NamedTuple):
    """The servers that all paths share, and a folder."""

    endpoint: TokenEndpoint
    imap: EchoingImap
    starttls: EchoingImap
    folder: Path

    def source(self, secret: Any = SECRET, **options: Any) -> TokenSource:
        """A source that knows nothing of those before it."""
        return self.endpoint.source(secret, cache=MemoryTokenCache(), **options)

    def server(self, server: EchoingImap) -> dict[str, Any]:
        """Where an IMAP server is, as options of ``open_mailbox``."""
        return {
            "host": server.host,
            "port": server.port,
            "ssl_context": server.ssl_context,
            "timeout": 10.0,
        }

    def inbox(self, **changes: Any) -> InboxConfig:
        """An inbox on both servers."""
        fields: dict[str, Any] = {
            "user": USER,
            "token_uri": self.endpoint.url,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "host": self.imap.host,
            "port": self.imap.port,
            "debug": True,
        }
        return InboxConfig(**fields | changes)


class LeakPath(NamedTuple):
    """One way through the library.

    Attributes:
        name: For people.
        go: Does it, given the world and the arguments; what it returns or raises is looked at.
        arguments: What it needs besides.
        echoes: Whether an IMAP server sends a secret, which imaplib's own debug output shows.
    """

    name: str
    go: Callable[..., object]
    arguments: tuple[Any, ...] = ()
    echoes: bool = False


# ---- encodings -------------------------------------------------------------------------------


def _sasl(text: str) -> str:
    return base64.b64encode(f"user={USER}\x01auth=Bearer {text}\x01\x01".encode()).decode()


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


ENCODINGS: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "a part": lambda text: text[5:32],
    "URL": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "HTML": html.escape,
    "HTML numbers": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON numbers": _escaped,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64, shifted": lambda text: base64.urlsafe_b64encode(f"a:{text}".encode()).decode(),
    "SASL": _sasl,
    "with escapes": lambda text: f"\x1b[31m\u200b{text}",
    "after a long text": lambda text: "x " * 170 + text,
}


# ---- the token endpoint ----------------------------------------------------------------------


def _raw(head: str, body: str = "{}") -> bytes:
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode("utf-8", "replace")


def _chunked(text: str) -> bytes:
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return f"{head}{text}\r\n{{}}\r\n0\r\n\r\n".encode()


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


_HTTP_PLACES: dict[str, Callable[[str], bytes]] = {
    "status line": lambda x: _raw(f"HTTP/1.1 400 {x}"),
    "status line alone": lambda x: f"{x}\r\n\r\n".encode(),
    "HTTP version": lambda x: _raw(f"{x} 200 OK"),
    "status": lambda x: _raw(f"HTTP/1.1 {x} OK"),
    "header": lambda x: _raw(f"HTTP/1.1 503 X\r\nX-Echo: {x}", "busy"),
    "name of a header": lambda x: _raw(f"HTTP/1.1 200 OK\r\n{x}: 1"),
    "header without a colon": lambda x: _raw(f"HTTP/1.1 200 OK\r\n{x}"),
    "cookie": lambda x: _raw(f"HTTP/1.1 200 OK\r\nSet-Cookie: {x}; expires=x; version={x}"),
    "Location": lambda x: _raw(f"HTTP/1.1 302 X\r\nLocation: https://login.example/?{x}"),
    "host of Location": lambda x: _raw(f"HTTP/1.1 302 X\r\nLocation: https://{x}.example/"),
    "Location alone": lambda x: _raw(f"HTTP/1.1 307 X\r\nLocation: {x}"),
    "Retry-After": lambda x: _raw(f"HTTP/1.1 429 X\r\nRetry-After: {x}"),
    "Content-Encoding": lambda x: _raw(f"HTTP/1.1 200 OK\r\nContent-Encoding: {x}"),
    "Content-Type": lambda x: _raw(f"HTTP/1.1 200 OK\r\nContent-Type: {x}"),
    "Content-Length": lambda x: f"HTTP/1.1 200 OK\r\nContent-Length: {x}\r\n\r\n{{}}".encode(),
    "Transfer-Encoding": lambda x: _raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {x}"),
    "size of a chunk": _chunked,
    "extension of a chunk": lambda x: _chunked(f"zz;{x}"),
    "WWW-Authenticate": lambda x: _raw(f'HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer e="{x}"'),
    "page of a gateway": lambda x: _raw("HTTP/1.1 502 X", f"<html><p>Bad request: {x}</html>"),
    "page with 200": lambda x: _raw("HTTP/1.1 200 OK", f"<html>{x}</html>"),
    "text with 403": lambda x: _raw("HTTP/1.1 403 X", f"refused: {x}"),
    "text with 200": lambda x: _raw("HTTP/1.1 200 OK", x),
    "text with 429": lambda x: _raw("HTTP/1.1 429 X", f"slow down {x}"),
    "cut JSON with 200": lambda x: _raw("HTTP/1.1 200 OK", f'{{"accessToken": "{x}'),
    "list with 200": lambda x: http(200, ["Bearer", x]),
    "other name with 200": lambda x: http(200, {"accessToken": x, "expires_in": 3600}),
    "error with 200": lambda x: http(200, {"error": x}),
    "token of another type": lambda x: http(200, {"access_token": x, "token_type": "pop"}),
    "token with a blank": lambda x: token(f"a b {x}"),
    "lifetime": lambda x: token("a.b.c", expires_in=x),
    "error": lambda x: http(400, {"error": x}),
    "error_description": lambda x: http(400, {"error": "e", "error_description": f"AADSTS7: {x}"}),
    "correlation_id": lambda x: http(401, {"error": "e", "correlation_id": x, "trace_id": x}),
    "error_codes": lambda x: http(401, {"error": "e", "error_codes": [x]}),
    "error_uri": lambda x: http(400, {"error": "e", "error_uri": x, "claims": x}),
    "error within": lambda x: http(400, {"error": {"message": x}, "error_description": [x]}),
    "error with 503": lambda x: http(503, {"error": x, "error_description": x}),
    "refusal": lambda x: rejected(error=f"invalid_client {x}"),
}  # fmt: skip

_CREDENTIALS: dict[str, dict[str, Any]] = {
    SECRET: {"secret": SECRET},
    CALLED_SECRET: {"secret": lambda: CALLED_SECRET},
}
if TAKES_ASSERTION:
    _CREDENTIALS[ASSERTION] = {"secret": None, "assertion": lambda: ASSERTION}


def token_endpoint_paths() -> Iterator[LeakPath]:
    """A token endpoint, or a proxy on the way to it, that echoes what it was sent."""
    whole_form = "grant_type=client_credentials&client_secret={}&scope=s"
    for place, encoding in itertools.product(_HTTP_PLACES, ENCODINGS):
        for echoed, options in _CREDENTIALS.items():
            if echoed != SECRET and encoding not in {"verbatim", "form", "base64"}:
                continue
            text = _one_line(ENCODINGS[encoding](echoed))
            if encoding == "form":
                text = whole_form.format(text)
            yield _asking(f"{place}: {encoding}", _HTTP_PLACES[place](text), options)
    for place, encoding in itertools.product(_HTTP_PLACES, ("verbatim", "base64", "JSON")):
        text = ENCODINGS[encoding](TOKEN)  # one that should have come as a token, or is stale
        yield _asking(f"{place}: token, {encoding}", _HTTP_PLACES[place](text), {"secret": SECRET})


def _asking(name: str, answer: bytes, options: dict[str, Any]) -> LeakPath:
    def go(world: World) -> object:
        world.endpoint.then(answer)
        return world.source(**options).get_token()

    return LeakPath(f"get_token, echo in {name}", go)


# ---- an IMAP server --------------------------------------------------------------------------

_LINES = {
    "NO": "{tag} NO %s\r\n",
    "BAD": "{tag} BAD %s\r\n",
    "OK": "{tag} OK [X %s] done\r\n",
    "word of a reply": "{tag} %s\r\n",
    "other tag": "%s OK done\r\n",
    "BYE": "* BYE %s\r\n",
    "BYE of an expiry": "* BYE Session invalidated - AccessTokenExpired %s\r\n",
    "BYE, then NO": "* BYE %s\r\n{tag} NO %s\r\n",
    "untagged": "* %s\r\n",
    "untagged OK": "* OK [ALERT] %s\r\n",
    "untagged, then NO": "* NO %s\r\n{tag} NO refused\r\n",
    "capability": "* CAPABILITY IMAP4rev1 %s\r\n{tag} NO x\r\n",
    "literal": "* 1 FETCH (X {1000000000000}\r\n%s",
    "size of a literal": "* 1 FETCH (X {9%s}\r\n",
    "garbage": "%s\r\n",
    "no line end": "* OK %s",
    "challenge": "+ %s\r\n",
    "not connected": "{tag} BAD User is authenticated but not connected. %s\r\n",
    "throttled": "{tag} NO Request is throttled. Suggested Backoff Time: 1 milliseconds %s\r\n",
    "read-only": "* 1 EXISTS\r\n{tag} OK [READ-ONLY] %s\r\n",
}
_CHALLENGES = {
    "challenge": "%s",
    "challenge of JSON": '{"status": "401", "scope": "%s"}',
    "challenge of an array": '["%s"]',
    "name in a challenge": '{"%s": 1}',
}
_REASONS = {
    "reason in the OK": '{tag} OK [Error="UserDisabled" AuthResult=27 X="%s"] done\r\n',
    "other reason in the OK": '{tag} OK [Error="%s"] AUTHENTICATE completed.\r\n',
}
_WITHOUT_TAG = ("BYE", "BYE of an expiry", "untagged", "untagged OK", "garbage", "no line end",
                "literal", "other tag")  # fmt: skip


def imap_paths(stage: str) -> Iterator[LeakPath]:
    """An IMAP server that echoes the token at one stage."""
    call = _CALLS[stage]
    shapes = {name: _LINES[name] for name in (_WITHOUT_TAG if stage == "GREETING" else _LINES)}
    if stage == "AUTHENTICATE":
        shapes |= _REASONS
    few: tuple[str, ...] = (
        "verbatim",
        "SASL",
        "URL",
        "JSON numbers",
        "a part",
        "with escapes",
        "HTML numbers",
    )
    if stage == "EXAMINE":
        few = ("verbatim", "SASL", "URL")  # a check of a whole set-up takes its time
    for shape, encoding in itertools.product(shapes, few):
        text = ENCODINGS[encoding](TOKEN)
        reply = shapes[shape].replace("%s", text)
        yield _at(stage, f"{shape}: {encoding}", reply, call)
    if stage == "AUTHENTICATE":
        for shape, encoding in itertools.product(_CHALLENGES, few):
            challenge = _CHALLENGES[shape].replace("%s", ENCODINGS[encoding](TOKEN))
            coded = base64.b64encode(challenge.encode()).decode()
            reply = f"+ {coded}\r\n{{tag}} NO AUTHENTICATE failed.\r\n"
            yield _at(stage, f"{shape}: {encoding}", reply, call)


def _at(stage: str, name: str, reply: str, call: Callable[[World], object]) -> LeakPath:
    def go(world: World) -> object:
        server = world.starttls if stage in _PLAIN else world.imap
        server.replies = {stage: reply}
        try:
            return call(world)
        finally:
            server.replies = {}

    return LeakPath(f"IMAP, echo at {stage} in {name}", go, echoes=True)


def _open(world: World) -> object:
    with open_mailbox(USER, TOKEN, **world.server(world.imap)) as imap:
        imap.noop()
        return None


def _open_with_starttls(world: World) -> object:
    with open_mailbox(USER, TOKEN, starttls=True, **world.server(world.starttls)):
        return None


def _authenticate(world: World) -> object:
    server = world.imap
    imap = imaplib.IMAP4_SSL(server.host, server.port, ssl_context=server.ssl_context, timeout=10)
    try:
        authenticate_xoauth2(imap, USER, an_access_token())
    finally:
        imap.shutdown()
    return None


def _check(world: World) -> object:
    world.endpoint.then(token(TOKEN))
    return check_setup(world.inbox(), ssl_context=world.endpoint.ssl_context, timeout=10)


def an_access_token() -> AccessToken:
    return AccessToken(TOKEN, expires_on=4_000_000_000, refresh_on=4_000_000_000, obtained_on=0.0)


_PLAIN = ("STARTTLS",)
_CALLS: dict[str, Callable[[World], object]] = {
    "GREETING": _open,
    "CAPABILITY": _open,
    "STARTTLS": _open_with_starttls,
    "AUTHENTICATE": _open,
    "STATUS": _authenticate,
    "SELECT": _open,
    "NOOP": _open,
    "LOGOUT": _open,
    "EXAMINE": _check,
}
IMAP_STAGES = tuple(_CALLS)
