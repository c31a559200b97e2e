"""From a configuration to the first message, through a link with a round trip of 30 ms.

    python -m tests.benchmarks.first_message [--rounds 9] [--round-trip 0.03]

Each contender gets a token (none is cached), connects, logs in, selects INBOX and fetches the
subject of the first message. A relay in a process of its own delays every byte by half a round
trip; the servers are the loopback Exchange Online. The floor says the least over raw sockets.
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import imaplib
import json
import multiprocessing
import os
import platform
import socket
import ssl
import statistics
import tempfile
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from exo_imap_oauth import load_config
from exo_imap_oauth.imap import ok
from exo_imap_oauth.testing import ready_exchange
from exo_imap_oauth.token_cache import MemoryTokenCache
from exo_imap_oauth.xoauth2 import initial_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from exo_imap_oauth import InboxConfig

SUBJECT = "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"


# ---- the link --------------------------------------------------------------------------------


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass on what comes, each piece so much later; pieces do not wait for each other."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            loop.call_later(delay, writer.write, data)
    loop.call_later(delay, writer.close)


async def _relay(target: int, delay: float) -> int:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay)  # the TCP handshake was with this relay
        there = await asyncio.open_connection("localhost", target)
        await asyncio.gather(_pump(reader, there[1], delay), _pump(there[0], writer, delay))

    server = await asyncio.start_server(connected, "localhost", 0, family=socket.AF_INET)
    port: int = server.sockets[0].getsockname()[1]
    return port


def relay(line: Connection, targets: list[int], round_trip: float) -> None:
    """Delay what goes to the ports; the ports to use instead go over the line."""

    async def run() -> None:
        line.send([await _relay(target, round_trip / 2) for target in targets])
        await asyncio.Event().wait()

    asyncio.run(run())


# ---- contenders ------------------------------------------------------------------------------


def ours(conf: str) -> str:
    """This library."""
    inbox = load_config(conf).default
    with inbox.open(token=inbox.token_source(cache=MemoryTokenCache()), readonly=True) as imap:
        (part, *_) = ok(imap.fetch("1", SUBJECT))
    header: bytes = part[1]
    return header.decode()


def _by_msal(inbox: InboxConfig) -> str:
    authority, _, _ = (inbox.token_uri or "").partition("/oauth2/")
    application: Any = import_module("msal").ConfidentialClientApplication(
        inbox.client_id,
        client_credential=str(inbox.client_secret),
        authority=authority,
        instance_discovery=False,
    )
    answer = application.acquire_token_for_client([inbox.scope])
    token: str = answer["access_token"]
    return token


def msal_and_imaplib(conf: str) -> str:
    """What Microsoft's pages show."""
    inbox = load_config(conf).default
    token = _by_msal(inbox)
    context = ssl.create_default_context()
    with imaplib.IMAP4_SSL(inbox.host, inbox.port, ssl_context=context) as imap:
        imap.authenticate("XOAUTH2", lambda _: initial_response(inbox.user, token))
        imap.select("INBOX", readonly=True)
        _, (part, *_) = imap.fetch("1", SUBJECT)
    assert isinstance(part, tuple)
    return part[1].decode()


def msal_and_imap_tools(conf: str) -> str:
    """imap_tools."""
    inbox = load_config(conf).default
    token = _by_msal(inbox)
    box: Any = import_module("imap_tools").MailBox(inbox.host, inbox.port)
    with box.xoauth2(inbox.user, token, initial_folder=None) as mailbox:
        mailbox.folder.set("INBOX", readonly=True)
        message = next(mailbox.fetch(limit=1, mark_seen=False, headers_only=True))
        return f"Subject: {message.subject}"


def msal_and_aioimaplib(conf: str) -> str:
    """aioimaplib."""
    inbox = load_config(conf).default
    token = _by_msal(inbox)

    async def read() -> str:
        client: Any = import_module("aioimaplib").IMAP4_SSL(inbox.host, inbox.port, timeout=30)
        await client.wait_hello_from_server()
        await client.xoauth2(inbox.user, token)
        await client.select("INBOX")  # after EXAMINE it fetches nothing
        _, lines = await client.fetch("1", SUBJECT)
        await client.logout()
        client.protocol.transport.close()
        return bytes(lines[1]).decode()

    return asyncio.run(read())


def floor(conf: str) -> str:
    """Raw sockets, and no more words than the protocols need."""
    inbox = load_config(conf).default
    context = ssl.create_default_context()
    form = {
        "client_id": inbox.client_id,
        "client_secret": str(inbox.client_secret),
        "scope": inbox.scope,
        "grant_type": "client_credentials",
    }
    body = urlencode(form).encode()
    uri = urlsplit(inbox.token_uri or "")
    head = f"POST {uri.path} HTTP/1.1\r\nHost: {uri.netloc}\r\nContent-Length: {len(body)}\r\n"
    kind = "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n"
    with _connected(context, uri.hostname or "", uri.port or 443) as connection:
        connection.sendall(head.encode() + kind.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    token = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])["access_token"]
    response = base64.b64encode(initial_response(inbox.user, token)).decode()
    with _connected(context, inbox.host, inbox.port) as connection:
        lines = connection.makefile("rb")
        lines.readline()
        for tag, command in (
            ("a", f"AUTHENTICATE XOAUTH2 {response}"),
            ("b", "EXAMINE INBOX"),
            ("c", f"FETCH 1 {SUBJECT}"),
        ):
            connection.sendall(f"{tag} {command}\r\n".encode())
            said = b""
            while not said.endswith(b"\n") or not lines_end(said, tag):
                said += lines.readline()
        connection.sendall(b"d LOGOUT\r\n")
        lines.read()
    return said.decode()


def lines_end(said: bytes, tag: str) -> bool:
    """Whether the last line is the reply with this tag."""
    return said.splitlines()[-1].startswith(f"{tag} OK".encode())


def _connected(context: ssl.SSLContext, host: str, port: int) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), 30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname=host)


CONTENDERS: dict[str, Callable[[str], str]] = {
    "floor": floor,
    "exo_imap_oauth": ours,
    "msal + aioimaplib": msal_and_aioimaplib,
    "msal + imaplib": msal_and_imaplib,
    "msal + imap_tools": msal_and_imap_tools,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--round-trip", type=float, default=0.03)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    line, their_end = spawn.Pipe()
    with tempfile.TemporaryDirectory() as folder, ready_exchange(trust=False) as exchange:
        bundle = Path(folder, "ca.pem")
        os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = str(
            exchange.write_ca(bundle)
        )
        conf = exchange.write_config(folder)
        token_port = urlsplit(exchange.token_uri()).port or 443
        arguments = (their_end, [exchange.port, token_port], options.round_trip)
        process = spawn.Process(target=relay, args=arguments, daemon=True)
        process.start()
        slow_imap, slow_token = line.recv()
        for file in conf.rglob("*.properties"):
            text = file.read_text().replace(f"localhost:{token_port}", f"localhost:{slow_token}")
            file.write_text(text.replace(f"port = {exchange.port}", f"port = {slow_imap}"))
        times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for number in range(options.rounds + 1):  # the first loads modules
            for name, read in CONTENDERS.items():
                began = time.perf_counter()
                assert "Sample message 1" in read(str(conf)), name
                if number:
                    times[name].append(time.perf_counter() - began)
        process.kill()
    names = ("msal", "imap-tools", "aioimaplib")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"CPython {platform.python_version()}; {versions}; medians of {options.rounds} rounds;")
    print(f"a round trip takes {1000 * options.round_trip:.0f} ms\n")
    print("|  | to the first message, ms | round trips | ÷ floor |")
    print("| --- | ---: | ---: | ---: |")
    least = statistics.median(times["floor"])
    for name, measured in times.items():
        median = statistics.median(measured)
        trips = median / options.round_trip
        print(f"| {name} | {1000 * median:.0f} | {trips:.1f} | {median / least:.2f} |")


if __name__ == "__main__":
    main()
