"""Real clients on the loopback Exchange: what docs/how-to/use-with shows, run as it stands."""

from __future__ import annotations

import gc
import imaplib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import DOCS, blocks
from support.pages import run as run_block

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

PAGES = DOCS / "how-to/use-with"
MODULES = {"azure-identity": "azure.identity", "imap-tools": "imap_tools"}
FETCHED_BY_THE_LIBRARY = {"imaplib", "imap-tools", "imapclient", "aioimaplib"}


@pytest.fixture(name="exchange")
def _exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imaplib, "_MAXLINE", vars(imaplib)["_MAXLINE"])  # imap_tools changes it
    trusted_exchange.write_config(tmp_path)
    return trusted_exchange


# aioimaplib leaves its transport to the garbage collector, which works inside the test here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@pytest.mark.parametrize("page", sorted({page.stem for page in PAGES.glob("*.md")} - {"index"}))
def test_the_page_works_as_it_stands(
    exchange: ReadyExchange, page: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(page)
    assert exchange.logins[0].outcome == "connected"
    assert exchange.logins[0].user == exchange.mailbox
    (request,) = exchange.token_requests
    assert (request.client_id, request.outcome) == (exchange.app.client_id, "issued")
    assert exchange.secret.value not in caplog.text


@pytest.mark.parametrize("page", ["azure-identity", "msal"])
def test_the_page_works_with_a_secret_in_a_file_of_its_own(
    exchange: ReadyExchange, page: str
) -> None:
    (settings,) = Path("cmsbs-conf").rglob("*.properties")
    secret = exchange.secret.value
    Path("secret").write_text(secret)
    lines = settings.read_text().splitlines()
    assert [line for line in lines if "oauth2.clientSecret = " in line]
    lines = [line for line in lines if "oauth2.clientSecret = " not in line]
    lines.append(f'cmsbs.mail.imap.oauth2.clientSecret$file = "{Path("secret").resolve()}"')
    settings.write_text("\n".join(lines))
    run(page)
    assert exchange.logins[0].outcome == "connected"


def run(page: str) -> None:
    """Run the blocks of a page, and hold what they print against what it shows."""
    pytest.importorskip(MODULES.get(page, page))
    found = blocks(PAGES / f"{page}.md", "python", "text")
    names: dict[str, Any] = {"__name__": page}
    printed = ""
    for block in found:
        if block.language == "text":
            assert printed == block.text
        else:
            printed = run_block(block, names)
    names.clear()
    gc.collect()
    assert found[-1].language == "text"


def test_there_is_a_page_for_each_client() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} >= FETCHED_BY_THE_LIBRARY | {
        "msal",
        "azure-identity",
    }
