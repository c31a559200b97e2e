"""The HTTPS exchange: whom it trusts, what it adds to a request, and how long it may take."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from support import HOST, client_context, server_context
from support.token_endpoint import TokenEndpoint, token

from exo_imap_oauth.errors import InsecureConnectionError, TokenEndpointUnavailable

if TYPE_CHECKING:
    from pathlib import Path


def test_netrc_adds_nothing_to_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine {HOST} login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with TokenEndpoint(token()) as endpoint:
        endpoint.source().get_token()
    assert "authorization" not in endpoint.headers[0].lower()


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_a_proxy_of_the_environment_is_used_with_the_same_context(
    scheme: str, monkeypatch: pytest.MonkeyPatch
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
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{HOST}:{listener.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        before = endpoint.ssl_context.cert_store_stats()
        assert endpoint.source().get_token().token == "tunnelled"
        assert endpoint.ssl_context.cert_store_stats() == before
        thread.join()
    assert [line.rpartition(b" ")[0] for line in asked] == [
        f"CONNECT {HOST}:{endpoint.port}".encode()
    ]


# ---- trust -----------------------------------------------------------------------------------


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


def test_a_context_that_is_weakened_during_the_handshake_gets_no_secret() -> None:
    class Weakened(ssl.SSLContext):
        def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
            try:
                return super().wrap_socket(*arguments, **options)
            finally:
                self.check_hostname, self.verify_mode = False, ssl.CERT_NONE

    context = Weakened(ssl.PROTOCOL_TLS_CLIENT)
    with TokenEndpoint(token()) as endpoint:
        context.load_verify_locations(cadata=_pem(endpoint))
        with pytest.raises(InsecureConnectionError):
            endpoint.source(ssl_context=context).get_token()
    assert endpoint.forms == []


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
    ca = trustme.CA()
    context = server_context(ca.issue_cert("elsewhere.example"))
    trusting = client_context()
    ca.configure_trust(trusting)  # pyright: ignore[reportUnknownMemberType] # names pyOpenSSL's context too
    with TokenEndpoint(token(), context=context) as endpoint:
        with pytest.raises(TokenEndpointUnavailable) as raised:
            endpoint.source(ssl_context=trusting).get_token()
    assert raised.value.advice
    assert raised.value.advice.id == "certificate-untrusted"


# ---- time and size ---------------------------------------------------------------------------


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
