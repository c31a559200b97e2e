"""The token source: its identity, azure-core's shape, and what it is not: a pickle."""

from __future__ import annotations

import _thread
import copy
import gc
import multiprocessing
import pickle
import threading
from typing import Any

import pytest
from support.concurrency import together
from support.token_endpoint import SECRET, TokenEndpoint, token

from exo_imap_oauth.token_cache import MemoryTokenCache

# ---- identity --------------------------------------------------------------------------------


def test_sources_with_different_secrets_ask_each_for_themselves() -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        results = together([endpoint.source(s).get_token for s in ("secret-1", "secret-2")])
    assert {result.token for result in results} == {"one", "two"}
    assert {form["client_secret"] for form in endpoint.forms} == {"secret-1", "secret-2"}


@pytest.mark.parametrize("other", [{"scope": "https://x/.default"}, {"cache": MemoryTokenCache()}])
def test_another_scope_or_cache_is_another_token(other: dict[str, Any]) -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        first, second = endpoint.source(), endpoint.source(**other)
        assert (first.get_token().token, second.get_token().token) == ("one", "two")
        assert first != second


def test_a_token_outlives_its_source_in_the_cache() -> None:
    with TokenEndpoint(token("kept")) as endpoint:
        endpoint.source().get_token()
        gc.collect()
        assert endpoint.source().get_token().token == "kept"
        assert len(endpoint.forms) == 1


def test_a_secret_callable_counts_by_its_equality_and_is_not_called_when_hot() -> None:
    class Vault:
        calls = 0

        def secret(self) -> str:
            self.calls += 1
            return SECRET

    vault, other = Vault(), Vault()
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source(vault.secret)
        assert source == endpoint.source(vault.secret)
        assert source != endpoint.source(other.secret)
        for _ in range(3):
            assert source.get_token().token == "one"
        assert endpoint.source(other.secret).get_token().token == "two"
    assert (vault.calls, other.calls) == (1, 1)


def test_an_unhashable_callable_is_refused_with_what_to_do() -> None:
    class Vault(list[str]):
        def __call__(self) -> str:
            return SECRET

    with TokenEndpoint(token()) as endpoint, pytest.raises(TypeError, match="hash"):
        endpoint.source(Vault())


# ---- azure-core's shape ----------------------------------------------------------------------


def test_the_own_scope_is_accepted_and_no_other() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
        assert source.get_token(source.scope, tenant_id="x", enable_cae=True).token == "a.token"
        with pytest.raises(ValueError, match=r"graph\.microsoft\.com"):
            source.get_token("https://graph.microsoft.com/.default")
        with pytest.raises(TypeError, match="claim"):
            source.get_token(claim="x")


def test_a_fresh_token_that_is_asked_for_by_its_scope_starts_no_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []

    def start(*thread: object) -> None:
        started.append(thread)

    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
        issued = source.get_token()
        monkeypatch.setattr(_thread, "start_new_thread", start)
        monkeypatch.setattr(threading.Thread, "start", start)
        for _ in range(3):  # as each open_mailbox() does
            assert source.get_token(source.scope) is issued
        assert started == []


def test_claims_force_a_fetch() -> None:
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source()
        assert source.get_token().token == "one"
        assert source.get_token(claims='{"access_token":{}}').token == "two"
        assert source.get_token().token == "two"


# ---- processes -------------------------------------------------------------------------------


def _token_in_child(url: str, pem: str) -> str:
    import ssl

    from support.token_endpoint import CLIENT, TENANT

    from exo_imap_oauth import TokenSource

    context = ssl.create_default_context(cadata=pem)
    source = TokenSource(TENANT, CLIENT, SECRET, token_uri=url, ssl_context=context)
    return source.get_token().token


def test_a_spawned_process_builds_its_own_source() -> None:
    import ssl

    with TokenEndpoint(token("spawned")) as endpoint:
        pem = ssl.DER_cert_to_PEM_cert(endpoint.ssl_context.get_ca_certs(binary_form=True)[0])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_token_in_child, (endpoint.url, pem)) == "spawned"


def test_a_source_is_not_pickled_and_says_what_to_do() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source()
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="build one in each process"):
            way(source)
    with pytest.raises(TypeError):
        pickle.dumps(source._request.credential)
