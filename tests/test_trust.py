"""The default trust: the system's store, and what the environment names."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from support import authority

from exo_imap_oauth._trust import default_context

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return path


def _names(context: ssl.SSLContext) -> set[str]:
    return {str(certificate["subject"]) for certificate in context.get_ca_certs()}


def test_the_default_context_verifies_and_is_kept() -> None:
    context = default_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert default_context() is context


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_is_added_to_the_systems(
    variable: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = _names(default_context())
    monkeypatch.setenv(variable, str(bundle))
    with_bundle = default_context()
    assert len(_names(with_bundle) - system) == 1
    assert system <= _names(with_bundle)
    monkeypatch.delenv(variable)
    assert _names(default_context()) == system


def test_openssls_own_variable_replaces_the_systems_store(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert len(_names(default_context())) == 1


def test_a_folder_of_certificates_can_be_a_bundle(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle.parent))
    assert default_context().verify_mode is ssl.CERT_REQUIRED


def test_certifi_steps_in_only_where_there_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert len(_names(default_context())) > 50
    (tmp_path / "0a1b2c3d.0").write_text("a certificate by OpenSSL's naming")
    monkeypatch.setenv("SSL_CERT_DIR", f"/nowhere:{tmp_path}")
    assert _names(default_context()) == set()


def test_an_unreadable_bundle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with pytest.raises(OSError, match=r"ca\.pem that the environment names cannot be read"):
        default_context()
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    assert default_context()
