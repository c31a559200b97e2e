"""Every code block of every page is run or parsed, or says why it is not.

A block without a remark is run here: Python with the names of the blocks before it, in a folder
with a ``cmsbs-conf``, at a loopback Exchange that is trusted; what is written in another language
is read by a parser of that language. A block that needs more has an HTML comment right before it:

    <!-- run by tests/test_x.py -->       another test runs it
    <!-- not run: why it cannot be -->    nobody does

Why no Sybil: it would run the Python blocks (twenty lines here), but knows no output in a block of
its own, and passes over each block that no parser was given for, which are those in question.
"""

from __future__ import annotations

import configparser
import gc
import json
import re
import signal
import subprocess
import tomllib
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tree_sitter_powershell
from support.config import HOW_TO
from support.pages import DOCS, ROOT, Block, blocks, prints, run
from tree_sitter import Language, Parser

from exo_imap_oauth import load_config

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from exo_imap_oauth.testing import ReadyExchange

PAGES = sorted(
    page  # the README has tests of its own
    for page in (*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *DOCS.rglob("*.md"))
    if page != ROOT / "README.md"
)
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
)
PLACEHOLDERS = {
    "tenant_id": "11111111-1111-4111-8111-111111111111",
    "client_id": "22222222-2222-4222-8222-222222222222",
    "client_secret": "Abc8Q~defghijklmnopqrstuvwxyz012345.6789",
    "mailbox_name": "inbox@contoso.com",
}
POWERSHELL = Parser(Language(tree_sitter_powershell.language()))
LONGEST = 60  # seconds
PYTHON, OUTPUT = {"python", "pycon"}, {"text", ""}
REMARK = "put <!-- run by tests/test_x.py --> or <!-- not run: the reason --> right before it"
DRAWN = {"mermaid"}  # by the site, which fails where it cannot
CODE_DIRECTIVES = ("{code", "{sourcecode", "{doctest", "{testcode", "{parsed-literal")


def place(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


# ---- every block is run, parsed or excused ---------------------------------------------------


def problem(block: Block, before: Block | None) -> str:
    """What to do about a block; empty if it is in order."""
    if block.remark:
        return problem_of_remark(block)
    if block.language.startswith(CODE_DIRECTIVES):
        return "write it as ```python, which GitHub shows too"
    is_output = block.language in OUTPUT and before is not None and before.language in PYTHON
    is_read = block.language in {*PYTHON, *PARSERS, *DRAWN} or block.language.startswith("{")
    if block.language in PYTHON and re.search(r"^(?:async )?def test_", block.text, re.MULTILINE):
        why = "it defines a test, and nobody calls it"
    elif is_read or is_output:
        return ""
    elif block.language in OUTPUT:
        why = "it is not the output of a Python block right before it"
    else:
        why = f"nothing here reads {block.language or 'it'!r}"
    return f"{why}, so {REMARK}"


def problem_of_remark(block: Block) -> str:
    kind, _, rest = block.remark.partition(" ")
    if block.remark.startswith("not run: "):
        few = len(block.remark.split()) < 5
        return "say in a few words why it is not run: <!-- not run: the reason -->" if few else ""
    if kind == "run" and rest.startswith("by tests/"):
        return problem_of_test(block, rest.removeprefix("by "))
    return f"nobody understands the comment {block.remark!r} before it: {REMARK}"


def problem_of_test(block: Block, name: str) -> str:
    test = ROOT / name
    if not test.is_file():
        return f"there is no {name}"
    source = test.read_text("utf-8")
    folder = f'"{block.page.parent.relative_to(ROOT)}"'
    named = block.page.name in source or f'"{block.page.stem}"' in source
    if not named and not (folder in source and ".glob(" in source):
        return f"{name} does not name {block.page.name}"
    if "\nfrom support.pages import " not in source:
        return f"{name} does not use support.pages, so it reads no block of a page"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    found = blocks(page)
    problems = [
        f"{place(block)}: {told}"
        for before, block in zip([None, *found], found, strict=False)
        if (told := problem(block, before))
    ]
    assert not problems, "\n".join(["what to do:", *problems])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_fence_is_one_that_is_seen_here(page: Path) -> None:
    fences = re.findall(r"^\s*(?:`{3,}|~{3,})", page.read_text("utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page)), (
        f"{page.name}: fence code with three backticks, both alike indented,"
        " and a directive that holds a block with colons (:::)"
    )


# ---- Python ----------------------------------------------------------------------------------


def without_remark(page: Path, languages: set[str]) -> list[Block]:
    return [block for block in blocks(page, *languages) if not block.remark]


def with_output(page: Path) -> Iterator[tuple[Block, str | None]]:
    """The Python blocks of a page to run here, each with the output that is shown, if any."""
    found = blocks(page)
    for block, behind in zip(found, [*found[1:], None], strict=True):
        if block.language not in PYTHON or block.remark:
            continue
        shows = behind is not None and behind.language in OUTPUT and not behind.remark
        yield block, behind.text if behind is not None and shows else None


@contextmanager
def ends_in_time() -> Generator[None]:
    def stop(*_: object) -> None:
        message = f"it still runs after {LONGEST} s"
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def printed_by(block: Block, names: dict[str, Any], shown: str | None) -> str:
    try:
        with ends_in_time():
            return run(block, names)
    except Exception:
        if shown is None or "Traceback (most recent call last):" not in shown:
            raise
        return traceback.format_exc()


# aioimaplib leaves its transport to the garbage collector, which works inside the test here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if without_remark(page, PYTHON)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_python_blocks_run_one_after_the_other(
    page: Path, trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted_exchange.write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page.stem}
    for block, shown in with_output(page):
        try:
            printed = printed_by(block, names, shown)
        except Exception as error:
            message = (
                f"{place(block)}: {error!r}; where it needs more than the blocks before it"
                f" and a cmsbs-conf, {REMARK}"
            )
            raise AssertionError(message) from error
        if shown is not None:
            assert prints(shown, printed), f"{place(block)} prints:\n{printed}\nnot:\n{shown}"
    if "aioimaplib" in page.read_text("utf-8"):
        gc.collect()


# ---- other languages -------------------------------------------------------------------------


def parse_powershell(text: str) -> None:
    tree = POWERSHELL.parse(text.encode())
    assert not tree.root_node.has_error, f"PowerShell cannot read it: {tree.root_node}"


def parse_ini(text: str) -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)  # as systemd's units are
    parser.read_string(text)


def parse_properties(text: str) -> None:
    """Load it on top of the how-to's own block; its placeholders are the only mistakes in it."""
    for name, value in PLACEHOLDERS.items():
        text = text.replace(f"<{name}>", value)
    path = Path("cmsbs.properties")
    path.write_text(HOW_TO + text, encoding="latin-1")
    assert load_config(path).warnings == ()


def parse_console(text: str) -> None:
    commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    assert len(commands) == len(text.splitlines()), (
        "it shows output: put a comment right before it that says which test compares it,"
        " or why none does"
    )
    parse_shell("\n".join(commands))


def parse_shell(text: str) -> None:
    """Its syntax; and the extras, the modules and the scripts of this project that it names."""
    checked = subprocess.run(
        ["sh", "-n"], input=text, text=True, capture_output=True, check=False, timeout=60
    )
    assert not checked.returncode, checked.stderr
    for extras in re.findall(r"(?:exo-imap-oauth|\.)\[([\w,-]+)\]", text):
        assert set(extras.split(",")) <= EXTRAS, f"pyproject.toml has no such extra: {extras}"
    for module in re.findall(r"\bpython3? -m ((?:tests|exo_imap_oauth)\.[\w.]+)", text):
        path = ROOT.joinpath(*module.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"there is no {module}"
    for script in re.findall(r"\b(?:docs|tests)/[\w/.-]+\.py\b", text):
        assert (ROOT / script).is_file(), f"there is no {script}"


PARSERS: dict[str, Callable[[str], object]] = {
    "console": parse_console,
    "ini": parse_ini,
    "json": json.loads,
    "powershell": parse_powershell,
    "properties": parse_properties,
    "sh": parse_shell,
    "toml": tomllib.loads,
}


@pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in without_remark(page, set(PARSERS))],
    ids=place,
)
def test_a_parser_of_its_language_reads_the_block(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        PARSERS[block.language](block.text)
    except (AssertionError, ValueError, configparser.Error) as error:
        pytest.fail(f"{place(block)}: {error}")
