"""The three wires: greeting, capabilities, ENABLE, and what IMAP4rev2 changes."""

from __future__ import annotations

import base64
import re
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from testing.loopback_client import Wire, fetch_token

from exo_imap_oauth.testing import Fault, LoopbackExchange, ReadyExchange, ready_exchange
from exo_imap_oauth.testing._pool import ExchangePool

if TYPE_CHECKING:
    from collections.abc import Iterator

BEFORE = {
    "2026": b"* CAPABILITY IMAP4 IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR UIDPLUS MOVE ID"
    b" UNSELECT CHILDREN IDLE NAMESPACE LITERAL+\r\n",
    "2025": b"* CAPABILITY IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT"
    b" CHILDREN IDLE NAMESPACE LITERAL+\r\n",
}
BEFORE["rev2"] = BEFORE["2026"]
ADDED = {
    "2026": b"ENABLE IMAP4rev2 CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION"
    b" BACKENDAUTHENTICATE BACKENDAUTHENTICATE-IR",
    "2025": b"MOVE CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE",
}
ADDED["rev2"] = ADDED["2026"]
HOST = base64.b64encode("localhost".encode("utf-16-le"))
GUID = rb"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"
REV2 = [pytest.param("rev2", id="unasked"), pytest.param("2026", id="enabled")]


@pytest.fixture(name="exchange", params=["2026"])
def _exchange(request: pytest.FixtureRequest) -> Iterator[ReadyExchange]:
    with ready_exchange(trust=False, wire=request.param) as exchange:
        yield exchange


@pytest.fixture(name="wire")
def _wire(exchange: ReadyExchange) -> Iterator[Wire]:
    with Wire(exchange) as wire:
        yield wire


@pytest.fixture(name="session")
def _session(exchange: ReadyExchange, wire: Wire) -> Wire:
    """A session with IMAP4rev2, asked for or not."""
    wire.line()
    assert wire.authenticate(exchange.mailbox, fetch_token(exchange)).startswith(b"A1 OK")
    if exchange.wire == "2026":
        assert wire.ask("E1 ENABLE IMAP4rev2")[0] == b"* ENABLED IMAP4rev2\r\n"
    return wire


def every(*wires: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("exchange", wires or ["2026", "2025", "rev2"], indirect=True)


# ---- greeting and capabilities ---------------------------------------------------------------


@every("2026", "rev2")
def test_the_greeting_names_a_server_and_its_version(exchange: ReadyExchange, wire: Wire) -> None:
    greeting = wire.line()
    pattern = (
        rb"\* OK Microsoft Exchange IMAP4 service ready\. "
        + GUID
        + rb" \(tcpproxy/15\.21\.0406\.000 BACKENDAUTHENTICATE\) \["
        + re.escape(HOST)
        + rb"\]\r\n"
    )
    assert re.fullmatch(pattern, greeting)
    with Wire(exchange) as another:
        assert another.line() == greeting


@every("2025")
def test_the_older_greeting(wire: Wire) -> None:
    assert wire.line() == b"* OK The Microsoft Exchange IMAP4 service is ready. [" + HOST + b"]\r\n"


@every()
def test_the_capabilities_before_and_after_login(exchange: ReadyExchange, wire: Wire) -> None:
    wire.line()
    before = BEFORE[exchange.wire]
    assert wire.ask("A0 CAPABILITY") == [before, b"A0 OK CAPABILITY completed.\r\n"]
    wire.authenticate(exchange.mailbox, fetch_token(exchange))
    after = wire.ask("A2 CAPABILITY")[0].split()
    assert set(after) == set(before.split()) | set(ADDED[exchange.wire].split())
    assert len(after) == len(set(after))


@pytest.mark.parametrize("make", [LoopbackExchange, ready_exchange])
def test_a_wire_that_does_not_exist(make: Any) -> None:
    with pytest.raises(ValueError, match="one of 2026, 2025, rev2, not '2024'"):
        make(wire="2024")


def test_the_factory_gives_each_wire() -> None:
    # Not the fixture, whose pool would outlive this test.
    with ExchangePool() as pool:
        with pool.factory() as factory:
            older = factory(ready=True, wire="2025")
            assert [factory().wire, older.wire, factory(ready=True).wire] == [
                "2026",
                "2025",
                "2026",
            ]
            with Wire(factory(wire="2025")) as wire:
                assert wire.line().startswith(b"* OK The Microsoft")
        with pool.factory() as factory:
            assert factory(ready=True, wire="2025") is older
            assert factory(ready=True, wire="rev2") is not older


@every("2025", "rev2")
def test_faults_of_the_capabilities_on_the_other_wires(exchange: ReadyExchange, wire: Wire) -> None:
    wire.line()
    exchange.inject(Fault.IMAP_NO_XOAUTH2)
    exchange.inject(Fault.IMAP_NO_SASL_IR)
    assert b"AUTH=XOAUTH2" not in wire.ask("A1 CAPABILITY")[0]
    assert b"SASL-IR" not in wire.ask("A2 CAPABILITY")[0]
    assert wire.ask("A3 CAPABILITY")[0] == BEFORE[exchange.wire]


def test_the_certificate_has_a_common_name(exchange: ReadyExchange, wire: Wire) -> None:
    wire.line()
    certificate: Any = wire.socket.getpeercert()
    subject = dict(pair for name in certificate["subject"] for pair in name)
    assert subject["commonName"] == exchange.host
    assert ("DNS", exchange.host) in certificate["subjectAltName"]
    assert isinstance(wire.socket, ssl.SSLSocket)


# ---- ENABLE ----------------------------------------------------------------------------------


@every("2025")
def test_the_older_wire_has_no_enable(exchange: ReadyExchange, wire: Wire) -> None:
    wire.line()
    wire.authenticate(exchange.mailbox, fetch_token(exchange))
    assert wire.ask("A2 ENABLE IMAP4rev2") == [b"A2 BAD Command Error. 12\r\n"]


def test_enable_names_what_it_enabled(exchange: ReadyExchange, wire: Wire) -> None:
    wire.line()
    assert wire.ask("A0 ENABLE IMAP4rev2") == [b"A0 BAD Command received in Invalid state.\r\n"]
    wire.authenticate(exchange.mailbox, fetch_token(exchange))
    assert wire.ask("A2 ENABLE CONDSTORE") == [b"* ENABLED\r\n", b"A2 OK ENABLE completed.\r\n"]
    assert wire.ask("A3 ENABLE") == [b"A3 BAD Command Argument Error. 11\r\n"]
    assert wire.ask("A4 enable condstore imap4REV2") == [
        b"* ENABLED IMAP4rev2\r\n",
        b"A4 OK ENABLE completed.\r\n",
    ]


def test_nothing_changes_for_who_does_not_ask(exchange: ReadyExchange, wire: Wire) -> None:
    with Wire(exchange) as other:
        other.line()
        other.authenticate(exchange.mailbox, fetch_token(exchange))
        other.ask("A2 ENABLE IMAP4rev2")
        wire.line()
        wire.authenticate(exchange.mailbox, fetch_token(exchange))
        assert any(b" RECENT" in line for line in wire.ask("A2 SELECT INBOX"))
        assert wire.ask("A3 SEARCH ALL")[0] == b"* SEARCH 1 2 3\r\n"
        assert wire.ask('A4 LSUB "" "*"')[-1].startswith(b"A4 OK")


# ---- with IMAP4rev2 --------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", REV2, indirect=True)
def test_search_is_answered_by_esearch(exchange: ReadyExchange, session: Wire) -> None:
    session.ask("A2 SELECT INBOX")
    session.ask(r"A3 UID STORE 102 +FLAGS.SILENT (\Seen)")
    assert session.ask("A4 UID SEARCH ALL")[0] == b'* ESEARCH (TAG "A4") UID ALL 101:103\r\n'
    assert session.ask("A5 UID SEARCH UNSEEN")[0] == b'* ESEARCH (TAG "A5") UID ALL 101,103\r\n'
    assert session.ask("A6 SEARCH SEEN")[0] == b'* ESEARCH (TAG "A6") ALL 2\r\n'
    assert session.ask("A7 UID SEARCH FLAGGED") == [
        b'* ESEARCH (TAG "A7") UID\r\n',
        b"A7 OK SEARCH completed.\r\n",
    ]
    assert exchange.mailbox


@pytest.mark.parametrize("exchange", REV2, indirect=True)
def test_lsub_is_bad(session: Wire) -> None:
    assert session.ask('A2 LSUB "" "*"') == [b"A2 BAD Command Error. 12\r\n"]
    assert session.ask('A3 LIST "" "*"')[-1].startswith(b"A3 OK")


@pytest.mark.parametrize("exchange", REV2, indirect=True)
def test_nothing_is_recent(exchange: ReadyExchange, session: Wire) -> None:
    lines = session.ask("A2 SELECT INBOX")
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    lines += session.ask("A3 NOOP")
    lines += session.ask("A4 FETCH 1:4 (FLAGS UID)")
    lines += session.ask(r"A5 STORE 4 +FLAGS (\Seen)")
    lines += session.ask("A6 IDLE")
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    lines += [session.line()]
    assert b"* 4 EXISTS\r\n" in lines
    assert lines[-1] == b"* 5 EXISTS\r\n"
    assert b"* 4 FETCH (FLAGS () UID 104)\r\n" in lines
    assert b"* 4 FETCH (FLAGS (\\Seen))\r\n" in lines
    session.send("DONE")
    lines += session.ask("A7 NOOP")
    assert not [line for line in lines if b"recent" in line.lower()]
