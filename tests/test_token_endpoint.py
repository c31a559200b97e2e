"""One fetch of a token: what comes back, what is tried again, and what is never quoted."""

from __future__ import annotations

import logging
import pickle
import ssl
import time
from urllib.parse import quote_plus

import pytest
from support import HOST
from support.leaks import everything_in
from support.token_endpoint import SECRET, TokenEndpoint, http, rejected, token

from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected

# ---- refusals --------------------------------------------------------------------------------


def test_a_refusal_tells_all_that_entra_told() -> None:
    with TokenEndpoint(rejected()) as endpoint, pytest.raises(TokenRequestRejected) as raised:
        endpoint.source().get_token()
    error = raised.value
    assert (error.error, error.error_codes, error.status) == ("invalid_client", (7000215,), 401)
    assert (error.correlation_id, error.trace_id) == ("corr-1", "trace-1")
    assert not error.retryable
    assert error.advice
    assert error.advice.id == "secret-wrong"
    first, *rest = str(error).splitlines()
    assert "AADSTS7000215: Invalid client secret provided. (HTTP 401, invalid_client" in first
    assert "Trace ID" not in first
    assert rest[0].startswith("  Cause: ")
    assert len(endpoint.forms) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_cannot_heal_is_asked_once(status: int) -> None:
    with TokenEndpoint(rejected(status=status)) as endpoint:
        with pytest.raises(TokenRequestRejected):
            endpoint.source().get_token()
        assert len(endpoint.forms) == 1


def test_a_secret_id_in_place_of_the_secret_is_recognised() -> None:
    guid = "91b7a0f5-9f56-4d36-92f4-b8b0c5c8f6a1"
    with TokenEndpoint(rejected()) as endpoint, pytest.raises(TokenRequestRejected) as raised:
        endpoint.source(guid).get_token()
    assert "Secret ID" in str(raised.value)
    assert guid not in str(raised.value)


def test_a_temporary_refusal_is_retryable() -> None:
    answer = rejected(90033, 400, "temporarily_unavailable")
    with TokenEndpoint(answer) as endpoint, pytest.raises(TokenRequestRejected) as raised:
        endpoint.source().get_token()
    assert raised.value.retryable


# ---- what may heal ---------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(http(429, {"error": "x"}, Retry_After="0"), id="429 JSON"),
        pytest.param(http(429, "<html>slow down", json_body=False), id="429 HTML"),
        *(pytest.param(http(status), id=str(status)) for status in (500, 502, 503, 504)),
        pytest.param(b"", id="closed without an answer"),
        pytest.param(token()[:-9], id="truncated body"),
    ],
)
def test_what_may_heal_is_tried_again(failure: bytes) -> None:
    with TokenEndpoint(failure, token("healed")) as endpoint:
        assert endpoint.source().get_token().token == "healed"
    assert len(endpoint.forms) == 2


def test_retry_after_beyond_the_deadline_fails_at_once() -> None:
    with TokenEndpoint(http(503, Retry_After="3000")) as endpoint:
        before = time.monotonic()
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(deadline=20).get_token()
        assert time.monotonic() - before < 20
    assert raised.value.retry_after == 3000
    assert raised.value.retryable
    assert len(endpoint.forms) == 1


@pytest.mark.usefixtures("longest_pauses")
def test_tries_end_with_the_deadline_and_the_last_answer() -> None:
    page = "<html><title>502</title>Bad\x07 Gateway"
    with TokenEndpoint(http(502, page, json_body=False)) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(deadline=1.4).get_token()
    assert r"HTTP 502, <html><title>502</title>Bad\x07 Gateway" in str(raised.value)
    assert raised.value.retry_after is None
    assert len(endpoint.forms) == 2


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (http(200, "<html>Welcome to the hotel", json_body=False), "HTTP 200, not a JSON object"),
        (http(200, {"access_token": "t", "expires_in": 3600}), "HTTP 200"),
        (http(200, {"access_token": "", "expires_in": 3600, "token_type": "Bearer"}), "HTTP 200"),
        (token(expires_in=None), "HTTP 200"),
        (token(expires_in=-1), "HTTP 200"),
        (token(expires_in=1e300), "HTTP 200"),
        (token(expires_in="soon"), "HTTP 200"),
        (http(200, [1, 2]), "HTTP 200"),
        (http(200, "[" * 100_000, json_body=False), "HTTP 200"),
        (http(302, Location="https://elsewhere.example/x?y"), "a redirect to elsewhere.example"),
        (http(404, "no such page", json_body=False), "HTTP 404, no such page"),
        (http(200, "x" * (1 << 20) + "x", json_body=False), "longer than 1048576 bytes"),
    ],
)
def test_an_answer_that_is_no_token_is_named_and_not_asked_for_again(
    answer: bytes, text: str
) -> None:
    with TokenEndpoint(answer) as endpoint, pytest.raises(TokenEndpointUnavailable) as raised:
        endpoint.source().get_token()
    assert text in str(raised.value)
    assert len(endpoint.forms) == 1


def test_numbers_may_come_as_strings() -> None:
    with TokenEndpoint(token(expires_in="3599")) as endpoint:
        issued = endpoint.source().get_token()
    assert issued.expires_on == int(issued.obtained_on + 3599)


def test_a_location_that_makes_no_sense_is_no_obstacle() -> None:
    with TokenEndpoint(http(302, Location="https://[x")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable, match="a redirect to somewhere"):
            endpoint.source().get_token()


def test_a_retry_after_of_zero_is_no_invitation_to_spin() -> None:
    with TokenEndpoint(http(503, Retry_After="0")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable):
            endpoint.source(deadline=1).get_token()
    assert len(endpoint.forms) < 20


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("value", ["9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "soon"])
def test_a_retry_after_that_makes_no_sense_is_ignored(value: str) -> None:
    with TokenEndpoint(http(503, Retry_After=value), token("healed")) as endpoint:
        assert endpoint.source().get_token().token == "healed"


def test_the_servers_own_retry_after_is_kept_however_short() -> None:
    with TokenEndpoint(http(503, Retry_After="7")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(deadline=5).get_token()
    assert raised.value.retry_after == 7


def test_words_of_imap_in_a_gateways_page_get_no_advice_on_imap() -> None:
    page = http(500, "mail gateway: NO AUTHENTICATE failed.", Retry_After="60", json_body=False)
    with TokenEndpoint(page) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source().get_token()
    assert raised.value.advice
    assert raised.value.advice.id == "entra-unavailable"


@pytest.mark.usefixtures("longest_pauses")
def test_a_refused_connection_says_so_and_what_to_check() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(deadline=1.4)
    with pytest.raises(TokenEndpointUnavailable) as raised:
        source.get_token()
    assert "ConnectionRefusedError" in str(raised.value)
    assert raised.value.advice
    assert raised.value.advice.id == "token-endpoint-unreachable"
    assert f"{HOST}:{endpoint.port}" in raised.value.advice.cause + raised.value.advice.fix
    assert ":993" not in str(raised.value)


# ---- nothing leaks ---------------------------------------------------------------------------


def test_an_echo_of_the_request_is_not_quoted() -> None:
    with TokenEndpoint(http(400, f"you sent {SECRET}", json_body=False)) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source().get_token()
    assert SECRET not in str(raised.value)
    assert "you sent (hidden)" in str(raised.value)


@pytest.mark.parametrize(
    "escaped",
    [
        SECRET,
        quote_plus(SECRET),
        SECRET.replace("/", "\\/"),
        SECRET.replace("+", "\\u002B").replace("&", "\\u0026"),
    ],
)
def test_no_escape_of_json_hides_an_echo(escaped: str) -> None:
    body = f'{{"error": "x", "error_description": "you sent {escaped}"}}'
    with TokenEndpoint(http(400, body, json_body=False)) as endpoint:
        with pytest.raises(TokenError) as raised:
            endpoint.source().get_token()
    assert SECRET not in str(raised.value)
    assert quote_plus(SECRET) not in str(raised.value)


def test_a_broken_answer_that_holds_a_token_is_not_quoted() -> None:
    body = '{"access_token": "eyJ.very.secret", "expires_in": '
    with TokenEndpoint(http(200, body, json_body=False)) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source().get_token()
    assert "very" not in str(raised.value)


@pytest.mark.parametrize(
    "answer", [rejected(), http(502), http(200, "no", json_body=False), b"", None]
)
def test_no_frame_text_record_or_pickle_of_a_failure_holds_the_secret(
    answer: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with TokenEndpoint(answer or b"") as endpoint:
        context = ssl.create_default_context() if answer is None else endpoint.ssl_context
        source = endpoint.source(deadline=0.3, ssl_context=context)
        with pytest.raises(TokenError) as raised:
            source.get_token()
    seen = caplog.text + repr(source) + everything_in(raised.value)
    assert SECRET not in seen
    assert SECRET.encode() not in pickle.dumps(raised.value)


def test_a_secret_callable_that_fails_is_reported_with_its_own_error() -> None:
    def vault() -> str:
        raise LookupError("the vault is sealed")

    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenError) as raised:
        endpoint.source(vault).get_token()
    assert "LookupError: the vault is sealed" in str(raised.value)
    assert endpoint.forms == []


@pytest.mark.parametrize("returned", ["", None, "line\n"])
def test_a_secret_callable_that_returns_no_secret_is_reported(returned: object) -> None:
    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenError) as raised:
        endpoint.source(lambda: returned).get_token()
    assert "client secret" in str(raised.value)
    assert endpoint.forms == []
