"""docs/how-to/certificate.md is true: its commands and its code run, as they stand."""

from __future__ import annotations

import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.missing import skip_or_fail
from support.pages import DOCS, blocks, run

from exo_imap_oauth import ClientCertificate, TokenSource, open_mailbox
from exo_imap_oauth.errors import TokenRequestRejected
from exo_imap_oauth.testing import ready_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/certificate.md"
SHELL, PYTHON = blocks(PAGE, "sh"), blocks(PAGE, "python")


@pytest.fixture(name="exchange")
def _exchange() -> Iterator[ReadyExchange]:
    with ready_exchange() as exchange:  # trusted by default
        yield exchange


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("openssl") is None:
        skip_or_fail("it needs the command openssl")
    monkeypatch.chdir(tmp_path)
    subprocess.run(
        ["sh", "-euc", SHELL[1].text], check=True, capture_output=True, cwd=tmp_path, timeout=120
    )
    return tmp_path


def at(exchange: ReadyExchange, inbox: Any) -> Any:
    """The inbox of a block, in a tenant that exists."""
    return replace(
        inbox,
        user=exchange.mailbox,
        token_uri=exchange.token_uri(),
        client_id=exchange.app.client_id,
        host=exchange.host,
        port=exchange.port,
    )


def test_the_page_has_the_blocks_that_are_tested() -> None:
    assert (len(SHELL), len(PYTHON)) == (2, 4)


def test_the_files_that_openssl_makes_can_be_read_by_their_owner_alone(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {"bot.key", "bot.cer", "bot.pem"}
    assert stat.S_IMODE((folder / "bot.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in (folder / "bot.cer").read_bytes()


def test_the_certificate_opens_the_mailbox_once_it_is_uploaded(
    folder: Path, exchange: ReadyExchange
) -> None:
    exchange.expire_client_secret(exchange.secret)  # so that nothing works with it
    exchange.write_config(folder)
    names: dict[str, Any] = {}
    thumbprint = run(PYTHON[0], names).strip()
    source = TokenSource(
        exchange.tenant_id,
        exchange.app.client_id,
        certificate=names["certificate"],
        token_uri=exchange.token_uri(),
    )
    with pytest.raises(TokenRequestRejected, match="AADSTS700027") as raised:
        source.get_token()
    assert raised.value.advice is not None
    assert raised.value.advice.id == "certificate-not-registered"

    uploaded = exchange.add_certificate(exchange.app, Path("bot.cer").read_bytes())
    assert uploaded.thumbprint == thumbprint
    token = source.get_token(claims="{}")
    with open_mailbox(exchange.mailbox, token, host=exchange.host, port=exchange.port) as imap:
        assert imap.search(None, "ALL")[0] == "OK"

    assert run(PYTHON[1], names) == "3 unread\n"
    run(PYTHON[2], names)
    with at(exchange, names["inbox"]).open() as imap:
        assert imap.search(None, "ALL")[0] == "OK"


def test_a_new_certificate_is_used_beside_the_old_one(
    folder: Path, exchange: ReadyExchange
) -> None:
    exchange.add_certificate(exchange.app, (folder / "bot.cer").read_bytes())
    old = ClientCertificate.from_pem("bot.pem")
    subprocess.run(["sh", "-euc", SHELL[1].text], check=True, capture_output=True, timeout=120)
    new = ClientCertificate.from_pem("bot.pem")
    exchange.add_certificate(exchange.app, (folder / "bot.cer").read_bytes())
    assert old.thumbprint != new.thumbprint
    for certificate in (old, new, old):
        source = TokenSource(
            exchange.tenant_id,
            exchange.app.client_id,
            certificate=certificate,
            token_uri=exchange.token_uri(),
        )
        assert source.get_token(claims="{}").claims["appid"] == exchange.app.client_id


def test_the_token_that_kubernetes_keeps_fresh_opens_the_mailbox(
    exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = "system:serviceaccount:mail:reader"
    cluster = exchange.add_federated_credential(exchange.app, "https://cluster.example/", subject)
    file = tmp_path / "token"
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    monkeypatch.setenv("AZURE_CLIENT_ID", exchange.app.client_id)
    names: dict[str, Any] = {}
    run(PYTHON[3], names)
    inbox = at(exchange, names["inbox"])

    file.write_text(cluster.assertion())
    source = inbox.token_source()
    with inbox.open() as imap:
        assert imap.search(None, "ALL")[0] == "OK"
    exchange.advance_clock(7200)  # the first assertion has expired
    with pytest.raises(TokenRequestRejected, match="AADSTS700024"):
        source.get_token(claims="{}")
    file.write_text(cluster.assertion())
    assert source.get_token(claims="{}").claims["appid"] == exchange.app.client_id
