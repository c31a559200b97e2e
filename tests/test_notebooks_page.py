"""docs/how-to/notebooks.md and check-up.md: their blocks, run as they stand."""

from __future__ import annotations

import getpass
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.pages import DOCS, blocks, run
from typing_extensions import override

from exo_imap_oauth.checkup import SetupReport

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def test_the_reports_of_the_check_up_page_are_printed(
    exchange: ReadyExchange, managed_identity: list[str]
) -> None:
    names: dict[str, Any] = {"__name__": "check-up"}
    configured, with_any_credential = [run(block, names) for block in blocks(CHECK_UP, "python")]
    title = f"Set-up of {exchange.mailbox}: "
    assert configured.startswith(f"{title}12 passed, 1 skipped\n")
    assert with_any_credential.startswith(f"{title}11 passed, 2 skipped\n")
    assert "skipped  token-endpoint" in with_any_credential
    assert managed_identity == ["https://outlook.office.com"]


@pytest.fixture
def managed_identity(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The machine's endpoint for managed identities, as App Service has it; what it was asked for.

    It gives tokens of the exchange's application.
    """
    asked: list[str] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["X-IDENTITY-HEADER"] == "of this machine"
            asked.extend(parse_qs(urlsplit(self.path).query)["resource"])
            token = exchange.inbox.token_source().get_token()
            answer = {"access_token": token.token, "expires_on": str(token.expires_on)}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer | {"resource": asked[-1]}).encode())

        @override
        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "of this machine")
        yield asked
        server.shutdown()
        thread.join()
