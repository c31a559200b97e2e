"""Private keys and self-signed certificates, as an administrator makes them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

PASSPHRASE = "p4ssphrase~of+the/key"
DAY = timedelta(days=1)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@functools.cache
def rsa_key(name: str = "a", bits: int = 2048) -> rsa.RSAPrivateKey:  # noqa: ARG001 - tells keys apart
    """A key; the same one for the same name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """A key of a kind that Entra does not take."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate_of(
    key: Key, *, begins: timedelta = -DAY, ends: timedelta = 365 * DAY
) -> x509.Certificate:
    """A self-signed certificate; its times are counted from now."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail-bot")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
    return builder.sign(key, hashes.SHA256())


def pem_of(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM)


def der_of(certificate: x509.Certificate) -> bytes:
    """The certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def key_pem(key: Key, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: str = "") -> bytes:
    """The key in PEM, encrypted if there is a passphrase."""
    return key.private_bytes(Encoding.PEM, form, _encryption(passphrase))


def pfx_of(key: Key | None, certificate: x509.Certificate | None, passphrase: str = "") -> bytes:
    """Key and certificate as PFX."""
    return pkcs12.serialize_key_and_certificates(
        b"mail-bot", key, certificate, None, _encryption(passphrase)
    )


def _encryption(passphrase: str) -> KeySerializationEncryption:
    return BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
