"""The documentation is true: its examples run, its commands are the ones that CI runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import exo_imap_oauth

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "read_inbox.py"
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(exo_imap_oauth.__path__, "exo_imap_oauth.")
)


@pytest.fixture(name="exchange")
def _exchange(
    exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    """Its configuration in ./cmsbs-conf, trusted by default as an administrator would do it."""
    exchange.write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(exchange.write_ca(tmp_path / "ca.pem")))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    return exchange


def test_the_readmes_examples_run(exchange: ReadyExchange) -> None:
    failed, attempted = doctest.testfile(
        str(ROOT / "README.md"),
        module_relative=False,
        globs={"exchange": exchange},
        optionflags=doctest.ELLIPSIS,
    )
    assert failed == 0
    assert attempted > 10


@pytest.mark.parametrize("name", MODULES)
def test_the_docstrings_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_the_readme_gives_two_commands_and_ci_runs_them() -> None:
    commands = re.findall(r"^\$ (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert "docs/examples/read_inbox.py" in commands[0]
    assert "pytest -n auto" in commands[1]
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


# ---- docs/examples/read_inbox.py -------------------------------------------------------------


def _read_inbox(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLE, *arguments], capture_output=True, text=True, check=False
    )


def test_the_example_reads_a_loopback_exchange_when_given_nothing() -> None:
    run = _read_inbox()
    assert (run.returncode, run.stderr) == (0, "")
    assert "clientSecret = (not shown)" in run.stdout
    assert "default: token obtained, valid until 20" in run.stdout
    assert "default: connected to localhost:" in run.stdout
    assert run.stdout.count("Sample message") == 3


def test_the_example_reads_the_configuration_it_is_given(exchange: ReadyExchange) -> None:
    run = _read_inbox("cmsbs-conf")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("Sample message") == 3
    assert exchange.secret.value not in run.stdout


@pytest.mark.parametrize("step", ["permission", "configuration", "no configuration"])
def test_the_example_fails_with_the_librarys_own_message(
    exchange: ReadyExchange, step: str
) -> None:
    properties = Path("cmsbs-conf/cmsbs.properties")
    if step == "permission":
        exchange.remove_mailbox_permission(exchange.mailbox, exchange.app.enterprise_object_id)
        expected = "default: localhost did not open INBOX of inbox@contoso.example: BAD User is"
    elif step == "configuration":
        text = properties.read_text().replace(exchange.mailbox, "<mailbox_name>")
        properties.write_text(text)
        expected = "cmsbs.properties:4: cmsbs.mail.imap.user: a placeholder is left in."
    else:
        properties.unlink()
        expected = "cmsbs.properties"
    run = _read_inbox("cmsbs-conf")
    assert run.returncode == 1
    assert expected in run.stderr
    assert "Traceback" not in run.stderr
    assert exchange.secret.value not in run.stdout + run.stderr
