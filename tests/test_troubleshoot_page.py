"""The pages on set-up and trouble name what exists, link to it, and lead to the right entry."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.advice import EXAMPLES, Example, advice_id
from support.pages import DOCS, Block, blocks

from exo_imap_oauth import check_setup, errors
from exo_imap_oauth.advice import ADVICE_IDS

if TYPE_CHECKING:
    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.testing import ReadyExchange

TROUBLESHOOT = DOCS / "how-to" / "troubleshoot.md"
SET_UP = TROUBLESHOOT.with_name("set-up.md")
GENERATOR = runpy.run_path(str(DOCS / "generate.py"))
TEXT = TROUBLESHOOT.read_text("utf-8")
ENTRIES = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)


CHECK_IDS = {
    "config",
    "mechanism",
    "token",
    "imap-endpoint",
    "audience",
    "role",
    "authenticate",
    "mailbox",
    "application",
    "token-endpoint",
    "lifetime",
    "tenant",
    "object-id",
}


def test_the_set_up_page_names_checks_errors_and_advice_that_exist() -> None:
    page = SET_UP.read_text("utf-8")
    assert set(re.findall(r"[Cc]heck `([\w-]+)`", page)) <= CHECK_IDS
    assert {"secret-expired", "role-missing"} <= set(re.findall(r"advice `([\w-]+)`", page))
    assert set(re.findall(r"advice `([\w-]+)`", page)) <= set(ADVICE_IDS)
    for name in re.findall(r"error `(\w+)`", page):
        assert issubclass(getattr(errors, name), errors.ExoImapOAuthError)


def test_the_page_on_trouble_names_checks_and_errors_that_exist() -> None:
    assert set(re.findall(r"[Cc]heck `([\w-]+)`", TEXT)) <= CHECK_IDS
    for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", TEXT):
        assert issubclass(getattr(errors, name), errors.ExoImapOAuthError)


# ---- the entries -----------------------------------------------------------------------------


def test_every_advice_has_one_entry_and_its_id_is_the_anchor() -> None:
    assert sorted(ENTRIES) == sorted(ADVICE_IDS)


def test_what_you_see_begins_with_the_failure_that_the_how_to_names() -> None:
    rows = re.findall(r"^\| (.+) \| \[.+\]\(#(.+)\) \|$", TEXT, re.MULTILINE)
    assert rows[0][:2] == (
        "`BAD User is authenticated but not connected.`",
        "mailbox-not-connected",
    )
    assert len(rows) >= 15
    assert {anchor for _, anchor in rows} <= set(ENTRIES)


def entry_of(block: Block) -> str:
    before = TEXT.splitlines()[: block.line]
    return next(line.removeprefix("### ") for line in reversed(before) if line.startswith("### "))


MESSAGES = {entry_of(block): " ".join(block.text.split()) for block in blocks(TROUBLESHOOT, "text")}


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.id for example in EXAMPLES])
def test_the_message_of_an_entry_leads_to_it(example: Example) -> None:
    shown = MESSAGES[example.id]
    if example.message:
        assert advice_id(shown, example.stage, **example.known) == example.id
    else:
        assert shown == GENERATOR["SAID_BY_CHECK_SETUP"][example.id]


def said(inbox: InboxConfig, exchange: ReadyExchange, check_id: str) -> tuple[str, str]:
    report = check_setup(inbox, ssl_context=exchange.ssl_context)
    (check,) = [check for check in report.checks if check.id == check_id]
    assert check.advice is not None
    return check.advice.id, check.detail


def test_check_setup_says_what_the_page_shows_where_no_server_does(
    exchange: ReadyExchange,
) -> None:
    inbox = exchange.inbox
    assert inbox.token_uri is not None
    elsewhere = replace(inbox, token_uri=inbox.token_uri.replace("/oauth2/v2.0/", "/oauth2/v1/"))
    _, _, shown = MESSAGES["token-uri-wrong"].partition(" ")
    advice, detail = said(elsewhere, exchange, "token")
    assert advice == "token-uri-wrong"
    assert shown in detail
    exchange.advance_clock(17 * 60)
    assert said(inbox, exchange, "lifetime") == ("clock-skew", MESSAGES["clock-skew"])


def test_no_placeholder_is_left_in() -> None:
    assert not re.findall(r"<[a-z_]+>|\\<|another one", TEXT)


# ---- links -----------------------------------------------------------------------------------


def test_the_pages_link_to_sections_that_exist() -> None:
    for page in (TROUBLESHOOT, SET_UP):
        for target, anchor in re.findall(
            r"\]\((?!https)([\w./-]*)#([\w-]+)\)", page.read_text("utf-8")
        ):
            linked = (page.parent / (target or page.name)).read_text("utf-8")
            headings = re.findall(r"^##+ (.+)$", linked, re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
