"""SASL XOAUTH2: the message that logs in, and what would forge it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.leaks import everything_in

from exo_imap_oauth.xoauth2 import AFTER_ERROR_CHALLENGE, decode_challenge, initial_response

USER = "inbox@contoso.example"
TOKEN = "eyJhbGciOi.secret-part_of+a/token~1=="


def test_the_message_names_the_mailbox_and_bears_the_token() -> None:
    message = initial_response("Jörg@contoso.example", TOKEN)
    assert message == f"user=Jörg@contoso.example\x01auth=Bearer {TOKEN}\x01\x01".encode()


@pytest.mark.parametrize(
    ("user", "token", "text"),
    [
        ("", TOKEN, "user is empty"),
        ("a@b\x01auth=Bearer x", TOKEN, "control character"),
        ("a@b\r\n", TOKEN, "control character"),
        ("a@b\x85", TOKEN, "control character"),
        ("a\ud800@b", TOKEN, "surrogate"),
        ("a\u2028@b", TOKEN, "line separator"),
        (USER, "", "token is empty"),
        (USER, "secret\x01token", "bearer token"),
        (USER, "secret token", "bearer token"),
        (USER, "secret=token", "bearer token"),
    ],
)
def test_what_would_forge_the_message_is_refused_and_the_token_not_shown(
    user: str, token: str, text: str
) -> None:
    with pytest.raises(ValueError, match=text) as raised:
        initial_response(user, token)
    # A UnicodeEncodeError is a ValueError too, and holds the whole message with the token.
    assert type(raised.value) is ValueError
    assert "secret" not in everything_in(raised.value)


@pytest.mark.parametrize(
    ("user", "token", "text"),
    [
        (None, TOKEN, "user must be a string, not None"),
        (USER, b"secret", "token must be a string, not bytes"),
    ],
)
def test_what_is_no_string_is_refused_and_the_token_not_shown(
    user: Any, token: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text) as raised:
        initial_response(user, token)
    assert "secret" not in everything_in(raised.value)


def test_a_challenge_that_is_no_json_object_is_none() -> None:
    assert decode_challenge(b"[1]") is None
    assert decode_challenge(b"\xff") is None
    assert decode_challenge(json.dumps({"status": "400"}).encode()) == {"status": "400"}


def test_an_error_challenge_is_answered_with_nothing() -> None:
    assert AFTER_ERROR_CHALLENGE == b""
