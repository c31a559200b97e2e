# ruff: noqa: E501 - messages are quoted as they come, one a line
"""Advice on messages that users pasted, on lines that name several things, and what it tells."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from exo_imap_oauth._advice_table import TABLE
from exo_imap_oauth.advice import RETRYABLE, Stage, advise, explain
from exo_imap_oauth.clouds import Cloud

DATA = Path(__file__).parent / "data"
MESSAGES = json.loads((DATA / "messages.json").read_text("utf-8"))
MORE = json.loads((DATA / "messages-2.json").read_text("utf-8"))
# Invented: the same meaning in other words, other quoting, of other clients; and near misses.
SISTERS = json.loads((DATA / "messages-sisters.json").read_text("utf-8"))
TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT = "22222222-2222-4222-8222-222222222222"
OBJECT = "33333333-3333-4333-8333-333333333333"
MAILBOX = "inbox@contoso.example"
REFUSAL = "A1 NO AUTHENTICATE failed."
NOT_CONNECTED = "BAD User is authenticated but not connected."
DISABLED = '[Error="UserDisabled" AuthResult=27 Proxy=LO2P123MB7360.GBRP123.PROD.OUTLOOK.COM:1993:SSL Service=Imap4]'
MOVED = '[Error="Microsoft.Exchange.Data.Storage.WrongServerException:Cross Server access is not allowed for mailbox x" AuthResultFromPopImapEnd=0 Service=Imap4]'


def advice_id(message: str, stage: Stage | None = None, **known: str) -> str | None:
    advice = advise(message, stage=stage, **known)
    return None if advice is None else advice.id


@pytest.mark.parametrize("case", MESSAGES + MORE, ids=lambda case: case["id"])
def test_a_message_that_a_user_pasted_gets_its_advice(case: dict[str, str]) -> None:
    assert advice_id(case["message"], case["stage"]) == case["advice"]  # type: ignore[arg-type] # from JSON


@pytest.mark.parametrize("case", SISTERS, ids=lambda case: case["id"])
def test_a_sister_of_a_known_message_gets_the_same_advice(case: dict[str, str]) -> None:
    assert advice_id(case["message"], case["stage"]) == case["advice"]  # type: ignore[arg-type] # from JSON


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=c["id"]) for c in MESSAGES if c["id"] not in {"m49", "m51"}
    ],  # anybody's EOF
)
def test_it_gets_the_same_out_of_a_log_without_a_stage(case: dict[str, str]) -> None:
    assert advice_id(case["message"]) == case["advice"]


@pytest.mark.parametrize(
    ("message", "stage", "expected"),
    [
        ("BAD Command received in Invalid state.", "authenticate", "already-authenticated"),
        ("BAD Command received in Invalid state.", "post_auth", "folder-readonly"),
        ("BAD Command received in Invalid state.", "runtime", "folder-readonly"),
        ("BAD Command received in Invalid state.", None, "already-authenticated"),
        ("A2 AUTHENTICATE XOAUTH2\nA2 BAD Command received in Invalid state.", "runtime", "already-authenticated"),
        ("LOGIN: BAD Command received in Invalid state.", "post_auth", "already-authenticated"),
        ("A3 NO [READ-ONLY] Mailbox is read-only.", "runtime", "folder-readonly"),
        ("A3 NO [READ-ONLY] Mailbox is read-only.", None, None),
        ("A3 OK [READ-ONLY] EXAMINE completed.", "runtime", None),
        ("Protocol error. Connection is closed. 10", "runtime", None),
        ("* BYE Connection is closed. 13", None, "connection-closed"),
    ],
)  # fmt: skip
def test_a_command_in_the_wrong_state_is_told_by_what_was_under_way(
    message: str, stage: Stage | None, expected: str | None
) -> None:
    assert advice_id(message, stage) == expected


@pytest.mark.parametrize("answer", ["NO", "BAD"])
@pytest.mark.parametrize("number", ["10", "12"])
@pytest.mark.parametrize("text", ["Command Error.", "Command Argument Error."])
@pytest.mark.parametrize("form", [
    "A5 {answer} {text} {number}",
    "SELECT command error: {answer} [b'{text} {number}']",
    "com.sun.mail.iap.BadCommandException: A5 {answer} {text} {number} at com.sun.mail.iap.Protocol.handleResult(Protocol.java:415)",
    "{answer} {text} {number} while sending",
])  # fmt: skip
def test_a_rejected_command_is_known_whatever_stands_behind_its_number(
    form: str, answer: str, text: str, number: str
) -> None:
    message = form.format(answer=answer, text=text, number=number)
    assert advice_id(message) == advice_id(message, "runtime") == "command-rejected"
    assert advice_id(message.replace(f" {number}", " 11"), "post_auth") == (
        None if "Argument" in text else "command-rejected"
    )


# ---- several things in one text --------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "stage", "expected"),
    [
        ("* BYE Session invalidated - AccessTokenExpired\r\nA2 NO AUTHENTICATE failed.", "authenticate", "session-expired"),
        ("A2 NO AUTHENTICATE failed.; * BYE Session invalidated - AccessTokenExpired", None, "session-expired"),
        ("A1 NO AUTHENTICATE failed.\r\nA2 NO LOGIN failed.", "authenticate", "basic-auth-disabled"),
        ("A1 NO LOGIN failed.\r\nA2 BAD Command received in Invalid state.", "authenticate", "basic-auth-disabled"),
        ("NO AUTHENTICATE failed.\r\n* BYE Connection closed. 14", "authenticate", "authenticate-refused"),
        (f"{NOT_CONNECTED}\r\n* BYE Connection closed. 14", "post_auth", "mailbox-not-connected"),
        ("NO Request is throttled. Suggested Backoff Time: 10 milliseconds\r\n* BYE Connection closed. 14", "runtime", "throttled"),
        ("NO Server Unavailable. 15\r\n* BYE Connection closed. 14", "runtime", "server-unavailable"),
    ],
)  # fmt: skip
def test_what_says_why_counts_before_what_follows_from_it(
    message: str, stage: Stage | None, expected: str
) -> None:
    assert advice_id(message, stage) == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (f"OK {DISABLED} AUTHENTICATE completed.", "imap-disabled"),
        ("OK [Error=UserDisabled AuthResult=27 Service=Imap4] AUTHENTICATE completed.", "imap-disabled"),
        (f"OK {MOVED} AUTHENTICATE completed.", "mailbox-moved"),
        ('OK [Error="NoADRecipient" AuthResult=8] AUTHENTICATE completed.', "mailbox-not-connected"),
        ("OK [AuthResultFromPopImapEnd=8 Service=Imap4] AUTHENTICATE completed.", "mailbox-not-connected"),
        ("OK [AuthResultFromPopImapEnd=27 Service=Imap4] AUTHENTICATE completed.", "mailbox-not-connected"),
        ("OK AUTHENTICATE completed.", "mailbox-not-connected"),
    ],
)  # fmt: skip
def test_the_reason_in_the_ok_chooses_the_advice_where_it_has_one_reading(
    reason: str, expected: str
) -> None:
    assert advice_id(f"{NOT_CONNECTED} (the login said: {reason})", "post_auth") == expected


def test_a_reason_with_two_readings_alone_gets_none() -> None:
    for reason in ('OK [Error="NoADRecipient"]', "OK [AuthResultFromPopImapEnd=8 Service=Imap4]"):
        assert advice_id(reason, "post_auth") is None


def test_imap_that_is_off_is_switched_on_by_the_command_with_the_mailbox() -> None:
    advice = explain("imap-disabled", mailbox=MAILBOX)
    assert f"Set-CASMailbox -Identity '{MAILBOX}' -ImapEnabled $true" in advice.commands


@pytest.mark.parametrize(
    "message",
    [
        "A1 NO Basic authentication is disabled.",
        "IMAP login failed: A0001 NO Basic authentication is disabled.",
        "b'[AUTHENTICATIONFAILED] AuthFailed:LogonDenied-BasicAuthBlocked-<UserType:OutlookCom> LogonFailed-BasicAuthBlocked'",
        "AuthFailed:LogonDenied-BasicAuthBlocked",
        "A1 NO LOGIN failed.",
    ],
)  # fmt: skip
def test_basic_authentication_is_known_in_each_of_its_wordings(message: str) -> None:
    assert advice_id(message, "authenticate") == advice_id(message) == "basic-auth-disabled"


def test_a_folder_that_is_not_there_is_known_where_a_mailbox_was_to_be_opened() -> None:
    message = "TAG3 NO Rechnungen/2026 doesn't exist."
    assert advice_id(message, "post_auth") == advice_id(message, "runtime") == "folder-not-found"
    assert advice_id(message) is None
    assert advice_id(message, "authenticate") is None


@pytest.mark.parametrize(
    "message",
    [
        "AADSTS700212: No matching federated identity record found for presented assertion audience 'api://x'.",
        "AADSTS70021: No matching federated identity record found for presented assertion.",
    ],
)  # fmt: skip
def test_each_part_of_a_federated_credential_can_differ(message: str) -> None:
    assert advice_id(message) == "federated-credential-mismatch"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("AADSTS50012: Invalid client secret is provided.", "secret-wrong"),
        ("AADSTS50012: Client assertion contains an invalid signature.", "assertion-invalid"),
        ('{"error":"invalid_client","error_codes":[50012]}', "assertion-invalid"),
        ("AADSTS900144: The request body must contain the following parameter: 'scope'.", "scope-not-default"),
        ("AADSTS900144: The request body must contain the following parameter: 'client_id'.", "request-malformed"),
    ],
)  # fmt: skip
def test_a_code_with_two_meanings_is_told_by_its_wording(message: str, expected: str) -> None:
    assert advice_id(message) == expected


@pytest.mark.parametrize(
    "piece",
    ["NO x", "NO ", "BAD Command ", 'Error="', "Server Unavailable. 1", "BAD Command Error. 1",
     "[Error=UserDisable", " doesn't exist", "AADSTS50012", "\\", "&#", "%2", "error_codes 1 ",
     "AUTHENTICATE PLAIN ", "Application ", "220 x ", "IDLE ", "Command received in Invalid state "],
)  # fmt: skip
def test_a_long_text_takes_time_in_proportion_at_the_mailbox_too(piece: str) -> None:
    def seconds(size: int) -> float:
        message = piece * (size // len(piece))
        start = time.thread_time()  # whatever other threads and programs do meanwhile
        advise(message, stage="post_auth")
        return time.thread_time() - start

    seconds(1000)  # patterns are compiled on first use
    assert seconds(100_000) < 10 * seconds(25_000) + 0.5  # were it quadratic: many seconds


# ---- the wrong object ID, the most frequent mistake ------------------------------------------


@pytest.mark.parametrize("given", [{}, {"enterprise_object_id": OBJECT}])
def test_a_refusal_says_to_compare_and_to_remove_before_registering(given: dict[str, str]) -> None:
    known = {"client_id": CLIENT, "mailbox": MAILBOX, "oid": OBJECT, "roles": "IMAP.AccessAsApp"}
    advice = advise(REFUSAL, stage="authenticate", **known, **given)
    assert advice is not None
    assert advice.id == "authenticate-refused"
    assert "App registration" in advice.cause
    assert f"it must be {OBJECT}" in advice.fix
    assert f"address of the mailbox first, {MAILBOX}" in advice.fix
    steps = [command.split(" ")[0] for command in advice.commands]
    assert steps.index("Remove-ServicePrincipal") < steps.index("New-ServicePrincipal")
    assert f"New-ServicePrincipal -AppId '{CLIENT}' -ObjectId '{OBJECT}'" in advice.commands


def test_a_refusal_of_an_opaque_token_says_where_the_right_object_id_stands() -> None:
    advice = advise(REFUSAL, stage="authenticate")
    assert advice is not None
    assert "compare the ObjectId that Get-ServicePrincipal shows" in advice.fix
    assert "Enterprise apps > the application > Overview." in advice.fix


# ---- texts without values --------------------------------------------------------------------

FILLERS = ("another one", "another object", "not known", "the configured one", "None", "<oid>")


@pytest.mark.parametrize("row", TABLE, ids=[row.id for row in TABLE])
def test_a_text_reads_well_without_the_values_that_it_could_show(row: object) -> None:
    advice = explain(row.id)  # type: ignore[attr-defined] # a row
    for text in (advice.cause, advice.fix):
        assert not re.search(r"[\[\]{}]|\s[,.:;)]|  |,,", text), text
        assert not any(filler in text for filler in FILLERS)


def test_brackets_of_a_value_are_text() -> None:
    assert "[x]{oid}" in explain("audience-wrong", aud="[x]{oid}").cause


# ---- other clouds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "option"),
    [
        ({"token_uri": f"{Cloud.CHINA.authority}/{TENANT}"}, " -ExchangeEnvironmentName O365China"),
        ({"host": "outlook.office365.us"}, " -ExchangeEnvironmentName O365USGovGCCHigh"),
        ({"aud": "https://outlook.office365.us"}, " -ExchangeEnvironmentName O365USGovGCCHigh"),
        ({"host": "outlook.office365.com"}, ""),
        ({"host": "127.0.0.1"}, ""),
    ],
)
def test_the_commands_connect_to_the_cloud_of_the_servers(
    known: dict[str, str], option: str
) -> None:
    advice = explain("mailbox-not-connected", tenant_id=TENANT, **known)
    assert advice.commands[0] == f"Connect-ExchangeOnline -Organization '{TENANT}'{option}"


def test_the_scope_and_the_authority_to_write_are_those_of_the_cloud() -> None:
    known = {"token_uri": f"{Cloud.CHINA.authority}/common"}
    assert Cloud.CHINA.scope in explain("scope-not-default", **known).fix
    assert f"{Cloud.CHINA.authority}/<tenant_id>" in explain("token-uri-wrong", **known).fix
    assert Cloud.WORLDWIDE.scope in explain("scope-not-default").fix


# ---- what can pass ---------------------------------------------------------------------------


def test_what_only_a_person_can_change_is_not_retryable() -> None:
    assert {"mailbox-moved", "server-unavailable", "throttled", "session-expired"} <= RETRYABLE
    for_people = {"token-uri-wrong", "imap-disabled", "certificate-untrusted", "secret-expired"}
    assert not for_people & RETRYABLE
