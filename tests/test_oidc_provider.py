"""A token endpoint that others wrote: npm's oidc-provider, alone and in front of Dovecot."""

from __future__ import annotations

import base64
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from support import authority
from support.dovecot import Dovecot

from exo_imap_oauth import TokenSource, open_mailbox
from exo_imap_oauth.errors import AuthenticationRefused, TokenRequestRejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.oidc_provider import Client, OidcProvider

INBOX, OTHERS = "inbox@contoso.example", "others@contoso.example"
AUDIENCE = "https://outlook.office365.com"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture(scope="module", name="client")
def _client(oidc_provider: OidcProvider) -> Client:
    return oidc_provider.add_client()


@pytest.fixture(scope="module", name="dovecot")
def _dovecot(oidc_provider: OidcProvider, client: Client, dovecot_binary: str) -> Iterator[Dovecot]:
    """A Dovecot that accepts the provider's tokens."""
    with Dovecot(
        {oidc_provider.key_id: oidc_provider.signing_key},
        issuers=[oidc_provider.issuer],
        audience=AUDIENCE,
        users={client.object_id: INBOX, str(uuid.uuid4()): OTHERS},
        binary=dovecot_binary,
    ) as dovecot:
        yield dovecot


def source_of(provider: OidcProvider, client: Client, secret: str | None = None) -> TokenSource:
    return TokenSource(
        provider.tenant_id,
        client.client_id,
        secret or client.client_secret,
        token_uri=provider.token_uri,
        ssl_context=provider.ssl_context,
    )


# ---- with a client secret --------------------------------------------------------------------


def test_a_client_secret_gets_a_token(oidc_provider: OidcProvider, client: Client) -> None:
    token = source_of(oidc_provider, client).get_token()
    claims = jwt.decode(
        token.token, oidc_provider.signing_key.decode(), ["RS256"], audience=AUDIENCE
    )
    assert (claims["appid"], claims["oid"]) == (client.client_id, client.object_id)
    assert claims["exp"] == claims["iat"] + 3600
    assert abs(token.expires_on - claims["exp"]) <= 60
    assert token.claims == claims


def test_a_wrong_secret_is_rejected(oidc_provider: OidcProvider, client: Client) -> None:
    with pytest.raises(TokenRequestRejected) as caught:
        source_of(oidc_provider, client, "wrong~secret").get_token()
    assert (caught.value.status, caught.value.error) == (401, "invalid_client")
    assert "wrong~secret" not in str(caught.value)


def test_a_token_of_the_provider_opens_a_mailbox_on_dovecot(
    oidc_provider: OidcProvider, client: Client, dovecot: Dovecot
) -> None:
    dovecot.deliver(INBOX, b"Subject: Hello\r\n\r\nBody\r\n")
    with open_mailbox(
        INBOX,
        source_of(oidc_provider, client),
        host=dovecot.host,
        port=dovecot.port,
        ssl_context=dovecot.ssl_context,
    ) as imap:
        assert imap.search(None, "SUBJECT", "Hello") == ("OK", [b"1"])


def test_a_token_of_another_client_does_not_open_it(
    oidc_provider: OidcProvider, dovecot: Dovecot
) -> None:
    source = source_of(oidc_provider, oidc_provider.add_client())
    with pytest.raises(AuthenticationRefused):
        with open_mailbox(
            INBOX,
            source,
            host=dovecot.host,
            port=dovecot.port,
            ssl_context=dovecot.ssl_context,
        ):
            pass


# ---- with a key: what a certificate credential must look like --------------------------------


@pytest.fixture(scope="module", name="key")
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


@pytest.fixture(scope="module", name="signer")
def _signer(oidc_provider: OidcProvider, key: rsa.RSAPrivateKey) -> Client:
    return oidc_provider.add_client(key=key.public_key())


@pytest.fixture(name="ca")
def _ca(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_bytes(authority().cert_pem.bytes())
    return file


def answer_to(
    provider: OidcProvider,
    client: Client,
    key: rsa.RSAPrivateKey,
    ca: Path,
    algorithm: str = "PS256",
    **changes: Any,
) -> tuple[int, Any]:
    now = int(time.time())
    claims = {
        "aud": provider.token_uri,
        "iss": client.client_id,
        "sub": client.client_id,
        "jti": str(uuid.uuid4()),
        "nbf": now,
        "exp": now + 300,
        **changes,
    }
    header = {"x5t#S256": base64.urlsafe_b64encode(b"\0" * 32).decode().rstrip("=")}
    form = {
        "grant_type": "client_credentials",
        "client_id": client.client_id,
        "scope": f"{AUDIENCE}/.default",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": jwt.encode(claims, key, algorithm, header),
    }
    with requests.Session() as session:
        session.trust_env = False
        with session.post(provider.token_uri, data=form, verify=str(ca), timeout=60) as answer:
            return answer.status_code, json.loads(answer.content)


def test_an_assertion_as_entra_wants_it_gets_a_token(
    oidc_provider: OidcProvider, signer: Client, key: rsa.RSAPrivateKey, ca: Path
) -> None:
    status, body = answer_to(oidc_provider, signer, key, ca)
    assert (status, body["token_type"]) == (200, "Bearer")


def test_an_assertion_can_be_used_once(
    oidc_provider: OidcProvider, signer: Client, key: rsa.RSAPrivateKey, ca: Path
) -> None:
    assert answer_to(oidc_provider, signer, key, ca, jti="once")[0] == 200
    assert answer_to(oidc_provider, signer, key, ca, jti="once")[0] == 401


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "https://elsewhere.example/token"}, "invalid_client"),
        ({"iss": "other"}, "invalid_client"),
        ({"exp": 1}, "invalid_client"),
        ({"algorithm": "RS256"}, "invalid_client"),
        ({"sub": "other"}, "invalid_request"),
    ],
)
def test_another_assertion_is_rejected(
    oidc_provider: OidcProvider,
    signer: Client,
    key: rsa.RSAPrivateKey,
    ca: Path,
    *,
    changes: dict[str, Any],
    error: str,
) -> None:
    _, body = answer_to(oidc_provider, signer, key, ca, **changes)
    assert body["error"] == error


def test_a_signature_of_another_key_is_rejected(
    oidc_provider: OidcProvider, signer: Client, ca: Path
) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    assert answer_to(oidc_provider, signer, key, ca)[0] == 401
