"""Forks, signals and descriptors: what belongs to a listener acts in its own process only."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.listening import LIMIT, Listening, listener_of, listening_to
from support.mail_server import MailServer

from exo_imap_oauth._listener.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from exo_imap_oauth.mail import Mail

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # A program that forks out of threads is what these tests are about.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with MailServer(b"Subject: 1\r\n\r\n") as server:
        yield server


@pytest.fixture(name="ca")
def _ca(server: MailServer, tmp_path: Path) -> Path:
    """The file of the CA that issued the server's certificate."""
    certificates = server.ssl_context.get_ca_certs(binary_form=True)
    path = tmp_path / "ca.pem"
    path.write_text("".join(map(ssl.DER_cert_to_PEM_cert, certificates)))
    return path


def in_child(step: Callable[[], object]) -> int:
    """Take a step in a fork; returns how it exited."""
    child = os.fork()
    if child == 0:
        try:
            step()
        except BaseException:  # noqa: BLE001 - the exit code tells
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_that_stops_its_copy_leaves_the_parent_alone(server: MailServer) -> None:
    with listening_to(server) as listening:
        server.wait_for(lambda: server.idlers == 1)
        assert in_child(listening.listener.stop) == 0
        before = len(server.log)
        time.sleep(0.3)  # in which the parent span
        assert len(server.log) == before
        server.deliver(b"Subject: 2\r\n\r\n")
        listening.wait_for_handled(2)
    assert server.logins == 1


def test_a_waker_of_a_parent_is_none_of_the_child() -> None:
    with Waker() as waker:

        def wakes() -> None:
            waker.wake()
            assert waker.is_set
            assert not waker.is_at_home

        assert in_child(wakes) == 0
        assert not waker.wait(0.05)
        assert not waker.is_set


def test_a_child_can_run_a_listener_of_its_own() -> None:
    with Waker() as waker:

        def runs() -> None:
            with waker:
                waker.wake()
                assert waker.wait(LIMIT)

        assert in_child(runs) == 0


HANDLERS = """
import multiprocessing, os, signal, ssl, sys, time
from exo_imap_oauth import InboxConfig
from exo_imap_oauth.listener import listen

def sleeps():
    print("child", flush=True)
    time.sleep(60)

def handle(inbox, mail):
    child = multiprocessing.get_context("fork").Process(target=sleeps)
    child.start()
    time.sleep(0.5)
    child.terminate()
    child.join(10)
    print("dead" if child.exitcode == -signal.SIGTERM else child.exitcode, flush=True)

listen(
    [InboxConfig(user="inbox@contoso.example", host="127.0.0.1", port=int(sys.argv[1]))],
    handle, token="a-token", ssl_context=ssl.create_default_context(cafile=sys.argv[2]),
)
print("over", flush=True)
"""


def test_a_child_of_handle_dies_of_a_signal_and_the_parent_goes_on(
    server: MailServer, ca: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", HANDLERS, str(server.port), str(ca)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert [program.stdout.readline().strip() for _ in range(2)] == ["child", "dead"]
        server.wait_for(lambda: server.seen == {1})
        server.wait_for(lambda: server.idlers == 1)
        program.send_signal(signal.SIGTERM)
        rest, _ = program.communicate(timeout=LIMIT)
    assert (rest, program.returncode) == ("over\n", 0)
    assert server.logins == 1


def test_a_fork_that_returns_from_handle_says_nothing_on_the_connection(server: MailServer) -> None:
    server.deliver(b"Subject: 2\r\n\r\n")
    parent = os.getpid()
    children: list[int] = []

    def handle(mail: Mail) -> None:
        if mail.uid == 1 and (child := os.fork()):
            children.append(child)
            os.waitpid(child, 0)

    listening = Listening(handle)
    listener = listener_of(server, listening)

    def run() -> None:
        try:
            listener.run()
        finally:
            if os.getpid() != parent:
                os._exit(3)

    thread = threading.Thread(target=run)
    thread.start()
    server.wait_for(lambda: server.seen == {1, 2})
    listener.stop()
    thread.join(LIMIT)
    assert len(children) == 1
    assert (server.logins, listening.told) == (1, [])


# ---- descriptors -----------------------------------------------------------------------------

LISTENERS = """
import os, ssl, sys, threading
from exo_imap_oauth import InboxConfig
from exo_imap_oauth.listener import InboxListener

port, ca, number = sys.argv[1:]
inbox = InboxConfig(user="a@contoso.example", host="127.0.0.1", port=int(port))
context = ssl.create_default_context(cafile=ca)
options = dict(token="t", ssl_context=context, initial_backoff=0.05, max_backoff=0.1)

def on_failure(inbox, error, pause):
    print("failed", flush=True)

def count():
    return len(os.listdir("/proc/self/fd"))

before = count()
listeners = [
    InboxListener(inbox, lambda *_: None, on_failure=on_failure, **options)
    for _ in range(int(number))
]
threads = [threading.Thread(target=listener.run) for listener in listeners]
for thread in threads:
    thread.start()
taken, is_over = [], threading.Event()

def take():
    while not is_over.wait(0.001):
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
    for each in taken:
        os.close(each)

for line in sys.stdin:
    if line == "count\\n":
        print(count() - before, flush=True)
    elif line == "take\\n":
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        threads.append(threading.Thread(target=take))
        threads[-1].start()
        while len(taken) < 100:
            pass
        print("taken", flush=True)
    else:
        is_over.set()
for listener in listeners:
    listener.stop()
for thread in threads:
    thread.join()
"""
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="it counts what Linux tells"
)


@contextlib.contextmanager
def listeners(server: MailServer, ca: Path, number: int) -> Generator[Callable[[str], str]]:
    """So many listeners in a program of their own; what is yielded gives it an order."""
    command = [sys.executable, "-c", LISTENERS, str(server.port), str(ca), str(number)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        orders, answers = program.stdin, program.stdout

        def order(text: str) -> str:
            if text:
                orders.write(f"{text}\n")
                orders.flush()
            return "" if text == "free" else answers.readline().strip()

        server.wait_for(lambda: server.idlers == number)
        yield order
        program.communicate(timeout=LIMIT)
    assert program.returncode == 0


@needs_proc
def test_a_listener_takes_three_descriptors(server: MailServer, ca: Path) -> None:
    with listeners(server, ca, 10) as order:
        assert order("count") == "30"


@needs_proc
def test_a_lack_of_descriptors_ends_no_listener(server: MailServer, ca: Path) -> None:
    with listeners(server, ca, 1) as order:
        assert order("take") == "taken"
        server.drop()
        for _ in range(4):
            assert order("") == "failed"
        order("free")
        server.wait_for(lambda: server.idlers == 1)
        uid = server.deliver(b"Subject: 2\r\n\r\n")
        server.wait_for(lambda: uid in server.seen and server.idlers == 1)
