"""A ready exchange without pytest's fixtures, and what can be undone in it."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import pytest
import trustme
from testing.loopback_client import Wire, fetch_token, form, http

from exo_imap_oauth.errors import TokenEndpointUnavailable
from exo_imap_oauth.imap import ok
from exo_imap_oauth.testing import Fault, LoopbackExchange, ready_exchange
from exo_imap_oauth.testing._faults import (
    _AT_A_MESSAGE,
    _DEFAULT_REPLY,
    _DEFAULT_SECONDS,
    AT_A_COMMAND,
)
from exo_imap_oauth.testing._pool import ExchangePool
from exo_imap_oauth.testing._trust import DEFAULT_TRUST

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


def roles(exchange: ReadyExchange) -> object:
    claims = jwt.decode(fetch_token(exchange), options={"verify_signature": False})
    return claims.get("roles")


def test_its_inbox_opens_and_the_environment_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/company.pem")
    before = dict(os.environ)
    with ready_exchange() as exchange, exchange.inbox.open() as imap:
        assert imap.select() == ("OK", [b"3"])
        bundle = os.environ["SSL_CERT_FILE"]
    assert dict(os.environ) == before
    assert not os.path.exists(bundle)  # noqa: PTH110 - a name as the environment holds it


def test_two_at_once_are_both_trusted() -> None:
    with ready_exchange() as one, ready_exchange() as two:
        for exchange in (one, two):
            with exchange.inbox.open():
                pass
        assert one.inbox != two.inbox


def test_blocks_in_many_threads_are_trusted_and_leave_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/company.pem")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    before = dict(os.environ)
    all_are_inside = threading.Barrier(4, timeout=30)

    def read_so_often(number: int) -> int:
        messages = 0
        with ready_exchange() as exchange:
            all_are_inside.wait()
            for _ in range(number):  # so that they do not end in the order they began in
                with exchange.inbox.open() as imap:
                    messages += len(ok(imap.search(None, "ALL"))[0].split())
        return messages

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read_so_often, [1, 2, 3, 4])) == [3, 6, 9, 12]
    assert dict(os.environ) == before


def test_it_runs_beside_a_loop_such_as_that_of_a_notebook() -> None:
    async def cell() -> list[bytes]:
        with ready_exchange() as exchange, exchange.inbox.open() as imap:
            return ok(imap.search(None, "ALL"))

    assert asyncio.run(cell()) == [b"1 2 3"]


def test_blocks_may_end_in_the_order_in_which_they_began() -> None:
    before = dict(os.environ)
    first, second = ready_exchange(), ready_exchange()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with second.inbox.open() as imap:
        assert ok(imap.select()) == [b"3"]
    assert first.ca_pem not in bundle()
    second.__exit__(None, None, None)
    assert dict(os.environ) == before


def test_what_the_body_raises_leaves_the_block_and_no_trust() -> None:
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), ready_exchange() as exchange:
        raise ZeroDivisionError
    assert dict(os.environ) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((exchange.host, exchange.port))


def test_a_bundle_that_was_set_inside_a_block_counts_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    company = trustme.CA().cert_pem
    company.write_to_path(tmp_path / "company.pem")
    monkeypatch.setenv("SSL_CERT_FILE", "")  # restored at the end, whatever is set meanwhile
    before = dict(os.environ)
    with ready_exchange() as one:
        os.environ["SSL_CERT_FILE"] = str(tmp_path / "company.pem")
        with ready_exchange() as two:
            for authority in (company.bytes(), one.ca_pem, two.ca_pem):
                assert authority in bundle()
    assert dict(os.environ) == before


def test_a_bundle_that_cannot_be_read_leaves_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = dict(os.environ)

    def unreadable(_: object) -> bytes:
        raise PermissionError(str(tmp_path))

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    with pytest.raises(PermissionError), ready_exchange():
        pass
    assert dict(os.environ) == before


def test_many_blocks_one_after_the_other_do_not_fill_the_disk() -> None:
    folders: set[Path] = set()
    with DEFAULT_TRUST.kept():
        for _ in range(30):
            with DEFAULT_TRUST.trusted(trustme.CA().cert_pem.bytes()):
                folders.add(Path(os.environ["SSL_CERT_FILE"]).parent)
        (folder,) = folders
        assert len(list(folder.iterdir())) <= 20
    assert not folder.exists()


def bundle() -> bytes:
    return Path(os.environ["SSL_CERT_FILE"]).read_bytes()


def test_a_fetch_that_a_test_leaves_behind_does_not_meet_the_next_test() -> None:
    goes_on = threading.Event()
    with ExchangePool() as pool:
        with pool.factory() as factory:
            first = factory(ready=True)
            secret = first.secret.value

            def slow_secret() -> str:
                goes_on.wait(30)
                return secret

            inbox = replace(first.inbox, client_secret=slow_secret)
            with pytest.raises(TokenEndpointUnavailable):
                inbox.token_source(deadline=0.1).get_token()
        with pool.factory() as factory:
            fault = factory(ready=True).inject(Fault.TOKEN_RESET)
            goes_on.set()
            for thread in threading.enumerate():
                if thread.name.startswith("exo_imap_oauth-"):
                    thread.join(30)
            assert fault.hits == 0


def test_without_trust_its_context_is_needed() -> None:
    before = dict(os.environ)
    with ready_exchange(trust=False) as exchange:
        assert dict(os.environ) == before
        with pytest.raises(TokenEndpointUnavailable, match="certificate"), exchange.inbox.open():
            pass
        with exchange.inbox.open(ssl_context=exchange.ssl_context) as imap:
            assert imap.select() == ("OK", [b"3"])


def test_a_set_up_that_fails_leaves_neither_server_nor_trust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = ready_exchange()
    before = dict(os.environ)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(exchange, "register_app", fail)
    with pytest.raises(ZeroDivisionError):
        exchange.__enter__()
    assert dict(os.environ) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", exchange.port))


def test_it_has_a_certificate_if_wanted() -> None:
    with ready_exchange(trust=False) as exchange:
        assert exchange.certificate is None
    with ready_exchange(trust=False, certificate=True) as exchange:
        assert exchange.certificate is not None
        assert exchange.certificate.app == exchange.app
        assert exchange.certificate.pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_its_inbox_uses_the_certificate_if_there_is_one() -> None:
    with ready_exchange(certificate=True) as exchange:
        exchange.expire_client_secret(exchange.secret)
        assert exchange.inbox.client_secret is None
        with exchange.inbox.open() as imap:
            assert imap.select() == ("OK", [b"3"])


def test_an_app_without_a_secret_is_configured_without_one(tmp_path: Path) -> None:
    with ready_exchange(trust=False) as exchange:
        conf = exchange.write_config(tmp_path, app=exchange.app)
        text = (conf / "cmsbs.properties").read_text()
        assert exchange.app.client_id in text
        assert "clientSecret" not in text
        with pytest.raises(ValueError, match="not both"):
            exchange.write_config(tmp_path, app=exchange.app, secret=exchange.secret)


# ---- what is undone --------------------------------------------------------------------------


def test_consent_is_revoked_for_the_tokens_to_come(exchange: ReadyExchange) -> None:
    assert roles(exchange) == ["IMAP.AccessAsApp"]
    exchange.revoke_consent(exchange.app)
    assert roles(exchange) is None
    exchange.grant_admin_consent(exchange.app)
    assert roles(exchange) == ["IMAP.AccessAsApp"]


def test_a_permission_that_is_removed_stays_until_consent_is_given_again(
    exchange: ReadyExchange,
) -> None:
    exchange.remove_permission(exchange.app, "IMAP.AccessAsApp")
    assert roles(exchange) == ["IMAP.AccessAsApp"]
    exchange.grant_admin_consent(exchange.app)
    assert roles(exchange) is None
    with pytest.raises(ValueError, match="add_permission comes first"):
        exchange.remove_permission(exchange.app, "IMAP.AccessAsApp")


def test_a_secret_expires_at_once_and_alone(exchange: ReadyExchange) -> None:
    other = exchange.add_client_secret(exchange.app)
    exchange.expire_client_secret(exchange.secret)
    answer = http(exchange, exchange.token_uri(), form(exchange))
    assert answer.json()["error_codes"] == [7000222]
    assert fetch_token(exchange, client_secret=other.value)


# ---- what an answer says ---------------------------------------------------------------------


def test_no_two_tokens_are_equal(exchange: ReadyExchange) -> None:
    assert fetch_token(exchange) != fetch_token(exchange)


def test_an_answer_says_when_to_ask_again_if_it_is_told_to() -> None:
    def refresh_in(exchange: ReadyExchange) -> object:
        return http(exchange, exchange.token_uri(), form(exchange)).json().get("refresh_in")

    with ready_exchange(trust=False, refresh_in=1800) as exchange:
        assert refresh_in(exchange) == 1800
        exchange.refresh_in = None
        assert refresh_in(exchange) is None
        exchange.reset()
        assert exchange.refresh_in == 1800
    assert LoopbackExchange().refresh_in is None


# ---- help ------------------------------------------------------------------------------------


def described() -> dict[str, str]:
    """What ``help(Fault)`` says of each fault."""
    assert Fault.__doc__ is not None
    # Indented as in the source up to CPython 3.12, and not from 3.13 on.
    _, _, attributes = inspect.cleandoc(Fault.__doc__).partition("Attributes:\n")
    texts = (" ".join(text.split()) for text in attributes.split("\n    "))
    found: dict[str, str] = {}
    for text in texts:
        name, colon, rest = text.partition(": ")
        if colon and name in Fault.__members__:
            found[name] = rest
        else:
            found[list(found)[-1]] += " " + text
    return found


def test_help_tells_of_every_fault_what_it_takes() -> None:
    texts = described()
    assert list(texts) == list(Fault.__members__)
    for fault in Fault:
        taken = texts[fault.name].partition(")")[0] if texts[fault.name].startswith("(") else ""
        assert ("``seconds``" in taken) == (fault in _DEFAULT_SECONDS), fault
        assert ("``command``" in taken) == (fault in AT_A_COMMAND), fault
        assert ("``uid``" in taken) == (fault in _AT_A_MESSAGE), fault
        assert ("``reply``" in taken) == (fault in _DEFAULT_REPLY), fault


def test_what_the_servers_log_can_be_told_from_the_librarys_own(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, exchange: ReadyExchange
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(exchange._issuer, "verify", fail)
    with Wire(exchange) as wire:
        wire.line()
        assert wire.authenticate(exchange.mailbox, "token") == b""
    assert {record.name for record in caplog.records} == {"exo_imap_oauth.testing"}
