"""Access tokens: values that show much and leak nothing."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import time
from dataclasses import asdict

import pytest

from exo_imap_oauth import AccessToken
from exo_imap_oauth.access_token import expires_at, ticks


def jwt(payload: bytes) -> str:
    return f"head.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.signature"


def access_token(text: str) -> AccessToken:
    return AccessToken(
        token=text, expires_on=1_800_003_600, refresh_on=1_800_003_300, obtained_on=1
    )


def test_claims_are_read_from_a_jwt() -> None:
    claims = {"aud": "https://outlook.office365.com", "roles": ["IMAP.AccessAsApp"]}
    assert access_token(jwt(json.dumps(claims).encode())).claims == claims


@pytest.mark.parametrize(
    "text",
    [
        "",
        "opaque",
        "a.b",
        "a.%%%.c",
        "ä.ö.ü",
        jwt(b"[1]"),
        jwt(b"\xff"),
        jwt(b"[" * 100_000),
        "a..b",
    ],
)
def test_an_opaque_token_has_no_claims(text: str) -> None:
    assert access_token(text).claims == {}


def test_text_and_html_show_times_and_claims_but_not_the_token() -> None:
    token = access_token(jwt(b'{"appid": "<script>alert(1)</script>"}'))
    assert token.token not in repr(token) + str(token) + token._repr_html_()
    assert "1800003600" in repr(token)
    assert "&lt;script&gt;" in token._repr_html_()
    assert "2027-01-15 08:55:00 UTC" in token._repr_html_()


def test_a_copy_and_what_comes_out_of_a_pickle_are_tokens_as_good() -> None:
    now = time.time()
    token = AccessToken("t", int(now) + 60, int(now) + 30, now)
    for one in (token, copy.copy(token), pickle.loads(pickle.dumps(token))):
        assert abs(expires_at(one) - (ticks() + 60)) < 30
        assert asdict(one) == asdict(token)


def test_tokens_are_compared_by_identity_so_that_no_diff_shows_one() -> None:
    assert access_token("same") != access_token("same")
