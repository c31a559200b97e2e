"""The README is true for who has nothing but it: each example is pasted and run as it stands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from support.interrupts import sigint_handled
from support.pages import ROOT, Block, blocks, prints, without_blocks

README = ROOT / "README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHON = blocks(README, "python")
LIMIT = 60  # seconds
INTERPRETER = os.environ.get("README_PYTHON", sys.executable)  # .ci/run: with the built wheel alone
SESSION = "import doctest, sys; sys.exit(doctest.testfile('page', optionflags=doctest.ELLIPSIS)[0])"


def output_of(block: Block) -> str | None:
    """What the page shows as its output, if anything."""
    found = blocks(README)
    behind = found[found.index(block) + 1 :]
    return behind[0].text if behind and behind[0].language == "text" else None


def run_alone(block: Block) -> tuple[int, str]:
    """The exit status and the output of a block in a new interpreter, in the current folder."""
    if block.text.startswith(">>>"):
        Path("page").write_text(block.text)
        arguments = ["-c", SESSION]
    elif re.search(r"^def test_", block.text, re.MULTILINE):
        Path("test_page.py").write_text(block.text)
        arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"]
    else:
        arguments = ["-c", block.text]
    with (
        sigint_handled(),
        subprocess.Popen(
            [INTERPRETER, "-W", "error", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as program,
    ):
        assert program.stdout is not None
        patience = threading.Timer(LIMIT, program.kill)
        patience.start()
        lines: list[str] = []
        if "listen(" in block.text:  # it goes on until somebody ends it
            shown = output_of(block) or ""
            lines += (program.stdout.readline() for _ in shown.splitlines())
            program.send_signal(signal.SIGINT)
        lines += program.stdout
        patience.cancel()
    return program.returncode, "".join(lines)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"README.md:{block.line}")
def test_each_example_runs_as_pasted_and_prints_what_is_shown(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed = run_alone(block)
    shown = output_of(block)
    fails = shown is not None and shown.startswith("Traceback ")
    assert status == int(fails), printed
    if shown is not None:
        assert prints(shown, printed), f"README.md:{block.line} prints:\n{printed}"


def test_there_are_no_other_examples_than_those_that_are_tested() -> None:
    assert PYTHON
    for block, before in zip(blocks(README)[1:], blocks(README), strict=False):
        assert block.language in {"python", "text", "sh", "console"}
        assert block.language != "text" or before.language == "python"


def test_the_install_line_names_this_project_and_an_extra_that_it_has() -> None:
    first = blocks(README)[0]
    installed = re.fullmatch(r"(?:\$ )?pip install '?([\w-]+)(?:\[([\w,]+)\])?'?\n", first.text)
    assert installed is not None, "the first block of the README is one line that installs it"
    assert installed[1] == PROJECT["name"]
    assert set(filter(None, [installed[2]])) <= PROJECT["optional-dependencies"].keys()


def test_it_gives_two_commands_and_ci_runs_them() -> None:
    commands = re.findall(r"^\$ (.+)$", README.read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 2
    assert "docs/examples/read_inbox.py" in commands[0]
    assert "pytest -n auto" in commands[1]
    assert "README.md" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_its_links_work_on_the_package_index_too() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_blocks(README))
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
