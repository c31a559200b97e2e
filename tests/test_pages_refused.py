"""The pages' snippets at a server that refuses: an error of its own class, never data."""

from __future__ import annotations

import doctest
import gc
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exo_imap_oauth.errors import ImapError, Throttled
from exo_imap_oauth.imap import ok
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

ROOT = Path(__file__).parents[1]
HOW_TO = ROOT / "docs/how-to"
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
WITH_THESE_OBJECTS = {
    "msal": "msal",
    "azure-identity": "azure.identity",
    "aioimaplib": "aioimaplib",
}


@pytest.fixture(name="exchange")
def _exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    monkeypatch.chdir(tmp_path)
    trusted_exchange.write_config(tmp_path)
    return trusted_exchange


def throttle(exchange: ReadyExchange, command: str) -> None:
    exchange.inject(Fault.IMAP_THROTTLED, None, seconds=60, command=command, reply="NO")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def printed_until_throttled(program: str) -> str:
    with redirect_stdout(io.StringIO()) as out, pytest.raises(Throttled) as caught:
        exec(compile(program, "page", "exec", dont_inherit=True), {"__name__": "page"})
    assert caught.value.retry_after == 60
    return out.getvalue()


def test_the_readmes_first_example_at_a_throttled_server(exchange: ReadyExchange) -> None:
    throttle(exchange, "SEARCH")
    (block,) = [each for each in python_blocks(ROOT / "README.md") if "imap.search" in each]
    names: dict[str, Any] = {}
    with pytest.raises(Throttled):
        for example in doctest.DocTestParser().get_examples(block):
            exec(compile(example.source, "README", "single"), names)
    assert "inbox" in names
    assert "numbers" not in names


def test_the_readmes_imaplib_code_at_a_throttled_server(exchange: ReadyExchange) -> None:
    throttle(exchange, "EXAMINE")
    (block,) = [each for each in python_blocks(ROOT / "README.md") if "imap.select" in each]
    names: dict[str, Any] = {"exchange": exchange, "inbox": exchange.inbox, "ok": ok}
    with pytest.raises(Throttled):
        for example in doctest.DocTestParser().get_examples(block):
            exec(compile(example.source, "README", "single"), names)
    names["imap"].logout()


def test_the_set_ups_first_message_at_a_throttled_server(exchange: ReadyExchange) -> None:
    blocks = python_blocks(HOW_TO / "set-up.md")
    load = "from exo_imap_oauth import load_config\ninbox = load_config('cmsbs-conf').default\n"
    for command in ("SEARCH", "FETCH"):
        throttle(exchange, command)
        assert printed_until_throttled(load + blocks[-1]) == ""


# aioimaplib leaves its transport to the garbage collector, which works inside the test here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@pytest.mark.parametrize("command", ["SELECT", "SEARCH"])
@pytest.mark.parametrize("page", ["imaplib", "azure-identity", "msal", "aioimaplib"])
def test_the_pages_of_clients_that_return_refusals_at_a_throttled_server(
    exchange: ReadyExchange, page: str, command: str
) -> None:
    pytest.importorskip(WITH_THESE_OBJECTS.get(page, page))
    throttle(exchange, command)
    (program,) = python_blocks(HOW_TO / f"use-with/{page}.md")
    assert printed_until_throttled(program) == ""
    gc.collect()


@pytest.mark.parametrize("command", ["SELECT", "UID SEARCH", "UID FETCH"])
@pytest.mark.parametrize("page", ["imap-tools", "imapclient"])
def test_the_other_clients_raise_an_error_of_their_own(
    exchange: ReadyExchange, page: str, command: str
) -> None:
    client = pytest.importorskip(page.replace("-", "_"))
    throttle(exchange, command)
    program, *_ = python_blocks(HOW_TO / f"use-with/{page}.md")
    with redirect_stdout(io.StringIO()) as out, pytest.raises(Exception) as caught:  # noqa: PT011 - any
        exec(compile(program, "page", "exec", dont_inherit=True), {"__name__": "page"})
    assert type(caught.value).__module__.startswith((client.__name__, "imaplib"))
    assert "Request is throttled" in str(caught.value)
    assert out.getvalue() == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_aioimaplibs_page_at_a_server_that_refuses_the_login(exchange: ReadyExchange) -> None:
    pytest.importorskip("aioimaplib")
    exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED, None)
    (program,) = python_blocks(HOW_TO / "use-with/aioimaplib.md")
    with pytest.raises(ImapError, match="AUTHENTICATE failed"):
        exec(compile(program, "page", "exec", dont_inherit=True), {"__name__": "page"})
    gc.collect()


COMMANDS = re.compile(
    r"(?<!\.)\b(?:imap|client)\.(?:append|copy|create|examine|expunge|fetch|list|search|select"
    r"|status|store|uid\w*|xoauth2)\("
)
NOT_IMAPLIBS = {"imapclient.md"}  # its client raises


@pytest.mark.parametrize(
    "path",
    [
        *PAGES,
        *(ROOT / "docs/examples").glob("*.py"),
        *(ROOT / "exo_imap_oauth").rglob("*.py"),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_snippet_takes_a_refusal_for_data(path: Path) -> None:
    if path.name in NOT_IMAPLIBS:
        return
    if path.suffix == ".md":
        lines = "".join(python_blocks(path)).splitlines()
    else:
        lines = path.read_text().splitlines()
    if ROOT / "exo_imap_oauth" in path.parents:  # its docstrings
        lines = [line for line in lines if line.lstrip().startswith((">>>", "..."))]
    commands = [line for line in lines if COMMANDS.search(line)]
    assert not [line for line in commands if "ok(" not in line]
