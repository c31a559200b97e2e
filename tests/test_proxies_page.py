"""docs/how-to/proxies.md, run as it stands through a real proxy."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import trustme
from support import HOST
from support.connect_proxy import ConnectProxy
from support.pages import DOCS, Block, blocks, run

from exo_imap_oauth import InboxConfig, check_setup
from exo_imap_oauth.errors import (
    ConnectionFailed,
    InsecureConnectionError,
    TokenEndpointUnavailable,
)

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.advice import Advice
    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/proxies.md"
PLAIN, WITH_PASSWORD = blocks(PAGE, "sh")
CONTEXT, TRUSTSTORE = blocks(PAGE, "python")
CONTEXT_OUTPUT, TRUSTSTORE_OUTPUT, REFUSED, NOBODY, INSPECTED, SOCKS, BUNDLE = (
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


def at_proxy_example(port: int, monkeypatch: pytest.MonkeyPatch, credential: str = "") -> None:
    """Have the proxy of the page's examples be the one at this port of loopback."""
    real = socket.getaddrinfo

    def look_up(host: str, at: int, *arguments: Any, **options: Any) -> Any:
        place = (HOST, port) if host == "proxy.example" else (host, at)
        return real(*place, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{credential}proxy.example:8080")


def shown(inbox: InboxConfig, check: str, **options: Any) -> str:
    """What a report shows of a check that failed."""
    report = str(check_setup(inbox, timeout=10.0, **options))
    found = re.search(rf"^FAILED   {check} .*\n(?: .*\n)+", report, re.MULTILINE)
    assert found, report
    return found[0]


def without_numbers(report: str) -> str:
    """It without the numbers of systems (errno) and of lines in CPython's source."""
    return re.sub(r"(Errno |_ssl\.c:)\d+", r"\1", " ".join(report.split()))


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
        at_proxy_example(proxy.port, monkeypatch, password)
        said = shown(at_microsoft(exchange), "token-endpoint", ssl_context=exchange.ssl_context)
    assert said == REFUSED


def test_the_report_of_a_proxy_that_forbids_the_host(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(upstream(exchange), status="403 Forbidden") as proxy:
        at_proxy_example(proxy.port, monkeypatch)
        said = " ".join(shown(at_microsoft(exchange), "token-endpoint").split())
        with pytest.raises(TokenEndpointUnavailable) as raised:
            at_microsoft(exchange).token_source().get_token()
        assert len(proxy.targets) == 2  # one of each: neither is tried again
    assert "through the proxy proxy.example:8080 (HTTPS_PROXY): OSError: Tunnel connection" in said
    assert "failed: 403 Forbidden" in said
    assert "Fix: Ask whoever runs the proxy to allow the host login.microsoftonline.com" in said
    assert not raised.value.retryable


def test_the_report_of_a_proxy_where_nobody_listens(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((HOST, 0)) as closed:
        at_proxy_example(closed.getsockname()[1], monkeypatch)
    said = shown(at_microsoft(exchange), "token-endpoint")
    assert without_numbers(said) == without_numbers(NOBODY)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_whose_name_is_unknown_is_named_with_its_variable(
    variable: str, exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv(variable, "http://user:pass-word@proxy.example:3128/")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        said = " ".join(shown(at_microsoft(exchange), "token-endpoint").split())
    assert f"through the proxy proxy.example:3128 ({variable}): gaierror: " in said
    assert f"Check the address of the proxy in {variable}," in said
    assert "pass-word" not in said
    assert "user" not in said


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
        at_proxy_example(proxy.port, monkeypatch)
        said = shown(at_microsoft(exchange), "token-endpoint")
    assert without_numbers(said) == without_numbers(INSPECTED)
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


def test_the_report_of_a_bundle_that_is_not_there_is_one_for_both_servers(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/company-ca.pem")
    assert shown(exchange.inbox, "token-endpoint") == BUNDLE
    assert shown(exchange.inbox, "imap-endpoint") == (
        BUNDLE.partition("    Cause:")[0].replace("token-endpoint ", "imap-endpoint  ")
        + "    Cause and fix: those of token-endpoint.\n"
    )
    assert exchange.token_requests == ()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_errors_on_both_legs_name_the_variable_and_the_bundle(
    variable: str,
    content: str | None,
    exchange: ReadyExchange,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = tmp_path / "ca.pem"  # its name is new: a context is kept by what the variables name
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv(variable, str(bundle))
    advice: list[Advice | None] = []
    with pytest.raises(TokenEndpointUnavailable) as token:
        exchange.inbox.token_source().get_token()
    with pytest.raises(ConnectionFailed) as imap:
        exchange.inbox.open(token="a.b.c").__enter__()
    advice += [token.value.advice, imap.value.advice]
    report = check_setup(exchange.inbox, timeout=30.0)
    ends = ("token-endpoint", "imap-endpoint")
    advice += [check.advice for check in report.checks if check.id in ends]
    assert len(advice) == 4
    assert len({*advice}) == 1
    assert advice[0] is not None
    assert advice[0].cause.startswith(f"{variable} names {bundle}, which cannot be read")
    assert advice[0].fix.startswith(f"Correct the path in {variable}, or unset the variable.")
    assert not token.value.retryable
    assert not imap.value.retryable


def test_a_bundle_that_is_not_needed_is_not_blamed(
    exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    said = shown(at_microsoft(exchange), "imap-endpoint", ssl_context=ssl.create_default_context())
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "SSL_CERT_FILE names" not in said
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(exchange.write_ca(tmp_path / "ca.pem")))
    with ConnectProxy(upstream(exchange)) as proxy:
        at_proxy_example(proxy.port, monkeypatch)
        said = shown(at_microsoft(exchange), "token-endpoint")
    assert "Hostname mismatch" in " ".join(said.split())
    assert "SSL_CERT_FILE names" not in said
