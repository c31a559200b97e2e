"""The default trust: the system's store, and what the environment names."""

from __future__ import annotations

import gc
import os
import selectors
import socket
import ssl
import struct
import warnings
from typing import TYPE_CHECKING, NoReturn

import pytest
import trustme
from support import HOST, authority, client_context

from exo_imap_oauth._imap import client
from exo_imap_oauth._imap.connection import Server, connect
from exo_imap_oauth._tokens.https import _BorrowedContext
from exo_imap_oauth._trust import default_context
from exo_imap_oauth.errors import ConnectionFailed, TokenEndpointUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange


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
    with pytest.raises(OSError, match=r"^REQUESTS_CA_BUNDLE names the CA bundle /.*ca\.pem, which"):
        default_context()
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    assert default_context()


# ---- a bundle that changes on disk ------------------------------------------------------------


def write_in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def rename_over(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def rename_with_the_old_time(path: Path, data: bytes) -> None:
    before = path.stat()
    rename_over(path, data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("replace", [write_in_place, rename_over, rename_with_the_old_time])
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_bundle_that_was_replaced_is_read_again(
    variable: str,
    replace: Callable[[Path, bytes], None],
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, str(bundle))
    old = default_context()
    assert default_context() is old
    replace(bundle, trustme.CA(organization_name="The new one").cert_pem.bytes())
    new = default_context()
    assert "The new one" in " ".join(_names(new) - _names(old))
    assert default_context() is new


@pytest.mark.parametrize("replace", [write_in_place, rename_over])
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"])
def test_a_folder_of_certificates_that_changed_is_looked_at_again(
    variable: str,
    replace: Callable[[Path, bytes], None],
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenSSL keeps what it once found in a folder, by its name."""
    folders = f"/nowhere{os.pathsep}{bundle.parent}"
    monkeypatch.setenv(variable, folders if variable == "SSL_CERT_DIR" else str(bundle.parent))
    old = default_context()
    assert default_context() is old
    replace(bundle, trustme.CA().cert_pem.bytes())
    new = default_context()
    assert new is not old
    bundle.with_name("another.pem").write_bytes(b"")
    assert default_context() is not new


def test_a_bundle_that_is_gone_is_named_and_one_that_is_back_is_read(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    known = _names(default_context())
    away = bundle.rename(bundle.with_name("away"))
    with pytest.raises(OSError, match="REQUESTS_CA_BUNDLE names the CA bundle"):
        default_context()
    away.rename(bundle)
    assert _names(default_context()) == known


def test_the_next_connection_trusts_what_replaced_a_bundle(
    exchange: ReadyExchange, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with pytest.raises(TokenEndpointUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        exchange.inbox.token_source().get_token()
    source = exchange.inbox.token_source(ssl_context=exchange.ssl_context)
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        with exchange.inbox.open(token=source):
            pass
    exchange.write_ca(bundle)
    source.invalidate(source.get_token())
    with exchange.inbox.open() as imap:
        assert imap.state == "SELECTED"


# ---- a connection that is reset before TLS begins --------------------------------------------

RESET = struct.pack("ii", 1, 0)  # what SO_LINGER makes of close()


def reset_connection() -> socket.socket:
    """A connection that the server has reset, whose news has arrived."""
    with socket.create_server((HOST, 0)) as listener:
        connection = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    accepted.close()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        assert selector.select(60)
    return connection


@pytest.fixture
def no_socket_left() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(warning.message) for warning in told] == []


@pytest.mark.usefixtures("no_socket_left")
def test_a_token_endpoint_that_resets_before_tls_leaves_no_socket_open() -> None:
    with reset_connection() as connection, pytest.raises(ConnectionResetError):
        _BorrowedContext(client_context()).wrap_socket(connection, server_hostname=HOST)


@pytest.mark.usefixtures("no_socket_left")
def test_ctrl_c_as_tls_begins_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(ssl.SSLSocket, "setblocking", interrupted)  # wrap_socket() calls it
    with reset_connection() as connection, pytest.raises(KeyboardInterrupt):
        _BorrowedContext(client_context()).wrap_socket(connection, server_hostname=HOST)


@pytest.mark.usefixtures("no_socket_left")
def test_an_imap_server_that_resets_before_tls_leaves_no_socket_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reach(*_: object) -> socket.socket:
        return reset_connection()

    monkeypatch.setattr(client, "first_to_answer", reach)
    with pytest.raises(ConnectionFailed, match="ConnectionResetError"):
        connect(Server(HOST, 993, starttls=False), client_context(), 60)
