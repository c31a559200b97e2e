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
from exo_imap_oauth import load_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.testing import ReadyExchange

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
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


@pytest.mark.usefixtures("exchange")
def test_the_readmes_examples_run() -> None:
    failed, attempted = doctest.testfile(
        str(ROOT / "README.md"),
        module_relative=False,
        globs={},  # each example brings what it needs
        optionflags=doctest.ELLIPSIS,
    )
    assert failed == 0
    assert attempted > 10


@pytest.mark.usefixtures("exchange")
def test_the_readmes_listener_hands_over_a_message() -> None:
    blocks = re.findall(r"^```python\n(from .*?)^```$", README, re.MULTILINE | re.DOTALL)
    (block,) = blocks
    handed_over: list[str] = []

    def handle(_inbox: InboxConfig, message: EmailMessage) -> None:
        handed_over.append(message["Subject"])
        raise SystemExit

    names = {"load_config": load_config, "handle": handle}
    with pytest.raises(SystemExit):
        exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    assert handed_over == ["Sample message 1"]


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


# ---- links -----------------------------------------------------------------------------------

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", ".github/SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files and anchors that a page links to, in this repository."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        assert path.exists()
        assert not anchor or anchor in anchors(path)


def test_every_page_and_example_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    found = list(reached)
    while found:
        page = found.pop()
        if page.suffix == ".md":
            new = {path for path, _ in links(page)} - reached
            reached |= new
            found += new
    examples = set((ROOT / "docs/examples").glob("*.py"))
    assert {*PAGES, *examples} - reached == set()


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
