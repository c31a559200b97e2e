"""Clouds: their hosts and scopes, and that each is told its own values."""

from __future__ import annotations

import imaplib
import re
from typing import TYPE_CHECKING, Any

import pytest
from support.config import SECRET
from support.mistakes import block, load
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import Cloud, InboxConfig, authenticate_xoauth2
from exo_imap_oauth.advice import ADVICE_IDS, advise, explain
from exo_imap_oauth.clouds import cloud_of, clouds_of, differing_clouds
from exo_imap_oauth.errors import ConfigError, MailboxNotConnected

if TYPE_CHECKING:
    from pathlib import Path

WORLDWIDE, GCC_HIGH, DOD, CHINA = Cloud
OTHERS = (GCC_HIGH, DOD, CHINA)
WORLDWIDE_ONLY = re.compile(r"(?:office365|office|microsoftonline|entra\.microsoft)\.com")
ENVIRONMENT = {GCC_HIGH: "O365USGovGCCHigh", DOD: "O365USGovDoD", CHINA: "O365China"}
IDS = {
    "tenant_id": "b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b",
    "client_id": "6731de76-14a6-49ae-97bc-6eba6914391e",
    "enterprise_object_id": "33333333-3333-4333-8333-333333333333",
}
FIELDS: dict[str, Any] = {
    "user": "inbox@contoso.example",
    "client_id": IDS["client_id"],
    "client_secret": SECRET,
}


def uri_in(cloud: Cloud, tenant: str = "contoso.example") -> str:
    return f"{cloud.authority}/{tenant}/oauth2/v2.0/token"


@pytest.mark.parametrize("cloud", Cloud)
def test_clouds_are_consistent(cloud: Cloud) -> None:
    assert cloud.authority.startswith("https://login.")
    assert cloud.scope == f"https://{cloud.imap_host}/.default"
    assert cloud.portal.startswith("https://")
    assert cloud_of(cloud.imap_host) is cloud
    assert cloud_of(cloud.authority, cloud.scope) is cloud


def test_dod_has_hosts_of_its_own_and_the_endpoints_of_gcc_high() -> None:
    assert clouds_of(DOD.authority) == (GCC_HIGH, DOD) == clouds_of(GCC_HIGH.authority)
    assert clouds_of("webmail.apps.mil") == clouds_of("https://OUTLOOK-DOD.office365.us") == (DOD,)
    assert DOD.imap_host == "outlook-dod.office365.us"
    inbox = InboxConfig.for_tenant("contoso.example", cloud=DOD, **FIELDS)
    assert inbox.warnings == ()
    assert (
        InboxConfig.for_tenant(
            "contoso.example",
            cloud=DOD,
            host="webmail.apps.mil",
            scope="https://webmail.apps.mil/.default",
            **FIELDS,
        ).warnings
        == ()
    )
    refused = advise(
        "NO AUTHENTICATE failed.", stage="authenticate", aud="https://webmail.apps.mil"
    )
    assert refused is not None
    assert refused.id == "authenticate-refused"


@pytest.mark.parametrize(
    ("one", "other", "clouds"),
    [
        ("partner.outlook.cn", f"{Cloud.WORLDWIDE.authority}/x", (Cloud.CHINA, Cloud.WORLDWIDE)),
        (Cloud.US_GOVERNMENT.scope, Cloud.CHINA.authority, (Cloud.US_GOVERNMENT, Cloud.CHINA)),
        (GCC_HIGH.scope, DOD.imap_host, (GCC_HIGH, DOD)),
        (DOD.scope, DOD.authority, None),
        (GCC_HIGH.scope, DOD.authority, None),
        ("webmail.apps.mil", WORLDWIDE.authority, (DOD, WORLDWIDE)),
        ("login-us.microsoftonline.com", DOD.imap_host, None),
        ("outlook.office.com", Cloud.WORLDWIDE.authority, None),
        ("localhost", Cloud.CHINA.authority, None),
        ("https://[x/", Cloud.CHINA.authority, None),
        ("", "", None),
    ],
)
def test_clouds_differ_where_both_are_known(
    one: str, other: str, clouds: tuple[Cloud, Cloud] | None
) -> None:
    assert differing_clouds(one, other) == clouds


@pytest.mark.parametrize(
    ("addresses", "cloud"),
    [
        ((), WORLDWIDE),
        (("localhost", "", "https://[x/"), WORLDWIDE),
        ((uri_in(GCC_HIGH),), GCC_HIGH),
        ((uri_in(GCC_HIGH), "localhost", DOD.scope), DOD),
        ((uri_in(GCC_HIGH), WORLDWIDE.scope, "outlook.office365.com"), GCC_HIGH),
        ((CHINA.imap_host, uri_in(WORLDWIDE)), CHINA),
    ],
)
def test_the_first_address_that_tells_counts(addresses: tuple[str, ...], cloud: Cloud) -> None:
    assert cloud_of(*addresses) is cloud


# ---- each is told its own values -------------------------------------------------------------


@pytest.mark.parametrize("cloud", OTHERS)
@pytest.mark.parametrize("advice_id", [each for each in ADVICE_IDS if each != "wrong-cloud"])
@pytest.mark.parametrize("told_by", ["token_uri and scope", "aud", "host"])
def test_advice_names_hosts_and_portal_of_the_cloud(
    cloud: Cloud, advice_id: str, told_by: str
) -> None:
    known = {
        "token_uri and scope": {"token_uri": uri_in(cloud), "scope": cloud.scope},
        "aud": {"aud": f"https://{cloud.imap_host}"},
        "host": {"host": cloud.imap_host},
    }[told_by]
    advice = explain(advice_id, **IDS, **known)
    text = " ".join((advice.cause, advice.fix, *advice.commands))
    assert not WORLDWIDE_ONLY.search(text)
    environments = {*re.findall(r"-ExchangeEnvironmentName (\w+)", text)}
    assert environments == ({ENVIRONMENT[cloud]} if "Connect-Exchange" in text else set())
    if " Portal: " in advice.fix:
        assert advice.fix.endswith(cloud.portal)


WRONG: list[dict[str, str]] = [
    {"scope": "https://graph.microsoft.us/.default"},
    {"scope": "https://outlook.office365.com/.default"},
    {"scope": "IMAP.AccessAsApp"},
    {"scope": "api://contoso/.default"},
    {"scope": ""},
    {"scope": "<scope>"},
    {"host": ""},
    {"host": "<host>"},
    {"host": "https://partner.outlook.cn"},
    {"host": "outlook.office365.com"},
    {"host": "imap.gmail.com"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("cloud", OTHERS)
def test_what_is_wrong_with_an_inbox_is_mended_with_values_of_its_cloud(
    cloud: Cloud, wrong: dict[str, str]
) -> None:
    problems = problems_in(cloud, **wrong)
    text = " ".join(f"{problem.message} {problem.fix}" for problem in problems)
    assert not WORLDWIDE_ONLY.search(text)
    (name,) = wrong
    assert (cloud.scope if name == "scope" else cloud.imap_host) in text


def problems_in(cloud: Cloud, **wrong: str) -> list[Any]:
    try:
        fields: dict[str, Any] = FIELDS | wrong
        inbox = InboxConfig.for_tenant("contoso.example", cloud=cloud, **fields)
    except ConfigError as error:
        return [*error.problems, *error.warnings]
    return list(inbox.warnings)


@pytest.mark.parametrize("cloud", OTHERS)
def test_a_placeholder_in_a_token_endpoint_is_replaced_within_its_cloud(cloud: Cloud) -> None:
    with pytest.raises(ConfigError) as by_hand:
        InboxConfig(token_uri=uri_in(cloud, "<tenant_id>"), **FIELDS)
    assert f"Enter {cloud.authority}/<tenant_id>/" in str(by_hand.value)
    with pytest.raises(ConfigError) as of_tenant:
        InboxConfig.for_tenant("<tenant_id>", cloud=cloud, **FIELDS)
    assert "Enter the tenant_id, the Directory (tenant) ID" in str(of_tenant.value)
    with pytest.raises(ConfigError) as missing:
        InboxConfig(user=FIELDS["user"], host=cloud.imap_host, scope=cloud.scope).token_source()
    assert f"Add it: {cloud.authority}/" in str(missing.value)
    for error in (by_hand, of_tenant, missing):
        assert not WORLDWIDE_ONLY.search(str(error.value))


def test_a_cmsbs_conf_is_mended_within_its_cloud(tmp_path: Path) -> None:
    values = {"oauth2.accessTokenUri": uri_in(CHINA), "oauth2.scope": "api://x/.default"}
    (problem,) = (
        each
        for each in load(tmp_path, block({"server": CHINA.imap_host, **values})).warnings
        if each.key.endswith("scope")
    )
    assert problem.fix == f"Write {CHINA.scope}."


@pytest.mark.parametrize("cloud", OTHERS)
def test_without_claims_the_host_tells_whose_commands_to_show(cloud: Cloud) -> None:
    login = Step("{tag} AUTHENTICATE .+", "{tag} OK done.")
    refused = Step("{tag} STATUS .+", "{tag} BAD User is authenticated but not connected.")
    with ScriptedImap([GREETING, capability(), login, refused, LOGOUT], tls=True) as server:
        with imaplib.IMAP4_SSL(
            server.host, server.port, ssl_context=server.ssl_context
        ) as connection:
            connection.host = cloud.imap_host
            with pytest.raises(MailboxNotConnected) as raised:
                authenticate_xoauth2(connection, FIELDS["user"], "opaque")
    assert f"-ExchangeEnvironmentName {ENVIRONMENT[cloud]}" in str(raised.value)


def test_host_and_scope_of_two_clouds_with_the_same_token_endpoints() -> None:
    (problem,) = problems_in(DOD, host=GCC_HIGH.imap_host)
    assert (problem.key, problem.message[:34]) == ("scope", "is for another Microsoft cloud tha")
