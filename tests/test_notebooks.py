"""The notebooks run in their order without a tenant, and their text is true."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.checkup import CHECK_IDS
from support.html_page import Page
from support.notebooks import NOTEBOOKS, Output, cells, run, run_in_kernel

from exo_imap_oauth.testing import ready_exchange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Runner = Callable[[Path], list[Output]]

# What a text speaks of that is neither in the code nor in an output.
_ELSEWHERE = {
    *CHECK_IDS,
    "Add-MailboxPermission",
    "imaplib",
    "load_config",
    "%debug",
    "%tb Plain",
    "with",
    "imap-disabled",
    "throttled",
    "pip install 'exo-imap-oauth[testing]'",
}


# How the loopback Exchange's client secrets and tokens look, and nothing else does.
_SECRET = re.compile(r"[0-9a-f]{2}x8Q~|eyJ")


@pytest.fixture(params=["python", pytest.param("kernel", marks=pytest.mark.slow)])
def runner(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Runner:
    """Runs a notebook as a Python program, or in a kernel as a reader does."""
    monkeypatch.chdir(tmp_path)
    if request.param == "python":
        return run
    return lambda notebook: run_in_kernel(notebook.read_text("utf-8"), tmp_path)


def _all_of(outputs: list[Output]) -> str:
    return "\n".join(f"{output.text}\n{output.html}" for output in outputs)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs_and_its_text_speaks_of_what_it_shows(
    notebook: Path, runner: Runner
) -> None:
    outputs = runner(notebook)
    shown = _all_of(outputs)
    assert _SECRET.findall(shown) == []
    code = "\n".join(cell.text for cell in cells(notebook) if cell.is_code)
    text = "\n".join(cell.text for cell in cells(notebook) if not cell.is_code)
    named = {" ".join(name.split()) for name in re.findall("(?s)(?<!`)`([^`]+)`(?!`)", text)}
    plain = shown + code
    assert {n for n in named - _ELSEWHERE if n not in plain and n.strip("()") not in plain} == set()


def test_the_first_login_ends_in_three_messages_and_a_forgotten_step(runner: Runner) -> None:
    outputs = runner(_notebook("first_login"))
    pages = [Page(output.html).text for output in outputs if output.html]
    config, inbox, before, token, after = pages
    assert "oauth2.debugfalse" in config
    assert "overrides true in cmsbs-conf/cmsbs.properties:" in config
    assert "oauth2.clientSecret(hidden)" in config
    assert "Inbox default" in inbox
    assert "no token yet" in before
    assert "claim rolesIMAP.AccessAsApp" in token
    assert "token fresh" in after
    text = "\n".join(output.text for output in outputs)
    assert "3  Erika Mustermann <erika@fabrikam.example>  Sample message 3\n" in text
    assert "['issued']" in text
    assert "BAD User is authenticated but not connected." in text
    assert text.rstrip().endswith("opened")


def test_each_step_that_is_broken_is_named_and_then_fixed(runner: Runner) -> None:
    outputs = runner(_notebook("why_does_my_login_fail"))
    reports = [Page(output.html).text for output in outputs if output.html]
    summaries = [
        report.partition("Configuration")[0].partition(".example")[2] for report in reports
    ]
    assert summaries[0].startswith("13 passed")
    expected = [
        ("1 failed, 12 passed", "User is authenticated but not connected."),
        ("1 failed, 12 passed", "UserDisabled"),
        ("2 failed, 10 passed, 1 skipped", "the token has no roles"),
        ("2 failed, 10 passed, 1 skipped", "Probably it is that of the App registration"),
        ("1 failed, 4 passed, 8 skipped", "AADSTS7000222"),
        ("1 failed, 12 passed", "The service asks the program to slow down"),
    ]
    for report, summary, (counts, reason) in zip(reports[1:], summaries[1:], expected, strict=True):
        assert summary.startswith(counts)
        assert reason in report
    text = [output.text.strip() for output in outputs]
    assert text.count("True") == 5  # fixed, each
    assert "True 300.0" in text
    assert any("it is the Secret ID, not the Value." in shown for shown in text)


def test_secrets_and_tokens_of_the_notebooks_would_be_recognised() -> None:
    with ready_exchange(trust=False) as exchange:
        source = exchange.inbox.token_source(ssl_context=exchange.ssl_context)
        assert _SECRET.match(exchange.secret.value)
        assert _SECRET.match(source.get_token().token)


def _notebook(name: str) -> Path:
    return next(notebook for notebook in NOTEBOOKS if notebook.stem == name)
