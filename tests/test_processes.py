"""What processes and threads of one program share, as docs/explanation/processes.md says."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from exo_imap_oauth import load_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.testing import ReadyExchange

LIMIT = 60.0  # s
WORKERS = 3

PROGRAM = """
import sys
from exo_imap_oauth import load_config

source = load_config("cmsbs-conf").default.token_source()

def end_of_token(_=None):
    return source.get_token().token[-20:]
"""


@pytest.fixture(name="run")
def _run(exchange: ReadyExchange, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a program in a folder with the exchange's configuration; the lines it prints."""
    exchange.write_config(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {
        "SSL_CERT_FILE": str(exchange.write_ca(tmp_path / "ca.pem")),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }

    def run(program: str) -> list[str]:
        command = [sys.executable, "-c", program]
        output = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
        return output.split()

    run.environment = environment  # type: ignore[attr-defined] # goes with it
    return run


POOL = """
import multiprocessing, program

if __name__ == "__main__":
    method, before = {method!r}, {before!r}
    context = multiprocessing.get_context(method)
    if before:
        print(program.end_of_token())
    with context.Pool({workers}) as pool:
        print(*pool.map(program.end_of_token, range(20 * {workers}), chunksize=1))
"""


@pytest.mark.parametrize(
    ("method", "before", "requests"),
    [("fork", True, 1), ("spawn", True, 1 + WORKERS), ("spawn", False, WORKERS)],
)
def test_a_pool_of_processes(
    run: Callable[[str], list[str]],
    exchange: ReadyExchange,
    method: str,
    before: bool,
    requests: int,
) -> None:
    run(POOL.format(method=method, before=before, workers=WORKERS))
    assert 1 <= len(exchange.token_requests) <= requests
    if method == "fork":
        assert len(exchange.token_requests) == requests


def token_of(inbox: InboxConfig) -> str:
    return inbox.token_source().get_token().token


def test_threads_share_one_request(trusted_exchange: ReadyExchange, tmp_path: Path) -> None:
    inbox = load_config(trusted_exchange.write_config(tmp_path)).default
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(token_of, [inbox] * 64))
    assert len(tokens) == len(trusted_exchange.token_requests) == 1


def test_an_inbox_can_be_pickled_and_its_source_says_what_to_do(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    inbox = load_config(exchange.write_config(tmp_path)).default
    assert pickle.loads(pickle.dumps(inbox)) == inbox
    with pytest.raises(TypeError, match=r"build one in each process .* InboxConfig.token_source"):
        pickle.dumps(inbox.token_source())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="subinterpreters exist from CPython 3.14 on")
def test_subinterpreters_share_nothing(
    run: Callable[[str], list[str]], exchange: ReadyExchange
) -> None:
    run(
        "from concurrent import interpreters\n"
        "for _ in range(2):\n"
        "    interpreters.create().exec('import program; program.end_of_token()')\n"
    )
    assert len(exchange.token_requests) == 2


# ---- gunicorn --------------------------------------------------------------------------------

SITE = """
import os
import program

if os.environ.get("BEFORE_FORK"):
    program.end_of_token()

def site(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {program.end_of_token()}".encode()]
"""


@pytest.mark.parametrize("preload", [True, False])
def test_gunicorn(
    run: Any,
    exchange: ReadyExchange,
    tmp_path: Path,
    preload: bool,
) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "site_of_test.py").write_text(SITE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--threads", "4"]
    options = ["--bind", f"127.0.0.1:{port}", *(["--preload"] if preload else [])]
    environment = run.environment | ({"BEFORE_FORK": "1"} if preload else {})
    with subprocess.Popen(
        [*command, *options, "site_of_test:site"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            answers = answers_of_all_workers(f"http://127.0.0.1:{port}/")
        finally:
            server.terminate()
            server.wait(LIMIT)
    assert len({process for process, _ in answers}) == WORKERS
    assert len(exchange.token_requests) == (1 if preload else WORKERS)


def answers_of_all_workers(url: str) -> set[tuple[str, str]]:
    """Each worker's process ID and the end of its token, from so many parallel questions."""
    seen: Counter[tuple[str, str]] = Counter()
    give_up_at = time.monotonic() + LIMIT

    def ask(_: int) -> tuple[str, str] | None:
        try:
            with urlopen(url, timeout=LIMIT) as answer:
                process, text = answer.read().decode().split()
        except (URLError, ConnectionError):
            return None
        return process, text

    with ThreadPoolExecutor(16) as pool:
        while len({process for process, _ in seen}) < WORKERS:
            assert time.monotonic() < give_up_at
            seen.update(answer for answer in pool.map(ask, range(32)) if answer)
    return set(seen)
