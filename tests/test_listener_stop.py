"""The end: what is handled is marked, and nothing else is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import mail_answers as answers
from support.listening import LIMIT, Listening, listener_of, listening_to
from support.mail_server import MailServer

from exo_imap_oauth._listener import session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exo_imap_oauth.mail import Mail

SECOND = 1.0
BUSY = 1.0  # s that a busy machine may add


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    contents = [b"Subject: %d\r\n\r\n" % number for number in range(1, 4)]
    with MailServer(*contents) as server:
        yield server


class Stopped:
    """A listener in a thread, and how long it took to stop it."""

    def __init__(
        self, server: MailServer, handle: Callable[[Mail], object] | None = None, **options: Any
    ) -> None:
        self.listening = Listening(handle)
        self.listener = listener_of(server, self.listening, **options)
        self.thread = threading.Thread(target=self.listener.run)
        self.thread.start()

    def stop(self) -> float:
        began = time.monotonic()
        self.listener.stop()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        return time.monotonic() - began


def test_a_message_that_is_being_handled_is_marked(server: MailServer) -> None:
    handling, go_on = threading.Event(), threading.Event()

    def handle(_mail: Mail) -> None:
        handling.set()
        go_on.wait(LIMIT)

    stopped = Stopped(server, handle)
    assert handling.wait(LIMIT)
    threading.Timer(
        2 * session._GRACE, go_on.set
    ).start()  # longer than anything else is waited for
    stopped.stop()
    assert stopped.listening.handled == [1]
    assert server.seen == {1}
    assert server.log[-1] == "LOGOUT"


def test_a_message_that_fails_when_it_is_time_to_stop_stays_unread(server: MailServer) -> None:
    def handle(_mail: Mail) -> None:
        stopped.listener.stop()
        raise ZeroDivisionError

    stopped = Stopped(server, handle)
    stopped.thread.join(LIMIT)
    assert (stopped.listening.handled, server.seen) == ([1], set())


def test_a_mark_that_is_confirmed_late_is_waited_for(server: MailServer) -> None:
    def late(reply: Any) -> None:
        reply.pause(2 * session._GRACE)
        reply.usual()

    def handle(_mail: Mail) -> None:
        stopped.listener.stop()

    server.at("UID STORE", late)
    stopped = Stopped(server, handle)
    stopped.thread.join(LIMIT)
    assert server.seen == {1}
    assert server.log[-1] == "LOGOUT"


def test_a_mark_that_is_never_confirmed_is_waited_for_5_seconds_at_most(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session._MARK_GRACE == 5.0
    monkeypatch.setattr(session, "_MARK_GRACE", 1.5)

    def handle(_mail: Mail) -> None:
        stopped.listener.stop()
        began.append(time.monotonic())

    began: list[float] = []
    store = server.at("UID STORE", answers.stalls)
    stopped = Stopped(server, handle)
    stopped.thread.join(LIMIT)
    assert store.hits == 1
    assert 1.4 <= time.monotonic() - began[0] <= 1.5 + SECOND + BUSY


SILENT_AT = ["SELECT", "UID SEARCH", "UID FETCH", "IDLE", "LOGOUT", "AUTHENTICATE", "CAPABILITY"]


@pytest.mark.parametrize("command", SILENT_AT)
def test_a_silent_server_is_waited_for_a_second_at_most(server: MailServer, command: str) -> None:
    silent = server.at(command, answers.stalls)
    stopped = Stopped(server)
    if command == "LOGOUT":
        server.wait_for(lambda: server.idlers == 1)
    else:
        server.wait_for(lambda: silent.hits == 1)
    assert stopped.stop() <= SECOND + BUSY / 2
    assert stopped.listening.told == []


def test_a_look_at_an_inbox_is_not_held_up_by_a_silent_goodbye(server: MailServer) -> None:
    said_at: list[float] = []

    def stalls(reply: Any) -> None:
        said_at.append(time.monotonic())
        answers.stalls(reply)

    server.at("LOGOUT", stalls)
    listener_of(server, Listening()).run_once()
    (began,) = said_at
    assert time.monotonic() - began <= session._LOGOUT_GRACE + BUSY


def test_a_server_that_answers_within_the_second_is_logged_out_of(server: MailServer) -> None:
    def late(reply: Any) -> None:
        reply.pause(session._GRACE / 3)
        reply.usual()

    search = server.at("UID SEARCH", late, times=1)
    stopped = Stopped(server)
    server.wait_for(lambda: search.hits == 1)
    assert stopped.stop() <= SECOND + BUSY
    assert server.log[-1] == "LOGOUT"
    assert stopped.listening.handled == []


def test_half_a_tls_record_is_not_waited_for(server: MailServer) -> None:
    """A reader that blocks within a record would not be woken."""

    def half(reply: Any) -> None:
        reply.send(b"* OK " + b"x" * 20)  # no end of the line
        reply.stall()

    search = server.at("UID SEARCH", half)
    stopped = Stopped(server)
    server.wait_for(lambda: search.hits == 1)
    assert stopped.stop() <= SECOND + BUSY


def test_a_slow_credential_is_not_waited_for(server: MailServer) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def token() -> str:
        asked.set()
        go_on.wait(LIMIT)
        return "a-token"

    stopped = Stopped(server, token=token)
    assert asked.wait(LIMIT)
    assert stopped.stop() <= SECOND + BUSY
    go_on.set()
    server.wait_for(lambda: "LOGOUT" in server.log)  # from the mailbox that opened too late


def test_nor_is_one_that_is_asked_for_the_next_token(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exo_imap_oauth._listener.opening._SHORTEST_SESSION", 0.0)
    again, go_on = threading.Event(), threading.Event()
    asked = 0

    class Credential:
        def get_token(self, *_scopes: str) -> Any:
            nonlocal asked
            asked += 1
            if asked > 2:  # one for the listener, one for the login
                again.set()
                go_on.wait(LIMIT)
            return Issued

    class Issued:
        token = "a-token"
        expires_on = int(time.time())

    stopped = Stopped(server, token=Credential(), poll_interval=0.01)
    assert again.wait(LIMIT)
    server.deliver(b"Subject: meanwhile\r\n\r\n")
    stopped.listening.wait_for_handled(4)  # the next token is not waited for
    assert stopped.stop() <= SECOND + BUSY
    go_on.set()


def test_it_stops_in_a_pause(server: MailServer) -> None:
    server.refuse_logins = 1
    stopped = Stopped(server, initial_backoff=LIMIT, max_backoff=LIMIT)
    stopped.listening.wait_for_told()
    assert stopped.stop() <= SECOND


def test_a_listener_can_stop_itself_from_handle(server: MailServer) -> None:
    with listening_to(server, lambda _: listening.listener.stop()) as listening:
        server.wait_for(lambda: server.seen == {1})
    assert listening.handled == [1]


PROGRAM = """
import ssl, sys, time
from exo_imap_oauth import InboxConfig
from exo_imap_oauth.listener import listen

def handle(inbox, message):
    print(message["Subject"], flush=True)
    time.sleep(1.5)

listen(
    [InboxConfig(user="inbox@contoso.example", host="127.0.0.1", port=int(sys.argv[1]))],
    handle, token="a-token", ssl_context=ssl.create_default_context(cafile=sys.argv[2]),
)
"""


def test_a_program_that_is_restarted_again_and_again_makes_progress(
    server: MailServer, tmp_path: Any
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("".join(map(_pem, server.ssl_context.get_ca_certs(binary_form=True))))
    said: list[str] = []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(server.port), str(ca)],
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            said.append(program.stdout.readline().strip())
            os.kill(program.pid, signal.SIGTERM)
            rest, _ = program.communicate(timeout=LIMIT)
            assert (program.returncode, rest) == (0, "")
    assert said == ["1", "2", "3"]
    assert server.unseen == set()


def _pem(certificate: bytes) -> str:
    import ssl

    return ssl.DER_cert_to_PEM_cert(certificate)
