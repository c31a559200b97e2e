"""The asyncio page and docs/examples/save_attachments.py, as programs would run them."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import Counter
from email.message import EmailMessage
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import DOCS, blocks, example, run

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/asyncio.md"


def asyncio_page() -> SimpleNamespace:
    """The program on the page about asyncio; `python` runs it from a file."""
    (block,) = blocks(PAGE, "python")
    names: dict[str, Any] = {"__name__": "async_listener"}
    run(block, names)
    return SimpleNamespace(**names)


# ---- the page about asyncio --------------------------------------------------------------------

MAILBOXES = int(os.environ.get("MAILBOXES", "4"))
SECONDS = float(os.environ.get("LISTEN_SECONDS", "5"))
LIFETIME = int(os.environ.get("LIFETIME", "4"))  # s, of a token


@pytest.mark.slow
def test_idle_goes_on_through_the_ends_of_tokens(
    trusted_exchange: ReadyExchange,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    exchange, module = trusted_exchange, asyncio_page()
    inboxes = [inbox_with_short_tokens(exchange, number) for number in range(MAILBOXES)]
    handled: Counter[tuple[str, str]] = Counter()

    async def handle(inbox: InboxConfig, message: EmailMessage) -> None:
        handled[inbox.user, message["Subject"]] += 1

    async def deliver_and_listen() -> set[tuple[str, str]]:
        tasks = [asyncio.create_task(module.listen(inbox, handle)) for inbox in inboxes]
        sent: set[tuple[str, str]] = set()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or set(handled) != sent:
            for inbox in inboxes if time.monotonic() < end else ():
                subject = f"message {len(sent)}"
                exchange.deliver(inbox.user, f"Subject: {subject}\r\n\r\n".encode())
                sent.add((inbox.user, subject))
            await asyncio.sleep(0.05)
            assert time.monotonic() < end + 60
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sent

    sent = asyncio.run(deliver_and_listen())
    gc.collect()
    assert set(handled) == sent
    assert set(handled.values()) == {1}
    assert "the connection was lost" not in caplog.text
    issued = len(exchange.token_requests)
    assert issued > SECONDS / LIFETIME
    with capsys.disabled():
        print(f" [{len(sent)} messages, {issued} tokens, {len(exchange.logins)} logins] ", end="")  # noqa: T201


def inbox_with_short_tokens(exchange: ReadyExchange, number: int) -> InboxConfig:
    app = exchange.register_app(f"listener-{number}", token_lifetime=LIFETIME)
    exchange.add_permission(app, "IMAP.AccessAsApp")
    exchange.grant_admin_consent(app)
    exchange.new_service_principal(app.client_id, app.enterprise_object_id)
    user = f"inbox{number}@contoso.example"
    exchange.add_mailbox(user)
    exchange.add_mailbox_permission(user, app.enterprise_object_id)
    return InboxConfig(
        user=user,
        token_uri=exchange.token_uri(),
        client_id=app.client_id,
        client_secret=exchange.add_client_secret(app).value,
        host=exchange.host,
        port=exchange.port,
    )


# ---- save_attachments.py ---------------------------------------------------------------------


def with_attachments() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "with attachments"
    message.set_content("see there")
    message.add_attachment(
        b"%PDF", maintype="application", subtype="pdf", filename="Rechnung 1.pdf"
    )
    message.add_attachment("Grüße", filename="../../../.ssh/authorized_keys")
    inner = EmailMessage()
    inner["Subject"] = "inner"
    message.add_attachment(inner)
    return message


@pytest.fixture(name="conf")
def _conf(trusted_exchange: ReadyExchange, tmp_path: Path) -> Path:
    return trusted_exchange.write_config(tmp_path)


def test_attachments_are_saved_and_messages_marked(
    trusted_exchange: ReadyExchange, conf: Path, tmp_path: Path
) -> None:
    trusted_exchange.deliver(trusted_exchange.mailbox, with_attachments())
    job, out = example("save_attachments"), tmp_path / "out"
    assert job.main(conf, out) == 0
    (folder,) = out.glob("default/*-104")
    assert {path for path in out.rglob("*") if path.is_file()} == {
        folder / "1-Rechnung_1.pdf",
        folder / "2-_.._.._.ssh_authorized_keys",
        folder / "3-attachment",
    }
    saved = {path.name[0]: path.read_bytes() for path in folder.iterdir()}
    assert saved["1"] == b"%PDF"
    assert saved["2"].decode() == "Grüße\r\n"
    assert b"Subject: inner" in saved["3"]
    with load_config(conf).default.open(readonly=True) as imap:
        assert imap.search(None, "UNSEEN")[1] == [b""]


@pytest.mark.parametrize(
    ("fault", "status"), [(Fault.IMAP_THROTTLED, 75), (Fault.IMAP_AUTHENTICATE_FAILED, 1)]
)
def test_the_exit_status_tells_whether_to_run_again(
    trusted_exchange: ReadyExchange,
    conf: Path,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
    status: int,
) -> None:
    trusted_exchange.inject(fault, times=None)
    assert example("save_attachments").main(conf, conf.parent / "out") == status
    assert "Fix:" in capsys.readouterr().err


def test_a_configuration_that_cannot_work_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example("save_attachments").main(tmp_path / "none", tmp_path / "out") == 1
    assert "none" in capsys.readouterr().err
