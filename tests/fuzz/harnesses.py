"""What reads bytes from outside, each as a function that bears any input.

An input that ends in anything but a result or a documented error is a crash, and so is one that
takes more than 5 s of the processor.
"""

from __future__ import annotations

import contextlib
import imaplib
import io
import json
import socket
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import requests
import urllib3
from fuzz.engine import Harness
from requests.structures import CaseInsensitiveDict
from typing_extensions import override

from exo_imap_oauth import AccessToken, InboxConfig, TokenSource, load_config, open_mailbox
from exo_imap_oauth._tokens import endpoint
from exo_imap_oauth.advice import Advice, advise
from exo_imap_oauth.errors import ConfigError, ImapError, PropertiesError, TokenError
from exo_imap_oauth.properties import Property, parse
from exo_imap_oauth.token_cache import MemoryTokenCache
from exo_imap_oauth.xoauth2 import decode_challenge

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

DATA = Path(__file__).parents[1] / "data"
_FAILURES = [case["message"] for case in json.loads((DATA / "failures.json").read_text("utf-8"))]
_JAVA = json.loads((DATA / "java-properties-cases.json").read_text("utf-8"))
USER = "inbox@contoso.example"
TENANT = "0b0e7b5d-57d2-4a9f-9f0d-5a1f3f6f2c11"
CLIENT = "6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d"

# ---- properties and configurations -----------------------------------------------------------

_SETTINGS = {
    "server": "outlook.office365.com",
    "port": '"993"',
    "ssl": "true",
    "user": USER,
    "authenticationMethod": "oauth2",
    "oauth2.accessTokenUri": f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token",
    "oauth2.clientId": CLIENT,
    "oauth2.clientSecret": "Zq7~wR.3xTpLk+V&m9",
    "oauth2.scope": "https://outlook.office.com/.default",
    "oauth2.grantType": "client_credentials",
    "oauth2.debug": "true",
}
_GOOD_CONFIG = "".join(f"cmsbs.mail.imap.{key} = {value}\n" for key, value in _SETTINGS.items())
_LISTENERS = """\
cmsbs.bounce.listeners = "a b"
cmsbs.bouncelistener.a.mail.imap.server = outlook.office365.com
cmsbs.bouncelistener.a.mail.imap.user = a@contoso.example
cmsbs.bouncelistener.a.oauth2.clientSecret$file = /nowhere/secret
cmsbs.directory.confd = "conf.d"
"""
_WORDS_OF_CONFIG = [
    f"cmsbs.mail.imap.{key}".encode() for key in (*_SETTINGS, "password", "folder.inbox")
] + [
    *(f"cmsbs.bouncelistener.a.{key}".encode() for key in ("mail.imap.port", "oauth2.scope")),
    *(b"<placeholder>", b"$file", b"\\\n", b" = ", b"cmsbs.bounce.listeners", b"\xa0", b"'", b"#"),
    "\u201c".encode(),
]


def _texts_of_java() -> list[bytes]:
    return [str(text).encode("latin-1", "replace") for case in _JAVA for text in _inputs_of(case)]


def _inputs_of(case: Mapping[str, Any]) -> list[str]:
    return [value for name, value in case.items() if name != "id" and isinstance(value, str)]


def run_properties(data: bytes) -> None:
    """``properties.parse``."""
    with contextlib.suppress(PropertiesError):
        for entry in parse(data, source="fuzz"):
            assert isinstance(entry, Property)
            assert entry.line >= 1


class _Folder:
    """A folder of its own in memory where there is one, made when it is first needed."""

    path: Path | None = None
    keeper: tempfile.TemporaryDirectory[str]

    @classmethod
    def file(cls) -> Path:
        if cls.path is None:
            memory = Path("/dev/shm")
            parent = memory if memory.is_dir() else None
            cls.keeper = tempfile.TemporaryDirectory(prefix="fuzz-", dir=parent)
            cls.path = Path(cls.keeper.name) / "cmsbs.properties"
        return cls.path


def run_config(data: bytes) -> None:
    """``load_config`` on one file."""
    file = _Folder.file()
    file.write_bytes(data)
    with contextlib.suppress(ConfigError):
        config = load_config(file, environ={})
        for inbox in config.values():
            assert isinstance(inbox, InboxConfig)
            repr(inbox)


def run_environment(data: bytes) -> None:
    """``InboxConfig.from_env``: lines of NAME=value are the environment."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    environ = {name: value for name, _, value in (line.partition("=") for line in lines)}
    from_env: Any = getattr(InboxConfig, "from_env", None)
    assert from_env is not None, "there is no InboxConfig.from_env"
    with contextlib.suppress(ConfigError):
        from_env(environ={f"EXO_IMAP_{name}": value for name, value in environ.items()})


# ---- the token endpoint ----------------------------------------------------------------------

_STATUSES = (200, 400, 401, 403, 404, 429, 500, 503, 302)
_TOKEN = {"token_type": "Bearer", "expires_in": 3599, "access_token": "eyJ0eXAi.eyJhdWQi.c2ln"}
_REFUSAL = {
    "error": "invalid_client",
    "error_description": "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: t",
    "error_codes": [7000215],
    "correlation_id": "corr",
    "trace_id": "trace",
    "timestamp": "2026-11-01 00:00:00Z",
}
_WORDS_OF_JSON = [
    b'"access_token":', b'"expires_in":', b'"refresh_in":', b'"token_type":"Bearer"', b'"error":',
    b'"error_description":', b'"error_codes":[', b'"correlation_id":', b"null", b"true", b"1e400",
    b"[" * 2_000, b'{"a":' * 500, b"Retry-After: ", b"Location: ", b"Content-Encoding: gzip\n",
    b"AADSTS700016", b"AADSTS7000222: ",
]  # fmt: skip


def run_token_answer(data: bytes) -> None:
    """An HTTP answer: the first byte chooses the status, then headers, a blank line, the body."""
    status = _STATUSES[data[0] % len(_STATUSES)] if data else 200
    head, _, body = data[1:].partition(b"\n\n")
    lines = (line.partition(b":") for line in head.split(b"\n") if b":" in line)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, _, value in lines}

    @contextlib.contextmanager
    def answered(prepared: requests.PreparedRequest, *_: Any) -> Generator[requests.Response]:
        yield _response(prepared, status, headers, body)

    with mock.patch.object(endpoint, "exchange", answered):
        outcome = endpoint.request_token(_SOURCE._request)  # pyright: ignore[reportPrivateUsage] # past the thread of a fetch
    assert isinstance(outcome, (AccessToken, TokenError)), outcome
    str(outcome)


_SOURCE = TokenSource(TENANT, CLIENT, "secret", cache=MemoryTokenCache(), deadline=0.001)


def _response(
    prepared: requests.PreparedRequest, status: int, headers: Mapping[str, str], body: bytes
) -> requests.Response:
    """The answer as requests makes it of urllib3's."""
    raw = urllib3.HTTPResponse(
        io.BytesIO(body), headers, status, preload_content=False, decode_content=False
    )
    response = requests.Response()
    response.status_code = status
    response.headers = CaseInsensitiveDict(headers)
    response.raw = raw
    response.request = prepared
    return response


# ---- texts -----------------------------------------------------------------------------------


def run_challenge(data: bytes) -> None:
    """The error challenge of AUTHENTICATE."""
    challenge = decode_challenge(data)
    assert challenge is None or isinstance(challenge, dict)


_STAGES: tuple[Any, ...] = (None, "token", "authenticate", "post_auth", "runtime")


def run_advise(data: bytes) -> None:
    """``advise``: the first byte chooses the stage; what is known follows a NUL."""
    stage = _STAGES[data[0] % len(_STAGES)] if data else None
    message, _, known = data[1:].decode("utf-8", "surrogateescape").partition("\0")
    names = ("mailbox", "tenant_id", "aud", "oid", "roles", "client_id", "enterprise_object_id")
    advice = advise(message, stage=stage, **dict(zip(names, known.split("\0"), strict=False)))
    assert advice is None or isinstance(advice, Advice)
    str(advice)


# ---- IMAP ------------------------------------------------------------------------------------

_TAG = "BAAA"  # what imaplib makes of the number that it draws
_IMAP_SESSION = """\
* OK The Microsoft Exchange IMAP4 service is ready.\r
* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR UIDPLUS\r
BAAA0 OK CAPABILITY completed.\r
* CAPABILITY IMAP4rev1\r
BAAA1 OK AUTHENTICATE completed.\r
* 3 EXISTS\r
* OK [UIDVALIDITY 14] UIDs\r
BAAA2 OK [READ-WRITE] SELECT completed.\r
* 1 FETCH (BODY[] {5}\r
hello)\r
BAAA3 OK FETCH completed.\r
* BYE Logging out\r
BAAA4 OK LOGOUT completed.\r
"""
_IMAP_OTHERS = (
    "BAAA1 NO AUTHENTICATE failed.\r\n",
    "+ eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=\r\nBAAA1 NO AUTHENTICATE failed.\r\n",
    "+ %%%\r\nBAAA1 BAD no\r\n",
    "BAAA2 BAD User is authenticated but not connected.\r\n* BYE Connection closed. 14\r\n",
    "* BYE Session invalidated - AccessTokenExpired\r\n",
    "BAAA2 NO Request is throttled. Suggested Backoff Time: 299961 milliseconds\r\n",
    '* OK [Error="UserDisabled" AuthResult=27 Service=Imap4]\r\n',
)
_WORDS_OF_IMAP = [
    *(word.encode() for word in _IMAP_OTHERS),
    *(b"BAAA%d " % number for number in range(5)),
    b"* ", b"+ ", b"OK ", b"NO ", b"BAD ", b"BYE ", b"PREAUTH ", b"{5}\r\n", b"{-1}\r\n",
    b"{99999999999999}\r\n", b"[ALERT] ", b"FETCH (", b"EXISTS", b"* CAPABILITY \r\n", b"* 1 ",
]  # fmt: skip


class _Socket(socket.socket):
    """One end of a pair that takes options of TCP for what they are worth."""

    context: ssl.SSLContext

    @override
    def setsockopt(self, *_: Any) -> None: ...


class _Context(ssl.SSLContext):
    """A verifying context whose TLS is the identity."""

    @override
    def wrap_socket(self, sock: Any, *_: Any, **__: Any) -> Any:
        sock.context = self
        return sock


_CONTEXT = _Context(ssl.PROTOCOL_TLS_CLIENT)
_MOST = 60_000  # bytes that a pair of sockets takes without a reader


def run_imap(data: bytes) -> None:
    """``open_mailbox``, a FETCH and LOGOUT, while the server says just these bytes."""
    theirs, ours = socket.socketpair()
    client = _Socket(fileno=ours.detach())

    def connected(*_: Any, **__: Any) -> socket.socket:
        return client

    with (
        contextlib.closing(theirs),
        contextlib.closing(client),
        mock.patch("socket.create_connection", connected),
        mock.patch.object(imaplib.random, "randint", return_value=4096),  # type: ignore[attr-defined] # its module
    ):
        theirs.sendall(data[:_MOST])
        theirs.shutdown(socket.SHUT_WR)
        _open_and_fetch()


def _open_and_fetch() -> None:
    reading = False
    try:
        with open_mailbox(USER, "token", host="127.0.0.1", ssl_context=_CONTEXT) as imap:
            reading = True
            imap.fetch("1", "(BODY[])")
    except ImapError:
        pass
    except (imaplib.IMAP4.error, OSError, ValueError, OverflowError, MemoryError):
        if not reading:  # in the body, what imaplib raises of its own passes
            raise


# ---- all of them -----------------------------------------------------------------------------

_ALL = [
    Harness("properties", run_properties, [_GOOD_CONFIG.encode(), *_texts_of_java()]),
    Harness(
        "config",
        run_config,
        [_GOOD_CONFIG.encode(), (_GOOD_CONFIG + _LISTENERS).encode(), *_texts_of_java()[:20]],
        _WORDS_OF_CONFIG,
    ),
    Harness(
        "token-answer",
        run_token_answer,
        [
            b"\0Date: x\n\n" + json.dumps(_TOKEN).encode(),
            b"\2Retry-After: 3\n\n" + json.dumps(_REFUSAL).encode(),
            b"\7Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\n\n<html>busy</html>",
            b"\x08Location: https://login.example/\n\n",
            *(b"\1\n\n" + message.encode() for message in _FAILURES),
        ],
        _WORDS_OF_JSON,
    ),
    Harness(
        "challenge",
        run_challenge,
        [b'{"status":"401","schemes":"bearer","scope":"mail"}', b"", b"[]", b"\xff{}"],
        _WORDS_OF_JSON,
    ),
    Harness("advise", run_advise, [b"\0" + message.encode() for message in _FAILURES]),
    Harness(
        "imap",
        run_imap,
        [_IMAP_SESSION.encode()]
        + [(_IMAP_SESSION[: _IMAP_SESSION.index("* CAPABILITY IMAP4rev1\r")] + other).encode()
           for other in _IMAP_OTHERS],
        _WORDS_OF_IMAP,
    ),
]  # fmt: skip
if hasattr(InboxConfig, "from_env"):
    _FIELDS = ("USER=a@b.example", f"TENANT_ID={TENANT}", f"CLIENT_ID={CLIENT}", "PORT=993",
               "CLIENT_SECRET=Zq7~wR", "CLOUD=worldwide", "CLIENT_SECRET_FILE=/nowhere",
               "TOKEN_URI=https://login.example/x/token", "TLS=implicit", "DEBUG=true")  # fmt: skip
    _ALL.append(
        Harness(
            "environment",
            run_environment,
            ["\n".join(_FIELDS).encode(), "\n".join(_FIELDS[:5]).encode()],
            [f"\n{field}".encode() for field in _FIELDS],
        )
    )
HARNESSES = {harness.name: harness for harness in _ALL}
