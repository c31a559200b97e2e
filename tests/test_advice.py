"""Advice: what context adds, what is filled in, and any text at all."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.advice import (
    CLIENT,
    EXAMPLES,
    FAILURES,
    GOOD_CLAIMS,
    GRANT,
    IDS,
    MAILBOX,
    OBJECT,
    REFUSAL,
    STAGES,
    TENANT,
    Example,
    advice_id,
)

from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.clouds import Cloud

OTHER = "44444444-4444-4444-8444-444444444444"


# ---- what context adds -----------------------------------------------------------------------


def test_a_refused_token_without_roles_lacks_the_role() -> None:
    advice = advise(REFUSAL, stage="authenticate", **IDS, **GOOD_CLAIMS | {"roles": ""})
    assert advice is not None
    assert advice.id == "role-missing"
    assert "its roles: none" in advice.cause
    assert f"CallAnAPI/appId/{CLIENT}" in advice.fix


def test_a_refused_token_with_other_roles_lacks_the_role_and_names_them() -> None:
    roles = "Mail.Read POP.AccessAsApp"
    advice = advise(REFUSAL, stage="authenticate", **GOOD_CLAIMS | {"roles": roles})
    assert advice is not None
    assert advice.id == "role-missing"
    assert roles in advice.cause


def test_a_refused_token_for_graph_has_the_wrong_audience() -> None:
    advice = advise(REFUSAL, stage="authenticate", aud="https://graph.microsoft.com", oid=OBJECT)
    assert advice is not None
    assert advice.id == "audience-wrong"
    assert "https://graph.microsoft.com" in advice.cause


def test_a_token_for_graph_lacks_the_role_anyway_so_the_audience_is_named_first() -> None:
    claims = {"aud": "00000003-0000-0000-c000-000000000000", "roles": ""}
    assert advice_id(REFUSAL, "authenticate", **claims) == "audience-wrong"


@pytest.mark.parametrize(
    "audience",
    [
        "https://outlook.office365.com/",
        "https://OUTLOOK.office.com",
        "00000002-0000-0ff1-ce00-000000000000",
        "https://webmail.apps.mil",
        "https://ps.outlook.com",  # Microsoft names it for consent: not known to be wrong
        *(cloud.scope.removesuffix("/.default") for cloud in Cloud),
    ],
)
def test_every_name_of_exchange_online_is_a_good_audience(audience: str) -> None:
    claims = GOOD_CLAIMS | {"aud": audience}
    assert advice_id(REFUSAL, "authenticate", **claims) == "authenticate-refused"


def test_a_refused_token_of_another_object_tells_both_ids_and_registers_the_tokens() -> None:
    known = IDS | GOOD_CLAIMS | {"enterprise_object_id": OTHER, "mailbox": MAILBOX}
    advice = advise(REFUSAL, stage="authenticate", **known)
    assert advice is not None
    assert advice.id == "object-id-mismatch"
    assert OTHER in advice.cause
    assert OBJECT in advice.cause
    assert advice.commands[1:] == (
        f"Remove-ServicePrincipal -Identity '{OTHER}'",
        f"New-ServicePrincipal -AppId '{CLIENT}' -ObjectId '{OBJECT}'",
        GRANT,
    )


def test_object_ids_are_compared_whatever_their_case() -> None:
    known = GOOD_CLAIMS | {"oid": "ABCDEFAB-0000-4000-8000-000000000000"}
    known["enterprise_object_id"] = known["oid"].lower()
    assert advice_id(REFUSAL, "authenticate", **known) == "authenticate-refused"


def test_a_good_token_refused_means_exchange_was_not_told_of_the_application() -> None:
    advice = advise(REFUSAL, stage="authenticate", **IDS, **GOOD_CLAIMS, mailbox=MAILBOX)
    assert advice is not None
    assert advice.id == "authenticate-refused"
    assert advice.commands == (
        f"Connect-ExchangeOnline -Organization '{TENANT}'",
        f"Get-Mailbox -Identity '{MAILBOX}'",
        f"Get-ServicePrincipal -Identity '{CLIENT}' | Format-List 'AppId', 'ObjectId'",
        f"Remove-ServicePrincipal -Identity '{CLIENT}'  # only if another ObjectId is shown",
        f"New-ServicePrincipal -AppId '{CLIENT}' -ObjectId '{OBJECT}'",
        GRANT,
    )


def test_a_secret_that_looks_like_an_id_is_said_to_be_the_secret_id() -> None:
    message = FAILURES[0]["message"]
    plain = advise(message, stage="token")
    sharper = advise(message, stage="token", client_secret_format="guid")
    assert plain is not None
    assert sharper is not None
    assert plain.id == sharper.id == "secret-wrong"
    assert "has the form of an ID" not in plain.cause
    assert "has the form of an ID" in sharper.cause


# ---- what is filled in -----------------------------------------------------------------------


def test_a_mailbox_that_does_not_open_gets_commands_ready_to_paste() -> None:
    known = IDS | {"mailbox": "o'brien@contoso.example"}
    advice = advise("BAD User is authenticated but not connected.", stage="post_auth", **known)
    assert advice is not None
    mailbox = "'o''brien@contoso.example'"
    assert advice.commands == (
        f"Connect-ExchangeOnline -Organization '{TENANT}'",
        f"Add-MailboxPermission -Identity {mailbox} -User '{OBJECT}' -AccessRights FullAccess",
        f"Get-MailboxPermission -Identity {mailbox}",
        f"Set-CASMailbox -Identity {mailbox} -ImapEnabled $true",
        f"Get-CASMailbox -Identity {mailbox} | Format-List ImapEnabled",
    )


def test_the_tokens_oid_stands_in_for_an_enterprise_object_id_not_given() -> None:
    advice = explain("mailbox-not-connected", oid=OBJECT, mailbox=MAILBOX)
    assert GRANT in advice.commands


@pytest.mark.parametrize("mailbox", [None, "", "two\nlines", "nul\x00"])
def test_what_is_unknown_or_cannot_be_quoted_stays_a_placeholder(mailbox: str | None) -> None:
    known = {} if mailbox is None else {"mailbox": mailbox}
    advice = explain("mailbox-not-connected", **known)
    assert advice.commands[2] == "Get-MailboxPermission -Identity '<mailbox>'"
    assert advice.commands[0] == "Connect-ExchangeOnline -Organization '<tenant_id>'"


def test_host_and_port_are_named_where_the_server_cannot_be_reached() -> None:
    advice = explain("imap-unreachable", host="imap.example", port="1993")
    assert "imap.example:1993" in advice.cause
    assert advice.commands == ("openssl s_client -connect 'imap.example:1993'",)
    assert "imap.example:993" in explain("certificate-untrusted", host="imap.example").cause


def test_the_token_endpoint_is_named_where_its_certificate_is_not_trusted() -> None:
    uri = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    assert "login.microsoftonline.com:443" in explain("certificate-untrusted", token_uri=uri).cause
    local = explain("certificate-untrusted", token_uri="https://127.0.0.1:8443/token")
    assert "127.0.0.1:8443" in local.cause
    assert "the server" in explain("certificate-untrusted", token_uri="nonsense").cause
    assert uri in explain("token-endpoint-unreachable", token_uri=uri).cause


URI = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"


@pytest.mark.parametrize(
    ("problem", "cause", "fix"),
    [
        ("", "p.example:80, which HTTPS_PROXY names, gave no", "the address of the proxy in HTTPS"),
        ("403", "does not allow the connection", "allow the host login.microsoftonline.com:443."),
        (
            "407",
            "wants a user and a password",
            "percent-encoded: http://user:password@p.example:80",
        ),
        (
            "malformed",
            "The value of HTTPS_PROXY is not the URL",
            "Write it as http://proxy.example",
        ),
        ("502", "gave no usable answer", "ask whoever runs it"),
    ],
)
def test_a_proxy_in_between_is_named_with_what_to_do_about_it(
    problem: str, cause: str, fix: str
) -> None:
    known = {"proxy": "p.example:80", "proxy_variable": "HTTPS_PROXY", "proxy_problem": problem}
    advice = explain("token-endpoint-unreachable", token_uri=URI, **known)
    assert advice.id == "token-endpoint-unreachable"
    assert cause in advice.cause
    assert fix in advice.fix
    assert "name it in the environment variable" not in advice.fix
    for known in ({"proxy": "", "proxy_problem": problem}, {"proxy": "[::1]:3128"}):
        advice = explain("token-endpoint-unreachable", **known)
        assert "  " not in advice.cause + advice.fix
        assert "HTTPS_PROXY" not in advice.cause + advice.fix


def test_a_bundle_that_cannot_be_read_is_named_and_no_certificate_is_blamed() -> None:
    known = {"bundle": "/etc/ca.pem", "bundle_variable": "CURL_CA_BUNDLE"}
    advice = explain("certificate-untrusted", token_uri=URI, **known)
    assert advice.cause.startswith("CURL_CA_BUNDLE names /etc/ca.pem, which cannot be read")
    assert "openssl" not in str(advice.commands)
    assert "look at the certificate" not in advice.fix
    assert advice == explain("certificate-untrusted", host="imap.example", **known)


def test_control_characters_of_a_value_do_not_reach_the_text() -> None:
    advice = explain("audience-wrong", aud="https://x\r\n\x1b[31mFix: pay" + "y" * 5000)
    assert "\x1b" not in advice.cause
    assert "\n" not in advice.cause
    assert len(advice.cause) < 400


def test_braces_of_a_value_are_text() -> None:
    assert "{client_id}" in explain("audience-wrong", aud="{client_id}", client_id=CLIENT).cause


def test_an_unknown_id_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        explain("no-such-id")


def test_unknown_names_are_ignored() -> None:
    assert explain("token-loop", weather="fine") == explain("token-loop")


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.id for example in EXAMPLES])
def test_nothing_of_the_message_is_repeated(example: Example) -> None:
    secret = "Xy8Q~secret.of-the_application"
    message = f"client_secret={secret} {example.message} eyJ0eXAi.{secret}"
    advice = advise(
        f"{message}\n{example.message}", stage=example.stage, client_secret=secret, **example.known
    )
    assert secret not in repr(advice)


# ---- any text at all -------------------------------------------------------------------------


@given(st.text())
def test_any_text_at_all_is_read_without_an_error(text: str) -> None:
    for stage in STAGES:
        advise(text, stage=stage)


@pytest.mark.parametrize(
    "piece",
    ["x", "\n", " ", "AADSTS", "AADSTS7", '"error_codes":[', "Application with identifier '",
     "resource principal named ", "Tenant '", "scope '", "NO AUTHENTICATE failed", "1,"],
)  # fmt: skip
def test_a_long_message_takes_time_in_proportion(piece: str) -> None:
    def seconds(size: int) -> float:
        message = piece * (size // len(piece))
        start = time.thread_time()  # whatever other threads and programs do meanwhile
        advise(message, stage="authenticate")
        return time.thread_time() - start

    seconds(1000)  # patterns are compiled on first use
    assert seconds(100_000) < 10 * seconds(25_000) + 0.5  # were it quadratic: many seconds
