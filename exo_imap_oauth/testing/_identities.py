"""What an application can prove its identity with instead of a secret: certificate, federation."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._records import App

TOKEN_EXCHANGE = "api://AzureADTokenExchange"
_YEAR = 365 * 24 * 3600.0  # s


@dataclass(frozen=True, slots=True)
class AppCertificate:
    """A certificate that was uploaded to an application.

    Attributes:
        app: The application that it belongs to.
        thumbprint: Its SHA-1 digest, as the portal shows it.
        thumbprint_sha256: Its SHA-256 digest, written in the same way.
        not_before: From when on it is valid, Unix seconds.
        expires_on: Until when, Unix seconds.
        pem: What was uploaded; of a certificate that was made here, the private key comes
            first, so that a client can use it as it is. Not in ``repr()``.
        public_key: What the signatures of its assertions are verified with.
    """

    app: App
    thumbprint: str
    thumbprint_sha256: str
    not_before: int
    expires_on: int
    # Not compared, or an == in a test that fails would show the private key.
    pem: bytes = field(repr=False, compare=False)
    public_key: rsa.RSAPublicKey = field(repr=False, compare=False)


def make_certificate(name: str, now: float, lifetime: float | None) -> bytes:
    """A self-signed certificate after its private key, PEM.

    Args:
        name: Whose certificate it is.
        now: Unix seconds.
        lifetime: Seconds from now until it expires, negative for an expired one; None for a year.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    expires_on = datetime.fromtimestamp(now + (_YEAR if lifetime is None else lifetime), UTC)
    begins_on = min(datetime.fromtimestamp(now, UTC), expires_on) - timedelta(days=1)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_on)
        .not_valid_after(expires_on)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def read_certificate(app: App, data: bytes) -> AppCertificate:
    """The certificate in a file as it is uploaded in the portal: PEM or DER.

    Raises:
        ValueError: There is none, or its key is not RSA.
    """
    load = (
        x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
    )
    try:
        certificate = load(data)
    except ValueError as error:
        raise ValueError(f"there is no certificate in PEM or DER in it: {error}") from None
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("the key of the certificate is not an RSA key")  # noqa: TRY004 - of a file
    der = certificate.public_bytes(Encoding.DER)
    return AppCertificate(
        app,
        hashlib.sha1(der, usedforsecurity=False).hexdigest().upper(),
        hashlib.sha256(der).hexdigest().upper(),
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
        data,
        key,
    )


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """The trust of an application in the tokens of another issuer.

    Attributes:
        app: The application that it belongs to.
        issuer: The only accepted ``iss``, as it is written.
        subject: The only accepted ``sub``, as it is written.
        audience: The only accepted ``aud``, as it is written.
        keys: What the signatures of the issuer's tokens are verified with.
    """

    app: App
    issuer: str
    subject: str
    audience: str
    keys: tuple[rsa.RSAPublicKey, ...] = field(repr=False, compare=False)
    _private_key: rsa.RSAPrivateKey | None = field(repr=False, compare=False)
    _clock: Clock = field(repr=False, compare=False)

    def assertion(self, *, lifetime: float = 3600, **claims: object) -> str:
        """A token of the issuer, such as the one that Kubernetes puts into a file.

        Args:
            lifetime: Seconds until it expires; negative for an expired one.
            **claims: What it says otherwise, such as ``sub="system:serviceaccount:a:b"``.

        Raises:
            ValueError: The issuer's key was given as ``key``, so there is nothing to sign with.
        """
        if self._private_key is None:
            raise ValueError("only the holder of the private key that belongs to key can sign")
        now = int(self._clock.now())
        whole: dict[str, object] = {
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.audience,
            "iat": now,
            "nbf": now + min(0, lifetime),
            "exp": now + lifetime,
            "jti": secrets.token_hex(16),
            **claims,
        }
        header = {"kid": _key_id(self.keys[0])}
        return jwt.encode(whole, self._private_key, algorithm="RS256", headers=header)


def make_federated_credential(
    app: App,
    issuer: str,
    subject: str,
    audience: str,
    *,
    key: bytes | Mapping[str, Any] | None,
    clock: Clock,
) -> FederatedCredential:
    """A trust in what this issuer signs with this key, or with a new one of ours.

    Raises:
        ValueError: The issuer is not an https URL, or the key cannot be read.
    """
    # Entra reads the issuer's keys from there, so it accepts nothing else.
    if not issuer.startswith("https://"):
        raise ValueError(f"issuer is not an https URL: {issuer!r}")
    if not subject or not audience:
        raise ValueError("subject and audience must not be empty")
    if key is not None:
        return FederatedCredential(
            app, issuer, subject, audience, tuple(_public_keys(key)), None, clock
        )
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keys = (private_key.public_key(),)
    return FederatedCredential(app, issuer, subject, audience, keys, private_key, clock)


def _public_keys(key: bytes | Mapping[str, Any]) -> list[rsa.RSAPublicKey]:
    """The RSA keys of a PEM public key or of a JSON Web Key Set."""
    if isinstance(key, bytes):
        found: list[object] = [load_pem_public_key(key)]
    else:
        found = [one.key for one in jwt.PyJWKSet.from_dict(dict(key)).keys]
    keys = [one for one in found if isinstance(one, rsa.RSAPublicKey)]
    if not keys:
        raise ValueError("key holds no RSA public key")
    return keys


def _key_id(key: rsa.RSAPublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:32]
