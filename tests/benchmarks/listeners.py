"""Many inboxes in one process: what each listener and each open mailbox costs.

    python -m tests.benchmarks.listeners [inboxes ...]      # by default 200

The loopback Exchange Online runs in another process, so that its memory does not count. Every
inbox gets a message at once; then nothing happens for a while.
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import multiprocessing
import os
import resource
import ssl
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.listener import InboxListener
from exo_imap_oauth.testing import ready_exchange

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


def memory() -> float:
    """Resident memory of this process, MiB."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def measure(count: int) -> None:
    """Print what so many inboxes cost, as open mailboxes and as listeners."""
    context = multiprocessing.get_context("spawn")
    line, other_end = context.Pipe()
    server = context.Process(target=serve, args=(count, other_end), daemon=True)
    server.start()
    ca_pem, fields = line.recv()
    trust = ssl.create_default_context(cadata=ca_pem.decode())
    inboxes = [InboxConfig(**each) for each in fields]
    with inboxes[0].open(ssl_context=trust):
        pass  # whatever is loaded at the first time

    before, cpu = memory(), time.process_time()
    source = inboxes[0].token_source(ssl_context=trust)
    with ExitStack() as stack:
        for inbox in inboxes:
            stack.enter_context(inbox.open(token=source, ssl_context=trust))
        grown, cpu = memory() - before, time.process_time() - cpu
        print(
            f"{count} open mailboxes: {grown * 1024 / count:.0f} KiB and"
            f" {cpu * 1000 / count:.1f} ms of CPU each, {threading.active_count()} threads"
        )

    latencies: list[float] = []
    everything_came = threading.Semaphore(0)
    logins = requests = 0

    def handle(_inbox: InboxConfig, message: EmailMessage) -> None:
        latencies.append(time.time() - float(message["Subject"]))
        everything_came.release()

    before = memory()
    listeners = [InboxListener(inbox, handle, token=source, ssl_context=trust) for inbox in inboxes]
    threads = [threading.Thread(target=listener.run) for listener in listeners]
    for thread in threads:
        thread.start()
    for _ in range(2):  # the first messages wait for the logins
        latencies.clear()
        line.send(True)
        logins, requests = line.recv()
        for _ in range(count):
            assert everything_came.acquire(timeout=LIMIT)
    running, grown = threading.active_count() - 1, memory() - before
    cpu = time.process_time()
    time.sleep(QUIET)
    cpu = time.process_time() - cpu
    began = time.monotonic()
    for listener in listeners:
        listener.stop()
    for thread in threads:
        thread.join()
    stopped = time.monotonic() - began
    latencies.sort()
    print(
        f"{count} listeners: {grown * 1024 / count:.0f} KiB each, {running} threads,"
        f" {100 * cpu / QUIET:.1f} % of a core while nothing happens;"
        f" all at once one message each: median {1000 * latencies[count // 2]:.0f} ms,"
        f" last {1000 * latencies[-1]:.0f} ms; {logins} logins, {requests} token requests;"
        f" stopped in {stopped:.2f} s"
    )
    line.send(False)
    server.join(LIMIT)


if __name__ == "__main__":
    print(f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores")
    for argument in sys.argv[1:] or [str(DEFAULT)]:
        measure(int(argument))
