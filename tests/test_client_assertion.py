"""A federated assertion: another issuer's JWT in place of a secret, asked for each request."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import pytest
from support.leaks import everything_in
from support.token_endpoint import TokenEndpoint, http, rejected, token

from exo_imap_oauth.credentials import ClientAssertion, ClientSecret
from exo_imap_oauth.errors import TokenError, TokenRequestRejected

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQifQ.c2lnbmF0dXJl"


class Purpose(NamedTuple):
    token_uri: str = "https://login.example/token"
    client_id: str = "client"


class Issuer:
    """Gives one assertion after the other, and counts."""

    def __init__(self, *assertions: Any) -> None:
        self.assertions = list(assertions)
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        last = len(self.assertions) == 1
        return self.assertions[0] if last else self.assertions.pop(0)


def test_it_is_asked_for_each_request_and_not_in_between() -> None:
    issuer = Issuer(JWT, f"{JWT}2\n")
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source(None, assertion=issuer)
        assert issuer.calls == 0
        assert [source.get_token().token for _ in range(3)] == ["one"] * 3
        assert source.get_token(claims="{}").token == "two"
    assert issuer.calls == 2
    assert [form["client_assertion"] for form in endpoint.forms] == [JWT, f"{JWT}2"]
    for form in endpoint.forms:
        assert form["client_assertion_type"].endswith(":client-assertion-type:jwt-bearer")
        assert "client_secret" not in form


def test_each_try_asks_for_it(longest_pauses: None) -> None:
    del longest_pauses
    issuer = Issuer(JWT, f"{JWT}2")
    with TokenEndpoint(http(503, "busy"), token()) as endpoint:
        endpoint.source(None, assertion=issuer).get_token()
    assert [form["client_assertion"] for form in endpoint.forms] == [JWT, f"{JWT}2"]


def test_a_refusal_is_not_repeated_at_once_though_each_assertion_is_a_new_one() -> None:
    issuer = Issuer(JWT, f"{JWT}2", f"{JWT}3")
    with TokenEndpoint(rejected(700213)) as endpoint:
        source = endpoint.source(None, assertion=issuer)
        for _ in range(3):
            with pytest.raises(TokenRequestRejected):
                source.get_token()
    assert (issuer.calls, len(endpoint.forms)) == (1, 1)


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ("", "not an empty text"),
        (" \n", "not an empty text"),
        ("a-client-secret~value", "not another text"),
        (f"{JWT} {JWT}", "not another text"),
        (f"{JWT}\r\nx", "not another text"),
        (f"{JWT}.five.parts", "not another text"),
        ("eyJ." + 70_000 * "a" + ".b", "not another text"),
        (JWT.encode(), "not bytes"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_jwt_is_reported_and_not_sent_or_shown(returned: Any, text: str) -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(None, assertion=Issuer(returned))
        with pytest.raises(TokenError, match=text) as raised:
            source.get_token()
    assert endpoint.forms == []
    assert not raised.value.retryable
    if returned and str(returned).strip():
        assert str(returned)[:20] not in everything_in(raised.value)


def test_an_issuer_that_fails_is_reported_with_its_own_error_and_without_the_assertion() -> None:
    def fails() -> str:
        raise LookupError(f"no audience for {JWT}")

    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(None, assertion=fails)
        with pytest.raises(TokenError, match="could not be obtained: LookupError") as raised:
            source.get_token()
    assert JWT not in everything_in(raised.value)


def in_pieces(text: str) -> list[str]:
    """Too short for what looks like a token wherever it comes from."""
    return [text[at : at + 20] for at in range(0, len(text) - 20, 20)]


@pytest.mark.parametrize("said", [JWT, " ".join(in_pieces(JWT))])
def test_an_endpoint_that_echoes_the_assertion_does_not_get_it_shown(said: str) -> None:
    with TokenEndpoint(http(400, {"error": "x", "error_description": f"bad {said}"})) as endpoint:
        with pytest.raises(TokenError, match="bad") as raised:
            endpoint.source(None, assertion=Issuer(JWT)).get_token()
    shown = everything_in(raised.value)
    assert not any(piece in shown for piece in in_pieces(JWT))


def test_no_frame_holds_what_was_not_good_enough() -> None:
    for credential in (ClientAssertion(Issuer("s3cr3t-no-jwt")), ClientSecret(Issuer("s3cr3t\n"))):
        with pytest.raises(TokenError) as raised:
            credential.form_fields(Purpose())
        assert "s3cr3t" not in everything_in(raised.value)


async def asynchronous() -> str:
    return JWT


class Asynchronous:
    async def __call__(self) -> str:
        return JWT


@pytest.mark.parametrize("function", [asynchronous, Asynchronous()])
@pytest.mark.parametrize("name", ["assertion", "client_secret"])
def test_an_async_function_is_refused_before_it_is_asked(function: Any, name: str) -> None:
    options: dict[str, Any] = {"client_secret": None, name: function}
    with TokenEndpoint(token()) as endpoint:
        with pytest.raises(TypeError, match=f"the {name} callable is async; give a plain"):
            endpoint.source(**options)


def test_equal_callables_share_a_token_and_the_same_callable_as_a_secret_does_not() -> None:
    issuer = Issuer(JWT)
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source(None, assertion=issuer)
        assert source == endpoint.source(None, assertion=issuer)
        assert source != endpoint.source(None, assertion=Issuer(JWT))
        assert source != endpoint.source(issuer)


def test_it_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ClientAssertion(str))
