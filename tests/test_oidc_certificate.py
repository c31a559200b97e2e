"""Certificate credentials before a judge that others wrote: npm's oidc-provider, and Dovecot."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from support.dovecot import Dovecot

from exo_imap_oauth import ClientCertificate, InboxConfig, TokenSource
from exo_imap_oauth.errors import TokenRequestRejected
from exo_imap_oauth.testing import LoopbackExchange

if TYPE_CHECKING:
    from support.oidc_provider import Client, OidcProvider

INBOX = "inbox@contoso.example"


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


def test_a_certificate_opens_a_mailbox_on_dovecot(
    oidc_provider: OidcProvider, client: Client, pem: bytes, dovecot_binary: str
) -> None:
    with Dovecot(
        {oidc_provider.key_id: oidc_provider.signing_key},
        issuers=[oidc_provider.issuer],
        audience="https://outlook.office365.com",
        users={client.object_id: INBOX, str(uuid.uuid4()): "other@contoso.example"},
        binary=dovecot_binary,
    ) as dovecot:
        inbox = InboxConfig(
            user=INBOX,
            token_uri=oidc_provider.token_uri,
            client_id=client.client_id,
            certificate=ClientCertificate.from_pem(pem),
            host=dovecot.host,
            port=dovecot.port,
        )
        with inbox.open(ssl_context=dovecot.ssl_context) as imap:
            assert imap.select() == ("OK", [b"0"])
