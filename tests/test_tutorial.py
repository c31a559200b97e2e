"""What the tutorial and the landing page tell a newcomer to save and run, in an empty folder."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.pages import DOCS, Block, blocks

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

TUTORIAL = DOCS / "tutorial" / "first-login.md"
LANDING_PAGE = DOCS / "index.md"


class Program(NamedTuple):
    """A program of a page, the name it is saved under, and what the page says it prints."""

    block: Block
    name: str
    prints: str


def programs(page: Path) -> list[Program]:
    found = [block for block in blocks(page, "python", "text") if block.remark]
    sources, outputs = found[::2], found[1::2]
    assert {block.language for block in outputs} == {"text"}
    names = re.findall(r"[Ss]ave this as `(\w+\.py)`", page.read_text("utf-8")) or ["example.py"]
    return [
        Program(block, name, output.text)
        for block, name, output in zip(sources, names, outputs, strict=True)
    ]


def run_as_a_newcomer(program: Program, folder: Path, ca: Path | None = None) -> str:
    """Run it beside the page's other programs, which must not get into its way by their names."""
    for other in programs(program.block.page):
        (folder / other.name).write_text(other.block.text, "utf-8")
    ours = ("SSL_CERT", "REQUESTS_CA", "CURL_CA", "EXO_IMAP", "cmsbs", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if ca is not None:
        environment["SSL_CERT_FILE"] = str(ca)
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def assert_prints(program: Program, printed: str) -> None:
    as_shown = doctest.OutputChecker().check_output(program.prints, printed, doctest.ELLIPSIS)
    assert as_shown, f"{program.block.page.name}:{program.block.line} prints\n{printed}"


@pytest.mark.parametrize(
    "program",
    [*programs(LANDING_PAGE), *programs(TUTORIAL)[:-1]],
    ids=lambda program: program.name,
)
def test_a_program_prints_what_the_page_shows(program: Program, tmp_path: Path) -> None:
    assert_prints(program, run_as_a_newcomer(program, tmp_path))


def test_the_last_program_reads_the_mailbox_that_cmsbs_conf_names(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    program = programs(TUTORIAL)[-1]
    trusted_exchange.write_config(tmp_path)
    ca = trusted_exchange.write_ca(tmp_path / "ca.pem")
    assert_prints(program, run_as_a_newcomer(program, tmp_path, ca))


def test_the_last_program_names_the_step_that_is_missing(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    program = programs(TUTORIAL)[-1]
    trusted_exchange.write_config(tmp_path)
    trusted_exchange.set_cas_mailbox(trusted_exchange.mailbox, imap_enabled=False)
    ca = trusted_exchange.write_ca(tmp_path / "ca.pem")
    assert re.search("^FAILED +mailbox", run_as_a_newcomer(program, tmp_path, ca), re.MULTILINE)
