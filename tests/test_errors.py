"""The tree of errors: what is what, how they read, and that they survive pickle and copy."""

from __future__ import annotations

import copy
import imaplib
import pickle

import pytest

from exo_imap_oauth import errors
from exo_imap_oauth.advice import explain
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConfigError,
    ConfigProblem,
    ConnectionFailed,
    ExoImapOAuthError,
    ImapError,
    MessageUnavailable,
    PropertiesError,
    SessionExpired,
    Throttled,
    TokenEndpointUnavailable,
    TokenRequestRejected,
)

ADVICE = explain("secret-wrong", client_id="6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d")
ERRORS: list[ExoImapOAuthError] = [
    ConfigError("two", problems=[ConfigProblem("a.b", "x.properties", 3, "is empty.", "Fill it.")]),
    PropertiesError("malformed", source="x.properties", line=7),
    TokenRequestRejected(
        "refused", advice=ADVICE, error="invalid_client", error_codes=[7000215], status=401
    ),
    TokenEndpointUnavailable("later", retry_after=5),
    AuthenticationRefused("no", challenge={"status": "401"}),
    Throttled("slow", retry_after=300),
    SessionExpired("over"),
    ConnectionFailed("gone", last_reply="BYE"),
    MessageUnavailable("not there", uid=7, size=1234),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickle_and_copy(error: ExoImapOAuthError) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert twin is not error
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_an_error_reads_well_in_a_log() -> None:
    first, *rest = str(ERRORS[2]).splitlines()
    assert first == "refused"
    assert [line.split(":")[0] for line in rest] == ["  Cause", "  Fix", "  See"]
    problems = str(ERRORS[0]).splitlines()
    assert problems == ["two", "  x.properties:3: a.b: is empty. Fill it."]


def test_the_tree_is_the_contracts() -> None:
    bases = {
        "ConfigError": ValueError,
        "ImapError": imaplib.IMAP4.error,
        "SessionExpired": imaplib.IMAP4.abort,
        "ConnectionFailed": imaplib.IMAP4.abort,
        "PropertiesError": ConfigError,
        "AuthenticationRefused": ImapError,
    }
    for name, base in bases.items():
        assert issubclass(getattr(errors, name), base)
    assert not issubclass(AuthenticationRefused, imaplib.IMAP4.abort)
    retryable = {type(error).__name__ for error in ERRORS if error.retryable}
    assert retryable == {
        "TokenEndpointUnavailable",
        "Throttled",
        "SessionExpired",
        "ConnectionFailed",
        "MessageUnavailable",
    }
