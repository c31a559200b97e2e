"""News: at once where the server speaks, by polling where it does not."""

from __future__ import annotations

import imaplib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import mail_answers as answers
from support.listening import LIMIT, USER, listening_to
from support.mail_server import IDLING, MailServer

from exo_imap_oauth import open_mailbox
from exo_imap_oauth._listener import waker
from exo_imap_oauth._listener.idle import DONE, LONGEST, idle
from exo_imap_oauth.errors import ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW = b"Subject: new\r\n\r\nx"


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.mark.parametrize("announce", [answers.exists_before_plus, answers.exists_with_plus])
def test_mail_that_comes_with_the_beginning_of_idle_is_handled_at_once(
    server: MailServer, announce: Any
) -> None:
    server.at("IDLE", announce(NEW), times=1)
    began = time.monotonic()
    with listening_to(server, poll_interval=LIMIT) as listening:
        listening.wait_for_handled(1)
        assert time.monotonic() - began < LIMIT / 2
    assert server.logins == 1


def test_mail_that_comes_during_a_look_is_handled_without_waiting(server: MailServer) -> None:
    server.deliver(NEW)
    server.at("UID STORE", answers.exists_first(2), times=1)
    idle = server.at("IDLE", answers.stalls)
    with listening_to(server, poll_interval=LIMIT):
        server.wait_for(lambda: idle.hits == 1)
        searches = [line for line in server.log if line == "UID SEARCH UNSEEN"]
        server.drop()
    assert len(searches) == 2


def test_mail_is_noticed_while_the_server_idles(server: MailServer) -> None:
    with listening_to(server, poll_interval=LIMIT) as listening:
        for number in range(1, 6):
            server.wait_for(lambda: server.idlers == 1)
            server.deliver(NEW)
            listening.wait_for_handled(number)
    assert server.logins == 1


@pytest.mark.parametrize(("announce", "waits"), [(None, 1), (answers.exists_before_plus, 0)])
def test_it_is_waited_for_news_unless_some_came_already(
    server: MailServer, announce: Any, waits: int
) -> None:
    if announce:
        server.at("IDLE", announce(NEW), times=1)
    waited: list[None] = []
    mailbox = open_mailbox(
        USER, "a-token", host=server.host, port=server.port, ssl_context=server.ssl_context
    )
    with mailbox as imap:
        client: Any = imap
        idle(client, lambda: waited.append(None), lambda: imap.send(DONE))
    assert len(waited) == waits


def test_who_stops_in_idle_searches_no_more() -> None:
    with MailServer() as server, listening_to(server, poll_interval=LIMIT):
        server.wait_for(lambda: server.idlers == 1)
    assert server.log[-3:] == ["IDLE", "DONE", "LOGOUT"]


REFUSALS = {
    "BAD": answers.says("BAD", "Command Argument Error. 12"),
    "NO": answers.refused("not here"),
    "invalid state": answers.says("BAD", "Command received in Invalid state."),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_where_idle_is_refused_the_inbox_is_polled(server: MailServer, refusal: Any) -> None:
    idle = server.at("IDLE", refusal)
    with listening_to(server, poll_interval=0.01) as listening:
        server.wait_for(lambda: idle.hits == 1)
        server.deliver(NEW)
        listening.wait_for_handled(1)
        looks = server.log.count("UID SEARCH UNSEEN")
        server.wait_for(lambda: server.log.count("UID SEARCH UNSEEN") > looks + 2)
    assert (idle.hits, server.logins, listening.told) == (1, 1, [])


def test_where_idle_is_not_offered_the_inbox_is_polled(server: MailServer) -> None:
    server.capabilities = "IMAP4rev1 AUTH=XOAUTH2 SASL-IR"
    with listening_to(server, poll_interval=0.01) as listening:
        server.wait_for(lambda: server.log.count("UID SEARCH UNSEEN") >= 2)
        server.deliver(NEW)
        listening.wait_for_handled(1)
    assert "IDLE" not in server.log


@pytest.mark.parametrize(
    "text", ["Connection is closed. 13", "Connection closed. 14", "Going down"]
)
def test_a_bye_within_idle_is_typed(server: MailServer, text: str) -> None:
    server.at("IDLE", answers.idle_bye(text), times=1)
    with listening_to(server) as listening:
        (error, _), *_ = listening.wait_for_told()
        server.wait_for(lambda: server.idlers == 1)
    assert type(error) is ConnectionFailed
    assert error.advice is not None
    assert error.advice.id == "connection-closed"
    assert error.last_reply == text


def test_where_the_end_of_idle_is_refused_the_inbox_is_polled(server: MailServer) -> None:
    def refuses_at_the_end(reply: Any) -> None:
        reply.send(IDLING + b"* 1 EXISTS\r\n")
        assert reply.line_of_client() == "DONE"
        reply.send(f"{reply.tag} BAD Command Error. 10\r\n".encode())

    idle = server.at("IDLE", refuses_at_the_end)
    with listening_to(server, poll_interval=0.01) as listening:
        server.wait_for(lambda: server.log.count("UID SEARCH UNSEEN") >= 4)
        server.deliver(NEW)
        listening.wait_for_handled(1)
    assert (idle.hits, server.logins) == (1, 1)


def test_a_server_that_says_bye_and_stays_is_left(server: MailServer) -> None:
    def lingers(reply: Any) -> None:
        reply.send(IDLING + b"* BYE Going down\r\n")
        reply.stall()

    server.at("IDLE", lingers, times=1)
    with listening_to(server, timeout=2 * LIMIT) as listening:
        listening.wait_for_told()
        server.wait_for(lambda: server.idlers == 1)


def test_a_connection_that_ends_within_idle_is_opened_again(server: MailServer) -> None:
    server.at("IDLE", answers.drops_after(0), times=3)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.idlers == 1)
        server.deliver(NEW)
        listening.wait_for_handled(1)
    assert server.logins == 4
    assert {type(error) for error in listening.errors} == {ConnectionFailed}


def test_idle_is_ended_before_the_server_ends_it(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    waited = threading.Event()
    real = waker.Waker.wait

    def wait(self: waker.Waker, seconds: float, *rest: Any) -> bool:
        if server.idlers:
            waits.append(seconds)
            waited.set()
        return real(self, seconds, *rest)

    monkeypatch.setattr(waker.Waker, "wait", wait)
    monkeypatch.setattr("exo_imap_oauth._listener.session._SETTLED", 0.0)
    with listening_to(server, poll_interval=7200.0, token="not-expiring"):
        assert waited.wait(LIMIT)
    assert LONGEST == 28 * 60
    assert max(waits) <= LONGEST


def test_a_session_goes_on_after_what_was_wrong_before_is_over(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exo_imap_oauth._listener.session._SETTLED", 0.0)
    with listening_to(server) as listening:
        for number in range(1, 4):
            server.wait_for(lambda: server.idlers == 1)
            server.deliver(NEW)
            listening.wait_for_handled(number)
    assert listening.told == []
    assert server.logins == 1


def test_what_imaplib_keeps_of_a_long_session_does_not_grow(server: MailServer) -> None:
    server.at("UID SEARCH", lambda reply: reply.usual(before=b"* 1 EXPUNGE\r\n"))
    clients: list[imaplib.IMAP4] = []
    real = imaplib.IMAP4.select

    def select(self: imaplib.IMAP4, *rest: Any) -> Any:
        clients.append(self)
        return real(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imaplib.IMAP4, "select", select)
        with listening_to(server) as listening:
            for number in range(1, 30):
                server.wait_for(lambda: server.idlers == 1)
                server.deliver(NEW)
                listening.wait_for_handled(number)
                server.wait_for(lambda: not server.unseen)
                server.remove(number)
            kept = {name: len(lines) for name, lines in clients[0].untagged_responses.items()}
    assert sum(kept.values()) < 20
