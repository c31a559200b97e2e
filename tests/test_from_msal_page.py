"""docs/how-to/from-msal.md: what stands before and after does the same, at one Exchange."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.fernet import Fernet
from support.pages import DOCS, Block, blocks, run
from support.redis_server import RedisServer

from exo_imap_oauth import Cloud, InboxConfig
from exo_imap_oauth.errors import TokenEndpointUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exo_imap_oauth.testing import ReadyExchange

    RunAt = Callable[[Block], tuple[str, str]]

msal = pytest.importorskip("msal")
azure_identity = pytest.importorskip("azure.identity")

PAGE = DOCS / "how-to/from-msal.md"
HEADINGS = {
    number: line.removeprefix("## ")
    for number, line in enumerate(PAGE.read_text("utf-8").splitlines(), 1)
    if line.startswith(("# ", "## "))
}
NAMES, *_ = blocks(PAGE, "python")


def section(title: str, *languages: str) -> list[Block]:
    """The blocks between a heading and the next one."""
    return [
        block
        for block in blocks(PAGE, *languages)
        if HEADINGS[max(number for number in HEADINGS if number < block.line)] == title
    ]


SECTIONS = {
    heading: len(found) for heading in HEADINGS.values() if (found := section(heading, "python"))
}


@pytest.fixture(name="exchange")
def _exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    """In place of Microsoft's cloud, for all three libraries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Cloud.WORLDWIDE, "authority", trusted_exchange.authority)
    place: dict[str, Any] = {"host": trusted_exchange.host, "port": trusted_exchange.port}

    def for_tenant(tenant_id: str, **fields: Any) -> InboxConfig:
        return real_for_tenant(tenant_id, **(place if "cloud" not in fields else {}), **fields)

    real_for_tenant = InboxConfig.for_tenant
    monkeypatch.setattr(InboxConfig, "for_tenant", for_tenant)
    # Both would ask Microsoft whether the loopback Exchange is a cloud of theirs.
    for module, name, options in (
        (msal, "ConfidentialClientApplication", {"instance_discovery": False}),
        (
            azure_identity,
            "ClientSecretCredential",
            {"disable_instance_discovery": True, "authority": trusted_exchange.authority},
        ),
    ):
        monkeypatch.setattr(module, name, functools.partial(getattr(module, name), **options))
    return trusted_exchange


@pytest.fixture(name="run_at")
def _run_at(exchange: ReadyExchange) -> RunAt:
    """Run a block at the exchange; what it prints, and the name ``token`` that it leaves."""
    values = {
        "https://login.microsoftonline.com": exchange.authority,
        '"outlook.office365.com"': f'"{exchange.host}", {exchange.port}',
        "22222222-2222-4222-8222-222222222222": exchange.app.client_id,
        "the-Value-of-the-client-secret": exchange.secret.value,
        "inbox@contoso.example": exchange.mailbox,
        '"contoso.onmicrosoft.com"': f'"{exchange.tenant_id}"',
    }

    def run_at(block: Block) -> tuple[str, Any]:
        names: dict[str, Any] = {"__name__": PAGE.stem}
        printed = ""
        for one in (NAMES, block):
            text = one.text
            for example, value in values.items():
                text = text.replace(example, value)
            printed = run(one._replace(text=text), names)
        return printed, names.get("token")

    return run_at


def claims(token: str) -> dict[str, Any]:
    """What a token is good for, without what differs from one to the next."""
    found = jwt.decode(token, options={"verify_signature": False})
    return {name: found[name] for name in ("aud", "appid", "oid", "roles", "tid")}


def test_the_whole_program_prints_the_same(exchange: ReadyExchange, run_at: RunAt) -> None:
    before, after = section("The whole program", "python")
    (shown,) = section("The whole program", "text")
    assert run_at(before)[0] == run_at(after)[0] == shown.text
    assert [login.outcome for login in exchange.logins] == ["connected"] * 2
    assert [request.outcome for request in exchange.token_requests] == ["issued"] * 2


@pytest.mark.parametrize("title", ["The token alone", "From azure-identity"])
def test_both_tokens_are_good_for_the_same(
    exchange: ReadyExchange, run_at: RunAt, title: str
) -> None:
    tokens = [run_at(block)[1] for block in section(title, "python")]
    assert len(tokens) == len(exchange.token_requests) == 2
    assert claims(tokens[0]) == claims(tokens[1])


@pytest.fixture(name="redis_url")
def _redis_url(redis_binary: str, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "redis").mkdir()
    with RedisServer(redis_binary, tmp_path / "redis") as server:
        yield server.url


def test_each_cache_saves_the_second_request(
    exchange: ReadyExchange,
    run_at: RunAt,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN_KEY", Fernet.generate_key().decode())
    before, after = section("The token cache", "python")
    after = after._replace(
        text=after.text.replace("rediss://:password@redis.example:6380/0", redis_url)
    )
    for number, block in enumerate((before, after), 1):
        assert run_at(block)[1] == run_at(block)[1]
        assert len(exchange.token_requests) == number


def test_both_prove_their_identity_with_the_certificate(
    exchange: ReadyExchange, run_at: RunAt
) -> None:
    Path("bot.pem").write_bytes(exchange.add_certificate(exchange.app).pem)
    exchange.expire_client_secret(exchange.secret)
    tokens = [run_at(block)[1] for block in section("A certificate", "python")]
    assert claims(tokens[0]) == claims(tokens[1])


def test_another_cloud_has_its_addresses() -> None:
    (block,) = section("Other clouds", "python")
    (shown,) = section("Other clouds", "text")
    names: dict[str, Any] = {}
    run(NAMES, names)
    assert run(block, names) == shown.text


def test_both_know_an_expired_secret(exchange: ReadyExchange, run_at: RunAt) -> None:
    exchange.expire_client_secret(exchange.secret)
    before, after = section("Errors", "python")
    (shown,) = section("Errors", "text")
    assert run_at(before)[0] == run_at(after)[0] == shown.text
    assert [request.outcome for request in exchange.token_requests] == ["AADSTS7000222"] * 2


def test_both_trust_a_private_ca_only_if_they_are_told_to(
    exchange: ReadyExchange,
    run_at: RunAt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)  # msal would heed it, not its argument
    exchange.write_ca("company.pem")
    before, after = section("A private CA, a proxy", "python")
    for block, argument, error in (
        (before, '    verify="company.pem",\n', OSError),
        (after, ", ssl_context=context", TokenEndpointUnavailable),
    ):
        untold = block._replace(text=block.text.replace(argument, ""))
        assert untold != block
        with pytest.raises(error, match="CERTIFICATE_VERIFY_FAILED"):
            run_at(untold)
    assert exchange.token_requests == ()
    assert claims(run_at(before)[1]) == claims(run_at(after)[1])


def test_a_token_of_msals_opens_the_mailbox(exchange: ReadyExchange, run_at: RunAt) -> None:
    (block,) = section("What stays with msal", "python")
    (shown,) = section("What stays with msal", "text")
    assert run_at(block)[0] == shown.text
    assert [login.outcome for login in exchange.logins] == ["connected"]


def test_every_section_with_code_is_run_here() -> None:
    assert SECTIONS.keys() - {"# From msal to here"} == set(
        re.findall(r'section\("([^"]+)", "python"\)', Path(__file__).read_text("utf-8"))
    ) | {"The token alone", "From azure-identity"}
