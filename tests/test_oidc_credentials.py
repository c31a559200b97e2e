"""Each proof of identity opens a Dovecot mailbox behind oidc-provider: two judges not ours."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support import authority
from support.dovecot import Dovecot

from exo_imap_oauth import ClientCertificate, InboxConfig
from exo_imap_oauth.errors import TokenRequestRejected
from exo_imap_oauth.testing import LoopbackExchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.oidc_provider import Client, OidcProvider

INBOX = "inbox@contoso.example"


class Service(NamedTuple):
    """A provider and a mail server, and who may read the inbox there."""

    provider: OidcProvider
    dovecot: Dovecot
    client: Client  # with a secret
    rotating: Client  # with one that will be replaced
    signer: Client  # with the key of the certificate, and PS256
    older_signer: Client  # the same with RS256, which azure-identity uses
    pem: bytes  # that key and the certificate

    def inbox(self, client: Client, **credential: Any) -> InboxConfig:
        return InboxConfig(
            user=INBOX,
            token_uri=self.provider.token_uri,
            client_id=client.client_id,
            host=self.dovecot.host,
            port=self.dovecot.port,
            **credential,
        )

    def opens(self, inbox: InboxConfig, **options: Any) -> bool:
        with inbox.open(ssl_context=self.dovecot.ssl_context, **options) as imap:
            return imap.state == "SELECTED"


@pytest.fixture(scope="module", name="service")
def _service(oidc_provider: OidcProvider, dovecot_binary: str) -> Iterator[Service]:
    exchange = LoopbackExchange()
    pem = exchange.add_certificate(exchange.register_app("app")).pem
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(key, RSAPublicKey)
    client, rotating = oidc_provider.add_client(), oidc_provider.add_client()
    signer = oidc_provider.add_client(key=key)
    older_signer = oidc_provider.add_client(key=key, algorithm="RS256")
    with Dovecot(
        {oidc_provider.key_id: oidc_provider.signing_key},
        issuers=[oidc_provider.issuer],
        audience="https://outlook.office365.com",
        users={each.object_id: INBOX for each in (client, rotating, signer, older_signer)},
        binary=dovecot_binary,
    ) as dovecot:
        yield Service(oidc_provider, dovecot, client, rotating, signer, older_signer, pem)


def test_a_certificate(service: Service) -> None:
    certificate = ClientCertificate.from_pem(service.pem)
    assert service.opens(service.inbox(service.signer, certificate=certificate))


def test_an_assertion_that_another_program_signs(service: Service) -> None:
    """The provider trusts the client's key and no other issuer, so that is who signs here."""
    key: Any = load_pem_private_key(service.pem, None)

    def assertion() -> str:
        claims = {
            "iss": service.signer.client_id,
            "sub": service.signer.client_id,
            "aud": service.provider.token_uri,
            "jti": str(uuid.uuid4()),
            "exp": int(time.time()) + 300,
        }
        return jwt.encode(claims, key, "PS256")

    assert service.opens(service.inbox(service.signer, assertion=assertion))

    used_up = assertion()
    source = service.inbox(service.signer, assertion=lambda: used_up).token_source(
        ssl_context=service.provider.ssl_context
    )
    source.get_token()
    with pytest.raises(TokenRequestRejected, match="invalid_client"):
        source.get_token(claims="{}")  # an assertion is accepted once


def test_a_secret_that_is_rotated(service: Service) -> None:
    vault = [service.rotating.client_secret]
    inbox = service.inbox(service.rotating, client_secret=lambda: vault[0])
    source = inbox.token_source(ssl_context=service.provider.ssl_context)
    assert service.opens(inbox, token=source)
    old = source.get_token()

    new = service.provider.replace_secret(service.rotating)
    source.invalidate(old)
    with pytest.raises(TokenRequestRejected, match="invalid_client"):
        source.get_token()
    vault[0] = new.client_secret
    assert service.opens(inbox, token=source)  # at once
    assert source.get_token().token != old.token


@pytest.mark.parametrize("kind", ["ClientSecretCredential", "CertificateCredential"])
def test_a_credential_of_azure_identity(service: Service, tmp_path: Path, kind: str) -> None:
    identity = pytest.importorskip("azure.identity")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().cert_pem.bytes())
    client: Client = service.client
    proof: dict[str, Any] = {"client_secret": client.client_secret}
    if kind == "CertificateCredential":
        client, proof = service.older_signer, {"certificate_data": service.pem}
    with getattr(identity, kind)(
        tenant_id=service.provider.tenant_id,
        client_id=client.client_id,
        authority=service.provider.authority,
        disable_instance_discovery=True,
        connection_verify=str(ca),
        **proof,
    ) as credential:
        assert service.opens(service.inbox(client), token=credential)
