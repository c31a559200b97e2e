"""A fleet of processes and a real Redis: one request, whoever dies, with and without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from support.concurrency import until
from support.redis_server import RedisServer

from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

KEY = Fernet.generate_key()
LIMIT = 60.0  # s


@pytest.fixture(name="server")
def _server(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(redis_binary, tmp_path) as server:
        yield server


PROCESSES, THREADS = 32, 8

MEMBER = """
import json, os, sys, threading, time
from exo_imap_oauth import TokenSource, _redis_client
from exo_imap_oauth.redis_cache import RedisTokenCache

_redis_client._LONGEST_WAIT = 30.0  # s; a busy machine is not the subject
arguments = json.loads(sys.argv[1])
patience = dict(socket_timeout=30.0, socket_connect_timeout=30.0)
cache = RedisTokenCache.from_url(arguments["redis"], key=arguments["key"].encode(), **patience)
source = TokenSource(
    arguments["tenant_id"], arguments["client_id"], arguments["secret"],
    token_uri=arguments["token_uri"], cache=cache, **arguments["options"],
)

def in_processes(work):
    # All are forked before any of them begins.
    held, let_go = os.pipe()
    children = []
    for _ in range(arguments["processes"]):
        child = os.fork()
        if child == 0:
            os.close(let_go)
            os.read(held, 1)
            os.write(1, (json.dumps(work()) + "\\n").encode())
            os._exit(0)
        children.append(child)
    os.close(let_go)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
"""
"""What a program begins with that is a fleet of processes."""

ASK = (
    MEMBER
    + """
def work():
    results, start, ends_on = [], threading.Barrier(arguments["threads"]), [0.0]

    def ask():
        start.wait()
        began = time.monotonic()
        token = source.get_token()
        results.append((token.token[-20:], time.monotonic() - began))
        ends_on[0] = token.expires_on

    for _ in range(arguments["rounds"]):
        time.sleep(max(0.0, ends_on[0] + 0.01 - time.time()))  # until the last one has expired
        threads = [threading.Thread(target=ask) for _ in range(arguments["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results

in_processes(work)
"""
)


class Fleet:
    """Processes that ask for a token of one identity, all at the same time."""

    def __init__(self, exchange: ReadyExchange, server: RedisServer, tmp_path: Path) -> None:
        self._environment = os.environ | {"SSL_CERT_FILE": str(exchange.write_ca(tmp_path / "ca"))}
        self.arguments: dict[str, Any] = {
            "redis": server.url,
            "key": KEY.decode(),
            "tenant_id": exchange.tenant_id,
            "client_id": exchange.app.client_id,
            "secret": exchange.secret.value,
            "token_uri": exchange.token_uri(),
            "processes": PROCESSES,
            "threads": THREADS,
            "rounds": 1,
            "options": {},
        }

    def start(self, program: str, **arguments: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(self.arguments | arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )

    def ask(self, **arguments: Any) -> list[tuple[str, float]]:
        """Have processes ask; the end of each token, and the seconds it took."""
        with self.start(ASK, **arguments) as members:
            output, _ = members.communicate(timeout=LIMIT)
        assert members.returncode == 0
        lines = [json.loads(line) for line in output.splitlines()]
        return [(text, seconds) for line in lines for text, seconds in line]


@pytest.fixture(name="fleet")
def _fleet(exchange: ReadyExchange, server: RedisServer, tmp_path: Path) -> Fleet:
    return Fleet(exchange, server, tmp_path)


@pytest.mark.slow
def test_a_cold_fleet_makes_one_request_and_so_it_does_at_expiry(
    fleet: Fleet, exchange: ReadyExchange
) -> None:
    app = exchange.register_app("short", token_lifetime=3)
    fleet.arguments |= {
        "client_id": app.client_id,
        "secret": exchange.add_client_secret(app).value,
    }
    answers = fleet.ask(rounds=2)
    assert len(answers) == 2 * PROCESSES * THREADS
    assert len({text for text, _ in answers}) == 2
    assert len(exchange.token_requests) == 2


@pytest.mark.slow
def test_a_killed_process_keeps_nobody_waiting_longer_than_its_lease(
    fleet: Fleet, exchange: ReadyExchange
) -> None:
    lease = 2.0  # s, as long as one exchange with the endpoint may take
    fleet.arguments["options"] = {"timeout": lease, "deadline": LIMIT}
    stalled = exchange.inject(Fault.TOKEN_STALL, seconds=LIMIT)
    with fleet.start(ASK, processes=1) as holder:
        stalled.wait_for_hits(timeout=LIMIT)
        os.killpg(holder.pid, signal.SIGKILL)
    answers = fleet.ask()
    assert len({text for text, _ in answers}) == 1
    assert stalled.hits + len(exchange.token_requests) == 2
    assert max(seconds for _, seconds in answers) < lease + LIMIT / 4


ASK_FOR_A_WHILE = (
    MEMBER
    + """
def work():
    slowest = 0.0
    for number in range(arguments["calls"]):
        if number == arguments["calls"] // 2:
            with open(arguments["halfway"], "a") as file:
                file.write("x")
            while not os.path.exists(arguments["redis_is_gone"]):
                time.sleep(0.01)
            source.invalidate(source.get_token())  # as after a refusal: now one is needed
        began = time.monotonic()
        source.get_token()
        slowest = max(slowest, time.monotonic() - began)
    return slowest

in_processes(work)
"""
)


@pytest.mark.slow
def test_a_fleet_goes_on_while_redis_is_gone(
    exchange: ReadyExchange, server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(exchange, server, tmp_path)
    gone, halfway, processes = tmp_path / "gone", tmp_path / "halfway", 8
    halfway.touch()
    fleet.arguments |= {"processes": processes, "calls": 10_000 // processes}
    with fleet.start(ASK_FOR_A_WHILE, redis_is_gone=str(gone), halfway=str(halfway)) as members:
        until(lambda: halfway.stat().st_size == processes)
        server.stop()
        gone.touch()
        output, _ = members.communicate(timeout=LIMIT)
    assert members.returncode == 0  # no call raised
    slowest = [json.loads(line) for line in output.splitlines()]
    assert len(slowest) == processes
    assert max(slowest) < 30  # s, the deadline of a call
    assert len(exchange.token_requests) <= 1 + processes
