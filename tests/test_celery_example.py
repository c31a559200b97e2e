"""docs/examples/celery_worker.py with a real Redis, real workers, and one of them killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exo_imap_oauth.testing import ReadyExchange

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
MAILBOXES = 40
MESSAGES = int(os.environ.get("CELERY_MESSAGES", "5"))  # of each; 50 in .ci/run
WORKERS = 2
LIMIT = 120.0  # s

WORKER = """
import os
import celery_worker
from celery_worker import app

written = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND)

def handle(inbox, message):
    os.write(written, f"{inbox.name} {message['Subject']}\\n".encode())

celery_worker.handle = handle
celery_worker.LEASE = 2.0
"""


@pytest.fixture(name="server")
def _server(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    pytest.importorskip("celery")
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(redis_binary, folder) as server:
        yield server


@pytest.mark.slow
def test_forty_mailboxes_are_read_though_a_worker_is_killed(
    exchange: ReadyExchange,
    server: RedisServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    conf = configured_for_many(exchange, tmp_path)
    (tmp_path / "worker_of_test.py").write_text(WORKER)
    handled = tmp_path / "handled"
    handled.touch()
    environment = os.environ | {
        "REDIS_URL": server.url,
        "FERNET_KEY": Fernet.generate_key().decode(),
        "CMSBS_CONF": str(conf),
        "SSL_CERT_FILE": str(exchange.write_ca(tmp_path / "ca.pem")),
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(tmp_path), *sys.path]),
        "HANDLED": str(handled),
    }
    wanted = MAILBOXES * MESSAGES

    def distinct() -> int:
        return len(set(handled.read_text().splitlines()))

    began = time.monotonic()
    workers = [start_worker(environment, tmp_path, number) for number in range(WORKERS)]
    try:
        have_all_read(environment)
        until(lambda: distinct() >= wanted / 4)
        os.killpg(workers[0].pid, signal.SIGKILL)
        until(lambda: distinct() >= wanted, meanwhile=lambda: have_all_read(environment))
        seconds = time.monotonic() - began
    finally:
        for worker in workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGTERM)
        for worker in workers:
            worker.wait(LIMIT)
    counts = Counter(handled.read_text().splitlines())
    twice = counts.total() - len(counts)
    assert len(counts) == wanted
    assert twice <= 2  # what was in the hands of the two processes of the worker
    assert len(exchange.token_requests) == 1
    logs = [(tmp_path / f"worker{number}.log").read_text() for number in range(WORKERS)]
    with capsys.disabled():
        print(  # noqa: T201 - what was measured
            f"\n{wanted} messages of {MAILBOXES} mailboxes in {seconds:.1f} s by {WORKERS} workers,"
            f" one of them killed: {twice} handled twice,"
            f" {len(exchange.logins)} logins, {len(exchange.token_requests)} token request,"
            f" tasks ended: {[len(re.findall('succeeded in', log)) for log in logs]}"
        )


def configured_for_many(exchange: ReadyExchange, tmp_path: Path) -> Path:
    conf = exchange.write_config(tmp_path)
    names = [f"m{number:02}" for number in range(MAILBOXES - 1)]
    lines = [f'cmsbs.bounce.listeners = "{" ".join(names)}"']
    for name in names:
        user = f"{name}@contoso.example"
        exchange.add_mailbox(user, messages=MESSAGES)
        exchange.add_mailbox_permission(user, exchange.app.enterprise_object_id)
        lines += [
            f"cmsbs.bouncelistener.{name}.mail.imap.user = {user}",
            f"cmsbs.bouncelistener.{name}.mail.imap.server = {exchange.host}",
        ]
    for number in range(4, MESSAGES + 1):
        exchange.deliver(exchange.mailbox, f"Subject: Sample message {number}\r\n\r\n".encode())
    (conf / "conf.d/many.properties").write_text("\n".join(lines))
    return conf


def start_worker(environment: dict[str, str], folder: Path, number: int) -> subprocess.Popen[Any]:
    command = [sys.executable, "-m", "celery", "-A", "worker_of_test", "worker"]
    options = ["--concurrency", "2", "--loglevel", "INFO", "--hostname", f"worker{number}@test"]
    with (folder / f"worker{number}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, *options],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def have_all_read(environment: dict[str, str]) -> None:
    """What beat does once a minute."""
    program = "import celery_worker; celery_worker.read_all()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def until(condition: Callable[[], bool], meanwhile: Callable[[], None] | None = None) -> None:
    give_up_at = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < give_up_at
        if meanwhile is not None:
            meanwhile()
        time.sleep(0.2)
