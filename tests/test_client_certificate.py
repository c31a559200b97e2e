"""A client certificate: how it is read, what it signs, and every way to get it wrong."""

from __future__ import annotations

import base64
import copy
import importlib
import json
import os
import pickle
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from support.certificates import (
    DAY,
    PASSPHRASE,
    certificate_of,
    der_of,
    ec_key,
    key_pem,
    pem_of,
    pfx_of,
    rsa_key,
)
from support.leaks import everything_in
from support.token_endpoint import CLIENT, TENANT, TokenEndpoint, http, rejected, token

import exo_imap_oauth
from exo_imap_oauth import ClientCertificate, TokenSource, credentials
from exo_imap_oauth._credentials import certificate as reading
from exo_imap_oauth.errors import TokenError, TokenRequestRejected

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(exo_imap_oauth.__file__).parents[1]
KEY, OTHER_KEY = rsa_key("a"), rsa_key("b")
CERTIFICATE = certificate_of(KEY)
PEM = key_pem(KEY) + pem_of(CERTIFICATE)
PFX = pfx_of(KEY, CERTIFICATE, PASSPHRASE)
THUMBPRINT = CERTIFICATE.fingerprint(hashes.SHA1()).hex().upper()
TOKEN_URI = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"


class Purpose(NamedTuple):
    token_uri: str = TOKEN_URI
    client_id: str = CLIENT


def assertion_of(fields: dict[str, str], audience: str = TOKEN_URI) -> tuple[Any, Any]:
    """Header and claims of an assertion, as whoever has the public key verifies them."""
    text = fields["client_assertion"]
    claims = jwt.decode(text, KEY.public_key(), algorithms=["PS256"], audience=audience)
    return jwt.get_unverified_header(text), claims


# ---- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "password"),
    [
        pytest.param(PEM, None, id="PKCS #8"),
        pytest.param(pem_of(CERTIFICATE) + key_pem(KEY), None, id="certificate first"),
        pytest.param(
            key_pem(KEY, PrivateFormat.TraditionalOpenSSL) + pem_of(CERTIFICATE),
            None,
            id="PKCS #1",
        ),
        pytest.param(
            key_pem(KEY, PrivateFormat.TraditionalOpenSSL, PASSPHRASE) + pem_of(CERTIFICATE),
            PASSPHRASE,
            id="PKCS #1, encrypted",
        ),
        pytest.param(
            key_pem(KEY, passphrase=PASSPHRASE) + pem_of(CERTIFICATE),
            PASSPHRASE.encode(),
            id="PKCS #8, encrypted",
        ),
        pytest.param(PEM, PASSPHRASE, id="a passphrase that nothing needs"),
        pytest.param(PEM.replace(b"\n", b"\r\n"), None, id="line ends of Windows"),
        pytest.param(PEM.decode().encode("utf-16"), None, id="written by PowerShell"),
        pytest.param(
            b"Bag Attributes\n    friendlyName: bot\n" + PEM, None, id="as openssl pkcs12 prints it"
        ),
        pytest.param(
            pem_of(certificate_of(OTHER_KEY)) + pem_of(certificate_of(ec_key())) + PEM,
            None,
            id="a chain",
        ),
        pytest.param(
            PEM + pem_of(certificate_of(KEY, ends=DAY)), None, id="renewed for the same key"
        ),
    ],
)
def test_pem_is_read(data: bytes, password: str | bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "bot.pem"
    file.write_bytes(data)
    for source in (data, file, str(file)):
        certificate = ClientCertificate.from_pem(source, password=password)
        assert certificate.thumbprint == THUMBPRINT
        assert certificate.expires_on == CERTIFICATE.not_valid_after_utc.timestamp()


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE, "Paßwort"])
def test_pfx_is_read(passphrase: str, tmp_path: Path) -> None:
    data = pfx_of(KEY, CERTIFICATE, passphrase)
    file = tmp_path / "bot.pfx"
    file.write_bytes(data)
    for source in (data, file, str(file)):
        for password in (passphrase, passphrase or None):
            certificate = ClientCertificate.from_pfx(source, password=password)
            assert certificate.thumbprint == THUMBPRINT


def test_a_pfx_encrypted_with_an_empty_passphrase_needs_none(tmp_path: Path) -> None:
    (tmp_path / "bot.pem").write_bytes(PEM)
    command = "openssl pkcs12 -export -in bot.pem -out bot.pfx -passout pass:"
    subprocess.run(command.split(), cwd=tmp_path, check=True, timeout=60)
    assert ClientCertificate.from_pfx(tmp_path / "bot.pfx").thumbprint == THUMBPRINT


def test_a_pfx_with_its_chain_is_read() -> None:
    chain = [certificate_of(OTHER_KEY)]
    data = pkcs12.serialize_key_and_certificates(
        None, KEY, CERTIFICATE, chain, pkcs12_encryption(PASSPHRASE)
    )
    assert ClientCertificate.from_pfx(data, password=PASSPHRASE).thumbprint == THUMBPRINT


def pkcs12_encryption(passphrase: str) -> Any:
    """As Windows Server 2016 and older encrypt it."""
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2000)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(passphrase.encode())
    )


BROKEN_KEY = key_pem(KEY).replace(b"\nM", b"\nA", 1)

PEM_MISTAKES = {
    "empty": (b" \n", None, "it is empty"),
    "text": (b"hello", None, "neither a key nor a certificate"),
    "DER": (der_of(CERTIFICATE), None, "openssl x509 -inform der"),
    "PFX": (PFX, PASSPHRASE, "Read a .pfx or .p12 file with from_pfx()"),
    "no key": (pem_of(CERTIFICATE), None, "a certificate but no private key"),
    "no certificate": (key_pem(KEY), None, "a private key but no certificate"),
    "two keys": (key_pem(OTHER_KEY) + PEM, None, "2 private keys in it. Leave one."),
    "another's key": (key_pem(OTHER_KEY) + pem_of(CERTIFICATE), None, "another private key"),
    "no passphrase": (
        key_pem(KEY, passphrase=PASSPHRASE) + pem_of(CERTIFICATE),
        None,
        "encrypted. Give the passphrase: password=",
    ),
    "empty passphrase": (
        key_pem(KEY, PrivateFormat.TraditionalOpenSSL, PASSPHRASE) + pem_of(CERTIFICATE),
        "",
        "encrypted. Give the passphrase: password=",
    ),
    "wrong passphrase": (
        key_pem(KEY, passphrase=PASSPHRASE) + pem_of(CERTIFICATE),
        PASSPHRASE + "x",
        "the passphrase is wrong",
    ),
    "wrong passphrase of PKCS #1": (
        key_pem(KEY, PrivateFormat.TraditionalOpenSSL, PASSPHRASE) + pem_of(CERTIFICATE),
        PASSPHRASE + "x",
        "the passphrase is wrong",
    ),
    "damaged key": (BROKEN_KEY + pem_of(CERTIFICATE), None, "private key is damaged"),
    "damaged certificate": (
        key_pem(KEY) + pem_of(CERTIFICATE).replace(b"\nM", b"\nA", 1),
        None,
        "a certificate in it is damaged",
    ),
    "EC key": (key_pem(ec_key()) + pem_of(certificate_of(ec_key())), None, "not an RSA key"),
    "EC key of SEC 1": (
        key_pem(ec_key(), PrivateFormat.TraditionalOpenSSL) + pem_of(certificate_of(ec_key())),
        None,
        "not an RSA key",
    ),
    "OpenSSH": (
        key_pem(KEY, PrivateFormat.OpenSSH) + pem_of(CERTIFICATE),
        None,
        "ssh-keygen -p -m PKCS8",
    ),
    "small key": (
        key_pem(rsa_key("small", 1024)) + pem_of(certificate_of(rsa_key("small", 1024))),
        None,
        "has 1024 bits, and Entra wants 2048 or more",
    ),
    "expired": (
        key_pem(KEY) + pem_of(certificate_of(KEY, begins=-9 * DAY, ends=-DAY)),
        None,
        "the certificate expired on 20",
    ),
    "not yet valid": (
        key_pem(KEY) + pem_of(certificate_of(KEY, begins=DAY)),
        None,
        "the certificate is not valid before 20",
    ),
}

PFX_MISTAKES = {
    "empty": (b"", None, "it is empty"),
    "text": (b"hello", None, "it is not a PFX"),
    "PEM": (PEM, None, "it is PEM, not PFX. Read it with from_pem()."),
    "certificate": (der_of(CERTIFICATE), None, "it is a certificate alone"),
    "no key": (
        pfx_of(None, CERTIFICATE, PASSPHRASE),
        PASSPHRASE,
        "no private key in it",
    ),
    "no certificate": (pfx_of(KEY, None, PASSPHRASE), PASSPHRASE, "no certificate in it"),
    "no passphrase": (PFX, None, "Give the passphrase: password="),
    "wrong passphrase": (PFX, PASSPHRASE + "x", "the passphrase is wrong"),
    "EC key": (pfx_of(ec_key(), certificate_of(ec_key()), PASSPHRASE), PASSPHRASE, "not an RSA"),
    "expired": (
        pfx_of(KEY, certificate_of(KEY, begins=-9 * DAY, ends=-DAY), PASSPHRASE),
        PASSPHRASE,
        "expired on 20",
    ),
}


@pytest.mark.parametrize("mistake", PEM_MISTAKES)
def test_every_mistake_in_a_pem_says_what_and_what_to_do(mistake: str, tmp_path: Path) -> None:
    check_mistake(ClientCertificate.from_pem, *PEM_MISTAKES[mistake], tmp_path / "bot.pem")


@pytest.mark.parametrize("mistake", PFX_MISTAKES)
def test_every_mistake_in_a_pfx_says_what_and_what_to_do(mistake: str, tmp_path: Path) -> None:
    check_mistake(ClientCertificate.from_pfx, *PFX_MISTAKES[mistake], tmp_path / "bot.pfx")


def check_mistake(
    read: Callable[..., ClientCertificate],
    data: bytes,
    password: str | None,
    text: str,
    file: Path,
) -> None:
    file.write_bytes(data)
    for source, where in ((file, str(file)), (data, "given")):
        with pytest.raises(ValueError, match=re.escape(text)) as raised:
            read(source, password=password)
        assert where in str(raised.value)
        shown = everything_in(raised.value)
        assert "-----BEGIN P" not in shown
        assert not data or repr(data[-40:])[2:-1] not in shown
        if password:
            assert password not in shown


def test_a_certificate_of_a_machine_whose_clock_is_ahead_is_read() -> None:
    young = certificate_of(KEY, begins=timedelta(minutes=4))
    assert ClientCertificate.from_pem(key_pem(KEY) + pem_of(young))


@pytest.mark.parametrize(
    ("source", "password", "text"),
    [
        (None, None, "path_or_bytes must be .*, not None"),
        (5, None, "not int"),
        (PEM, 5, "password must be"),
        (bytearray(PEM), None, "not bytearray"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(source: Any, password: Any, text: str) -> None:
    for read in (ClientCertificate.from_pem, ClientCertificate.from_pfx):
        with pytest.raises(TypeError, match=text) as raised:
            read(source, password=password)
        assert "-----BEGIN" not in everything_in(raised.value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (ClientCertificate.from_pem, PEM.decode()),
        (ClientCertificate.from_pem, PEM.decode().replace("\n", " ")),
        (ClientCertificate.from_pem, key_pem(ec_key()).decode().replace("\n", " ")),
        (ClientCertificate.from_pfx, base64.b64encode(PFX).decode()),
        (ClientCertificate.from_pfx, base64.encodebytes(PFX).decode()[:300]),
    ],
)
def test_content_given_as_text_is_not_taken_for_a_path_and_not_shown(
    read: Callable[..., ClientCertificate], text: str
) -> None:
    with pytest.raises(ValueError, match="Give its content as bytes") as raised:
        read(text, password=PASSPHRASE)
    shown = everything_in(raised.value)
    assert text[60:160] not in shown
    assert PASSPHRASE not in shown


def test_a_file_that_cannot_be_read_is_an_os_error_with_its_name(tmp_path: Path) -> None:
    large, pipe = tmp_path / "large.pem", tmp_path / "pipe.pem"
    large.write_bytes(b"x" * 300_000)
    os.mkfifo(pipe)
    for file, kind in (
        (tmp_path / "missing.pem", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (pipe, OSError),
        (large, OSError),
    ):
        with pytest.raises(kind, match="the certificate cannot be read") as raised:
            ClientCertificate.from_pem(file, password=PASSPHRASE)
        assert str(file) in str(raised.value)
        assert PASSPHRASE not in everything_in(raised.value)
    with pytest.raises(ValueError, match="the path is empty"):
        ClientCertificate.from_pem("")


# ---- the extra -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_extra_the_error_gives_the_command(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=re.escape("pip install 'exo-imap-oauth[certificate]'")):
        ClientCertificate.from_pem(PEM)


WITHOUT_THE_EXTRA = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules |= dict.fromkeys(("jwt", "cryptography"))  # as if they were not installed
from exo_imap_oauth import ClientCertificate, InboxConfig, TokenSource, check_setup

inbox = InboxConfig.for_tenant(
    "contoso.example", user="a@contoso.example",
    client_id="6731de76-14a6-49ae-97bc-6eba6914391e", client_secret="Abc8Q~x",
    host="localhost", port=9,
)
inbox.token_source()
assert len(check_setup(inbox, token_source=lambda: "opaque").checks) == 13
variables = {{
    "EXO_IMAP_USER": inbox.user,
    "EXO_IMAP_TENANT_ID": "contoso.example",
    "EXO_IMAP_CLIENT_ID": inbox.client_id,
    "EXO_IMAP_CERTIFICATE_FILE": sys.argv[1],
}}
for read in (
    lambda: ClientCertificate.from_pem(sys.argv[1]),
    lambda: ClientCertificate.from_pfx(sys.argv[1]),
    lambda: InboxConfig.from_env(environ=variables),
):
    try:
        read()
    except (ImportError, ValueError) as error:
        print(type(error).__name__, error)
"""


def test_a_program_without_the_extra_works_but_for_certificates(tmp_path: Path) -> None:
    file = tmp_path / "bot.pem"
    file.write_bytes(PEM)
    run = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", WITHOUT_THE_EXTRA, str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stderr == ""
    assert run.stdout.count("pip install 'exo-imap-oauth[certificate]'") == 3
    assert run.stdout.count("ImportError") == 2
    assert "EXO_IMAP_CERTIFICATE_FILE: cannot be used" in run.stdout
    assert "PRIVATE" not in run.stdout


def test_nothing_of_the_extra_is_loaded_for_a_secret() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import exo_imap_oauth as e;"
        " e.ClientCertificate; e.TokenSource('contoso.com', 'id', 'secret'); print(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert {"jwt", "cryptography", "requests", "ssl"}.isdisjoint(run.stdout.split())


# ---- the assertion ---------------------------------------------------------------------------


def test_the_request_carries_a_new_assertion_each_time_and_no_secret() -> None:
    certificate = ClientCertificate.from_pem(PEM)
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source(None, certificate=certificate)
        before = int(time.time())
        assert source.get_token().token == "one"
        assert source.get_token(claims="{}").token == "two"
        after = time.time()
    first, second = endpoint.forms
    assert first.keys() == {
        "client_id",
        "scope",
        "grant_type",
        "client_assertion_type",
        "client_assertion",
    }
    assert first["client_assertion_type"].endswith(":client-assertion-type:jwt-bearer")
    header, claims = assertion_of(first, endpoint.url)
    digest = CERTIFICATE.fingerprint(hashes.SHA256())
    assert header == {
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }
    assert claims["iss"] == claims["sub"] == CLIENT
    assert before <= claims["nbf"] == claims["iat"] == claims["exp"] - 300 <= after
    assert assertion_of(second, endpoint.url)[1]["jti"] != claims["jti"]


def test_each_try_of_one_fetch_has_an_assertion_of_its_own(longest_pauses: None) -> None:
    del longest_pauses
    certificate = ClientCertificate.from_pem(PEM)
    with TokenEndpoint(http(503, "busy"), token()) as endpoint:
        endpoint.source(None, certificate=certificate).get_token()
    ids = {assertion_of(form, endpoint.url)[1]["jti"] for form in endpoint.forms}
    assert len(ids) == 2


class MsalHttp:
    """An HTTP client for msal that answers as Entra's discovery does, and keeps the form."""

    form: dict[str, str]

    def get(self, url: str, **_: Any) -> Any:
        del url
        found = {"token_endpoint": TOKEN_URI, "authorization_endpoint": TOKEN_URI, "issuer": "x"}
        return SimpleNamespace(status_code=200, headers={}, text=json.dumps(found))

    def post(self, url: str, *, data: Any = None, **_: Any) -> Any:
        assert url == TOKEN_URI
        fields = parse_qs(data) if isinstance(data, str) else data
        self.form = {k: v[0] if isinstance(v, list) else v for k, v in fields.items()}
        answer = {"token_type": "Bearer", "expires_in": 3600, "access_token": "of-msal"}
        return SimpleNamespace(status_code=200, headers={}, text=json.dumps(answer))

    def close(self) -> None:
        """Nothing is open."""


def test_our_assertion_says_what_msals_does_for_the_same_certificate(tmp_path: Path) -> None:
    file = tmp_path / "bot.pfx"
    file.write_bytes(PFX)
    client = MsalHttp()
    msal: Any = importlib.import_module("msal")  # it has no types
    application = msal.ConfidentialClientApplication(
        CLIENT,
        client_credential={"private_key_pfx_path": str(file), "passphrase": PASSPHRASE},
        authority=TOKEN_URI.removesuffix("/oauth2/v2.0/token"),
        instance_discovery=False,
        http_client=client,
    )
    application.acquire_token_for_client(["https://outlook.office365.com/.default"])
    certificate = ClientCertificate.from_pfx(file, password=PASSPHRASE)
    ours = certificate.form_fields(Purpose())
    assert ours["client_assertion_type"] == client.form["client_assertion_type"]
    assert "client_secret" not in client.form

    (our_header, our_claims), (header, claims) = assertion_of(ours), assertion_of(client.form)
    header["x5t#S256"] = header["x5t#S256"].rstrip("=")  # RFC 7515 has it without padding
    assert our_header == header
    for name in ("aud", "iss", "sub"):
        assert our_claims[name] == claims[name]
    assert our_claims.keys() - claims.keys() == {"nbf"}  # Microsoft's page has it
    assert claims.keys() <= our_claims.keys()
    assert abs(our_claims["iat"] - claims["iat"]) < 60
    assert our_claims["exp"] - our_claims["iat"] == (claims["exp"] - claims["iat"]) / 2


def test_a_certificate_that_ends_while_the_program_runs_fails_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = ClientCertificate.from_pem(PEM)
    later = SimpleNamespace(
        time=lambda: certificate.expires_on + 1.0, strftime=time.strftime, gmtime=time.gmtime
    )
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(None, certificate=certificate)
        monkeypatch.setattr(reading, "time", later)
        monkeypatch.setattr(credentials, "time", later)
        with pytest.raises(TokenError, match="the certificate expired on 20") as raised:
            source.get_token()
    assert endpoint.forms == []
    assert not raised.value.retryable
    assert raised.value.advice is not None
    assert raised.value.advice.id == "certificate-not-registered"


def test_a_certificate_that_entra_does_not_know_gets_that_advice_and_no_assertion_is_shown() -> (
    None
):
    certificate = ClientCertificate.from_pem(PEM)
    with TokenEndpoint(rejected(700027)) as endpoint:
        source = endpoint.source(None, certificate=certificate)

        def echo(connection: Any) -> None:
            assertion = endpoint.forms[-1]["client_assertion"]
            body = {
                "error": "invalid_client",
                "error_description": f"AADSTS700027: you sent {assertion}",
            }
            connection.sendall(http(401, body))

        with pytest.raises(TokenRequestRejected) as raised:
            source.get_token()
        endpoint.then(echo)
        with pytest.raises(TokenError) as echoed:
            source.get_token(claims="{}")
    assert raised.value.advice is not None
    assert raised.value.advice.id == "certificate-not-registered"
    assert THUMBPRINT in str(raised.value)  # to compare with the portal's list
    for form in endpoint.forms:
        head, payload, signature = form["client_assertion"].split(".")
        for error in (raised.value, echoed.value):
            shown = everything_in(error)
            assert not any(part in shown for part in (head, payload, signature))


# ---- as a value ------------------------------------------------------------------------------


def test_certificates_are_equal_by_what_they_certify_and_share_their_token() -> None:
    first = ClientCertificate.from_pem(PEM)
    same = ClientCertificate.from_pfx(PFX, password=PASSPHRASE)
    renewed = ClientCertificate.from_pem(key_pem(KEY) + pem_of(certificate_of(KEY)))
    assert first == same
    assert hash(first) == hash(same)
    assert first != renewed
    assert first != THUMBPRINT
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        sources = [endpoint.source(None, certificate=c) for c in (first, same, renewed)]
        assert [source.get_token().token for source in sources] == ["one", "one", "two"]
    assert sources[0] == sources[1]


def test_it_shows_its_thumbprint_and_its_end_and_copies_but_is_not_pickled() -> None:
    certificate = ClientCertificate.from_pem(PEM)
    end = time.strftime("%Y-%m-%d", time.gmtime(certificate.expires_on))
    assert repr(certificate) == f"<ClientCertificate {THUMBPRINT} until {end}>"
    assert certificate.known == {"thumbprint": THUMBPRINT}
    assert copy.copy(certificate) is certificate
    assert copy.deepcopy([certificate])[0] is certificate
    with pytest.raises(TypeError, match="load it in each process with from_pem"):
        pickle.dumps(certificate)
    private = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    shown = [repr(getattr(certificate, name)) for name in dir(certificate)]
    assert not any(repr(private[-30:])[2:-1] in text for text in shown)


# ---- one credential --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "one of client_secret, certificate and assertion, and none was given"),
        ({"client_secret": "s3cr3t-value", "certificate": 1}, "not client_secret and certificate"),
        ({"certificate": "s3cr3t-value", "assertion": str}, "not certificate and assertion"),
        ({"certificate": "s3cr3t-value"}, "must be a ClientCertificate, not str"),
        ({"assertion": "s3cr3t-value"}, "assertion must be a callable that returns one, not str"),
    ],
)
def test_a_source_takes_exactly_one_credential(options: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text) as raised:
        TokenSource(TENANT, CLIENT, **options)
    assert "s3cr3t-value" not in everything_in(raised.value)
