"""The pages on set-up and trouble name what exists, and link to it."""

from __future__ import annotations

import re
from pathlib import Path

from exo_imap_oauth import errors
from exo_imap_oauth.advice import ADVICE_IDS

DOCS = Path(__file__).parent.parent / "docs"
TROUBLESHOOT = DOCS / "how-to" / "troubleshoot.md"
SET_UP = TROUBLESHOOT.with_name("set-up.md")


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


def test_the_pages_link_to_sections_that_exist() -> None:
    for page in (TROUBLESHOOT, SET_UP):
        for target, anchor in re.findall(
            r"\]\((?!https)([\w.-]*)#([\w-]+)\)", page.read_text("utf-8")
        ):
            linked = (page.parent / (target or page.name)).read_text("utf-8")
            headings = re.findall(r"^## (.+)$", linked, re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
