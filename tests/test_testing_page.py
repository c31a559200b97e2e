"""docs/how-to/testing.md: its files in one folder, and its commands as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.pages import DOCS, blocks, run

from exo_imap_oauth.testing import Fault, ready_exchange

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/testing.md"
FILES = {
    block.text.splitlines()[0].removeprefix("# "): block.text
    for block in blocks(PAGE, "python")
    if block.text.startswith("# ")
}
COMMANDS = [
    line.removeprefix("$ ") for block in blocks(PAGE, "console") for line in block.text.splitlines()
]
TESTS = 18


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, and nothing that would change what is trusted."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(variable)
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    """What Python prints when all is well; warnings are errors."""
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def run_pytest(folder: Path, *options: str) -> str:
    return python(folder, "-m", "pytest", "-q", "-W", "error", *options)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["-p", "no:randomly"], id="alone"),
        pytest.param(["-n", "2"], id="xdist"),
        pytest.param(["-p", "randomly"], id="randomly", marks=pytest.mark.slow),
    ],
)
def test_the_pages_tests_pass(folder: Path, options: list[str]) -> None:
    if "randomly" in options:
        pytest.importorskip("pytest_randomly")
    assert f"{TESTS} passed" in run_pytest(folder, *options)


def test_the_pages_tests_pass_where_pytest_socket_allows_loopback_alone(folder: Path) -> None:
    pytest.importorskip("pytest_socket")
    (settings,) = blocks(PAGE, "toml")
    (folder / "pyproject.toml").write_text(settings.text)
    (folder / "test_elsewhere.py").write_text(ELSEWHERE)
    assert f"{TESTS + 2} passed" in run_pytest(folder)
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (folder / "test_marked.py").write_text(MARKED)
    output = run_pytest(folder, "--disable-socket", "test_marked.py")
    assert "3 passed" in output


ELSEWHERE = """
import asyncio
import socket
import pytest

def test_another_address_is_still_an_error():
    with pytest.raises((RuntimeError, UserWarning), match="192.0.2.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)

def test_asyncio_works():
    asyncio.run(asyncio.sleep(0))
"""
MARKED = """
import pytest
from exo_imap_oauth.testing import ready_exchange
from reader import unread_subjects

@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
def test_hosts(exchange_inbox):
    assert len(unread_subjects(exchange_inbox)) == 3

@pytest.mark.enable_socket
def test_enabled(exchange_inbox):
    assert len(unread_subjects(exchange_inbox)) == 3

def test_neither():
    with pytest.raises(UserWarning, match="A test tried to use socket.socket."):
        with ready_exchange():
            pass
"""


def test_the_pages_commands_pass(folder: Path) -> None:
    install, command = COMMANDS
    assert install == "pip install 'exo-imap-oauth[testing]' pytest"
    executable, *arguments = command.split()
    assert executable == "python"
    assert "OK" in python(folder, *arguments)


def test_every_line_of_the_table_does_something(trusted_exchange: ReadyExchange) -> None:
    lines = PAGE.read_text("utf-8").partition("## All of it")[2].partition("\n## ")[0].split("\n")
    table = "\n".join(line for line in lines if line.startswith("|"))
    codes = re.findall(r"`((?:exchange\.)?\w+(?:\(| = )[^`]*)`", table)
    assert len(codes) == 25
    names = {name: getattr(trusted_exchange, name) for name in dir(trusted_exchange)} | {
        "exchange": trusted_exchange,
        "ready_exchange": ready_exchange,
        "Fault": Fault,
        "issuer": "https://cluster.example/",
        "subject": "system:serviceaccount:mail:reader",
    }
    for code in codes:
        exec(code, names)


def test_a_program_in_a_process_of_its_own_trusts_the_exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    trusted_exchange.write_config(tmp_path)
    (tmp_path / "reader.py").write_text(FILES["reader.py"])
    program = """
from exo_imap_oauth import load_config
from reader import unread_subjects
print(len(unread_subjects(load_config().default)))
"""
    assert python(tmp_path, "-c", program) == "3\n"


def test_the_block_without_a_file_runs() -> None:
    (script,) = [block for block in blocks(PAGE, "python") if not block.text.startswith("# ")]
    (shown,) = blocks(PAGE, "text")
    before = dict(os.environ)
    assert run(script) == shown.text
    assert dict(os.environ) == before
