"""A server, a proxy, a function or a cache that says the secret: nobody else gets to hear it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.leaks import everything_in
from support.overheard import ENCODINGS, Overheard, shows
from support.token_endpoint import TokenEndpoint, http, token

from exo_imap_oauth._tokens import endpoint as token_endpoint
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth import AccessToken

SECRET = "aB3~SentinelOf.A+Client/Secret=&'8Q"


def raw(text: str) -> bytes:
    return text.encode()


def refusal(**fields: Any) -> bytes:
    return http(401, {"error": "invalid_client", "error_description": "AADSTS7000215: no"} | fields)


ECHOES: dict[str, Callable[[str], bytes]] = {
    "body of a 400": lambda echo: http(400, f"you sent {echo}", json_body=False),
    "body of a 500": lambda echo: http(500, f"you sent {echo}", json_body=False),
    "body in UTF-16": lambda echo: (
        b"HTTP/1.1 400 no\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n"
        + f"you sent {echo}".encode("utf-16")
    ),
    "body without blanks": lambda echo: http(400, f"x{echo}x", json_body=False),
    "error": lambda echo: refusal(error=echo),
    "error that is an object": lambda echo: refusal(error={"code": echo}),
    "error_description": lambda echo: refusal(error_description=f"you sent {echo}"),
    "correlation_id": lambda echo: refusal(correlation_id=echo),
    "trace_id": lambda echo: refusal(trace_id=echo),
    "error of a 500": lambda echo: http(500, {"error": echo}),
    "no HTTP": lambda echo: raw(f"you sent {echo}\r\n\r\n"),
    "status": lambda echo: raw(f"HTTP/1.1 {echo} no\r\n\r\n"),
    "HTTP version": lambda echo: raw(f"HTTP/{echo} 400 no\r\n\r\n"),
    "reason": lambda echo: raw(f"HTTP/1.1 400 {echo}\r\nContent-Length: 0\r\n\r\n"),
    "chunk size": lambda echo: raw(
        f"HTTP/1.1 400 no\r\nTransfer-Encoding: chunked\r\n\r\n{echo}\r\nx\r\n0\r\n\r\n"
    ),
    "chunk size of a 200": lambda echo: raw(
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{echo}\r\nx\r\n0\r\n\r\n"
    ),
    "header without a colon": lambda echo: raw(
        f"HTTP/1.1 400 no\r\nContent-Length: 0\r\nX you sent {echo}\r\nA: b\r\n\r\n"
    ),
    "name of a header": lambda echo: raw(
        f"HTTP/1.1 400 no\r\nContent-Length: 0\r\n{echo.replace(':', '')}: x\r\n\r\n"
    ),
    "Content-Length": lambda echo: raw(f"HTTP/1.1 400 no\r\nContent-Length: {echo}\r\n\r\n"),
    "host of Location": lambda echo: http(302, Location=f"https://{echo}.example/"),
    "path of Location": lambda echo: http(302, Location=f"https://x.example/{echo}"),
    "Retry-After": lambda echo: http(503, Retry_After=echo),
    "Content-Encoding": lambda echo: http(400, Content_Encoding=echo),
    "Content-Type of a 200": lambda echo: http(200, "no", json_body=False, Content_Type=echo),
    "Set-Cookie": lambda echo: http(400, Set_Cookie=f"a={echo}; version={echo}; port={echo}"),
}


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second try, which would only say the same again."""

    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(token_endpoint, "_slept", never)


def all_that_is_said(endpoint: TokenEndpoint, client_secret: Any = SECRET, **options: Any) -> str:
    with Overheard() as overheard:
        with pytest.raises(TokenError) as raised:
            endpoint.source(client_secret, **options).get_token(claims="{}")  # whatever was before
        overheard.error(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None
    return overheard.text


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize("place", ECHOES)
def test_an_echo_of_the_secret_is_nowhere_to_be_heard(place: str) -> None:
    answer = ECHOES[place]
    echoes = [encode(SECRET) for encode in ENCODINGS.values()]
    with TokenEndpoint(*map(answer, echoes)) as endpoint:
        for encoding in ENCODINGS:
            said = all_that_is_said(endpoint, client_secret=lambda: SECRET)
            assert not shows(said, SECRET), encoding
        assert len(endpoint.forms) == len(ENCODINGS)
        assert {form["client_secret"] for form in endpoint.forms} == {SECRET}


def test_what_the_tests_would_hear_is_heard() -> None:
    for encoding, encode in ENCODINGS.items():
        assert shows(f"you sent {encode(SECRET)} and more", SECRET), encoding
        assert shows(f"you sent {encode(SECRET[3:30])}", SECRET), encoding
    assert not shows("you sent (hidden), aB3~Sentinel", SECRET)
    with Overheard() as overheard:
        secret = SECRET
        overheard.error(ValueError(secret))
    assert shows(overheard.text, SECRET)


@pytest.mark.usefixtures("one_try")
def test_attributes_of_a_refusal_hide_the_secret_and_are_bounded() -> None:
    long = f"{SECRET} " + "x" * 100_000
    ids = {"correlation_id": long, "trace_id": long, "error": long}
    codes = [7000215, True, -1, int("9" * 40), "7", *range(1, 100_000)]
    with TokenEndpoint(refusal(**ids, error_codes=codes)) as endpoint:
        with pytest.raises(TokenRequestRejected) as raised:
            endpoint.source(SECRET).get_token()
    error = raised.value
    for text in (error.error, error.correlation_id, error.trace_id):
        assert text
        assert text.startswith("(hidden) xxx")
        assert len(text) <= 401
    assert error.error_codes[:2] == (7000215, True)
    assert len(error.error_codes) <= 20
    assert max(error.error_codes) < 10**9


@pytest.mark.usefixtures("one_try")
def test_what_no_secret_is_in_is_quoted() -> None:
    with TokenEndpoint(http(400, "<h1>Proxy of the hotel", json_body=False)) as endpoint:
        assert "HTTP 400, <h1>Proxy of the hotel" in all_that_is_said(endpoint)
        endpoint.then(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        assert "BadStatusLine: SSH-2.0-OpenSSH_9.2" in all_that_is_said(endpoint)


@pytest.mark.usefixtures("one_try")
def test_characters_that_move_or_hide_others_are_escaped() -> None:
    with TokenEndpoint(refusal(error_description="\x1b[31m\u202eevil\u200b")) as endpoint:
        said = all_that_is_said(endpoint)
    assert r"\x1b[31m\u202eevil\u200b" in said
    assert "\u202e" not in said


# ---- an answer that might be a token ---------------------------------------------------------

TOKEN = "opaque-token-of-small-letters-only"
JWT = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL291dGxvb2sifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "not a JSON object"),
        (TOKEN, "not a JSON object"),
        (json.dumps(TOKEN), "not a JSON object"),
        (json.dumps([TOKEN]), "not a JSON object"),
        (f"<token>{TOKEN}</token>", "not a JSON object"),
        (f'{{"accessToken": "{TOKEN}", "expiresIn": 3', "not a JSON object"),
        (json.dumps({"accessToken": TOKEN}), "no access_token"),
        (json.dumps({"error": TOKEN}), "an error, and no access_token"),
        (json.dumps({"error_description": TOKEN, "error": TOKEN}), "an error"),
        (json.dumps({"access_token": f"{TOKEN} "}), "an access_token that no login can send"),
        (json.dumps({"access_token": [TOKEN]}), "an access_token that no login can send"),
        (json.dumps({"access_token": TOKEN}), "no token_type that is Bearer"),
        (json.dumps({"access_token": TOKEN, "token_type": TOKEN}), "no token_type that is Bearer"),
        (json.dumps({"access_token": TOKEN, "token_type": "Bearer"}), "no expires_in"),
        (
            json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": TOKEN}),
            "no expires_in that is a number of seconds",
        ),
    ],
)
@pytest.mark.parametrize("text", [TOKEN, JWT])
def test_nothing_of_an_answer_that_succeeded_is_quoted(text: str, body: str, problem: str) -> None:
    answer = http(200, body.replace(TOKEN, text), json_body=False, Content_Type="text/x")
    with TokenEndpoint(answer) as endpoint:
        said = all_that_is_said(endpoint)
    assert f"HTTP 200, {problem}" in said
    assert not shows(said, text)


@pytest.mark.parametrize("status", [201, 204, 206])
def test_another_status_of_success_is_no_token_and_not_quoted(status: int) -> None:
    fields = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
    with TokenEndpoint(http(status, fields)) as endpoint:
        said = all_that_is_said(endpoint)
    assert f"HTTP {status}, " in said
    assert not shows(said, TOKEN)


def test_the_kind_of_a_page_that_is_no_json_is_told() -> None:
    page = http(200, "<html>", json_body=False, Content_Type="text/html; charset=utf-8")
    with TokenEndpoint(page) as endpoint:
        said = all_that_is_said(endpoint)
    assert "HTTP 200, not a JSON object (Content-Type: text/html; charset=utf-8)" in said


@pytest.mark.usefixtures("one_try")
def test_a_failure_that_carries_a_token_all_the_same_does_not_show_it() -> None:
    with TokenEndpoint(http(500, {"access_token": TOKEN})) as endpoint:
        assert not shows(all_that_is_said(endpoint), TOKEN)
        endpoint.then(http(500, f"access_token={TOKEN}", json_body=False))
        assert not shows(all_that_is_said(endpoint), TOKEN)
        endpoint.then(http(500, f"you got {JWT}", json_body=False))
        assert "you got (hidden)" in all_that_is_said(endpoint)


# ---- a path without a token endpoint ---------------------------------------------------------


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("body", ["no such page", {"error": "Not Found", "path": "/x"}])
def test_a_path_without_a_token_endpoint_is_named_as_the_mistake(status: int, body: Any) -> None:
    answer = http(status, body, json_body=isinstance(body, dict))
    with TokenEndpoint(answer) as endpoint, pytest.raises(TokenError) as raised:
        endpoint.source().get_token()
    assert raised.value.advice
    assert raised.value.advice.id == "token-uri-wrong"
    assert not raised.value.retryable
    assert len(endpoint.forms) == 1


# ---- callers' own functions ------------------------------------------------------------------


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError(JWT)


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (LookupError("the vault is sealed"), "LookupError: the vault is sealed"),
        (LookupError(f"not valid: {JWT}"), "LookupError: not valid: (hidden)"),
        (LookupError("two\nlines\x1b"), r"LookupError: two lines\x1b"),
        (Unspeakable(), "Unspeakable:"),
    ],
)
def test_an_error_of_the_secrets_function_is_told_by_class_and_clean_text(
    failure: Exception, text: str
) -> None:
    def vault() -> str:
        raise failure

    with TokenEndpoint(token()) as endpoint:
        said = all_that_is_said(endpoint, vault)
        assert endpoint.forms == []
    assert f"could not be obtained: {text}" in said
    assert not shows(said, JWT)


class FailingCache(MemoryTokenCache):
    """Fails with the token in its mouth."""

    def set(self, key: str, token: AccessToken) -> None:
        raise RuntimeError(f"cannot store {token.token} under {key}")


class ForgetfulCache(MemoryTokenCache):
    """Fails when it is asked, once it holds a token, and says which."""

    def get(self, key: str) -> AccessToken | None:
        held = super().get(key)
        if held is not None:
            raise RuntimeError(f"cannot read {held.token}")
        return held


def test_an_error_of_the_cache_is_told_without_the_token() -> None:
    with TokenEndpoint(token(TOKEN)) as endpoint:
        said = all_that_is_said(endpoint, cache=FailingCache())
        assert "the token cache failed: RuntimeError: cannot store (hidden)" in said
        assert not shows(said, TOKEN)


def test_an_error_of_the_cache_is_told_without_the_token_that_is_held() -> None:
    with TokenEndpoint(token(TOKEN)) as endpoint:
        source = endpoint.source(cache=ForgetfulCache())
        source._slot.hold(replace(source.get_token(), refresh_on=0, expires_on=0))
        with pytest.raises(TokenError) as raised:
            source.get_token()
    assert "getting a token failed: RuntimeError: cannot read (hidden)" in str(raised.value)
    assert not shows(everything_in(raised.value), TOKEN)


def test_ctrl_c_in_a_caller_who_fetches_shows_no_frame_with_the_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(SECRET)
        monkeypatch.setattr("threading.Thread.start", no_thread)
        monkeypatch.setattr(token_endpoint, "exchange", pressed)
        with pytest.raises(KeyboardInterrupt) as raised:
            source.get_token()
        monkeypatch.undo()
        assert not shows(everything_in(raised.value), SECRET)
        assert source.get_token().token == "a.token"


@pytest.mark.usefixtures("one_try")
def test_an_error_that_the_caller_is_handling_is_not_taken_for_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_thread)  # so the caller fetches
    endpoint = TokenEndpoint(token())
    endpoint._listener.close()
    source = endpoint.source(timeout=5)
    with pytest.raises(TokenEndpointUnavailable) as raised:
        try:
            int("mine")
        except ValueError:
            source.get_token()
    assert "ConnectionRefusedError" in str(raised.value)
    assert "mine" not in str(raised.value)
