"""The pages' snippets at a server that refuses: an error of its own class, never data."""

from __future__ import annotations

import gc
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import DOCS, ROOT, Block, blocks, run

from exo_imap_oauth import load_config, testing
from exo_imap_oauth.errors import ImapError, Throttled
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

HOW_TO = DOCS / "how-to"
README = ROOT / "README.md"
PAGES = [README, *DOCS.rglob("*.md")]
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


def printed_until_throttled(block: Block, **names: Any) -> list[tuple[object, ...]]:
    printed: list[tuple[object, ...]] = []

    def keep(*values: object) -> None:
        printed.append(values)

    with pytest.raises(Throttled) as caught:
        run(block, {"__name__": "page", "print": keep, **names})
    assert caught.value.retry_after == 60
    return printed


@pytest.mark.parametrize(
    "block",
    [block for block in blocks(README, "python") if "ok(imap." in block.text],
    ids=lambda block: f"README.md:{block.line}",
)
def test_the_readmes_examples_at_a_throttled_server(
    exchange: ReadyExchange, block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ready() -> nullcontext[ReadyExchange]:
        return nullcontext(exchange)

    monkeypatch.setattr(testing, "ready_exchange", ready)
    throttle(exchange, "SEARCH" if "imap.search" in block.text else "EXAMINE")
    assert printed_until_throttled(block) == []


def test_the_set_ups_first_message_at_a_throttled_server(exchange: ReadyExchange) -> None:
    block = blocks(HOW_TO / "set-up.md", "python")[-1]
    inbox = load_config("cmsbs-conf").default
    for command in ("SEARCH", "FETCH"):
        throttle(exchange, command)
        assert printed_until_throttled(block, inbox=inbox) == []


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
    (program,) = blocks(HOW_TO / f"use-with/{page}.md", "python")
    assert printed_until_throttled(program) == []
    gc.collect()


@pytest.mark.parametrize("command", ["SELECT", "UID SEARCH", "UID FETCH"])
@pytest.mark.parametrize("page", ["imap-tools", "imapclient"])
def test_the_other_clients_raise_an_error_of_their_own(
    exchange: ReadyExchange, page: str, command: str
) -> None:
    client = pytest.importorskip(page.replace("-", "_"))
    throttle(exchange, command)
    program, *_ = blocks(HOW_TO / f"use-with/{page}.md", "python")
    printed: list[object] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any
        run(program, {"__name__": "page", "print": printed.append})
    assert type(caught.value).__module__.startswith((client.__name__, "imaplib"))
    assert "Request is throttled" in str(caught.value)
    assert printed == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_aioimaplibs_page_at_a_server_that_refuses_the_login(exchange: ReadyExchange) -> None:
    pytest.importorskip("aioimaplib")
    exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED, None)
    (program,) = blocks(HOW_TO / "use-with/aioimaplib.md", "python")
    with pytest.raises(ImapError, match="AUTHENTICATE failed"):
        run(program)
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
        *(DOCS / "examples").glob("*.py"),
        *(ROOT / "exo_imap_oauth").rglob("*.py"),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_snippet_takes_a_refusal_for_data(path: Path) -> None:
    if path.name in NOT_IMAPLIBS:
        return
    if path.suffix == ".md":
        lines = "".join(block.text for block in blocks(path, "python")).splitlines()
    else:
        lines = path.read_text().splitlines()
    if ROOT / "exo_imap_oauth" in path.parents:  # its docstrings
        lines = [line for line in lines if line.lstrip().startswith((">>>", "..."))]
    unseen = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=False)
        if COMMANDS.search(line)
        and "ok(" not in line
        and "message(imap." not in line  # which refuses a refusal itself
        and '== ("OK", ' not in line
        and 'if status != "OK":' not in following
    ]
    assert not unseen, "put ok(...) around the command, or check its status"
