"""The documentation is true: its examples run, its commands are the ones that CI runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.pages import DOCS, ROOT, without_blocks

import exo_imap_oauth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth.testing import ReadyExchange

EXAMPLE = DOCS / "examples" / "read_inbox.py"
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


@pytest.mark.parametrize("name", MODULES)
def test_the_docstrings_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


# ---- links -----------------------------------------------------------------------------------

URLS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"].get(
    "urls", {}
)
REPOSITORY = URLS.get("Source", "https://github.com/exo-imap-oauth/exo-imap-oauth") + "/blob/main/"
SITE = URLS.get("Documentation", "https://exo-imap-oauth.github.io/exo-imap-oauth/")
TOCTREE = re.MULTILINE | re.DOTALL
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob(".github/[A-Z]*.md")),  # the others are templates
    *sorted(DOCS.rglob("*.md")),
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files and anchors that a page links to, in this repository."""
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        path, _, anchor = link.partition("#")
        if path.startswith(REPOSITORY):
            yield ROOT / path.removeprefix(REPOSITORY), anchor
        elif path.startswith(SITE):
            yield source(DOCS, path.removeprefix(SITE) or "index.html"), anchor
        elif "://" not in link:
            yield (page.parent / path).resolve() if path else page, anchor
    for _, entries in re.findall(r"^(:::|```)\{toctree\}\n(.*?)^\1$", text, TOCTREE):
        for entry in re.findall(r"^(?:[^:\n]*<)?([\w./-]+)>?$", entries, re.MULTILINE):
            yield source(page.parent, entry), ""


def source(folder: Path, name: str) -> Path:
    """The file of a page of the site: Markdown, or a notebook."""
    path = folder / name.removesuffix(".html").removesuffix(".md")
    notebook = path.with_suffix(".py")
    return notebook if notebook.exists() else path.with_suffix(".md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        assert path.exists(), f"no such file: {path}"
        assert not anchor or anchor in anchors(path), f"no such anchor: {path.name}#{anchor}"


def test_every_page_and_example_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    found = list(reached)
    while found:
        page = found.pop()
        if page.suffix != ".md" or not page.exists():
            continue
        new = {path for path, _ in links(page)} - reached
        reached |= new
        found += new
    examples = {*DOCS.glob("examples/*.py"), *DOCS.glob("notebooks/*.py")}
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
