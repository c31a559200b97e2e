"""A certificate that environment variables name, in place of a secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
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
from support.leaks import everything_in

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("exo_imap_oauth._credentials.certificate")

PASSWORD = "passphrase-Abc8Q-0123456789"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with bot.pem, the same encrypted in bot.pfx, and the certificate alone."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bot")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    own = certificate.public_bytes(Encoding.PEM)
    tmp_path.joinpath("bot.pem").write_bytes(pem + own)
    tmp_path.joinpath("certificate.pem").write_bytes(own)
    encryption = BestAvailableEncryption(PASSWORD.encode())
    pfx = pkcs12.serialize_key_and_certificates(b"bot", key, certificate, None, encryption)
    tmp_path.joinpath("bot.pfx").write_bytes(pfx)
    return tmp_path


def load(file: Path, **others: str) -> InboxConfig:
    values = {
        "USER": "inbox@contoso.example",
        "TENANT_ID": "contoso.example",
        "CLIENT_ID": "6731de76-14a6-49ae-97bc-6eba6914391e",
        "CERTIFICATE_FILE": str(file),
        **others,
    }
    return InboxConfig.from_env(environ={f"EXO_IMAP_{name}": v for name, v in values.items()})


def test_pem_and_pfx_hold_the_same_certificate(folder: Path) -> None:
    folder.joinpath("password").write_text(f"{PASSWORD}\n")
    of_pem = load(folder / "bot.pem")
    assert of_pem == load(folder / "bot.pfx", CERTIFICATE_PASSWORD=PASSWORD)
    password_file = str(folder / "password")
    assert of_pem == load(folder / "bot.pfx", CERTIFICATE_PASSWORD_FILE=password_file)
    assert of_pem.client_secret is None
    assert of_pem.token_source().client_id == of_pem.client_id


@pytest.mark.parametrize(
    ("name", "password", "told"),
    [
        ("bot.pfx", PASSWORD[:-1], "passphrase is wrong"),
        ("bot.pfx", "", "encrypted"),
        ("certificate.pem", "", "no private key"),
        ("no-such.pem", "", "No such file"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named_with_its_variable(
    folder: Path, name: str, password: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder / name, CERTIFICATE_PASSWORD=password)
    (problem,) = caught.value.problems
    assert problem.key == "EXO_IMAP_CERTIFICATE_FILE"
    assert told in problem.message
    assert PASSWORD[:-1] not in everything_in(caught.value)


def test_quotes_around_a_password_are_named_where_it_does_not_fit(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder / "bot.pfx", CERTIFICATE_PASSWORD=f"'{PASSWORD}'")
    (problem,) = caught.value.problems
    assert problem.key == "EXO_IMAP_CERTIFICATE_FILE"
    assert problem.fix == "Write EXO_IMAP_CERTIFICATE_PASSWORD without quotes."
    assert PASSWORD not in everything_in(caught.value)


def test_a_certificate_and_a_secret_contradict_each_other(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder / "bot.pem", CLIENT_SECRET="Abc8Q~defghijklmnopqrstuvwxyz")
    (problem,) = caught.value.problems
    assert problem.key == "EXO_IMAP_CERTIFICATE_FILE"
    assert "beside EXO_IMAP_CLIENT_SECRET" in problem.message
