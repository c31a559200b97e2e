"""Private keys and passphrases for the leak tests, good and bad."""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from exo_imap_oauth import credentials
from support.leak_paths import LeakPath, World
from support.leaks import PASSPHRASE, TOKEN, plant
from support.token_endpoint import rejected, token

if TYPE_CHECKING:
    from collections.abc import Iterator

CERTIFICATE: Any = getattr(credentials, "ClientCertificate", None)


@functools.cache
def _pair() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cmsbs-mail-bot")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = (
        builder.not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    plant("private key", "".join(plain.splitlines()[1:-1]))
    return key, certificate


def _pem(*, passphrase: str | None = None, key: bool = True, certificate: bool = True) -> bytes:
    own_key, own_certificate = _pair()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    parts = [
        own_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption) if key else b"",
        own_certificate.public_bytes(Encoding.PEM) if certificate else b"",
    ]
    return b"".join(parts)


def _pfx(passphrase: str) -> bytes:
    key, certificate = _pair()
    encryption = BestAvailableEncryption(passphrase.encode())
    return pkcs12.serialize_key_and_certificates(b"bot", key, certificate, None, encryption)


def certificate_paths() -> Iterator[LeakPath]:
    """None where the library has no certificates."""
    if CERTIFICATE is None:
        return
    plain, locked = _pem(), _pem(passphrase=PASSPHRASE)
    texts = {
        "good": (plain, None),
        "good, locked": (locked, PASSPHRASE),
        "good, passphrase of bytes": (locked, PASSPHRASE.encode()),
        "no passphrase": (locked, None),
        "wrong passphrase": (locked, PASSPHRASE + "x"),
        "needless passphrase": (plain, PASSPHRASE),
        "passphrase of a wrong type": (locked, [PASSPHRASE]),
        "no certificate": (_pem(certificate=False), None),
        "no key": (_pem(key=False), None),
        "cut": (plain[: len(plain) // 3], None),
        "cut and locked": (locked[: len(locked) // 3], PASSPHRASE),
        "without its first line": (plain.partition(b"\n")[2], None),
        "damaged": (plain.replace(b"A", b"!"), None),
        "text in place of a path": (plain.decode(), None),
        "of a wrong type": (list(plain), None),
        "PFX": (_pfx(PASSPHRASE), PASSPHRASE),
    }
    for name, (data, passphrase) in texts.items():
        for method in ("from_pem", "from_pfx"):
            yield LeakPath(f"{method}, {name}", _read, (method, data, passphrase))
    yield LeakPath("get_token, certificate", _asked, (token(TOKEN),))
    yield LeakPath("get_token, certificate, refused", _asked, (rejected(700027),))


def _read(_: World, method: str, data: Any, passphrase: Any) -> object:
    return getattr(CERTIFICATE, method)(data, password=passphrase)


def _asked(world: World, answer: bytes) -> object:
    world.endpoint.then(answer)
    certificate = CERTIFICATE.from_pem(_pem(passphrase=PASSPHRASE), password=PASSPHRASE)
    return world.source(None, certificate=certificate).get_token()
