"""docs/how-to/proxies.md, run as it stands through a real proxy."""

from __future__ import annotations

import re
import ssl
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import trustme
from support.connect_proxy import ConnectProxy
from support.pages import DOCS, Block, blocks, run

from exo_imap_oauth import InboxConfig, check_setup
from exo_imap_oauth.errors import InsecureConnectionError, TokenEndpointUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/proxies.md"
PLAIN, WITH_PASSWORD = blocks(PAGE, "sh")
CONTEXT, TRUSTSTORE = blocks(PAGE, "python")
CONTEXT_OUTPUT, TRUSTSTORE_OUTPUT, REFUSED, INSPECTED, SOCKS = (
    block.text for block in blocks(PAGE, "text")
)
CONNECTED = "login.microsoftonline.com:443"
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*PROXIES, *TRUST):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.chdir(tmp_path)


def upstream(exchange: ReadyExchange) -> tuple[str, int]:
    """Where its token endpoint listens."""
    parts = urlsplit(exchange.token_uri())
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def at_microsoft(exchange: ReadyExchange) -> InboxConfig:
    """Its inbox, whose token endpoint has Microsoft's name: nothing but a proxy reaches it."""
    return InboxConfig.for_tenant(
        "contoso.onmicrosoft.com",
        user=exchange.mailbox,
        client_id=exchange.app.client_id,
        client_secret=exchange.secret.value,
        host=exchange.host,
        port=exchange.port,
    )


def exported(block: Block, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what a shell exports that runs the block, with the address of this proxy."""
    script = block.text.replace("proxy.example:8080", f"127.0.0.1:{proxy.port}")
    result = subprocess.run(
        ["sh", "-euc", f"{script}env"],
        env={},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    for name in PROXIES:
        if found := re.search(rf"^{name}=(.*)$", result.stdout, re.MULTILINE):
            monkeypatch.setenv(name, found[1])


def shown(inbox: InboxConfig, check: str, **options: Any) -> str:
    """What a report shows of a check that failed."""
    report = str(check_setup(inbox, timeout=10.0, **options))
    found = re.search(rf"^FAILED   {check} .*\n(?: .*\n)+", report, re.MULTILINE)
    assert found, report
    return found[0]


# ---- the token request -------------------------------------------------------------------------


def test_the_token_request_goes_through_the_proxy_and_imap_does_not(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(upstream(exchange)) as proxy:
        exported(PLAIN, proxy, monkeypatch)
        with pytest.raises(TokenEndpointUnavailable, match="certificate"):  # that of localhost
            at_microsoft(exchange).token_source(ssl_context=exchange.ssl_context).get_token()
        assert set(proxy.targets) == {CONNECTED}
        assert b"client_secret" not in proxy.seen

        with exchange.inbox.open(ssl_context=exchange.ssl_context):
            pass
        assert set(proxy.targets) == {CONNECTED}  # localhost is in NO_PROXY
        monkeypatch.delenv("NO_PROXY")
        source = exchange.inbox.token_source(ssl_context=exchange.ssl_context)
        source.get_token(claims="{}")
        assert proxy.targets[-1] == f"localhost:{upstream(exchange)[1]}"
        before = len(proxy.targets)
        with exchange.inbox.open(token=source, ssl_context=exchange.ssl_context):
            pass
        assert len(proxy.targets) == before


@pytest.mark.parametrize(
    ("variable", "used"),
    [("ALL_PROXY", True), ("https_proxy", True), ("HTTP_PROXY", False), ("http_proxy", False)],
)
def test_the_variables_count_as_the_page_says(
    variable: str, used: bool, exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(upstream(exchange)) as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        exchange.inbox.token_source(ssl_context=exchange.ssl_context).get_token(claims="{}")
        assert bool(proxy.targets) is used


def test_the_password_is_decoded_and_sent(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(upstream(exchange), user_and_password="user:a/b") as proxy:
        exported(WITH_PASSWORD, proxy, monkeypatch)
        exchange.inbox.token_source(ssl_context=exchange.ssl_context).get_token(claims="{}")
        assert len(proxy.targets) == 1


@pytest.mark.parametrize("password", ["", "user:wrong@"])
def test_the_report_of_a_proxy_that_wants_another_password(
    password: str, exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(upstream(exchange), user_and_password="user:a/b") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{password}127.0.0.1:{proxy.port}")
        said = shown(at_microsoft(exchange), "token-endpoint", ssl_context=exchange.ssl_context)
    assert said == REFUSED
    assert "wrong" not in said.replace("a wrong host name", "")


def test_the_report_of_a_proxy_that_forbids_the_host(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(upstream(exchange), status="403 Forbidden") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        said = shown(at_microsoft(exchange), "token-endpoint")
    assert " ".join(said.split()).startswith(
        "FAILED token-endpoint login.microsoftonline.com cannot be reached: OSError: Tunnel"
        " connection failed: 403 Forbidden"
    )


def test_the_report_of_a_proxy_that_cannot_work(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    assert shown(at_microsoft(exchange), "token-endpoint") == SOCKS


# ---- trust -------------------------------------------------------------------------------------


@pytest.fixture(name="company")
def _company() -> trustme.CA:
    return trustme.CA(organization_name="Company")


def test_the_report_of_a_proxy_that_inspects_tls(
    exchange: ReadyExchange, company: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "login.microsoftonline.com"
    with ConnectProxy(upstream(exchange), inspector=company, inspected_host=name) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        said = shown(at_microsoft(exchange), "token-endpoint")
    # The line of CPython's source that stands there differs from version to version.
    told, page = (
        re.sub(r"_ssl\.c:\d+", "_ssl.c", " ".join(each.split())) for each in (said, INSPECTED)
    )
    assert told == page
    assert b"client_secret" not in proxy.seen


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_variable_makes_both_connections_trust_the_companys_ca(
    variable: str, exchange: ReadyExchange, company: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, trusted = "login.microsoftonline.com", exchange.ssl_context
    company.cert_pem.write_to_path("company-ca.pem")
    tokens = ConnectProxy(upstream(exchange), trusted, inspector=company, inspected_host=name)
    mail = ConnectProxy((exchange.host, exchange.port), trusted, inspector=company)
    with tokens, mail:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tokens.port}")
        monkeypatch.setenv(variable, "company-ca.pem")
        inbox = InboxConfig.for_tenant(
            exchange.app.tenant_id,
            user=exchange.mailbox,
            client_id=exchange.app.client_id,
            client_secret=exchange.secret.value,
            host=exchange.host,
            port=mail.inspecting_port,
        )
        report = check_setup(inbox, timeout=30.0)
    assert report.ok, str(report)
    assert b"client_secret" in tokens.seen  # it can be read there, as the page warns
    assert b"AUTHENTICATE XOAUTH2" in mail.seen


def test_imap_that_is_inspected_fails_in_the_same_way(
    exchange: ReadyExchange, company: trustme.CA
) -> None:
    with ConnectProxy((exchange.host, exchange.port), inspector=company) as mail:
        inbox = InboxConfig(user=exchange.mailbox, host="localhost", port=mail.inspecting_port)
        said = shown(inbox, "imap-endpoint", token_source=lambda: "a.b.c")
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert mail.seen == b""


def test_the_context_of_the_page_trusts_the_companys_ca(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    exchange.write_config(tmp_path)
    path = exchange.write_ca(tmp_path / "company-ca.pem")
    text = CONTEXT.text.replace("/etc/ssl/company-ca.pem", str(path))
    assert text != CONTEXT.text
    assert run(CONTEXT._replace(text=text)) == CONTEXT_OUTPUT


def test_truststore_trusts_what_the_system_does(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("truststore", reason="pip install truststore")
    trusted_exchange.write_config(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted_exchange.write_ca("ca.pem")))
    assert run(TRUSTSTORE) == TRUSTSTORE_OUTPUT


def test_verification_cannot_be_switched_off(exchange: ReadyExchange) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(InsecureConnectionError):
        exchange.inbox.token_source(ssl_context=context).get_token()
    assert exchange.token_requests == ()
    with pytest.raises(InsecureConnectionError):
        with exchange.inbox.open(token="a.b.c", ssl_context=context):
            pass
    assert exchange.logins == ()


def test_a_bundle_that_is_not_there_is_named(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "nowhere.pem")
    said = shown(exchange.inbox, "imap-endpoint")
    assert "the CA bundle nowhere.pem that the environment names cannot be read" in " ".join(
        said.split()
    )
