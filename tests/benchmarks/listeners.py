"""What a listener costs, and how fast it is, beside other ways to read a mailbox.

    python -m tests.benchmarks.listeners backlog [--near 5000] [--far 300] [--rounds 3] [--slack 1]
    python -m tests.benchmarks.listeners latency [--messages 40] [--rounds 3] [--slack 1]
    python -m tests.benchmarks.listeners memory [--mail 25] [--literal 100]
    python -m tests.benchmarks.listeners many [inboxes ...]      # by default 200

The first three end with status 1 if a promise is missed; see the modules of their names. The last
one shows what each of many open mailboxes costs, and each of many listeners: either kind in one
process, the loopback Exchange Online in another, so that its memory does not count. Every listener
gets a message at once; then nothing happens for a while.
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import ssl
import sys
import threading
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.listener import InboxListener
from exo_imap_oauth.testing import ready_exchange

from .backlog import backlog
from .latency import latency
from .memory import memory

if TYPE_CHECKING:
    from email.message import EmailMessage
    from multiprocessing.connection import Connection

DEFAULT = 200
QUIET = 5.0  # s
LIMIT = 300.0  # s


def serve(inboxes: int, line: Connection) -> None:
    """Be the exchange: tell the inboxes, then deliver a message to each when asked."""
    with ready_exchange() as exchange:
        fields: dict[str, Any] = {
            "token_uri": exchange.token_uri(),
            "client_id": exchange.app.client_id,
            "client_secret": exchange.secret.value,
            "host": exchange.host,
            "port": exchange.port,
        }
        users = [f"inbox{number}@contoso.example" for number in range(inboxes)]
        for user in users:
            exchange.add_mailbox(user)
            exchange.add_mailbox_permission(user, exchange.app.enterprise_object_id)
        line.send((exchange.ca_pem, [fields | {"user": user} for user in users]))
        while line.recv():
            for user in users:
                exchange.deliver(user, f"Subject: {time.time()}\r\n\r\n".encode())
            line.send((len(exchange.logins), len(exchange.token_requests)))


def resident() -> float:
    """Resident memory of this process, MiB."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def _inboxes(count: int) -> tuple[Connection, ssl.SSLContext, list[InboxConfig]]:
    """A line to the server, what to trust, and its inboxes."""
    context = multiprocessing.get_context("spawn")
    line, other_end = context.Pipe()
    context.Process(target=serve, args=(count, other_end), daemon=True).start()
    ca_pem, fields = line.recv()
    trust = ssl.create_default_context(cadata=ca_pem.decode())
    inboxes = [InboxConfig(**each) for each in fields]
    with inboxes[0].open(ssl_context=trust):
        pass  # whatever is loaded at the first time
    return line, trust, inboxes


def open_mailboxes(count: int) -> None:
    """Print what so many inboxes cost as open mailboxes."""
    line, trust, inboxes = _inboxes(count)
    before, cpu = resident(), time.process_time()
    source = inboxes[0].token_source(ssl_context=trust)
    with ExitStack() as stack:
        for inbox in inboxes:
            stack.enter_context(inbox.open(token=source, ssl_context=trust))
        grown, cpu = resident() - before, time.process_time() - cpu
        print(
            f"{count} open mailboxes: {grown * 1024 / count:.0f} KiB and"
            f" {cpu * 1000 / count:.1f} ms of CPU each, {threading.active_count()} threads",
            flush=True,
        )
    line.send(False)


def listeners(count: int) -> None:
    """Print what they cost as listeners."""
    latencies: list[float] = []
    everything_came = threading.Semaphore(0)
    logins = requests = 0

    def handle(_inbox: InboxConfig, message: EmailMessage) -> None:
        latencies.append(time.time() - float(message["Subject"]))
        everything_came.release()

    line, trust, inboxes = _inboxes(count)
    before = resident()
    source = inboxes[0].token_source(ssl_context=trust)
    running = [InboxListener(inbox, handle, token=source, ssl_context=trust) for inbox in inboxes]
    threads = [threading.Thread(target=listener.run) for listener in running]
    for thread in threads:
        thread.start()
    for _ in range(2):  # the first messages wait for the logins
        latencies.clear()
        line.send(True)
        logins, requests = line.recv()
        for _ in range(count):
            assert everything_came.acquire(timeout=LIMIT)
    active, grown = threading.active_count() - 1, resident() - before
    cpu = time.process_time()
    time.sleep(QUIET)
    cpu = time.process_time() - cpu
    began = time.monotonic()
    for listener in running:
        listener.stop()
    for thread in threads:
        thread.join()
    stopped = time.monotonic() - began
    latencies.sort()
    print(
        f"{count} listeners: {grown * 1024 / count:.0f} KiB each, {active} threads,"
        f" {100 * cpu / QUIET:.1f} % of a core while nothing happens;"
        f" all at once one message each: median {1000 * latencies[count // 2]:.0f} ms,"
        f" last {1000 * latencies[-1]:.0f} ms; {logins} logins, {requests} token requests;"
        f" stopped in {stopped:.2f} s",
        flush=True,
    )
    line.send(False)


def many(counts: list[int]) -> bool:
    """Print what so many cost; nothing is promised."""
    context = multiprocessing.get_context("spawn")
    for count in counts:
        for measure in (open_mailboxes, listeners):
            # In a process of its own, since what one frees and keeps would be used by the next.
            process = context.Process(target=measure, args=(count,))
            process.start()
            process.join()
            if process.exitcode:
                return False
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("backlog", "latency"):
        command = commands.add_parser(name)
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--round-trip", type=float, default=0.03, help="s")
        command.add_argument("--slack", type=float, default=1, help="factor for times, where noisy")
    commands.choices["backlog"].add_argument("--near", type=int, default=5_000)
    commands.choices["backlog"].add_argument("--far", type=int, default=300)
    commands.choices["latency"].add_argument("--messages", type=int, default=40)
    command = commands.add_parser("memory")
    command.add_argument("--mail", type=float, default=25, help="MiB")
    command.add_argument("--literal", type=float, default=100, help="MB")
    commands.add_parser("many").add_argument("inboxes", type=int, nargs="*", default=[DEFAULT])
    return parser.parse_args()


def main() -> int:
    """Run a command; 1 if a promise is missed."""
    given = _arguments()
    packages = "" if given.command == "many" else f", imap-tools {version('imap-tools')}"
    print(f"CPython {platform.python_version()}, {os.cpu_count()} cores{packages}")
    if given.command == "backlog":
        holds = backlog(
            near=given.near,
            far=given.far,
            round_trip=given.round_trip,
            rounds=given.rounds,
            slack=given.slack,
        )
    elif given.command == "latency":
        holds = latency(
            count=given.messages,
            round_trip=given.round_trip,
            rounds=given.rounds,
            slack=given.slack,
        )
    elif given.command == "memory":
        holds = memory(mail=int(given.mail * 2**20), literal=int(given.literal * 10**6))
    else:
        holds = many(given.inboxes)
    return not holds


if __name__ == "__main__":
    sys.exit(main())
