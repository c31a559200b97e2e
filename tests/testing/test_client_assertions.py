"""Certificates and federated credentials at the loopback token endpoint, and Entra's refusals."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import jwt
import msal  # type: ignore[import-untyped] # it has no types
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import RSAAlgorithm
from testing.loopback_client import fetch_token, form, http

from exo_imap_oauth.advice import advise

if TYPE_CHECKING:
    from exo_imap_oauth.testing import AppCertificate, FederatedCredential, ReadyExchange

ADVICE = {
    "assertion-invalid",
    "assertion-time",
    "certificate-not-registered",
    "federated-credential-mismatch",
}
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ISSUER = "https://cluster.example/"
SUBJECT = "system:serviceaccount:mail:Reader"


def thumbprint(hexadecimal: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(hexadecimal)).decode().rstrip("=")


def signed(
    exchange: ReadyExchange,
    certificate: AppCertificate,
    *,
    algorithm: str = "PS256",
    header: dict[str, str] | None = None,
    key: Any = None,
    **changes: Any,
) -> str:
    """An assertion as the documentation of certificate credentials wants it."""
    now = int(time.time())
    client_id = certificate.app.client_id
    claims = {
        "aud": exchange.token_uri(certificate.app.tenant_id),
        "iss": client_id,
        "sub": client_id,
        "jti": "a",
        "nbf": now,
        "exp": now + 300,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    if header is None:
        header = {"x5t#S256": thumbprint(certificate.thumbprint_sha256)}
    if key is None:
        key = load_pem_private_key(certificate.pem, None)
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def proof(assertion: str) -> dict[str, str | None]:
    return {
        "client_secret": None,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }


def refusal(exchange: ReadyExchange, assertion: str) -> tuple[int, str, str]:
    """Status, error and text of the answer."""
    answer = http(exchange, exchange.token_uri(), form(exchange, **proof(assertion)))
    body = answer.json()
    text, _, _ = body["error_description"].partition(" Trace ID:")
    assert text.startswith(f"AADSTS{body['error_codes'][0]}: ")
    assert exchange.token_requests[-1].outcome == text.partition(":")[0]
    advice = advise(answer.text, stage="token")
    assert advice is not None
    assert advice.id in ADVICE, text
    return answer.status_code, body["error"], text


@pytest.fixture(name="certificate")
def _certificate(exchange: ReadyExchange) -> AppCertificate:
    return exchange.add_certificate(exchange.app)


# ---- a certificate ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
@pytest.mark.parametrize("name", ["x5t#S256", "x5t"])
def test_an_assertion_gives_a_token(
    exchange: ReadyExchange, certificate: AppCertificate, algorithm: str, name: str
) -> None:
    digest = certificate.thumbprint_sha256 if name == "x5t#S256" else certificate.thumbprint
    header = {name: thumbprint(digest)}
    assertion = signed(exchange, certificate, algorithm=algorithm, header=header)
    assert fetch_token(exchange, **proof(assertion))


def test_microsofts_own_library_gets_a_token_with_the_certificate(
    exchange: ReadyExchange, certificate: AppCertificate, tmp_path: Any
) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(exchange.write_ca(tmp_path / "ca.pem"))
        client: Any = msal.ConfidentialClientApplication(
            exchange.app.client_id,
            authority=f"{exchange.authority}/{exchange.tenant_id}",
            client_credential={
                "private_key": certificate.pem.decode(),
                "thumbprint": certificate.thumbprint,
                "public_certificate": certificate.pem.decode(),
            },
            http_client=session,
            instance_discovery=False,
        )
        answer = client.acquire_token_for_client(["https://outlook.office365.com/.default"])
    assert answer["token_type"] == "Bearer"


def test_a_certificate_of_somebody_else_can_be_uploaded_in_pem_and_der(
    exchange: ReadyExchange, certificate: AppCertificate
) -> None:
    other = exchange.register_app("other")
    begin = certificate.pem.index(b"-----BEGIN CERTIFICATE")
    lines = certificate.pem[begin:].strip().splitlines()[1:-1]
    for upload in (certificate.pem[begin:], base64.b64decode(b"".join(lines))):
        again = exchange.add_certificate(other, upload)
        assert again.pem == upload
        assert again.thumbprint == certificate.thumbprint
        assert again.expires_on == certificate.expires_on
    assert len(certificate.thumbprint) == 40


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"aud": "https://login.microsoftonline.com/"}, 700023, "does not match Realm issuer"),
        ({"iss": "other"}, 50048, "Subject must match the issuer"),
        ({"iss": "other", "sub": "other"}, 700021, "doesn't match 'client_id'"),
        ({"exp": 1, "nbf": 0}, 700024, "not within its valid time range"),
        ({"nbf": 4_000_000_000, "exp": 4_000_000_001}, 700024, "not within its valid time range"),
    ],
)
def test_an_assertion_of_another_place_or_time_is_an_invalid_client(
    exchange: ReadyExchange,
    certificate: AppCertificate,
    changes: dict[str, Any],
    code: int,
    says: str,
) -> None:
    status, error, text = refusal(exchange, signed(exchange, certificate, **changes))
    assert (status, error) == (401, "invalid_client")
    assert text.startswith(f"AADSTS{code}: ")
    assert says in text


def test_an_assertion_is_accepted_until_its_last_second(
    exchange: ReadyExchange, certificate: AppCertificate
) -> None:
    assertion = signed(exchange, certificate)
    exchange.advance_clock(200)
    assert fetch_token(exchange, **proof(assertion))
    exchange.advance_clock(100)
    text = refusal(exchange, assertion)[2]
    assert text.startswith("AADSTS700024: ")
    assert "assertion valid from 20" in text


def test_a_certificate_that_was_not_uploaded_is_named_by_its_thumbprint(
    exchange: ReadyExchange,
) -> None:
    certificate = exchange.add_certificate(exchange.register_app("other"))
    own = exchange.app.client_id
    status, error, text = refusal(exchange, signed(exchange, certificate, iss=own, sub=own))
    assert (status, error) == (401, "invalid_client")
    assert text.startswith(
        "AADSTS700027: The certificate with identifier used to sign the client assertion is not"
        " registered on application. [Reason - The key was not found., Thumbprint of key used by"
        f" client: '{certificate.thumbprint_sha256}', Please visit the Azure Portal, Graph"
        " Explorer or directly use MS Graph to see configured keys for app Id"
        f" '{exchange.app.client_id}'"
    )


def test_a_certificate_that_has_expired_is_refused(exchange: ReadyExchange) -> None:
    certificate = exchange.add_certificate(exchange.app, lifetime=-1)
    text = refusal(exchange, signed(exchange, certificate))[2]
    assert text.startswith("AADSTS700027: Client assertion contains an invalid signature. ")
    assert "Reason - The key used is expired., Thumbprint" in text
    assert "Found key 'Start=" in text


def test_a_signature_of_another_key_is_refused(
    exchange: ReadyExchange, certificate: AppCertificate
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = refusal(exchange, signed(exchange, certificate, key=key))[2]
    assert text.startswith("AADSTS700027: Client assertion contains an invalid signature. ")
    assert "did not match the expected signature value" in text


@pytest.mark.parametrize(
    "assertion", ["nonsense", "e30.e30.e30", "e30..", "\0", "a.b.c", "eyJhbGciOiJSUzI1NiJ9.W10.eA"]
)
def test_what_is_not_a_jwt_is_malformed(exchange: ReadyExchange, assertion: str) -> None:
    status, error, text = refusal(exchange, assertion)
    assert (status, error) == (400, "invalid_request")
    assert text.startswith(("AADSTS50027: JWT token is inv", "AADSTS5002730: Invalid JWT token. "))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["https://a.example"]},
        {"iss": None},
        {"sub": None},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": "soon"},
        {"exp": 10**400},
        {"exp": float("nan")},
        {"header": {"x5t#S256": "å"}},
    ],
)
def test_a_jwt_without_what_it_needs_is_malformed(
    exchange: ReadyExchange, certificate: AppCertificate, changes: dict[str, Any]
) -> None:
    text = refusal(exchange, signed(exchange, certificate, **changes))[2]
    assert text == "AADSTS50027: JWT token is invalid or malformed."


def test_an_assertion_without_thumbprint_is_malformed(
    exchange: ReadyExchange, certificate: AppCertificate
) -> None:
    text = refusal(exchange, signed(exchange, certificate, header={}))[2]
    assert text.endswith("No certificate thumbprint specified in token header.")


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_another_algorithm_is_refused(
    exchange: ReadyExchange, certificate: AppCertificate, algorithm: str
) -> None:
    key = b"k" * 32 if algorithm == "HS256" else ec.generate_private_key(ec.SECP256R1())
    status, error, text = refusal(
        exchange, signed(exchange, certificate, algorithm=algorithm, key=key)
    )
    assert (status, error) == (400, "invalid_request")
    assert text.startswith("AADSTS5002730: ")


def test_an_assertion_without_its_type_is_none(
    exchange: ReadyExchange, certificate: AppCertificate
) -> None:
    fields = proof(signed(exchange, certificate)) | {"client_assertion_type": "urn:other"}
    answer = http(exchange, exchange.token_uri(), form(exchange, **fields))
    assert answer.json()["error_codes"] == [7000216]


def test_what_is_no_rsa_certificate_cannot_be_uploaded(exchange: ReadyExchange) -> None:
    for upload in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\n"):
        with pytest.raises(ValueError, match=r"^there is no certificate in PEM or DER in it: "):
            exchange.add_certificate(exchange.app, upload)
    with pytest.raises(TypeError, match=r"must be bytes, .* not str"):
        exchange.add_certificate(exchange.app, "certificate.pem")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # a name
    with pytest.raises(ValueError, match="own lifetime"):
        exchange.add_certificate(exchange.app, b"nonsense", lifetime=60)


# ---- a federated credential ------------------------------------------------------------------


@pytest.fixture(name="federated")
def _federated(exchange: ReadyExchange) -> FederatedCredential:
    return exchange.add_federated_credential(exchange.app, ISSUER, SUBJECT)


def test_a_foreign_token_gives_a_token(
    exchange: ReadyExchange, federated: FederatedCredential
) -> None:
    first, second = federated.assertion(), federated.assertion()
    assert first != second
    assert fetch_token(exchange, **proof(first))
    claims = jwt.decode(first, options={"verify_signature": False})
    assert claims["aud"] == "api://AzureADTokenExchange"


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"iss": "https://cluster.example"}, 700211, "issuer 'https://cluster.example'. Check"),
        ({"sub": "system:other"}, 700213, "subject 'system:other'. Check"),
        (
            {"sub": SUBJECT.lower()},
            7002138,
            f"subject '{SUBJECT.lower()}'. The subject matches with case-insensitive comparison,",
        ),
        ({"aud": "api://other"}, 700212, "audience 'api://other'. Check"),
        ({"lifetime": -1}, 700024, "not within its valid time range"),
    ],
)
def test_a_foreign_token_that_does_not_match_is_an_invalid_client(
    exchange: ReadyExchange,
    federated: FederatedCredential,
    changes: dict[str, Any],
    code: int,
    says: str,
) -> None:
    status, error, text = refusal(exchange, federated.assertion(**changes))
    assert (status, error) == (401, "invalid_client")
    assert text.startswith(f"AADSTS{code}: ")
    assert says in text


def test_without_any_federated_credential_the_three_names_are_told(
    exchange: ReadyExchange, federated: FederatedCredential
) -> None:
    exchange.app = exchange.register_app("other")
    status, error, text = refusal(exchange, federated.assertion())
    assert (status, error) == (400, "invalid_request")
    assert text.startswith(
        "AADSTS70021: No matching federated identity record found for presented assertion."
        f" Assertion Issuer: '{ISSUER}'. Assertion Subject: '{SUBJECT}'. Assertion Audience:"
        " 'api://AzureADTokenExchange'. "
    )


def test_the_signature_of_another_issuer_is_refused(exchange: ReadyExchange) -> None:
    exchange.add_federated_credential(exchange.app, ISSUER, SUBJECT)
    elsewhere = exchange.register_app("other")
    forger = exchange.add_federated_credential(elsewhere, ISSUER, SUBJECT)
    text = refusal(exchange, forger.assertion())[2]
    assert text.startswith("AADSTS50013: Assertion failed signature validation. ")


def test_the_issuers_own_key_can_be_given(exchange: ReadyExchange) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
    now = int(time.time())
    keys: list[bytes | dict[str, Any]] = [pem, {"keys": [jwk]}]
    for number, given in enumerate(keys):
        subject = f"subject {number}"
        credential = exchange.add_federated_credential(exchange.app, ISSUER, subject, key=given)
        claims = {"iss": ISSUER, "sub": subject, "aud": credential.audience, "exp": now + 60}
        assert fetch_token(exchange, **proof(jwt.encode(claims, key, "RS256")))
        with pytest.raises(ValueError, match="private key"):
            credential.assertion()


@pytest.mark.parametrize(
    ("issuer", "subject", "audience", "key"),
    [
        ("http://cluster.example", SUBJECT, "a", None),
        (ISSUER, "", "a", None),
        (ISSUER, SUBJECT, "", None),
        (ISSUER, SUBJECT, "a", b"nonsense"),
    ],
)
def test_a_credential_that_entra_would_not_take_is_refused(
    exchange: ReadyExchange, issuer: str, subject: str, audience: str, key: bytes | None
) -> None:
    with pytest.raises(ValueError, match=r"."):
        exchange.add_federated_credential(exchange.app, issuer, subject, audience, key=key)


def test_neither_key_nor_token_shows(
    exchange: ReadyExchange, certificate: AppCertificate, federated: FederatedCredential
) -> None:
    assertion = federated.assertion()
    fetch_token(exchange, **proof(assertion))
    shown = repr((certificate, federated, exchange.token_requests))
    assert "PRIVATE" not in shown
    assert assertion not in shown
    assert certificate.thumbprint in shown
