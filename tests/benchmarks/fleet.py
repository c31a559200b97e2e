"""Many processes that need the same token: at the start, and when it expires.

    python -m tests.benchmarks.fleet [--processes 32] [--threads 8]

Compares this library with and without a Redis with msal and azure-identity, which keep their
tokens in each process. Needs redis-server. The endpoint is the one of tests.benchmarks.tokens.
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import threading
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet
from support.redis_server import RedisServer, find_redis

from exo_imap_oauth import TokenSource
from exo_imap_oauth.redis_cache import RedisTokenCache

from .tokens.clock import ahead
from .tokens.contenders import CLIENT, SECRET, azure_identity, msal, ours
from .tokens.server import TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tokens.contenders import GetToken
    from .tokens.server import Endpoint

KEY = Fernet.generate_key()
AFTER_EXPIRY = 3_700.0  # s; tokens live an hour


def over_redis(server: RedisServer) -> Callable[[Endpoint, str], GetToken]:
    """This library with a cache in Redis."""

    def build(endpoint: Endpoint, tenant: str) -> GetToken:
        cache = RedisTokenCache.from_url(server.url, key=KEY, socket_timeout=2.0)
        uri = endpoint.token_uri(tenant)
        return TokenSource(tenant, CLIENT, SECRET, token_uri=uri, cache=cache).get_token

    return build


def in_processes(
    processes: int, work: Callable[[Callable[[], object]], list[float]]
) -> list[float]:
    """Fork so many processes; what each of them measured.

    Each calls what it is given when it is prepared, and waits there for all others.
    """
    prepared, is_prepared = os.pipe()
    held, let_go = os.pipe()
    results, write = os.pipe()
    children: list[int] = []

    def wait_for_all() -> None:
        os.write(is_prepared, b"!")
        os.read(held, 1)

    for _ in range(processes):
        child = os.fork()
        if child == 0:
            os.close(let_go)
            os.write(write, json.dumps(work(wait_for_all)).encode() + b"\n")
            os._exit(0)
        children.append(child)
    for _ in children:
        os.read(prepared, 1)
    for end in (held, let_go, write, prepared, is_prepared):
        os.close(end)
    with os.fdopen(results, encoding="ascii") as lines:
        measured = [seconds for line in lines for seconds in json.loads(line)]
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0
    return measured


def ask(get_token: GetToken, threads: int, wait_for_all: Callable[[], object]) -> list[float]:
    """Have so many threads ask at once; the seconds that each of them waited."""
    waits: list[float] = []
    start = threading.Barrier(threads + 1)

    def once() -> None:
        start.wait()
        began = time.monotonic()
        get_token()
        waits.append(time.monotonic() - began)

    running = [threading.Thread(target=once) for _ in range(threads)]
    for thread in running:
        thread.start()
    wait_for_all()
    start.wait()
    for thread in running:
        thread.join()
    return waits


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    for module in ("msal", "azure.identity", "exo_imap_oauth._tokens.endpoint"):
        import_module(module)  # before the forks, for importing is not the subject
    logging.disable(logging.CRITICAL)  # clocks that jump an hour are not the subject
    binary = find_redis()
    if binary is None:
        sys.exit("install redis-server")
    names = [f"{name} {version(name)}" for name in ("msal", "azure-identity", "redis")]
    print(f"CPython {platform.python_version()}, {os.cpu_count()} cores; {', '.join(names)};")
    print(f"{options.processes} processes x {options.threads} threads; endpoint with 50 ms\n")
    print("|  | cold: token requests | p50, ms | p99, ms | at expiry: token requests | p99, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder, RedisServer(binary, Path(folder)) as redis:
        contenders = {
            "exo_imap_oauth, Redis": over_redis(redis),
            "exo_imap_oauth": ours,
            "msal": msal,
            "azure-identity": azure_identity,
        }
        for number, (name, build) in enumerate(contenders.items()):
            with TokenServer() as server:
                endpoint, tenant = server.open(), f"tenant{number}.example"
                cold, cold_waits = _measured(endpoint, build, tenant, options, expired=False)
                both, later_waits = _measured(endpoint, build, tenant, options, expired=True)
                first = 1 if name.endswith("Redis") else options.processes
            print(
                f"| {name} | {cold} | {_at(cold_waits, 0.5)} | {_at(cold_waits, 0.99)}"
                f" | {both - first} | {_at(later_waits, 0.99)} |",
                flush=True,
            )


def _measured(
    endpoint: Endpoint,
    build: Callable[[Endpoint, str], GetToken],
    tenant: str,
    options: argparse.Namespace,
    *,
    expired: bool,
) -> tuple[int, list[float]]:
    """The token requests, and the waits: for the first token, or for the one after it expired."""
    before = endpoint.counts().posts

    def work(wait_for_all: Callable[[], object]) -> list[float]:
        get_token = build(endpoint, tenant + ("-expired" if expired else ""))
        if not expired:
            return ask(get_token, options.threads, wait_for_all)
        get_token()
        with ahead(AFTER_EXPIRY):
            return ask(get_token, options.threads, wait_for_all)

    waits = in_processes(options.processes, work)
    requests = endpoint.counts().posts - before
    return requests, waits


def _at(waits: list[float], part: float) -> str:
    return f"{1000 * sorted(waits)[min(int(part * len(waits)), len(waits) - 1)]:.0f}"


if __name__ == "__main__":
    main()
