"""The Exchange script and the commands of advice, for each cloud, read with a real grammar."""

from __future__ import annotations

from typing import Any

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Parser

from exo_imap_oauth.advice import ADVICE_IDS, explain
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.powershell import exchange_setup_script

PARSER = Parser(Language(tree_sitter_powershell.language()))
VALUES: dict[str, Any] = {
    "tenant_id": "contoso.onmicrosoft.com",
    "client_id": "22222222-2222-4222-8222-222222222222",
    "enterprise_object_id": "33333333-3333-4333-8333-333333333333",
    "mailboxes": ["inbox@contoso.example"],
}
KNOWN = {name: value for name, value in VALUES.items() if isinstance(value, str)}


@pytest.mark.parametrize(
    ("cloud", "option"),
    [
        (Cloud.WORLDWIDE, ""),
        (Cloud.US_GOVERNMENT, " -ExchangeEnvironmentName O365USGovGCCHigh"),
        (Cloud.US_DOD, " -ExchangeEnvironmentName O365USGovDoD"),
        (Cloud.CHINA, " -ExchangeEnvironmentName O365China"),
    ],
)
def test_the_script_connects_to_the_cloud(cloud: Cloud, option: str) -> None:
    script = exchange_setup_script(**VALUES, cloud=cloud)
    assert not PARSER.parse(script.encode()).root_node.has_error
    connect = [line.strip() for line in script.splitlines() if "Connect-ExchangeOnline" in line]
    assert connect == [f"Connect-ExchangeOnline -Organization 'contoso.onmicrosoft.com'{option}"]
    assert ("O365USGovDoD" in script) is (cloud is Cloud.US_DOD)


def test_the_cloud_is_worldwide_unless_another_is_named() -> None:
    assert exchange_setup_script(**VALUES) == exchange_setup_script(**VALUES, cloud=Cloud.WORLDWIDE)


def test_a_name_is_not_a_cloud() -> None:
    with pytest.raises(TypeError, match="cloud must be a Cloud, not str"):
        exchange_setup_script(**VALUES, cloud="CHINA")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # the point


@pytest.mark.parametrize("advice_id", ADVICE_IDS)
@pytest.mark.parametrize("cloud", Cloud)
def test_the_commands_of_every_advice_parse(advice_id: str, cloud: Cloud) -> None:
    known = {**KNOWN, "mailbox": "o'brien@contoso.example", "token_uri": cloud.authority}
    for commands in (explain(advice_id, **known).commands, explain(advice_id).commands):
        source = "".join(f"{command}\n" for command in ("Clear-Host", *commands))
        assert not PARSER.parse(source.encode()).root_node.has_error, source
