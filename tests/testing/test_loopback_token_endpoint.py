"""The token endpoint answers as Entra does."""

from __future__ import annotations

import re
import socket
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import pytest
from testing.loopback_client import TIMEOUT, fetch_token, form, http

from exo_imap_oauth.advice import advise

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def refusal(exchange: ReadyExchange, tenant: str | None = None, **changes: str | None) -> Any:
    uri = exchange.token_uri(tenant or exchange.app.tenant_id)
    answer = http(exchange, uri, form(exchange, **changes))
    body = answer.json()
    code = body["error_codes"][0]
    assert body.keys() == {
        *("error", "error_description", "error_codes", "timestamp", "trace_id"),
        *("correlation_id", "error_uri"),
    }
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert advise(answer.text, stage="token") is not None
    assert body["error_description"].endswith(
        f" Trace ID: {body['trace_id']} Correlation ID: {body['correlation_id']}"
        f" Timestamp: {body['timestamp']}"
    )
    assert body["error_uri"].endswith(f"/error?code={code}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", body["timestamp"])
    assert exchange.token_requests[-1].outcome == f"AADSTS{code}"
    assert exchange.token_requests[-1].status == answer.status_code
    return answer.status_code, body["error"], code


def test_a_token_has_the_claims_of_an_app_only_token(exchange: ReadyExchange) -> None:
    uri = exchange.token_uri(exchange.app.tenant_id)
    answer = http(exchange, uri, form(exchange))
    body = answer.json()
    token = body.pop("access_token")
    assert body == {"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600}
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"

    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"]) == ("RS256", "JWT")
    claims = claims_of(token)
    app = exchange.app
    assert claims.pop("exp") == claims["iat"] + 3600
    assert claims.pop("iat") == claims.pop("nbf")
    assert claims.pop("uti")
    assert claims == {
        "aud": "https://outlook.office365.com",
        "iss": f"https://sts.windows.net/{app.tenant_id}/",
        "appid": app.client_id,
        "idtyp": "app",
        "oid": app.enterprise_object_id,
        "sub": app.enterprise_object_id,
        "roles": ["IMAP.AccessAsApp"],
        "tid": app.tenant_id,
        "ver": "1.0",
    }


@pytest.mark.parametrize(
    "resource",
    ["https://outlook.office365.com", "https://outlook.office.com", "https://graph.microsoft.com"],
)
def test_the_audience_is_the_resource_of_the_scope(exchange: ReadyExchange, resource: str) -> None:
    claims = claims_of(fetch_token(exchange, scope=f"{resource}/.default"))
    assert claims["aud"] == resource
    assert ("roles" in claims) == ("outlook" in resource)


def test_without_consent_a_token_is_issued_and_has_no_roles(exchange: ReadyExchange) -> None:
    app = exchange.register_app("no consent")
    exchange.add_permission(app, "IMAP.AccessAsApp")
    secret = exchange.add_client_secret(app)
    token = fetch_token(exchange, client_id=app.client_id, client_secret=secret.value)
    assert "roles" not in claims_of(token)


def test_consent_covers_what_was_listed_when_it_was_given(exchange: ReadyExchange) -> None:
    exchange.add_permission(exchange.app, "POP.AccessAsApp")
    assert claims_of(fetch_token(exchange))["roles"] == ["IMAP.AccessAsApp"]
    exchange.grant_admin_consent(exchange.app)
    assert claims_of(fetch_token(exchange))["roles"] == ["IMAP.AccessAsApp", "POP.AccessAsApp"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
        ({"client_secret": None}, (401, "invalid_client", 7000216)),
        (
            {"client_secret": None, "client_assertion": "e30.e30.e30"},
            (401, "invalid_client", 7000216),
        ),
        ({"client_id": str(uuid4())}, (400, "unauthorized_client", 700016)),
        ({"tenant": str(uuid4())}, (400, "invalid_tenant", 90002)),
        ({"tenant": "contoso.example"}, (400, "invalid_tenant", 90002)),
        ({"tenant": "1234"}, (400, "invalid_request", 900023)),
        ({"tenant": "common"}, (400, "invalid_request", 9001023)),
        (
            {"scope": "https://outlook.office365.com/IMAP.AccessAsUser.All"},
            (400, "invalid_scope", 1002012),
        ),
        ({"scope": "https://a/.default https://b/.default"}, (400, "invalid_scope", 700022)),
        ({"scope": "https://unknown.example/.default"}, (400, "invalid_resource", 500011)),
        ({"scope": " "}, (400, "invalid_request", 900144)),
        ({"grant_type": None}, (400, "invalid_request", 900144)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
    ],
)
def test_refusals(
    exchange: ReadyExchange, changes: dict[str, str | None], expected: tuple[int, str, int]
) -> None:
    assert refusal(exchange, **changes) == expected


def test_the_secret_id_in_place_of_the_value_is_a_wrong_secret(exchange: ReadyExchange) -> None:
    assert refusal(exchange, client_secret=exchange.secret.secret_id)[2] == 7000215


def test_the_secret_of_another_app_is_a_wrong_secret(exchange: ReadyExchange) -> None:
    other = exchange.add_client_secret(exchange.register_app("other"))
    assert refusal(exchange, client_secret=other.value)[2] == 7000215


def test_a_secret_expires_with_the_clock(exchange: ReadyExchange) -> None:
    short = exchange.add_client_secret(exchange.app, lifetime=60)
    exchange.advance_clock(61)
    assert refusal(exchange, client_secret=short.value) == (401, "invalid_client", 7000222)
    renewed = exchange.add_client_secret(exchange.app)
    assert fetch_token(exchange, client_secret=renewed.value)


def test_an_app_exists_in_its_own_tenant_only(exchange: ReadyExchange) -> None:
    elsewhere = str(uuid4())
    app = exchange.register_app("elsewhere", tenant_id=elsewhere)
    assert app.tenant_id == elsewhere
    assert refusal(exchange, tenant=elsewhere)[2] == 700016
    assert refusal(exchange, client_id=app.client_id)[2] == 700016


def test_the_secret_must_be_form_encoded(exchange: ReadyExchange) -> None:
    assert {"~", "+", "/", "=", "&"} <= set(exchange.secret.value)
    raw = "&".join(f"{name}={value}" for name, value in form(exchange).items())
    answer = http(exchange, exchange.token_uri(), raw.encode())
    assert answer.json()["error_codes"] == [7000215]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 900144),
        (b'{"grant_type": "client_credentials"}', 900144),
        (b"\xff\xfe", 900144),
        (b"grant_type=%ff", 900144),
        (b"scope=a&scope=b", 9000411),
    ],
)
def test_malformed_forms(exchange: ReadyExchange, body: bytes, code: int) -> None:
    answer = http(exchange, exchange.token_uri(), body)
    assert (answer.status_code, answer.json()["error_codes"]) == (400, [code])
    advice = advise(answer.text, stage="token")
    assert advice is not None
    assert advice.id == "request-malformed"


def test_a_body_that_is_too_large_is_refused(exchange: ReadyExchange) -> None:
    answer = http(exchange, exchange.token_uri(), b"x" * (1024 * 1024 + 1))
    assert answer.status_code == 413


def test_only_post_is_accepted(exchange: ReadyExchange) -> None:
    answer = http(exchange, exchange.token_uri(), method="GET")
    assert answer.json()["error_codes"] == [900561]
    advice = advise(answer.text, stage="token")
    assert advice is not None
    assert advice.id == "request-malformed"


def test_the_date_header_follows_the_clock(exchange: ReadyExchange) -> None:
    def date() -> float:
        answer = http(exchange, exchange.token_uri(), method="GET")
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()

    before = date()
    exchange.advance_clock(86_400)
    assert 86_400 <= date() - before < 86_460


def test_openid_configuration_and_keys_verify_a_token(exchange: ReadyExchange) -> None:
    base = f"{exchange.authority}/{exchange.app.tenant_id}"
    uri = f"{base}/v2.0/.well-known/openid-configuration"
    configuration = http(exchange, uri, method="GET").json()
    assert configuration["token_endpoint"] == exchange.token_uri(exchange.app.tenant_id)
    assert configuration["issuer"].startswith(exchange.authority)
    keys = jwt.PyJWKSet.from_dict(http(exchange, configuration["jwks_uri"], method="GET").json())
    token = fetch_token(exchange)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["RS256"], options={"verify_aud": False})


def test_the_openid_configuration_of_an_unknown_tenant_is_refused(
    exchange: ReadyExchange,
) -> None:
    uri = f"{exchange.authority}/{uuid4()}/v2.0/.well-known/openid-configuration"
    assert http(exchange, uri, method="GET").json()["error_codes"] == [90002]


def test_what_is_not_http_gets_a_400(exchange: ReadyExchange) -> None:
    port = urlsplit(exchange.authority).port
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as raw,
        exchange.ssl_context.wrap_socket(raw, server_hostname="localhost") as client,
    ):
        client.sendall(b"EHLO there\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_client_that_sends_nothing_is_no_request(exchange: ReadyExchange) -> None:
    port = urlsplit(exchange.authority).port
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as raw:
        exchange.ssl_context.wrap_socket(raw, server_hostname="localhost").close()
    fetch_token(exchange)
    assert len(exchange.token_requests) == 1


def test_other_paths_are_html_404(exchange: ReadyExchange) -> None:
    answer = http(exchange, f"{exchange.authority}/", method="GET")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert exchange.token_requests == ()


def test_requests_are_recorded_without_secrets(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange)
    (record,) = exchange.token_requests
    assert (record.tenant_id, record.client_id) == (exchange.app.tenant_id, exchange.app.client_id)
    assert (record.status, record.outcome) == (200, "issued")
    assert record.scope.endswith("/.default")
    for text in (repr(record), repr(exchange.secret), str(exchange.secret)):
        assert exchange.secret.value not in text
        assert token not in text
