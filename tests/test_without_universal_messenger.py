"""docs/how-to/without-universal-messenger.md, run as it stands in an empty folder."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import DOCS, Block, blocks, run

from exo_imap_oauth import Cloud, InboxConfig

if TYPE_CHECKING:
    from types import ModuleType

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/without-universal-messenger.md"
FIRST, TRIAL, MISTAKES, FROM_ENV, PYDANTIC, DJANGO_SETTINGS, DJANGO = blocks(PAGE, "python")
(MISTAKES_FOUND,) = blocks(PAGE, "text")
(COMPOSE,) = blocks(PAGE, "yaml")
SECRET_VARIABLE = "EXCHANGE_CLIENT_SECRET"
# Everything is as for a tenant of Microsoft's, but the addresses of the servers.
ELSEWHERE = """
import sys
from exo_imap_oauth import Cloud, InboxConfig
authority, host, port = sys.argv[1:]
Cloud.WORLDWIDE.authority = authority
for_tenant = InboxConfig.for_tenant
def at_loopback(*args, **fields):
    return for_tenant(*args, host=host, port=int(port), **fields)
InboxConfig.for_tenant = at_loopback
"""


def with_values(block: Block, exchange: ReadyExchange) -> Block:
    """The block with the values of a tenant in place of the examples."""
    values = {
        "contoso.onmicrosoft.com": exchange.app.tenant_id,
        "inbox@contoso.example": exchange.mailbox,
        "22222222-2222-4222-8222-222222222222": exchange.app.client_id,
        "the-Value-of-the-client-secret": exchange.secret.value,
    }
    for example, value in values.items():
        block = block._replace(text=block.text.replace(example, value))
    return block


@pytest.fixture(name="exchange")
def _exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    tmp_path.joinpath("empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    uri = trusted_exchange.token_uri()
    monkeypatch.setattr(Cloud.WORLDWIDE, "authority", uri.partition("/" + uri.split("/")[3])[0])
    return trusted_exchange


def test_the_first_message_is_ten_lines_away(exchange: ReadyExchange) -> None:
    lines = [line for line in FIRST.text.splitlines() if line.strip()]
    assert len(lines) <= 10
    program = ELSEWHERE + with_values(FIRST, exchange).text
    arguments = [Cloud.WORLDWIDE.authority, exchange.host, str(exchange.port)]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    assert "Subject: Sample message 1" in ran.stdout
    assert not list(Path.cwd().iterdir())


def test_an_exchange_to_try_it_with_is_two_lines_away() -> None:
    assert "Subject: Sample message 1" in run(TRIAL)


def test_the_mistakes_are_those_that_are_shown() -> None:
    assert run(MISTAKES, {"InboxConfig": InboxConfig}) == MISTAKES_FOUND.text


def test_the_variables_of_the_container_make_an_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = dict(re.findall(r"^ +(EXO_IMAP_\w+): (.+)$", COMPOSE.text, re.MULTILINE))
    secret = tmp_path / "client_secret"
    secret.write_text("the-Value-of-the-client-secret\n")
    assert environ["EXO_IMAP_CLIENT_SECRET_FILE"] == "/run/secrets/client_secret"
    environ["EXO_IMAP_CLIENT_SECRET_FILE"] = str(secret)
    names: dict[str, Any] = {}
    run(FIRST._replace(text=FIRST.text.partition("with ")[0]), names)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    from_env: dict[str, Any] = {"InboxConfig": InboxConfig}
    run(FROM_ENV, from_env)
    inbox = from_env["inbox"]
    assert callable(inbox.client_secret)  # it reads the file again
    assert inbox.warnings == ()
    assert replace(inbox, client_secret=inbox.client_secret()) == names["inbox"]


def test_pydantic_settings_make_an_inbox(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pydantic_settings", reason="pip install pydantic-settings")
    monkeypatch.setenv("MAIL_TENANT_ID", exchange.app.tenant_id)
    monkeypatch.setenv("MAIL_USER", exchange.mailbox)
    monkeypatch.setenv("MAIL_CLIENT_ID", exchange.app.client_id)
    monkeypatch.setenv("MAIL_CLIENT_SECRET", exchange.secret.value)
    names: dict[str, Any] = {"__name__": "page"}
    run(PYDANTIC, names)
    settings = names["MailSettings"]()
    inbox = settings.inbox()
    assert inbox.client_secret == exchange.secret.value
    assert exchange.secret.value not in repr(settings) + repr(inbox)
    assert inbox.token_source().get_token().claims["appid"] == exchange.app.client_id


def test_django_settings_make_an_inbox(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = pytest.importorskip("django.conf", reason="pip install django")
    debug = pytest.importorskip("django.views.debug")
    monkeypatch.setenv(SECRET_VARIABLE, exchange.secret.value)
    values: dict[str, Any] = {}
    run(with_values(DJANGO_SETTINGS, exchange), values)
    if not conf.settings.configured:
        conf.settings.configure(SECRET_KEY="x")
    monkeypatch.setattr(conf.settings, "EXCHANGE_INBOX", values["EXCHANGE_INBOX"], raising=False)
    names: dict[str, Any] = {}
    run(DJANGO, names)
    assert names["inbox"].client_secret == exchange.secret.value
    shown = debug.SafeExceptionReporterFilter().get_safe_settings()
    assert shown["EXCHANGE_INBOX"]["user"] == exchange.mailbox
    assert exchange.secret.value not in str(shown)
    assert names["inbox"].token_source().get_token().claims["appid"] == exchange.app.client_id


# ---- the table -------------------------------------------------------------------------------


def fields_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fields_table", DOCS / "fields_table.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_code() -> None:
    command = "out of date; rewrite it with: python docs/fields_table.py"
    text = PAGE.read_text("utf-8")
    assert fields_table().written(text) == text, command
