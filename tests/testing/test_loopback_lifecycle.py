"""Starting, stopping, crowds, and what a test takes from the service."""

from __future__ import annotations

import gc
import re
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import javaproperties
import pytest
from testing.loopback_client import Wire, connect, fetch_token, log_in, sasl

from exo_imap_oauth.testing import LoopbackExchange, ready_exchange

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange


def test_starting_and_stopping_with_clients_connected(capsys: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    begin = time.perf_counter()
    with ready_exchange() as exchange:
        started = time.perf_counter() - begin
        port = exchange.port
        idle, fresh = Wire(exchange), Wire(exchange)
        idle.line()
        idle.authenticate(exchange.mailbox, fetch_token(exchange))
        idle.ask("A2 SELECT INBOX")
        idle.ask("A3 IDLE")
        handshaking = socket.create_connection(("127.0.0.1", port))
        half_a_request = socket.create_connection(("127.0.0.1", port))
        begin = time.perf_counter()
    stopped = time.perf_counter() - begin
    for client in (idle.socket, fresh.socket, handshaking, half_a_request):
        client.close()
    del idle, fresh
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert threading.active_count() == threads
    gc.collect()  # an unclosed socket or loop would warn here
    with capsys.disabled():
        print(f" [start {started * 1000:.0f} ms, stop {stopped * 1000:.0f} ms] ", end="")  # noqa: T201 - measured, not asserted


def test_a_connection_that_comes_while_it_stops_is_closed() -> None:
    def knock(port: int, is_over: threading.Event) -> None:
        with suppress(OSError):
            while not is_over.is_set():
                socket.create_connection(("127.0.0.1", port)).close()

    for _ in range(10):
        is_over = threading.Event()
        with LoopbackExchange() as exchange:
            arguments = exchange.port, is_over
            threads = [threading.Thread(target=knock, args=arguments) for _ in range(3)]
            for thread in threads:
                thread.start()
        is_over.set()
        for thread in threads:
            thread.join()
        gc.collect()  # an unclosed socket would warn here


def test_it_stops_when_the_body_raises() -> None:
    threads = threading.active_count()

    def fail() -> None:
        with ready_exchange() as exchange:
            connect(exchange).shutdown()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert threading.active_count() == threads


def test_fifty_clients_at_once() -> None:
    with ready_exchange() as exchange:
        barrier = threading.Barrier(50)

        def read_mail(number: int) -> bytes:
            barrier.wait()
            with log_in(exchange) as imap:
                imap.select()
                exchange.deliver(exchange.mailbox, b"Subject: %d\r\n\r\n" % number)
                imap.noop()
                _, (found,) = imap.search(None, "SUBJECT", f'"{number}"')
                assert isinstance(found, bytes)
                return found

        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(read_mail, range(1000, 1050)))
        assert len(set(found)) == 50
        assert len(exchange.logins) == len(exchange.token_requests) == 50


def test_a_client_that_does_not_trust_the_ca_harms_nobody() -> None:
    with ready_exchange(trust=False) as exchange:
        raw = socket.create_connection(("127.0.0.1", exchange.port))
        with raw, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
        socket.create_connection(("127.0.0.1", exchange.port)).close()
        with log_in(exchange) as imap:
            assert imap.select() == ("OK", [b"3"])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_certificate_fits_the_loopback_names(name: str) -> None:
    with ready_exchange() as exchange:
        raw = socket.create_connection(("127.0.0.1", exchange.port))
        with exchange.ssl_context.wrap_socket(raw, server_hostname=name) as client:
            assert client.getpeercert()


def test_the_context_trusts_its_own_ca_and_no_other() -> None:
    with ready_exchange() as one, ready_exchange() as two:
        assert one.ssl_context is one.ssl_context
        assert one.ssl_context.cert_store_stats()["x509_ca"] == 1
        raw = socket.create_connection(("127.0.0.1", one.port))
        with raw, pytest.raises(ssl.SSLCertVerificationError):
            two.ssl_context.wrap_socket(raw, server_hostname="localhost")


def test_it_serves_inside_a_with_statement_only() -> None:
    exchange = LoopbackExchange()
    with pytest.raises(RuntimeError, match="with statement"):
        exchange.add_mailbox("inbox@contoso.example")
    with exchange:
        exchange.add_mailbox("inbox@contoso.example")
    with pytest.raises(RuntimeError, match="with statement"):
        exchange.deliver("inbox@contoso.example", b"")
    with pytest.raises(RuntimeError, match="once only"):
        exchange.__enter__()


def test_write_config_holds_the_block_of_the_how_to(tmp_path: Path) -> None:
    with ready_exchange() as exchange:
        conf = exchange.write_config(tmp_path)
        file = conf / "cmsbs.properties"
        assert conf.name == "cmsbs-conf"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        prefix = "cmsbs.mail.imap."
        assert javaproperties.loads(file.read_text(encoding="latin-1")) == {
            prefix + "server": "localhost",
            prefix + "port": str(exchange.port),
            prefix + "ssl": "true",
            prefix + "user": exchange.mailbox,
            prefix + "authenticationMethod": "oauth2",
            prefix + "oauth2.accessTokenUri": exchange.token_uri(exchange.app.tenant_id),
            prefix + "oauth2.clientId": exchange.app.client_id,
            prefix + "oauth2.clientSecret": exchange.secret.value,
            prefix + "oauth2.scope": "https://outlook.office.com/.default",
            prefix + "oauth2.grantType": "client_credentials",
            prefix + "oauth2.debug": "true",
        }


def test_write_config_takes_the_newest_secret_and_the_first_mailbox(tmp_path: Path) -> None:
    with ready_exchange() as exchange:
        address = '"böx \\ \U0001f4e7"'
        exchange.add_mailbox(address)
        newest = exchange.add_client_secret(exchange.app)

        def written(mailbox: str | None = None) -> dict[str, str]:
            file = exchange.write_config(tmp_path, mailbox=mailbox) / "cmsbs.properties"
            return javaproperties.loads(file.read_text(encoding="latin-1"))

        assert written()["cmsbs.mail.imap.oauth2.clientSecret"] == newest.value
        assert written()["cmsbs.mail.imap.user"] == exchange.mailbox
        assert written(" leading")["cmsbs.mail.imap.user"] == " leading"
        assert written(address)["cmsbs.mail.imap.user"] == f'"{address}"'  # one pair is taken away


def test_write_config_replaces_its_own_file_and_no_other(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    file = exchange.write_config(tmp_path) / "cmsbs.properties"
    exchange.write_config(tmp_path)
    theirs = file.read_text().replace("https://localhost:", "https://login.microsoftonline.com:")
    file.write_text(theirs)
    with pytest.raises(FileExistsError, match="so it is kept; choose another folder"):
        exchange.write_config(tmp_path)
    assert file.read_text() == theirs


def test_write_config_says_which_step_is_missing(tmp_path: Path) -> None:
    with LoopbackExchange() as exchange:
        with pytest.raises(ValueError, match="add_client_secret comes first"):
            exchange.write_config(tmp_path)
        exchange.add_client_secret(exchange.register_app("app"))
        with pytest.raises(ValueError, match="add_mailbox comes first"):
            exchange.write_config(tmp_path)


def test_an_administrator_may_work_while_clients_are_served() -> None:
    with ready_exchange() as exchange:
        token = fetch_token(exchange)

        def administrate(number: int) -> None:
            app = exchange.register_app(f"app {number}")
            address = f"box{number}@contoso.example"
            exchange.add_mailbox(address, messages=1)
            exchange.new_service_principal(app.client_id, app.enterprise_object_id)
            exchange.add_mailbox_permission(address, exchange.app.enterprise_object_id)
            with connect(exchange) as imap:
                imap.authenticate("XOAUTH2", lambda _: sasl(address, token))
                assert imap.select() == ("OK", [b"1"])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(administrate, range(24)))
        assert {login.outcome for login in exchange.logins} == {"connected"}


@pytest.mark.parametrize("missing", ["pymap", "trustme", "h11", "jwt"])
def test_without_the_extra_the_import_says_what_to_install(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import exo_imap_oauth.testing"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert re.search(
        r"^ImportError: .*pip install 'exo-imap-oauth\[testing\]'$", run.stderr, re.MULTILINE
    )
