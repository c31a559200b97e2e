"""The documentation's site: it builds, hangs together, and needs nothing of the internet."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from support.missing import skip_or_fail
from support.pages import DOCS, ROOT, blocks

import exo_imap_oauth
from exo_imap_oauth.advice import ADVICE_IDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

EXAMPLES: list[dict[str, str]] = json.loads(
    (ROOT / "tests" / "data" / "advice-examples.json").read_text("utf-8")
)
MADE_BY_SPHINX = {"genindex.html", "py-modindex.html", "search.html"}


def warnings_of_build(source: Path, target: Path) -> str:
    """Build a site as CI does; what Sphinx warns of, which is not all that kernels write."""
    warnings = target.with_suffix(".warnings")
    options: list[str | Path] = ["-W", "--keep-going", "-q", "-b", "html", "-w", warnings]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-d", f"{target}.doctrees", source, target],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    told = warnings.read_text("utf-8")
    assert (built.returncode != 0) == bool(told), built.stderr
    return told


@pytest.fixture(scope="session", name="site")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the workers of pytest-xdist share it."""
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("furo") is None:
        skip_or_fail("install it: pip install -e '.[docs]'")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    site, done = shared / "site", shared / "site.done"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            done.write_text(warnings_of_build(DOCS, site))
    return site


class Page(HTMLParser):
    """What a page of the site links to, what it loads, and its anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {"", "top"}
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and not {"index", "search", "next", "prev"} & {values.get("rel", "")}:
            self.loads.append(values["href"])
        elif tag != "a":
            self.loads.extend(values[name] for name in ("src", "srcset", "data") if name in values)


class Link(NamedTuple):
    page: str
    file: Path
    anchor: str


@pytest.fixture(scope="session", name="pages")
def _pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def internal_links(site: Path, pages: dict[Path, Page]) -> Iterator[Link]:
    for file, page in pages.items():
        for link in page.links:
            if not urlsplit(link).scheme:
                path, anchor = urldefrag(link)
                target = (file.parent / unquote(path)).resolve() if path else file
                yield Link(str(file.relative_to(site)), target, unquote(anchor))


def test_the_site_builds_without_a_warning(site: Path) -> None:
    assert (site.parent / "site.done").read_text() == ""


def test_every_page_can_be_reached_from_the_landing_page(
    site: Path, pages: dict[Path, Page]
) -> None:
    leads_to: dict[str, set[str]] = {}
    for link in internal_links(site, pages):
        if link.file in pages:
            leads_to.setdefault(link.page, set()).add(str(link.file.relative_to(site)))
    reached: set[str] = set()
    found = {"index.html"}
    while found:
        reached |= found
        found = set[str]().union(*(leads_to.get(page, set()) for page in found)) - reached
    assert {str(file.relative_to(site)) for file in pages} - reached - MADE_BY_SPHINX == set()


def test_every_page_of_the_sources_is_in_the_site(site: Path) -> None:
    sources = [*DOCS.rglob("*.md"), *(DOCS / "notebooks").glob("*.py")]
    missing = [
        source.name
        for source in sources
        if not (site / source.relative_to(DOCS)).with_suffix(".html").exists()
    ]
    assert missing == []


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = [
        link
        for link in internal_links(site, pages)
        if not link.file.exists()
        or (link.file in pages and link.anchor not in pages[link.file].anchors)
    ]
    assert broken == []


def test_a_reader_needs_nothing_of_the_internet(site: Path, pages: dict[Path, Page]) -> None:
    loads = {load for page in pages.values() for load in page.loads}
    assert len(loads) > 5
    for style in site.rglob("*.css"):
        loads.update(re.findall(r"(?:@import |url\()[\"']?([^\"');]+)", style.read_text("utf-8")))
    assert [load for load in loads if urlsplit(load).netloc] == []


# ---- what can be found -----------------------------------------------------------------------


def inventory(site: Path) -> set[str]:
    """The names of Python objects in ``objects.inv``, which other projects link to."""
    head, _, packed = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert head
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split()[0] for line in lines if line.split()[1].startswith("py:")}


def public_names() -> Iterator[str]:
    """Every public name of every public module, where a program imports it from."""
    for module in pkgutil.iter_modules(exo_imap_oauth.__path__, "exo_imap_oauth."):
        if "._" in module.name or module.name == "exo_imap_oauth.pytest_plugin":
            continue
        members = vars(import_module(module.name))
        own = [name for name, value in members.items() if _is_of(module.name, value)]
        for name in members.get("__all__", own):
            if not name.startswith("_"):
                yield f"{module.name}.{name}"
    for name in exo_imap_oauth.__all__:
        if name != "__version__":
            yield f"exo_imap_oauth.{name}"


def _is_of(module: str, value: object) -> bool:
    return hasattr(value, "__name__") and getattr(value, "__module__", None) == module


def test_every_public_name_is_in_the_api_reference(site: Path) -> None:
    names = set(public_names())
    assert len(names) > 80
    fixtures = {"exchange_online", "exchange_inbox", "exchange_factory"}
    names |= {f"exo_imap_oauth.pytest_plugin.{name}" for name in fixtures}
    assert names - inventory(site) == set()


@pytest.fixture(scope="session", name="search_index")
def _search_index(site: Path) -> dict[str, set[str]]:
    """For each word, the pages that the site's search finds by it."""
    text = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    found: dict[str, set[str]] = {}
    for kind in ("terms", "titleterms"):
        for word, numbers in index[kind].items():
            pages = [numbers] if isinstance(numbers, int) else numbers
            found.setdefault(word, set()).update(index["docnames"][page] for page in pages)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["id"])
def test_the_search_finds_an_advice_by_its_message_and_by_its_id(
    example: dict[str, str], search_index: dict[str, set[str]]
) -> None:
    from sphinx.search.en import SearchEnglish

    language = SearchEnglish({})
    words = language.split(f"{example['message']} {example['id']}".lower())
    asked = [word for word in words if word not in language.stopwords and not word.isdigit()]
    assert asked
    unknown = [
        word
        for word in asked
        if "how-to/troubleshoot" not in search_index.get(language.stem(word), set())
    ]
    assert unknown == []


def test_there_is_a_message_to_search_for_each_advice() -> None:
    assert {example["id"] for example in EXAMPLES} == set(ADVICE_IDS)


# ---- pictures --------------------------------------------------------------------------------


def test_every_picture_is_drawn_for_a_block_and_tells_what_it_shows() -> None:
    sources = [block.text for page in DOCS.rglob("*.md") for block in blocks(page, "mermaid")]
    titles = {re.findall("accTitle: (.+)", source)[0] for source in sources}
    names = {re.sub(r"\W+", "-", title.lower()) for title in titles}
    assert {file.stem for file in (DOCS / "pictures").glob("*.svg")} == names
    for file in (DOCS / "pictures").glob("*.svg"):
        svg = file.read_text("utf-8")
        assert re.search("<title [^>]*>[^<]+</title><desc [^>]*>[^<]+</desc>", svg)
        assert "var(--color-foreground-primary" in svg


@pytest.mark.usefixtures("site")  # skips or fails where Sphinx is missing
def test_a_block_that_changed_since_its_picture_was_drawn_is_a_warning(tmp_path: Path) -> None:
    settings = f"import sys\nsys.path.insert(0, {str(DOCS)!r})\nextensions = ['pictures']\n"
    (tmp_path / "conf.py").write_text(settings)
    page = (
        "Page\n====\n\n.. mermaid::\n\n   flowchart LR\n   accTitle: The error tree\n   A --- B\n"
    )
    (tmp_path / "index.rst").write_text(page)
    warnings = warnings_of_build(tmp_path, tmp_path / "site")
    assert "the-error-tree.svg is not of this block: see docs/pictures.py" in warnings
