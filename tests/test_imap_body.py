"""The body of open_mailbox: what the connection does is typed, what is the caller's passes."""

from __future__ import annotations

import imaplib
import socket
import struct
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.mail_server import MailServer
from support.scripted_imap import (
    CLIENT_CLOSES,
    GREETING,
    LOGOUT,
    ScriptedImap,
    Step,
    capability,
)

from exo_imap_oauth import TokenSource, open_mailbox
from exo_imap_oauth.errors import (
    ConnectionFailed,
    ImapError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
    TokenEndpointUnavailable,
)
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"
OPENING = [
    GREETING,
    capability(),
    Step("{tag} AUTHENTICATE XOAUTH2 .+", "* CAPABILITY IMAP4rev1 IDLE\n{tag} OK done."),
    Step("{tag} SELECT .+", "* 3 EXISTS\n{tag} OK [READ-WRITE] done."),
]


def opened(server: ScriptedImap | MailServer) -> Any:
    return open_mailbox(
        USER, TOKEN, host=server.host, port=server.port, ssl_context=server.ssl_context, timeout=5
    )


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("", "EOF"),
        ("* BYE Going down for a while.", "Going down for a while."),
        ("* OK unfinished", "EOF"),
        (b"* 1 FETCH (BODY[] {100}\r\nhalf of it", "EOF"),
        ("* 1 FETCH (BODY[] {1" + "0" * 12, "unterminated"),
        ("what is this", "unexpected response"),
        (b"* 1 FETCH {" + b"1" * 5_000 + b"}\r\n", "digits"),
    ],
)
def test_a_connection_that_breaks_under_a_command_is_named(reply: Any, said: str) -> None:
    script = [*OPENING, Step("{tag} FETCH .+", reply)]
    if said == "unterminated":
        script[-1] = Step("{tag} FETCH .+", str(reply).encode())
        said = "EOF"
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ConnectionFailed, match=said) as raised:
            with opened(server) as imap:
                imap.fetch("1", "(BODY[])")
    assert "FETCH on inbox@contoso.example" in str(raised.value)
    assert raised.value.retryable
    assert raised.value.advice


def test_a_silent_server_is_named_after_the_timeout() -> None:
    with ScriptedImap([*OPENING, Step("{tag} NOOP"), CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(ConnectionFailed, match=r"did not answer within 0\.3 s") as raised:
            with opened(server) as imap:
                imap.sock.settimeout(0.3)
                imap.noop()
    assert raised.value.advice
    assert raised.value.advice.id == "imap-unreachable"


def test_a_connection_that_was_reset_is_named() -> None:
    with ScriptedImap([*OPENING, CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(ConnectionFailed, match="NOOP"):
            with opened(server) as imap:
                linger = struct.pack("ii", 1, 0)
                imap.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                socket.socket.shutdown(imap.sock, socket.SHUT_RDWR)
                imap.noop()


def test_a_broken_connection_breaks_no_other_of_its_thread() -> None:
    # CPython may take what a write failed with for the result of a read of another connection.
    with MailServer() as server, ThreadPoolExecutor(1) as elsewhere, ExitStack() as stack:
        healthy = elsewhere.submit(stack.enter_context, opened(server)).result()
        with pytest.raises(ConnectionFailed, match="NOOP"), opened(server) as broken:
            socket.socket.shutdown(broken.sock, socket.SHUT_RDWR)
            broken.noop()
        healthy.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            healthy.sock.recv(1)
        healthy.sock.settimeout(5)
        assert healthy.noop()[0] == "OK"


@pytest.mark.parametrize(
    ("fault", "options", "error"),
    [
        (Fault.IMAP_RESET, {}, ConnectionFailed),
        (Fault.IMAP_CONNECTION_CLOSED, {}, ConnectionFailed),
        (Fault.IMAP_SESSION_INVALIDATED, {}, SessionExpired),
        (Fault.IMAP_THROTTLED, {"seconds": 7}, Throttled),
    ],
)
def test_the_body_can_catch_what_exchange_says_as_its_type(
    exchange: ReadyExchange, fault: Fault, options: Any, error: type[ImapError]
) -> None:
    token = TokenSource(
        exchange.app.tenant_id,
        exchange.app.client_id,
        exchange.secret.value,
        token_uri=exchange.token_uri(),
        ssl_context=exchange.ssl_context,
    )
    caught: list[ImapError] = []
    with pytest.raises(error) as raised:
        with open_mailbox(
            USER, token, host=exchange.host, port=exchange.port, ssl_context=exchange.ssl_context
        ) as imap:
            exchange.inject(fault, command="NOOP", **options)
            try:
                imap.noop()
            except ImapError as failure:
                caught.append(failure)
                raise
    assert caught == [raised.value]
    assert type(raised.value) is error
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after == 7


def test_who_reads_without_a_command_gets_the_same_errors() -> None:
    idle = Step("IDLE IDLE", "+ idling\n* BYE Connection closed. 14")
    with ScriptedImap([*OPENING, idle], tls=True) as server:
        with pytest.raises(ConnectionFailed, match=r"reading .* EOF"), opened(server) as imap:
            imap.send(b"IDLE IDLE\r\n")
            assert imap.readline() == b"+ idling\r\n"
            assert imap.readline().startswith(b"* BYE")
            with pytest.raises(ConnectionFailed):
                imap.readline()
            imap.noop()
    with ScriptedImap([*OPENING, CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(ConnectionFailed, match="did not answer"), opened(server) as imap:
            imap.sock.settimeout(0.2)
            imap.readline()


def test_a_command_after_the_end_says_what_ended_it() -> None:
    script = [*OPENING, Step("{tag} NOOP", "* BYE Session invalidated - AccessTokenExpired")]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(SessionExpired), opened(server) as imap:
            for _ in range(3):
                with pytest.raises(SessionExpired):
                    imap.noop()
            imap.noop()
    with ScriptedImap([*OPENING, Step("{tag} NOOP")], tls=True) as server:
        with pytest.raises(ConnectionFailed, match=r"NOOP .* EOF"), opened(server) as imap:
            with pytest.raises(ConnectionFailed, match=r"NOOP .* EOF"):
                imap.noop()
            imap.search(None, "ALL")


def test_a_command_after_a_known_refusal_goes_on() -> None:
    script = [
        *OPENING,
        Step("{tag} NOOP", "{tag} BAD User is authenticated but not connected."),
        Step("{tag} NOOP", "{tag} OK done."),
        LOGOUT,
    ]
    with ScriptedImap(script, tls=True) as server, opened(server) as imap:
        with pytest.raises(MailboxNotConnected):
            imap.noop()
        assert imap.noop()[0] == "OK"


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), TimeoutError("of another library"), ValueError()],
)
def test_the_bodys_own_errors_pass_as_they_are(error: Exception) -> None:
    with ScriptedImap([*OPENING, LOGOUT._replace(optional=True)], tls=True) as server:
        with pytest.raises(type(error)) as raised, opened(server):
            raise error
    assert raised.value is error


def test_a_token_endpoint_that_is_down_is_no_lost_connection_to_the_mailbox() -> None:
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:  # it logs out
        with pytest.raises(TokenEndpointUnavailable), opened(server):
            raise TokenEndpointUnavailable("for another mailbox")


def test_a_wrong_argument_is_the_callers() -> None:
    with ScriptedImap([*OPENING, LOGOUT._replace(optional=True)], tls=True) as server:
        with pytest.raises(UnicodeEncodeError), opened(server) as imap:
            imap.search(None, "SUBJECT", "Entwürfe")
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with pytest.raises(imaplib.IMAP4.error, match="illegal in state") as raised:
            with opened(server) as imap:
                imap.login("user", "password")
    assert type(raised.value) is imaplib.IMAP4.error


def test_a_folder_that_turns_read_only_is_imaplibs_error() -> None:
    script = [
        *OPENING,
        Step("{tag} NOOP", "* OK [READ-ONLY] now\n{tag} OK done."),
        LOGOUT._replace(optional=True),
    ]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(imaplib.IMAP4.readonly), opened(server) as imap:
            imap.noop()
            imap.noop()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="imap.idle() exists from CPython 3.14 on")
def test_a_connection_that_breaks_while_idling_is_named() -> None:
    idle = Step("{tag} IDLE", "+ idling\n* 4 EXISTS\n* BYE Connection closed. 14")
    with ScriptedImap([*OPENING, idle], tls=True) as server:
        with pytest.raises(ConnectionFailed):
            with opened(server) as imap, imap.idle(duration=5) as idler:
                list(idler)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="imap.idle() exists from CPython 3.14 on")
def test_idling_ends_after_its_duration() -> None:
    script = [
        *OPENING,
        Step("{tag} IDLE", "+ idling\n* 4 EXISTS"),
        Step("DONE", "{tag} OK IDLE completed."),
        LOGOUT,
    ]
    with ScriptedImap(script, tls=True) as server, opened(server) as imap:
        with imap.idle(duration=0.2) as idler:
            assert list(idler) == [("EXISTS", [b"4"])]


@pytest.mark.parametrize("stage", ["greeting", "capability", "AUTHENTICATE", "SELECT", "body"])
def test_a_line_of_a_megabyte_costs_little(stage: str) -> None:
    # Its own processor time, which a busy machine does not lengthen.
    line = "* OK " + "'{1" * 330_000
    steps = {
        "greeting": [Step(None, line)],
        "capability": [GREETING, Step("{tag} CAPABILITY", line)],
        "AUTHENTICATE": [*OPENING[:2], OPENING[2]._replace(reply=line)],
        "SELECT": [*OPENING[:3], OPENING[3]._replace(reply=line)],
        "body": [*OPENING, Step("{tag} NOOP", line + "\n{tag} BAD " + "y" * 990_000)],
    }[stage]
    with ScriptedImap(steps, tls=True) as server:
        mailbox = opened(server)
        began = time.thread_time()
        with pytest.raises(imaplib.IMAP4.error):
            with mailbox as imap:
                began = time.thread_time()
                imap.noop()
        cost = time.thread_time() - began
    assert cost < 0.2  # it is 0.02 where nothing else runs


@pytest.mark.parametrize("stage", ["CAPABILITY", "SELECT"])
def test_a_line_that_no_command_of_ours_needs_ends_the_attempt(stage: str) -> None:
    long = "* OK " + "x" * 70_000
    script = {
        "CAPABILITY": [GREETING, Step("{tag} CAPABILITY", long)],
        "SELECT": [*OPENING[:3], Step("{tag} SELECT INBOX", long)],
    }[stage]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ConnectionFailed, match="a line of 70007 bytes, where none is due"):
            opened(server).__enter__()


def test_a_broken_connection_costs_each_command_the_same() -> None:
    """Of one error that is raised again and again, the traceback grows for ever."""
    with ScriptedImap([*OPENING, Step("{tag} NOOP", "")], tls=True) as server:
        failures: list[ConnectionFailed] = []
        with pytest.raises(ConnectionFailed), opened(server) as imap:
            for _ in range(4):
                with pytest.raises(ConnectionFailed, match=r"NOOP .* EOF") as raised:
                    imap.noop()
                failures.append(raised.value)
            imap.noop()
    first, second, *_, last = failures
    assert len({id(failure) for failure in failures}) == len(failures)
    assert frames_of(second) == frames_of(last) <= frames_of(first)
    assert last.advice == first.advice is not None
    assert (str(last), last.last_reply) == (str(first), first.last_reply)


def frames_of(error: BaseException) -> int:
    return sum(1 for _ in traceback.walk_tb(error.__traceback__))
