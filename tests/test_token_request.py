"""A token request: the form that goes out, and arguments that are refused."""

from __future__ import annotations

import re
import ssl
from typing import Any

import pytest
from support.leaks import everything_in
from support.token_endpoint import CLIENT, SECRET, TENANT, TokenEndpoint, token

from exo_imap_oauth import TokenSource
from exo_imap_oauth.errors import InsecureConnectionError


def test_the_form_is_the_client_credentials_request_of_rfc_6749() -> None:
    with TokenEndpoint(token("it.is.one")) as endpoint:
        issued = endpoint.source(scope="https://outlook.office.com/.default").get_token()
    assert issued.token == "it.is.one"
    assert endpoint.forms == [
        {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "scope": "https://outlook.office.com/.default",
            "grant_type": "client_credentials",
        }
    ]


@pytest.mark.parametrize("verify_mode", [ssl.CERT_NONE, ssl.CERT_REQUIRED])
def test_a_context_that_does_not_verify_gets_no_secret(verify_mode: ssl.VerifyMode) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = verify_mode
    with pytest.raises(InsecureConnectionError, match="create_default_context"):
        TokenSource(TENANT, CLIENT, SECRET, ssl_context=context)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"token_uri": "http://login.example/t/oauth2/v2.0/token"}, "https"),
        ({"token_uri": "https:///token"}, "https"),
        ({"token_uri": "https://u:p@login.example/token"}, "neither user"),
        ({"token_uri": "https://login.example/token#x"}, "fragment"),
        ({"tenant_id": ""}, "tenant_id is empty"),
        ({"tenant_id": "a/b"}, "the tenant alone, not a URL"),
        ({"tenant_id": "a b"}, "tenant_id holds ' ' at position 1"),
        ({"client_id": "x\x01"}, r"client_id holds '\x01'"),
        ({"client_secret": ""}, "secret is empty"),
        ({"client_secret": "s\n"}, "line end"),
        ({"scope": ""}, "scope is empty"),
        ({"timeout": 0}, "timeout must be a positive number of seconds"),
        ({"deadline": float("inf")}, "deadline must be"),
        ({"deadline": 1e10}, "deadline must be"),
        ({"refresh_margin": -1}, "refresh_margin must be"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], text: str) -> None:
    good: dict[str, Any] = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET}
    with pytest.raises(ValueError, match=re.escape(text)):
        TokenSource(**(good | arguments))


@pytest.mark.parametrize(
    "arguments", [{"client_secret": None}, {"client_secret": 1}, {"scope": 1}, {"cloud": "china"}]
)
def test_arguments_of_a_wrong_type_are_refused(arguments: dict[str, Any]) -> None:
    good: dict[str, Any] = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET}
    with pytest.raises(TypeError):
        TokenSource(**(good | arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"client_secret": f"{SECRET}\n"},
        {"client_secret": SECRET.encode()},
        {"cloud": "worldwide"},
        {"timeout": -1},
        {"token_uri": "http://login.example/token"},
    ],
)
def test_no_frame_of_a_refused_argument_shows_the_secret(arguments: dict[str, Any]) -> None:
    good: dict[str, Any] = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET}
    with pytest.raises((TypeError, ValueError)) as raised:
        TokenSource(**(good | arguments))
    assert SECRET not in everything_in(raised.value)
