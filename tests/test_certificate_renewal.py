"""A certificate is renewed in its file: the next token request uses the new one."""

from __future__ import annotations

import base64
import functools
import logging
import os
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from support.certificates import (
    DAY,
    PASSPHRASE,
    certificate_of,
    key_pem,
    pem_of,
    pfx_of,
    rsa_key,
)
from support.concurrency import until
from support.token_endpoint import CLIENT, TENANT, TokenEndpoint, token

from exo_imap_oauth import ClientCertificate, InboxConfig, TokenSource, check_setup
from exo_imap_oauth._credentials import certificate as reading
from exo_imap_oauth.errors import ConfigError, TokenError, TokenRequestRejected
from exo_imap_oauth.testing import ready_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

OLD_KEY, NEW_KEY = rsa_key("a"), rsa_key("b")
OLD, NEW, NEWEST = certificate_of(OLD_KEY), certificate_of(NEW_KEY), certificate_of(NEW_KEY)
OLD_PEM = key_pem(OLD_KEY) + pem_of(OLD)
NEW_PEM = key_pem(NEW_KEY) + pem_of(NEW)
KEYS = {OLD: OLD_KEY, NEW: NEW_KEY, NEWEST: NEW_KEY}
WARNING = "the new content of a certificate's file cannot be used"


class Purpose(NamedTuple):
    token_uri: str = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    client_id: str = CLIENT


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    file = tmp_path / "bot.pem"
    file.write_bytes(OLD_PEM)
    return file


def thumbprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA1()).hex().upper()


def signer_in(fields: dict[str, str], audience: str = Purpose().token_uri) -> x509.Certificate:
    """The certificate that an assertion names, whose key must have signed it."""
    text = fields["client_assertion"]
    digest = jwt.get_unverified_header(text)["x5t#S256"]
    for certificate, key in KEYS.items():
        if digest == encoded(certificate.fingerprint(hashes.SHA256())):
            jwt.decode(text, key.public_key(), algorithms=["PS256"], audience=audience)
            return certificate
    raise LookupError(digest)


def encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def signer_of(certificate: ClientCertificate) -> x509.Certificate:
    return signer_in(certificate.form_fields(Purpose()))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# ---- what counts as a change -----------------------------------------------------------------


def replaced(file: Path, content: bytes) -> None:
    """Another file takes its place, which has the time stamp of the first one."""
    stamp = file.stat().st_mtime_ns
    other = file.with_suffix(".new")
    other.write_bytes(content)
    os.utime(other, ns=(stamp, stamp))
    other.replace(file)


def rewritten(file: Path, content: bytes) -> None:
    """The same file, of another time."""
    stamp = file.stat().st_mtime_ns
    file.write_bytes(content)
    os.utime(file, ns=(stamp + 1, stamp + 1))


def grown(file: Path, content: bytes) -> None:
    """The same file with the same time stamp."""
    stamp, size = file.stat().st_mtime_ns, file.stat().st_size
    file.write_bytes(content.ljust(size + 1, b"\n"))
    os.utime(file, ns=(stamp, stamp))


def restored(file: Path, content: bytes) -> None:
    """The same file with the same size and time stamp, as after ``cp --preserve``."""
    stamp, size = file.stat().st_mtime_ns, file.stat().st_size
    file.write_bytes(content)
    os.truncate(file, size)
    os.utime(file, ns=(stamp, stamp))


@pytest.mark.parametrize("change", [replaced, rewritten, grown, restored])
def test_a_file_that_changed_is_read_again(file: Path, change: Any) -> None:
    file.write_bytes(OLD_PEM.ljust(8_192, b"\n"))
    certificate = ClientCertificate.from_pem(file)
    assert signer_of(certificate) == OLD
    change(file, NEW_PEM)
    assert signer_of(certificate) == NEW
    assert certificate.thumbprint == thumbprint(NEW)
    assert certificate.expires_on == int(NEW.not_valid_after_utc.timestamp())
    change(file, key_pem(NEW_KEY) + pem_of(NEWEST))
    assert signer_of(certificate) == NEWEST


def test_links_that_kubernetes_swaps_are_followed(tmp_path: Path) -> None:
    for name, pem in (("one", OLD_PEM), ("two", NEW_PEM)):
        tmp_path.joinpath(name).mkdir()
        tmp_path.joinpath(name, "bot.pem").write_bytes(pem)
    tmp_path.joinpath("..data").symlink_to("one")
    tmp_path.joinpath("bot.pem").symlink_to("..data/bot.pem")
    certificate = ClientCertificate.from_pem(tmp_path / "bot.pem")
    assert signer_of(certificate) == OLD
    tmp_path.joinpath("..data_tmp").symlink_to("two")
    tmp_path.joinpath("..data_tmp").replace(tmp_path / "..data")
    assert signer_of(certificate) == NEW


def test_a_file_that_did_not_change_is_not_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = ClientCertificate.from_pem(file)
    opened: list[object] = []
    real = os.open

    def noted(path: Any, *how: Any, **more: Any) -> int:
        opened.append(path)
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", noted)
    for _ in range(3):
        signer_of(certificate)
    assert str(file) not in map(str, opened)


def test_a_relative_path_means_the_folder_of_then(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    certificate = ClientCertificate.from_pem("bot.pem")
    monkeypatch.chdir("/")
    replaced(file, NEW_PEM)
    assert signer_of(certificate) == NEW


def test_bytes_are_not_read_again(file: Path) -> None:
    certificate = ClientCertificate.from_pem(file.read_bytes())
    replaced(file, NEW_PEM)
    assert signer_of(certificate) == OLD
    assert certificate.current() is certificate
    assert not certificate.may_change


def test_the_passphrase_is_kept(tmp_path: Path) -> None:
    pem, pfx = tmp_path / "bot.pem", tmp_path / "bot.pfx"
    pem.write_bytes(key_pem(OLD_KEY, passphrase=PASSPHRASE) + pem_of(OLD))
    pfx.write_bytes(pfx_of(OLD_KEY, OLD, PASSPHRASE))
    of_pem = ClientCertificate.from_pem(pem, password=PASSPHRASE)
    of_pfx = ClientCertificate.from_pfx(pfx, password=PASSPHRASE.encode())
    replaced(pem, key_pem(NEW_KEY, passphrase=PASSPHRASE) + pem_of(NEW))
    replaced(pfx, pfx_of(NEW_KEY, NEW, PASSPHRASE))
    assert (signer_of(of_pem), signer_of(of_pfx)) == (NEW, NEW)
    assert PASSPHRASE not in f"{of_pem!r} {of_pfx!r} {of_pem._file!r}"


# ---- what cannot be used ---------------------------------------------------------------------


UNUSABLE = {
    "empty": b"",
    "half a key": NEW_PEM[:700],
    "no certificate yet": key_pem(NEW_KEY),
    "half a certificate": NEW_PEM[:-200],
    "of another key": key_pem(NEW_KEY) + pem_of(OLD),
    "expired": key_pem(NEW_KEY) + pem_of(certificate_of(NEW_KEY, ends=-DAY / 2)),
    "not valid yet": key_pem(NEW_KEY) + pem_of(certificate_of(NEW_KEY, begins=DAY)),
    "encrypted": key_pem(NEW_KEY, passphrase=PASSPHRASE) + pem_of(NEW),
    "too large": NEW_PEM.ljust(300_000, b"\n"),
}


@pytest.mark.parametrize("unusable", UNUSABLE)
def test_the_old_one_serves_until_the_new_one_can_be_read(
    file: Path, unusable: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = ClientCertificate.from_pem(file)
    for change in (rewritten, replaced):
        change(file, UNUSABLE[unusable])
        for _ in range(3):
            assert signer_of(certificate) == OLD
    (warning,) = warnings_in(caplog)
    assert warning.startswith(f"{WARNING}, so the certificate {thumbprint(OLD)} serves on: ")
    assert str(file) in warning
    assert "PRIVATE KEY-----\nMII" not in caplog.text
    rewritten(file, NEW_PEM)
    assert signer_of(certificate) == NEW
    assert len(warnings_in(caplog)) == 1
    rewritten(file, b"")  # the next time it is news again
    assert signer_of(certificate) == NEW
    assert len(warnings_in(caplog)) == 2


def test_the_old_one_serves_while_the_file_is_missing(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = ClientCertificate.from_pem(file)
    away = file.rename(file.with_suffix(".away"))
    for _ in range(2):
        assert signer_of(certificate) == OLD
    assert len(warnings_in(caplog)) == 1
    assert "No such file" in warnings_in(caplog)[0]
    away.rename(file)
    assert signer_of(certificate) == OLD
    file.unlink()
    assert signer_of(certificate) == OLD
    assert len(warnings_in(caplog)) == 2
    file.write_bytes(NEW_PEM)
    assert signer_of(certificate) == NEW


def test_a_wrong_passphrase_is_told_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "bot.pfx"
    file.write_bytes(pfx_of(OLD_KEY, OLD, PASSPHRASE))
    certificate = ClientCertificate.from_pfx(file, password=PASSPHRASE)
    replaced(file, pfx_of(NEW_KEY, NEW, "another one"))
    assert signer_of(certificate) == OLD
    (warning,) = warnings_in(caplog)
    assert "the passphrase is wrong" in warning
    assert PASSPHRASE not in caplog.text


def test_when_the_old_one_has_ended_too_nobody_is_asked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = ClientCertificate.from_pem(file)
    file.write_bytes(b"")
    later = SimpleNamespace(time=lambda: certificate.expires_on + 1.0)
    monkeypatch.setattr(reading, "time", later)
    with pytest.raises(TokenError, match="the certificate expired on") as raised:
        certificate.form_fields(Purpose())
    assert raised.value.advice is not None


def test_whoever_asks_meanwhile_gets_a_key_with_its_own_certificate(file: Path) -> None:
    certificate = ClientCertificate.from_pem(file)
    seen: list[x509.Certificate] = []
    failures: list[BaseException] = []
    is_over = threading.Event()

    def ask() -> None:
        try:
            while not is_over.is_set():
                seen.append(signer_of(certificate))
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            failures.append(error)

    def has_settled(expected: x509.Certificate) -> bool:
        return bool(failures) or {*seen[-8:]} == {expected}

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            for pem, expected in ((NEW_PEM, NEW), (OLD_PEM, OLD)):
                replaced(file, pem)
                until(functools.partial(has_settled, expected))
                assert not failures
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)
    assert signer_of(certificate) == OLD


# ---- whose token it is -----------------------------------------------------------------------


def test_the_token_at_hand_stays_and_the_identity_too(file: Path) -> None:
    certificate = ClientCertificate.from_pem(file)
    twin = ClientCertificate.from_pem(OLD_PEM)
    before = hash(certificate)
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source(None, certificate=certificate)
        assert source.get_token().token == "one"
        replaced(file, NEW_PEM)
        assert source.get_token().token == "one"
        assert endpoint.source(None, certificate=certificate).get_token().token == "one"
        assert source.get_token(claims="{}").token == "two"
        signers = [signer_in(only(form), endpoint.url) for form in endpoint.forms]
    assert signers == [OLD, NEW]
    assert hash(certificate) == before
    assert certificate == twin
    assert certificate != ClientCertificate.from_pem(file)


def only(form: Any) -> dict[str, str]:
    parsed = parse_qs(form) if isinstance(form, str) else form
    return {name: value[0] if isinstance(value, list) else value for name, value in parsed.items()}


@pytest.fixture(name="exchange")
def _exchange() -> Iterator[Any]:
    with ready_exchange() as exchange:
        yield exchange


def test_a_refused_one_is_followed_by_the_new_one_at_once(file: Path, exchange: Any) -> None:
    source = TokenSource(
        exchange.tenant_id,
        exchange.app.client_id,
        certificate=ClientCertificate.from_pem(file),
        token_uri=exchange.token_uri(),
    )
    exchange.add_certificate(exchange.app, pem_of(NEW))
    for _ in range(3):
        with pytest.raises(TokenRequestRejected, match="AADSTS700027"):
            source.get_token()
    assert len(exchange.token_requests) == 1  # Entra is not asked the same again
    replaced(file, NEW_PEM)
    assert source.get_token().claims["appid"] == exchange.app.client_id
    assert len(exchange.token_requests) == 2


def test_a_running_program_with_an_inbox_of_the_environment(
    file: Path, exchange: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.add_certificate(exchange.app, pem_of(OLD))
    exchange.add_certificate(exchange.app, pem_of(NEW))
    variables = {
        "USER": exchange.mailbox,
        "TOKEN_URI": exchange.token_uri(),
        "CLIENT_ID": exchange.app.client_id,
        "CERTIFICATE_FILE": str(file),
        "HOST": exchange.host,
        "PORT": str(exchange.port),
    }
    inbox = InboxConfig.from_env(environ={f"EXO_IMAP_{n}": v for n, v in variables.items()})
    assert check_setup(inbox).ok
    replaced(file, NEW_PEM)
    assert inbox.certificate is not None
    assert inbox.certificate.thumbprint == thumbprint(OLD)
    assert check_setup(inbox).ok
    assert inbox.certificate.thumbprint == thumbprint(NEW)
    with inbox.open() as imap:
        assert imap.state == "SELECTED"
    assert not warnings_in(caplog)


# ---- one limit, and dates far away -----------------------------------------------------------


@pytest.mark.parametrize("door", ["from_pem", "from_env"])
def test_every_door_takes_a_long_chain_and_refuses_the_same_size(tmp_path: Path, door: str) -> None:
    file = tmp_path / "chain.pem"

    def read() -> object:
        if door == "from_pem":
            return ClientCertificate.from_pem(file)
        return InboxConfig.from_env(
            environ={
                "EXO_IMAP_USER": "inbox@contoso.example",
                "EXO_IMAP_TENANT_ID": "contoso.example",
                "EXO_IMAP_CLIENT_ID": "6731de76-14a6-49ae-97bc-6eba6914391e",
                "EXO_IMAP_CERTIFICATE_FILE": str(file),
            }
        ).certificate

    chain = b"".join(pem_of(certificate_of(NEW_KEY)) for _ in range(90))
    assert 80_000 < len(chain) < 200_000
    file.write_bytes(OLD_PEM + chain)
    assert getattr(read(), "thumbprint", None) == thumbprint(OLD)
    file.write_bytes(OLD_PEM.ljust(262_145, b"\n"))
    with pytest.raises((OSError, ConfigError), match="it is larger than 262,144 bytes"):
        read()


@pytest.mark.parametrize("read", [ClientCertificate.from_pem, ClientCertificate.from_pfx])
def test_bytes_have_the_limit_that_a_file_has(read: Any) -> None:
    plain = OLD_PEM if read == ClientCertificate.from_pem else pfx_of(OLD_KEY, OLD, PASSPHRASE)
    with pytest.raises(ValueError, match="given: it is larger than 262,144 bytes"):
        read(plain.ljust(262_145, b"\n"), password=PASSPHRASE)
    if read == ClientCertificate.from_pem:
        assert read(plain.ljust(262_144, b"\n")).thumbprint == thumbprint(OLD)


def test_a_certificate_for_all_times_is_shown_where_no_clock_goes_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for_ever = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - datetime.now(UTC)
    certificate = ClientCertificate.from_pem(
        key_pem(OLD_KEY) + pem_of(certificate_of(OLD_KEY, ends=for_ever))
    )

    def as_on_windows(seconds: float | None = None) -> time.struct_time:
        if seconds is not None and seconds > 32_536_799_999:
            raise OSError(22, "Invalid argument")
        return real(seconds)

    real = time.gmtime
    monkeypatch.setattr(time, "gmtime", as_on_windows)
    assert repr(certificate).endswith(" until 9999-12-31>")
    inbox = InboxConfig.for_tenant(
        "contoso.example", user="inbox@contoso.example", client_id=CLIENT, certificate=certificate
    )
    assert "until 9999-12-31" in repr(inbox)
