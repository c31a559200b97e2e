"""docs/how-to/notebooks.md and check-up.md: their blocks, run as they stand."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import DOCS, Block, blocks, run

from exo_imap_oauth.checkup import SetupReport

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to" / "notebooks.md"
CHECK_UP = DOCS / "how-to" / "check-up.md"


@pytest.fixture(name="exchange")
def _exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    """An exchange in ./cmsbs-conf and in the environment; the secret is typed when asked for."""

    def typed(prompt: str) -> str:
        assert prompt == "Client secret: "
        return trusted_exchange.secret.value

    monkeypatch.chdir(tmp_path)
    trusted_exchange.write_config(tmp_path)
    monkeypatch.setattr(getpass, "getpass", typed)
    app = trusted_exchange.app
    for name, value in {
        "USER": trusted_exchange.mailbox,
        "TOKEN_URI": trusted_exchange.token_uri(app.tenant_id),
        "CLIENT_ID": app.client_id,
        "CLIENT_SECRET": trusted_exchange.secret.value,
    }.items():
        monkeypatch.setenv(f"EXO_IMAP_{name}", value)
    return trusted_exchange


def test_the_cells_of_the_page_work_one_after_the_other(exchange: ReadyExchange) -> None:
    names: dict[str, Any] = {"__name__": "notebooks"}
    printed = ""
    inboxes: list[InboxConfig] = []
    for block in blocks(PAGE, "python", "text"):
        if block.language == "text":
            assert printed == block.text
            continue
        printed = run(block, names)
        if "inbox" in names:
            inboxes.append(names["inbox"])
    assert inboxes[0].client_secret == exchange.secret.value  # as typed
    assert inboxes[1].client_id == exchange.app.client_id
    assert isinstance(names["report"], SetupReport)
    assert names["report"].ok
    assert not names["thread"].is_alive()


def test_the_report_of_the_check_up_page_is_printed(exchange: ReadyExchange) -> None:
    printed = run(_first_of(CHECK_UP))
    assert printed.startswith(f"Set-up of {exchange.mailbox}: 12 passed, 1 skipped\n")


def _first_of(page: Path) -> Block:
    return blocks(page, "python")[0]
