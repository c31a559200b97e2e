"""One token request: what goes out, what comes back, and what is tried again."""

from __future__ import annotations

import logging
import pickle
import re
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest
import trustme
from support import HOST, client_context
from support.leaks import everything_in
from support.token_endpoint import CLIENT, SECRET, TENANT, TokenEndpoint, http, rejected, token

from exo_imap_oauth import TokenSource
from exo_imap_oauth.errors import (
    InsecureConnectionError,
    TokenEndpointUnavailable,
    TokenError,
    TokenRequestRejected,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_the_form_is_the_client_credentials_request_of_rfc_6749() -> None:
    with TokenEndpoint(token("it.is.one")) as endpoint:
        issued = endpoint.source(scope="https://outlook.office.com/.default").get_token()
    assert issued.token == "it.is.one"
    assert endpoint.forms == [
        {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "scope": "https://outlook.office.com/.default",
            "grant_type": "client_credentials",
        }
    ]


def test_netrc_adds_nothing_to_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine {HOST} login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with TokenEndpoint(token()) as endpoint:
        endpoint.source().get_token()
    assert "authorization" not in endpoint.headers[0].lower()


def test_a_users_context_is_used_as_given_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with TokenEndpoint(token()) as endpoint:
        before = endpoint.ssl_context.cert_store_stats()
        endpoint.source().get_token()
    assert endpoint.ssl_context.cert_store_stats() == before
    assert endpoint.ssl_context.verify_mode is ssl.CERT_REQUIRED


def test_the_users_context_keeps_its_alpn_for_imap() -> None:
    offered: list[list[str]] = []

    class Recording(ssl.SSLContext):
        def set_alpn_protocols(self, alpn_protocols: list[str]) -> None:  # type: ignore[override] # a list will do
            offered.append(alpn_protocols)

    context = Recording(ssl.PROTOCOL_TLS_CLIENT)
    with TokenEndpoint(token()) as endpoint:
        context.load_verify_locations(cadata=_pem(endpoint))
        endpoint.source(ssl_context=context).get_token()
    assert offered == []


def _pem(endpoint: TokenEndpoint) -> str:
    der = endpoint.ssl_context.get_ca_certs(binary_form=True)[0]
    return ssl.DER_cert_to_PEM_cert(der)


def test_the_default_context_trusts_the_bundle_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TokenEndpoint(token()) as endpoint:
        bundle = tmp_path / "ca.pem"
        bundle.write_text(_pem(endpoint))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        assert endpoint.source(ssl_context=None).get_token().token == "a.token"


def test_a_bundle_that_is_missing_fails_at_once_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenEndpointUnavailable) as raised:
        endpoint.source(ssl_context=None).get_token()
    assert "/nowhere/ca.pem" in str(raised.value)
    assert endpoint.forms == []


# ---- refusals --------------------------------------------------------------------------------


def test_a_refusal_tells_all_that_entra_told() -> None:
    with TokenEndpoint(rejected()) as endpoint, pytest.raises(TokenRequestRejected) as raised:
        endpoint.source().get_token()
    error = raised.value
    assert (error.error, error.error_codes, error.status) == ("invalid_client", (7000215,), 401)
    assert (error.correlation_id, error.trace_id) == ("corr-1", "trace-1")
    assert not error.retryable
    assert error.advice
    assert error.advice.id == "secret-wrong"
    first, *rest = str(error).splitlines()
    assert "AADSTS7000215: Invalid client secret provided. (HTTP 401, invalid_client" in first
    assert "Trace ID" not in first
    assert rest[0].startswith("  Cause: ")
    assert len(endpoint.forms) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_cannot_heal_is_asked_once(status: int) -> None:
    with TokenEndpoint(rejected(status=status)) as endpoint:
        with pytest.raises(TokenRequestRejected):
            endpoint.source().get_token()
        assert len(endpoint.forms) == 1


def test_a_secret_id_in_place_of_the_secret_is_recognised() -> None:
    guid = "91b7a0f5-9f56-4d36-92f4-b8b0c5c8f6a1"
    with TokenEndpoint(rejected()) as endpoint, pytest.raises(TokenRequestRejected) as raised:
        endpoint.source(guid).get_token()
    assert "Secret ID" in str(raised.value)
    assert guid not in str(raised.value)


def test_a_temporary_refusal_is_retryable() -> None:
    answer = rejected(90033, 400, "temporarily_unavailable")
    with TokenEndpoint(answer) as endpoint, pytest.raises(TokenRequestRejected) as raised:
        endpoint.source().get_token()
    assert raised.value.retryable


# ---- what may heal ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(http(429, {"error": "x"}, Retry_After="0"), id="429 JSON"),
        pytest.param(http(429, "<html>slow down", json_body=False), id="429 HTML"),
        *(pytest.param(http(status), id=str(status)) for status in (500, 502, 503, 504)),
        pytest.param(b"", id="closed without an answer"),
        pytest.param(token()[:-9], id="truncated body"),
    ],
)
def test_what_may_heal_is_tried_again(failure: bytes) -> None:
    with TokenEndpoint(failure, token("healed")) as endpoint:
        assert endpoint.source().get_token().token == "healed"
    assert len(endpoint.forms) == 2


def test_retry_after_beyond_the_deadline_fails_at_once() -> None:
    with TokenEndpoint(http(503, Retry_After="3000")) as endpoint:
        before = time.monotonic()
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(deadline=20).get_token()
        assert time.monotonic() - before < 20
    assert raised.value.retry_after == 3000
    assert raised.value.retryable
    assert len(endpoint.forms) == 1


@pytest.mark.usefixtures("longest_pauses")
def test_tries_end_with_the_deadline_and_the_last_answer() -> None:
    page = "<html><title>502</title>Bad\x07 Gateway"
    with TokenEndpoint(http(502, page, json_body=False)) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(deadline=1.4).get_token()
    assert r"HTTP 502, <html><title>502</title>Bad\x07 Gateway" in str(raised.value)
    assert raised.value.retry_after is None
    assert len(endpoint.forms) == 2


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (http(200, "<html>Welcome to the hotel", json_body=False), "HTTP 200, not a JSON object"),
        (http(200, {"access_token": "t", "expires_in": 3600}), "HTTP 200"),
        (http(200, {"access_token": "", "expires_in": 3600, "token_type": "Bearer"}), "HTTP 200"),
        (token(expires_in=None), "HTTP 200"),
        (token(expires_in=-1), "HTTP 200"),
        (token(expires_in=1e300), "HTTP 200"),
        (token(expires_in="soon"), "HTTP 200"),
        (http(200, [1, 2]), "HTTP 200"),
        (http(200, "[" * 100_000, json_body=False), "HTTP 200"),
        (http(302, Location="https://elsewhere.example/x?y"), "a redirect to elsewhere.example"),
        (http(404, "no such page", json_body=False), "HTTP 404, no such page"),
        (http(200, "x" * (1 << 20) + "x", json_body=False), "longer than 1048576 bytes"),
    ],
)
def test_an_answer_that_is_no_token_is_named_and_not_asked_for_again(
    answer: bytes, text: str
) -> None:
    with TokenEndpoint(answer) as endpoint, pytest.raises(TokenEndpointUnavailable) as raised:
        endpoint.source().get_token()
    assert text in str(raised.value)
    assert len(endpoint.forms) == 1


def test_numbers_may_come_as_strings() -> None:
    with TokenEndpoint(token(expires_in="3599")) as endpoint:
        issued = endpoint.source().get_token()
    assert issued.expires_on == int(issued.obtained_on + 3599)


def test_headers_that_drip_are_cut_off_and_asked_for_again() -> None:
    def drip(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not endpoint.release.wait(0.02):
            connection.sendall(b"x")

    with TokenEndpoint(drip, token("at.last")) as endpoint:
        assert endpoint.source(timeout=1).get_token().token == "at.last"
    assert len(endpoint.forms) == 2


def test_a_body_that_drips_is_cut_off_and_asked_for_again() -> None:
    def drip(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8000\r\n\r\n")
        while not endpoint.release.wait(0.02):
            connection.sendall(b" ")

    with TokenEndpoint(drip, token("at.last")) as endpoint:
        assert endpoint.source(timeout=1).get_token().token == "at.last"
    assert len(endpoint.forms) == 2


def test_the_body_of_a_redirect_is_not_read() -> None:
    sent = 0

    def endless(connection: ssl.SSLSocket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://[x\r\n\r\n")
        while not endpoint.release.is_set():
            connection.sendall(b"x" * 65536)
            sent += 65536

    with TokenEndpoint(endless) as endpoint:
        with pytest.raises(TokenEndpointUnavailable, match="1048576 bytes"):
            endpoint.source().get_token()
    assert sent < 20_000_000


def test_a_location_that_makes_no_sense_is_no_obstacle() -> None:
    with TokenEndpoint(http(302, Location="https://[x")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable, match="a redirect to somewhere"):
            endpoint.source().get_token()


def test_a_retry_after_of_zero_is_no_invitation_to_spin() -> None:
    with TokenEndpoint(http(503, Retry_After="0")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable):
            endpoint.source(deadline=1).get_token()
    assert len(endpoint.forms) < 20


@pytest.mark.parametrize("value", ["9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "soon"])
def test_a_retry_after_that_makes_no_sense_is_ignored(value: str) -> None:
    with TokenEndpoint(http(503, Retry_After=value), token("healed")) as endpoint:
        assert endpoint.source().get_token().token == "healed"


def test_the_servers_own_retry_after_is_kept_however_short() -> None:
    with TokenEndpoint(http(503, Retry_After="7")) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(deadline=5).get_token()
    assert raised.value.retry_after == 7


def test_words_of_imap_in_a_gateways_page_get_no_advice_on_imap() -> None:
    page = http(500, "mail gateway: NO AUTHENTICATE failed.", Retry_After="60", json_body=False)
    with TokenEndpoint(page) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source().get_token()
    assert raised.value.advice
    assert raised.value.advice.id == "entra-unavailable"


# ---- connections -----------------------------------------------------------------------------


@pytest.mark.usefixtures("longest_pauses")
def test_a_refused_connection_says_so_and_what_to_check() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(deadline=1.4)
    with pytest.raises(TokenEndpointUnavailable) as raised:
        source.get_token()
    assert "ConnectionRefusedError" in str(raised.value)
    assert raised.value.advice
    assert raised.value.advice.id == "token-endpoint-unreachable"
    assert f"{HOST}:{endpoint.port}" in raised.value.advice.cause + raised.value.advice.fix
    assert ":993" not in str(raised.value)


def test_a_connection_that_stands_too_late_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    timeout = 1.0
    real = socket.getaddrinfo
    delays = iter([timeout + 0.1])

    def name_service(*arguments: Any, **options: Any) -> Any:
        time.sleep(next(delays, 0))  # longer than anybody waits, and no timeout of a socket sees it
        return real(*arguments, **options)

    with TokenEndpoint(token("in.time")) as endpoint:
        monkeypatch.setattr(socket, "getaddrinfo", name_service)
        assert endpoint.source(timeout=timeout).get_token().token == "in.time"
    assert len(endpoint.forms) == 1


def test_a_certificate_that_is_not_trusted_fails_at_once() -> None:
    with TokenEndpoint(token()) as endpoint:
        before = time.monotonic()
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(ssl_context=ssl.create_default_context()).get_token()
        assert time.monotonic() - before < 10
    assert raised.value.advice
    assert raised.value.advice.id == "certificate-untrusted"
    assert endpoint.forms == []


def test_a_certificate_of_another_host_fails() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca = trustme.CA()
    ca.issue_cert("elsewhere.example").configure_cert(context)  # pyright: ignore[reportUnknownMemberType] # names pyOpenSSL's context too
    trusting = client_context()
    ca.configure_trust(trusting)  # pyright: ignore[reportUnknownMemberType] # the same
    with TokenEndpoint(token(), context=context) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(ssl_context=trusting).get_token()
    assert raised.value.advice
    assert raised.value.advice.id == "certificate-untrusted"


def test_a_proxy_of_the_environment_is_used_with_the_same_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []

    def tunnel(listener: socket.socket, port: int) -> None:
        client, _ = listener.accept()
        asked.append(client.recv(4096).partition(b"\r\n")[0])
        server = socket.create_connection((HOST, port))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def copy(source: socket.socket, target: socket.socket) -> None:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=copy, args=(server, client))
        back.start()
        copy(client, server)
        back.join()
        client.close()
        server.close()

    with TokenEndpoint(token("tunnelled")) as endpoint, socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=tunnel, args=(listener, endpoint.port))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{listener.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        before = endpoint.ssl_context.cert_store_stats()
        assert endpoint.source().get_token().token == "tunnelled"
        assert endpoint.ssl_context.cert_store_stats() == before
        thread.join()
    assert [line.rpartition(b" ")[0] for line in asked] == [
        f"CONNECT {HOST}:{endpoint.port}".encode()
    ]


# ---- nothing leaks ---------------------------------------------------------------------------


def test_an_echo_of_the_request_is_not_quoted() -> None:
    with TokenEndpoint(http(400, f"you sent {SECRET}", json_body=False)) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source().get_token()
    assert SECRET not in str(raised.value)
    assert "you sent (hidden)" in str(raised.value)


@pytest.mark.parametrize(
    "escaped",
    [
        SECRET,
        quote_plus(SECRET),
        SECRET.replace("/", "\\/"),
        SECRET.replace("+", "\\u002B").replace("&", "\\u0026"),
    ],
)
def test_no_escape_of_json_hides_an_echo(escaped: str) -> None:
    body = f'{{"error": "x", "error_description": "you sent {escaped}"}}'
    with TokenEndpoint(http(400, body, json_body=False)) as endpoint:
        with pytest.raises(TokenError) as raised:
            endpoint.source().get_token()
    assert SECRET not in str(raised.value)
    assert quote_plus(SECRET) not in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"client_secret": f"{SECRET}\n"},
        {"client_secret": SECRET.encode()},
        {"cloud": "worldwide"},
        {"timeout": -1},
        {"token_uri": "http://login.example/token"},
    ],
)
def test_no_frame_of_a_refused_argument_shows_the_secret(arguments: dict[str, Any]) -> None:
    good: dict[str, Any] = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET}
    with pytest.raises((TypeError, ValueError)) as raised:
        TokenSource(**(good | arguments))
    assert SECRET not in everything_in(raised.value)


def test_a_broken_answer_that_holds_a_token_is_not_quoted() -> None:
    body = '{"access_token": "eyJ.very.secret", "expires_in": '
    with TokenEndpoint(http(200, body, json_body=False)) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source().get_token()
    assert "very" not in str(raised.value)


@pytest.mark.parametrize(
    "answer", [rejected(), http(502), http(200, "no", json_body=False), b"", None]
)
def test_no_frame_text_record_or_pickle_of_a_failure_holds_the_secret(
    answer: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with TokenEndpoint(answer or b"") as endpoint:
        context = ssl.create_default_context() if answer is None else endpoint.ssl_context
        source = endpoint.source(deadline=0.3, ssl_context=context)
        with pytest.raises(TokenError) as raised:
            source.get_token()
    seen = caplog.text + repr(source) + everything_in(raised.value)
    assert SECRET not in seen
    assert SECRET.encode() not in pickle.dumps(raised.value)


def test_a_secret_callable_that_fails_is_reported_with_its_own_error() -> None:
    def vault() -> str:
        raise LookupError("the vault is sealed")

    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenError) as raised:
        endpoint.source(vault).get_token()
    assert "LookupError: the vault is sealed" in str(raised.value)
    assert endpoint.forms == []


@pytest.mark.parametrize("returned", ["", None, "line\n"])
def test_a_secret_callable_that_returns_no_secret_is_reported(returned: object) -> None:
    with TokenEndpoint(token()) as endpoint, pytest.raises(TokenError) as raised:
        endpoint.source(lambda: returned).get_token()
    assert "client secret" in str(raised.value)
    assert endpoint.forms == []


@pytest.mark.parametrize("verify_mode", [ssl.CERT_NONE, ssl.CERT_REQUIRED])
def test_a_context_that_does_not_verify_gets_no_secret(verify_mode: ssl.VerifyMode) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = verify_mode
    with pytest.raises(InsecureConnectionError, match="create_default_context"):
        TokenSource(TENANT, CLIENT, SECRET, ssl_context=context)


# ---- wrong arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"token_uri": "http://login.example/t/oauth2/v2.0/token"}, "https"),
        ({"token_uri": "https:///token"}, "https"),
        ({"token_uri": "https://u:p@login.example/token"}, "neither user"),
        ({"token_uri": "https://login.example/token#x"}, "fragment"),
        ({"tenant_id": ""}, "tenant_id is empty"),
        ({"tenant_id": "a/b"}, "GUID or a domain name"),
        ({"tenant_id": "a b"}, "tenant_id holds ' ' at position 1"),
        ({"client_id": "x\x01"}, r"client_id holds '\x01'"),
        ({"client_secret": ""}, "secret is empty"),
        ({"client_secret": "s\n"}, "line end"),
        ({"scope": ""}, "scope is empty"),
        ({"timeout": 0}, "timeout must be a positive number of seconds"),
        ({"deadline": float("inf")}, "deadline must be"),
        ({"deadline": 1e10}, "deadline must be"),
        ({"refresh_margin": -1}, "refresh_margin must be"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], text: str) -> None:
    good: dict[str, Any] = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET}
    with pytest.raises(ValueError, match=re.escape(text)):
        TokenSource(**(good | arguments))


@pytest.mark.parametrize(
    "arguments", [{"client_secret": None}, {"client_secret": 1}, {"scope": 1}, {"cloud": "china"}]
)
def test_arguments_of_a_wrong_type_are_refused(arguments: dict[str, Any]) -> None:
    good: dict[str, Any] = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET}
    with pytest.raises(TypeError):
        TokenSource(**(good | arguments))
