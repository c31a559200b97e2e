"""What http.client, urllib3, requests and ssl would say, keep or do by themselves."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import HOST, server_context
from support.overheard import Overheard, shows
from support.token_endpoint import SECRET, TENANT, TokenEndpoint, token
from support.token_endpoint import http as answer_of

from exo_imap_oauth._tokens import endpoint as token_endpoint
from exo_imap_oauth._tokens import https
from exo_imap_oauth._tokens.endpoint import request_token, server_date
from exo_imap_oauth.errors import InsecureConnectionError, TokenError

if TYPE_CHECKING:
    from collections.abc import Callable


# ---- what they say ---------------------------------------------------------------------------


def test_http_client_prints_nothing_though_all_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    monkeypatch.setattr(http.client.HTTPResponse, "debuglevel", 1, raising=False)
    with TokenEndpoint(token("it.is.one")) as endpoint, Overheard() as overheard:
        assert endpoint.source().get_token().token == "it.is.one"
        ours = overheard.text
        other = http.client.HTTPSConnection(
            HOST, endpoint.port, context=endpoint.ssl_context, timeout=60
        )
        other.request("GET", "/")
        other.getresponse().close()
        other.close()
    assert "send:" not in ours
    assert not shows(ours, SECRET)
    assert "send:" in overheard.text  # the switch itself works, and was left alone


@pytest.mark.parametrize(
    "line",
    [
        "X you sent {}",
        "{}",
        ": {}",
        "Set-Cookie: a={0}; version={0}; port={0}; expires={0}",
        "Set-Cookie: {}; Max-Age=" + "9" * 400,
        "Set-Cookie2: a={}; Version=x",
        "Content-Type: multipart/mixed; boundary={}",
        "Transfer-Encoding: {}",
    ],
)
def test_no_header_makes_a_library_speak(line: str) -> None:
    body = answer_of(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": "t"})
    _, _, body = body.partition(b"\r\n\r\n")
    head = f"HTTP/1.1 200 OK\r\n{line.format(SECRET)}\r\nContent-Type: application/json\r\n\r\n"
    with TokenEndpoint(head.encode() + body) as endpoint, Overheard() as overheard:
        assert endpoint.source().get_token().token == "t"
    assert overheard.warnings == []
    assert not shows(overheard.text, SECRET)


def test_the_logs_of_requests_and_urllib3_hold_neither_secret_nor_token() -> None:
    with TokenEndpoint(answer_of(503), token("a-token-that-is-issued")) as endpoint:
        with Overheard() as overheard:
            endpoint.source().get_token()
    assert "urllib3" in overheard.text
    assert TENANT in overheard.text
    assert not shows(overheard.text, SECRET)
    assert not shows(overheard.text, "a-token-that-is-issued")


def test_no_cookie_is_taken_or_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Any] = []

    class Remembered(https._Session):
        def __init__(self) -> None:
            super().__init__()
            sessions.append(self)

    monkeypatch.setattr(https, "_Session", Remembered)
    busy = answer_of(503, Set_Cookie="a=b; Path=/; Secure")
    with TokenEndpoint(busy, token()) as endpoint:
        endpoint.source().get_token()
    assert [list(session.cookies) for session in sessions] == [[], []]
    assert "cookie" not in endpoint.headers[1].lower()


# ---- what they trust -------------------------------------------------------------------------


def loosen(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def without_host_name(context: ssl.SSLContext) -> None:
    context.check_hostname = False


@pytest.mark.parametrize("change", [loosen, without_host_name])
def test_a_context_that_was_loosened_later_is_not_even_connected_with(
    change: Callable[[ssl.SSLContext], None],
) -> None:
    with socket.create_server((HOST, 0)) as listener:
        endpoint = TokenEndpoint(token())
        endpoint._listener.close()
        endpoint.url = f"https://{HOST}:{listener.getsockname()[1]}/"
        source = endpoint.source()
        change(endpoint.ssl_context)
        with pytest.raises(InsecureConnectionError, match="create_default_context") as raised:
            source.get_token()
        assert not raised.value.retryable
        for ask in (request_token, server_date):
            assert isinstance(ask(source._request), InsecureConnectionError)  # returned
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_context_that_is_loosened_during_the_handshake_sends_no_secret() -> None:
    context = server_context()

    def meanwhile(*_: object) -> None:
        loosen(endpoint.ssl_context)

    context.sni_callback = meanwhile
    with TokenEndpoint(token(), context=context) as endpoint:
        endpoint.url = endpoint.url.replace(HOST, "localhost")  # an address is not announced
        with pytest.raises(InsecureConnectionError):
            endpoint.source().get_token()
        assert endpoint.ssl_context.verify_mode is ssl.CERT_NONE
    assert endpoint.forms == []


def test_each_caller_gets_an_insecure_connection_of_its_own() -> None:
    endpoint = TokenEndpoint(token())
    endpoint._listener.close()
    source = endpoint.source()
    loosen(endpoint.ssl_context)
    errors: list[InsecureConnectionError] = []
    for _ in range(2):
        with pytest.raises(InsecureConnectionError) as raised:
            source.get_token()
        errors.append(raised.value)
    assert errors[0] is not errors[1]
    assert all(error.__context__ is None for error in errors)


# ---- what they cost --------------------------------------------------------------------------

MEGABYTE = 1_000_000
A_MEGABYTE_OF: dict[str, bytes] = {
    "status line": b"HTTP/1.1 400 " + b"x" * MEGABYTE,
    "no HTTP": b"\xff" * MEGABYTE,
    "one header": b"HTTP/1.1 400 no\r\nX: " + b"x" * MEGABYTE,
    "many headers": b"HTTP/1.1 400 no\r\n" + b"X: %s\r\n" % (b"y" * 60_000) * 16 + b"\r\n",
    "headers without colon": b"HTTP/1.1 400 no\r\n" + b"%s\r\n" % (b"y" * 60_000) * 16 + b"\r\n",
    "Location": b"HTTP/1.1 302 no\r\nLocation: https://" + b"x" * 60_000 + b"\r\n\r\n",
    "Retry-After": b"HTTP/1.1 503 no\r\nRetry-After: " + b"9" * 60_000 + b"\r\n\r\n",
    "text": answer_of(400, "x" * MEGABYTE, json_body=False),
    "AADSTS": answer_of(400, "AADSTS7" * (MEGABYTE // 7), json_body=False),
    "escapes": answer_of(400, "&#x7e;%7e\\u007e" * (MEGABYTE // 16), json_body=False),
    "brackets": answer_of(400, "[" * MEGABYTE, json_body=False),
    "description": answer_of(400, {"error": "e", "error_description": "x y" * (MEGABYTE // 3)}),
    "codes": answer_of(400, {"error": "e", "error_codes": [7] * (MEGABYTE // 4)}),
    "error object": answer_of(400, {"error": {"x" * 9 + str(i): i for i in range(40_000)}}),
    "chunk size": b"HTTP/1.1 400 no\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * MEGABYTE,
    "200": answer_of(200, "x" * MEGABYTE, json_body=False),
    "200 of JSON": answer_of(200, {"x" * 9 + str(i): i for i in range(40_000)}),
    "token": token("x" * MEGABYTE),
}


@pytest.mark.parametrize("kind", A_MEGABYTE_OF)
def test_a_megabyte_costs_next_to_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(token_endpoint, "_slept", never)  # one try
    costs: list[float] = []
    with TokenEndpoint(A_MEGABYTE_OF[kind]) as endpoint:
        request = endpoint.source()._request
        for _ in range(4):  # the first one builds what is built once
            before = time.thread_time()
            assert isinstance(request_token(request), TokenError) is (kind != "token")
            costs.append(time.thread_time() - before)
    assert min(costs) < 0.25  # with room for a busy machine: what is not linear takes minutes
