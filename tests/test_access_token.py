"""Access tokens, clouds and the default trust: values that show much and leak nothing."""

from __future__ import annotations

import base64
import json
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from support import authority

from exo_imap_oauth import AccessToken, Cloud
from exo_imap_oauth._trust import default_context

if TYPE_CHECKING:
    from pathlib import Path


def jwt(payload: bytes) -> str:
    return f"head.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.signature"


def access_token(text: str) -> AccessToken:
    return AccessToken(
        token=text, expires_on=1_800_003_600, refresh_on=1_800_003_300, obtained_on=1
    )


def test_claims_are_read_from_a_jwt() -> None:
    claims = {"aud": "https://outlook.office365.com", "roles": ["IMAP.AccessAsApp"]}
    assert access_token(jwt(json.dumps(claims).encode())).claims == claims


@pytest.mark.parametrize(
    "text",
    [
        "",
        "opaque",
        "a.b",
        "a.%%%.c",
        "ä.ö.ü",
        jwt(b"[1]"),
        jwt(b"\xff"),
        jwt(b"[" * 100_000),
        "a..b",
    ],
)
def test_an_opaque_token_has_no_claims(text: str) -> None:
    assert access_token(text).claims == {}


def test_text_and_html_show_times_and_claims_but_not_the_token() -> None:
    token = access_token(jwt(b'{"appid": "<script>alert(1)</script>"}'))
    assert token.token not in repr(token) + str(token) + token._repr_html_()
    assert "1800003600" in repr(token)
    assert "&lt;script&gt;" in token._repr_html_()
    assert "2027-01-15 08:55:00+00:00" in token._repr_html_()


def test_tokens_are_compared_by_identity_so_that_no_diff_shows_one() -> None:
    assert access_token("same") != access_token("same")


@pytest.mark.parametrize("cloud", Cloud)
def test_clouds_are_consistent(cloud: Cloud) -> None:
    assert cloud.authority.startswith("https://login.")
    assert cloud.scope == f"https://{cloud.imap_host}/.default"


# ---- trust -----------------------------------------------------------------------------------


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
