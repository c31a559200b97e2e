"""Certificate credentials before a judge that others wrote: npm's oidc-provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from exo_imap_oauth import ClientCertificate, TokenSource
from exo_imap_oauth.errors import TokenRequestRejected
from exo_imap_oauth.testing import LoopbackExchange

if TYPE_CHECKING:
    from support.oidc_provider import Client, OidcProvider


def new_certificate() -> bytes:
    """A private key and its certificate, PEM."""
    exchange = LoopbackExchange()
    return exchange.add_certificate(exchange.register_app("app")).pem


@pytest.fixture(scope="module", name="pem")
def _pem() -> bytes:
    return new_certificate()


@pytest.fixture(scope="module", name="client")
def _client(oidc_provider: OidcProvider, pem: bytes) -> Client:
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(key, RSAPublicKey)
    return oidc_provider.add_client(key=key)


def source_of(provider: OidcProvider, client: Client, pem: bytes) -> TokenSource:
    return TokenSource(
        provider.tenant_id,
        client.client_id,
        certificate=ClientCertificate.from_pem(pem),
        token_uri=provider.token_uri,
        ssl_context=provider.ssl_context,
    )


def test_a_certificate_gets_a_token_and_each_request_its_own_assertion(
    oidc_provider: OidcProvider, client: Client, pem: bytes
) -> None:
    source = source_of(oidc_provider, client, pem)
    first = source.get_token()
    source.invalidate(first)
    assert source.get_token().token != first.token  # an assertion is accepted once


def test_a_certificate_of_another_key_is_rejected(
    oidc_provider: OidcProvider, client: Client
) -> None:
    with pytest.raises(TokenRequestRejected) as caught:
        source_of(oidc_provider, client, new_certificate()).get_token()
    assert caught.value.error == "invalid_client"
