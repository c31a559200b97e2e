"""Who logs in: every form of token, and what is remembered of a second try."""

from __future__ import annotations

import gc
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.imap import (
    OPENING,
    TOKEN,
    TOKEN_LINE,
    USER,
    Source,
    opened,
    opened_scripted,
    source_of,
)
from support.leaks import everything_in
from support.scripted_imap import LOGOUT, ScriptedImap
from support.token_endpoint import TokenEndpoint, token

from exo_imap_oauth import AccessToken, open_mailbox
from exo_imap_oauth._imap.bearer import Bearer

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


@pytest.mark.parametrize("form", ["text", "AccessToken", "source", "foreign credential"])
def test_every_form_of_token_logs_in(exchange: ReadyExchange, form: str) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    asked: list[tuple[str, ...]] = []

    class Credential:
        def get_token(self, *scopes: str, claims: str | None = None) -> Any:
            assert claims is None
            asked.append(scopes)
            return type("Token", (), {"token": source.get_token().token})()

    tokens = {
        "text": source.get_token().token,
        "AccessToken": source.get_token(),
        "source": source,
        "foreign credential": Credential(),
    }
    with opened(exchange, tokens[form]) as imap:
        assert imap.state == "SELECTED"
    if form == "foreign credential":
        assert set(asked) == {("https://outlook.office365.com/.default",)}


def test_a_scope_that_is_asked_for_goes_before_the_credentials_own() -> None:
    class Credential(Source):
        scope = "https://graph.microsoft.com/.default"

        def get_token(self, *scopes: str) -> AccessToken:
            asked.extend(scopes)
            return super().get_token(*scopes)

    asked: list[str] = []
    scope = "https://outlook.office365.us/.default"
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with opened_scripted(server, Credential(TOKEN), scope=scope):
            pass
    assert set(asked) == {scope}


def test_an_access_token_of_azure_core_logs_in() -> None:
    class Foreign(NamedTuple):
        token: str
        expires_on: int

    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with opened_scripted(server, Foreign(TOKEN, 1)):
            pass


def test_a_credential_that_also_shows_a_token_is_asked_for_a_new_one() -> None:
    class Credential(Source):
        token = "the one of an hour ago"

    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with opened_scripted(server, Credential(TOKEN)):
            pass
    assert server.lines[1].endswith(TOKEN_LINE)


@pytest.mark.parametrize("issued", ["eyJodd", {"token": "eyJodd"}, None])
def test_a_credential_that_gives_no_token_object_is_named(issued: object) -> None:
    class Odd:
        def get_token(self, *_: str) -> object:
            return issued

    with pytest.raises(TypeError, match="no token with a text") as raised:
        with open_mailbox(USER, Odd()):  # type: ignore[arg-type] # on purpose
            pass
    assert "eyJodd" not in everything_in(raised.value)


@pytest.mark.parametrize(
    ("user", "token", "text"),
    [
        ("", TOKEN, "user is empty"),
        ("a@b\x01auth=Bearer x", TOKEN, "control character"),
        ("a@b\r\n", TOKEN, "control character"),
        ("a\ud800@b", TOKEN, "surrogate"),
        (USER, "", "token is empty"),
        (USER, "secret\x01token", "no bearer token"),
        (USER, "secret token", "no bearer token"),
    ],
)
def test_text_that_would_forge_the_message_is_refused(user: str, token: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as raised:
        open_mailbox(user, token)
    assert "secret" not in everything_in(raised.value)


def test_a_second_try_keeps_no_source_and_thus_no_secret_alive() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source("a secret of its own")
        cached_one = Bearer("inbox@contoso.example", source, None)
        source.get_token()
        cached_one._began = time.time() + 1  # the token was there before
        cached_one.obtain()
        assert cached_one.drop_refused()
        gone = weakref.ref(source)
        del source, cached_one
        gc.collect()
    assert gone() is None


def test_a_program_that_builds_a_source_for_each_login_makes_one_second_try_a_minute() -> None:
    with TokenEndpoint(token()) as endpoint:
        tries: list[bool] = []
        for _ in range(3):
            login = Bearer("inbox@contoso.example", endpoint.source("another secret"), None)
            login._began = time.time() + 1
            login.obtain()
            tries.append(login.drop_refused())
            del login
            gc.collect()
    assert tries == [True, False, False]
