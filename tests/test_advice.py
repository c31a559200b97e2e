# ruff: noqa: E501 - messages are quoted as they come, one a line
"""Advice on real messages: known ones get the right one, foreign ones none."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_imap_oauth._advice_table import PAGES, TABLE
from exo_imap_oauth.advice import ADVICE_IDS, Stage, advise, explain
from exo_imap_oauth.clouds import Cloud

TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT = "22222222-2222-4222-8222-222222222222"
OBJECT = "33333333-3333-4333-8333-333333333333"
OTHER = "44444444-4444-4444-8444-444444444444"
MAILBOX = "inbox@contoso.example"
IDS = {"tenant_id": TENANT, "client_id": CLIENT, "enterprise_object_id": OBJECT}
GOOD_CLAIMS = {"aud": "https://outlook.office365.com", "roles": "IMAP.AccessAsApp", "oid": OBJECT}
REFUSAL = "A1 NO AUTHENTICATE failed."
GRANT = f"Add-MailboxPermission -Identity '{MAILBOX}' -User '{OBJECT}' -AccessRights FullAccess"
STAGES: tuple[Stage | None, ...] = (None, "token", "authenticate", "post_auth", "runtime")
ROOT = Path(__file__).parent
FAILURES = json.loads((ROOT / "data" / "failures.json").read_text("utf-8"))


def advice_id(message: str, stage: Stage | None = None, **known: str) -> str | None:
    advice = advise(message, stage=stage, **known)
    return None if advice is None else advice.id


# ---- real messages ---------------------------------------------------------------------------


@pytest.mark.parametrize("failure", FAILURES, ids=[failure["id"] for failure in FAILURES])
def test_a_message_seen_in_public_gets_its_advice(failure: dict[str, str]) -> None:
    assert advice_id(failure["message"], failure["stage"]) == failure["advice"]  # type: ignore[arg-type]  # from JSON


@pytest.mark.parametrize("failure", FAILURES, ids=[failure["id"] for failure in FAILURES])
def test_a_message_found_in_a_log_needs_no_stage(failure: dict[str, str]) -> None:
    assert advice_id(failure["message"]) == failure["advice"]


class Example(NamedTuple):
    """One message as people meet it, for each id; docs/how-to/troubleshoot.md shows them."""

    id: str
    message: str = ""
    stage: Stage | None = None
    known: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple has no field(); nobody changes it


EXAMPLES = [
    Example(**example)
    for example in json.loads((ROOT / "data" / "advice-examples.json").read_text("utf-8"))
]


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.id for example in EXAMPLES])
def test_the_example_of_each_id_gets_that_id(example: Example) -> None:
    if example.message:
        assert advice_id(example.message, example.stage, **example.known) == example.id


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.id for example in EXAMPLES])
def test_the_wording_is_enough_where_the_code_got_lost(example: Example) -> None:
    wording = re.sub(r"^AADSTS\d+: ", "", example.message)
    without = {"application-disabled", "clock-skew", "token-uri-wrong"}
    expected = None if example.id in without else example.id
    assert advice_id(wording, example.stage, **example.known) == expected


WORDINGS = [
    # From Microsoft's reference of error codes and from public issues.
    ("secret-wrong", "AADSTS70002: Error validating credentials. AADSTS50012: Invalid client secret is provided."),
    ("secret-wrong", "invalid_client: 7000215 - [2023-05-06 06:03:00Z]: AADSTS7000215: Invalid client secret is provided."),
    ("secret-wrong", "{'error': 'invalid_client', 'error_codes': [7000215], 'error_description': '…'}"),
    ("secret-wrong", r'"{\"error\":\"invalid_client\",\"error_codes\":[7000215]}"'),
    ("secret-wrong", '{"error": "invalid_client", "error_codes": [ 7000215 ]}'),
    ("secret-wrong", '{"error_codes": [50000,\n      7000215\n    ]}'),
    ("secret-wrong", "Invalid client secret provided. Ensure the secret being sent is the value"),
    ("secret-wrong", r"ERROR token: b'\r\nAADSTS7000215: Invalid client secret provided.'"),
    ("secret-expired", "AADSTS7000222: InvalidClientSecretExpiredKeysProvided - The provided client secret keys are expired."),
    ("credential-missing", "AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'."),
    ("certificate-not-registered", "AADSTS700027: Client assertion failed signature validation."),
    ("certificate-not-registered", "AADSTS700027: Client assertion contains an invalid signature. [Reason - The key was not found.]"),
    ("application-not-found", "AADSTS70001: Application with identifier 'x' was not found in the directory y"),
    ("application-not-found", "AADSTS700011: UnauthorizedClientAppNotFoundInOrgIdTenant - Application with identifier {appIdentifier} was not found in the directory."),
    ("application-disabled", "AADSTS70001: UnauthorizedClient - The application is disabled."),
    ("tenant-not-found", "AADSTS90002: InvalidTenantName - The tenant name wasn't found in the data store."),
    ("tenant-not-found", "AADSTS90002: Tenant 'x' not found. This may happen if there are no active subscriptions for the tenant."),
    ("tenant-malformed", "AADSTS900021: Requested tenant identifier '00000000-0000-0000-0000-000000000000' is not valid. Tenant identifiers may not be an empty GUID."),
    ("tenant-not-specific", "AADSTS50059: No tenant-identifying information found in either the request or implied by any provided credentials."),
    ("tenant-not-specific", "AADSTS50194: Application 'x'(y) isn't configured as a multitenant application. Usage of the /common endpoint isn't supported for such applications"),
    ("tenant-not-specific", "AADSTS90130: NonConvergedAppV2GlobalEndpointNotSupported - The application isn't supported over the /common or /consumers endpoints."),
    ("wrong-cloud", "AADSTS900439 - USGClientNotSupportedOnPublicEndpoint"),
    ("wrong-cloud", "AADSTS900382: Confidential Client isn't supported in Cross Cloud request."),
    ("scope-not-default", "AADSTS70011: The provided value for the input parameter 'scope' is not valid. The scope https://foo.microsoft.com/mail.read is not valid."),
    ("scope-not-default", "AADSTS28002: Provided value for the input parameter scope '{scope}' isn't valid when requesting an access token."),
    ("scope-not-default", "AADSTS900144: The request body must contain the following parameter: 'scope'."),
    ("scope-not-default", '{"error":"invalid_scope","error_codes":[70011]}'),
    ("scope-several-resources", "AADSTS70011: The provided value for the input parameter 'scope' is not valid because it contains more than one resource."),
    ("scope-several-resources", "AADSTS700022: InvalidMultipleResourcesScope - The provided value for the input parameter scope isn't valid because it contains more than one resource."),
    ("resource-not-found", "AADSTS500014: The service principal for resource 'https://outlook.office365.com' is disabled."),
    ("resource-not-found", "AADSTS650052: The app needs access to a service that your organization hasn't subscribed to or enabled."),
    ("permission-missing", "AADSTS65001: The user or administrator has not consented to use the application with ID 'x' named 'y'."),
    ("permission-missing", "AADSTS650056: Misconfigured application."),
    ("conditional-access", "AADSTS530032: BlockedByConditionalAccessOnSecurityPolicy"),
    ("user-flow", "AADSTS50076: Due to a configuration change made by your administrator"),
    ("user-flow", "AADSTS700082: The refresh token has expired due to inactivity."),
    ("entra-unavailable", "AADSTS90006: ExternalServerRetryableError - The service is temporarily unavailable."),
    ("entra-unavailable", "AADSTS90024: RequestBudgetExceededError - A transient error has occurred. Try again."),
    ("authenticate-refused", "imaplib.IMAP4.error: AUTHENTICATE failed."),
    ("authenticate-refused", "IMAP4.error(b'AUTHENTICATE failed.')"),
    ("authenticate-refused", "2024-01-05 09:12:44 < A00000001 NO AUTHENTICATE failed.\r\n* BYE Connection closed. 14"),
    ("basic-auth-disabled", "imaplib.IMAP4.error: b'LOGIN failed.'"),
    ("mailbox-not-connected", "SELECT command error: BAD [b'User is authenticated but not connected.']"),
    ("mailbox-not-connected", "command: STATUS => User is authenticated but not connected."),
    ("session-expired", "command: LIST => Session invalidated - AccessTokenExpired"),
    ("throttled", "APPEND => socket error: BAD Request is throttled. Suggested Backoff Time: 1203 milliseconds\r\n* BYE Connection closed. 14"),
    ("connection-closed", "imaplib.abort: command: SELECT => Connection closed. 14"),
    ("certificate-untrusted", "HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1016)')))"),
    ("certificate-untrusted", "Hostname mismatch, certificate is not valid for 'outlook.office365.com'."),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "message"), WORDINGS)
def test_other_wordings_of_the_same_failure_get_the_same_advice(
    expected: str, message: str
) -> None:
    assert advice_id(message) == expected


UNREACHABLE = [
    "[Errno 111] Connection refused",
    "[WinError 10061] No connection could be made because the target machine actively refused it",
    "[Errno -2] Name or service not known",
    "[Errno -3] Temporary failure in name resolution",
    "[Errno 8] nodename nor servname provided, or not known",
    "[Errno 11001] getaddrinfo failed",
    "[Errno 101] Network is unreachable",
    "[Errno 113] No route to host",
    "timed out",
    "TimeoutError: timed out",
    "[Errno 110] Connection timed out",
    "The handshake operation timed out",
    "HTTPSConnectionPool(host='x', port=443): Read timed out. (read timeout=10)",
    "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
    "[Errno 104] Connection reset by peer",
    "Failed to resolve 'login.example' (NameResolutionError)",
    "Unable to connect to proxy",
]


@pytest.mark.parametrize("message", UNREACHABLE)
def test_a_connection_error_means_the_server_of_its_stage(message: str) -> None:
    assert advice_id(message, "token") == "token-endpoint-unreachable"
    assert advice_id(message, "authenticate") == "imap-unreachable"


@pytest.mark.parametrize("message", UNREACHABLE)
def test_a_connection_error_without_a_stage_could_be_anybodys(message: str) -> None:
    assert advice_id(message) is None


def test_an_end_of_file_closes_the_connection_where_imap_is_under_way() -> None:
    message = "command: SELECT => socket error: EOF"
    assert advice_id(message, "runtime") == "connection-closed"
    assert advice_id(message) is None


def test_words_that_other_servers_use_too_count_where_exchange_was_asked_to_authenticate() -> None:
    assert advice_id("A1 NO LOGIN failed", "authenticate") == "basic-auth-disabled"
    assert advice_id("A1 NO AUTHENTICATE failed", "authenticate") == "authenticate-refused"


# ---- foreign messages ------------------------------------------------------------------------

FOREIGN = [
    # other servers
    "a1 NO [AUTHENTICATIONFAILED] Authentication failed.",
    "a1 NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)",
    "a1 NO [ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
    "a1 NO [WEBALERT https://accounts.google.com/signin/continue] Web login required.",
    "a1 NO [ALERT] Please log in via your web browser: https://support.google.com/mail/accounts/answer/78754 (Failure)",
    '{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}',
    '{"status":"401","schemes":"bearer","scope":"mail"}',
    "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=",
    "a1 BAD Too many simultaneous connections. (Failure)",
    "a1 NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)",
    "a1 NO [UNAVAILABLE] Internal error occurred. Refer to server log for more information.",
    "* BYE Disconnected for inactivity.",
    "* BYE Logging out",
    "* BYE Autologout; idle for too long",
    "a1 NO Login failed: authentication failure",
    "a1 NO Login failed.",
    "a1 NO authentication failure",
    "a1 NO Authentication failed.",
    "a1 NO [AUTHENTICATIONFAILED] (#AUTH012) Incorrect username or password.",
    "a1 NO [AUTHENTICATIONFAILED] AUTHENTICATE Invalid credentials",
    "a1 NO [AUTHENTICATIONFAILED] AUTHENTICATE failed.",
    "a1 NO [UNAVAILABLE] LOGIN failure. Server error - Please try again later.",
    "a1 NO Invalid user name or password.",
    "a1 NO LOGIN rejected",
    "a1 BAD Error in IMAP command received by server.",
    "a1 NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.",
    "a1 BAD Command received in AUTHENTICATED state.",
    "a1 NO Mailbox does not exist",
    "a1 NO [NONEXISTENT] Unknown Mailbox: Foo (Failure)",
    # Exchange, but something else
    "17 BAD Command Argument Error. 11",
    "a1 NO The specified message set is invalid.",
    "a1 NO SELECT failed.",
    "a1 NO Mailbox doesn't exist: Archive",
    "a1 OK AUTHENTICATE completed.",
    "a1 BAD The requested item could not be found.",
    "535 5.7.3 Authentication unsuccessful [SN2PR00CA0018.namprd00.prod.outlook.com]",
    "-ERR Logon failure: unknown user name or bad password.",
    # other token endpoints, other codes
    '{"error":"invalid_client","error_description":"The OAuth client was not found."}',
    '{"error":"invalid_grant","error_description":"Token has been expired or revoked."}',
    '{"error":"unauthorized_client","error_description":"Invalid client secret"}',
    '{"error":"temporarily_unavailable"}',
    '{"success":false,"errors":[{"code":7000215,"message":"Invalid access token"}]}',
    '{"error-codes":["invalid-input-secret"],"codes":[700016]}',
    '{"error_codes":[81053,9109]}',
    "Build 7000215 failed",
    "error 90002 at line 700016",
    "https://login.microsoftonline.com/error?code=7000215",
    "AADSTS70000215: one digit too many",
    "AADSTS700011112",
    "XAADSTS7000215",
    "AADSTS7000215x",
    "AADB2C90118: The user has forgotten their password.",
    # near misses
    "The tenant was not found.",
    "Tenant 'acme' not found in the database",
    "The application is disabled.",
    "Request is throttled by the gateway.",
    "Connection closed.",
    "Connection closed. 3 retries left",
    "Connection closed. 1404",
    "Your LOGIN failed. Try again",
    "User is authenticated",
    "user is authenticated but not connected to the VPN",
    "Session invalidated - user logged in from another browser",
    "Too many connections. Suggested Backoff Time: 10 milliseconds",
    "",
    "\x00",
]  # fmt: skip
ONLY_WITHOUT_A_STAGE = ["a1 NO LOGIN failed", "a1 NO AUTHENTICATE failed"]  # Zimbra's


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("message", [pytest.param(m, id=m[:60]) for m in FOREIGN])
def test_a_foreign_message_gets_no_advice(message: str, stage: Stage | None) -> None:
    assert advice_id(message, stage, client_id=CLIENT) is None


@pytest.mark.parametrize("message", ONLY_WITHOUT_A_STAGE)
def test_zimbra_is_not_taken_for_exchange(message: str) -> None:
    assert advice_id(message) is None


@pytest.mark.parametrize("stage", ["token", "post_auth", "runtime"])
def test_a_refusal_to_authenticate_belongs_to_its_stage(stage: Stage) -> None:
    assert advice_id(REFUSAL, stage) is None
    assert advice_id("A1 NO LOGIN failed.", stage) is None


def test_dovecots_refusal_is_not_explained_by_the_claims_of_the_token() -> None:
    assert advice_id("a1 NO [AUTHENTICATIONFAILED] Authentication failed.", roles="") is None


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
    assert seconds(250_000) < 10 * seconds(62_500) + 0.5  # were it quadratic: many seconds


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
        "https://outlook-dod.office365.us",
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


@pytest.mark.parametrize("advice_id", ADVICE_IDS)
def test_every_advice_is_complete_even_if_nothing_is_known(advice_id: str) -> None:
    advice = explain(advice_id)
    assert advice.id == advice_id
    assert advice.cause.endswith(".")
    assert len(advice.fix) > 20
    assert not re.search(r"[{}]", advice.cause + advice.fix + "".join(advice.commands))
    assert advice.url.startswith("https://")


PORTAL = {
    "secret-wrong": "Credentials",
    "secret-expired": "Credentials",
    "certificate-not-registered": "Credentials",
    "application-not-found": "Overview",
    "enterprise-application-missing": "CallAnAPI",
    "application-disabled": "Properties",
    "tenant-not-found": "Overview",
    "tenant-malformed": "Overview",
    "permission-missing": "CallAnAPI",
    "role-missing": "CallAnAPI",
    "object-id-mismatch": "Properties",
}


@pytest.mark.parametrize(("advice_id", "blade"), PORTAL.items())
def test_what_is_mended_in_the_portal_links_to_its_page(advice_id: str, blade: str) -> None:
    assert "Entra admin center > Entra ID >" in explain(advice_id).fix
    assert "https://" not in explain(advice_id, client_id="<client_id>").fix
    china = f"{Cloud.CHINA.authority}/{TENANT}"
    assert "https://" not in explain(advice_id, **IDS, token_uri=china).fix
    fix = explain(advice_id, **IDS).fix
    assert re.search(rf"Page: https://entra\.microsoft\.com/#view/\S+/~/{blade}/\S*{CLIENT}$", fix)


def test_every_page_is_linked_from_somewhere() -> None:
    assert {row.page for row in TABLE} == {"", *PAGES}


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


def test_ids_are_unique_and_complete() -> None:
    assert len(set(ADVICE_IDS)) == len(ADVICE_IDS) == 43
    assert {example.id for example in EXAMPLES} == set(ADVICE_IDS)
    codes = [code for row in TABLE for code in row.codes.split()]
    assert len(set(codes)) == len(codes)
