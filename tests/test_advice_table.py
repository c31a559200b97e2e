# ruff: noqa: E501 - messages are quoted as they come, one a line
"""The table of advice on real messages: each gets the right row, and each row is complete."""

from __future__ import annotations

import re

import pytest
from support.advice import (
    CLIENT,
    EXAMPLES,
    FAILURES,
    IDS,
    TENANT,
    UNREACHABLE,
    Example,
    advice_id,
)

from exo_imap_oauth._advice_table import PAGES, TABLE
from exo_imap_oauth.advice import ADVICE_IDS, explain
from exo_imap_oauth.clouds import Cloud

# ---- messages as people met them -------------------------------------------------------------


@pytest.mark.parametrize("failure", FAILURES, ids=[failure["id"] for failure in FAILURES])
def test_a_message_seen_in_public_gets_its_advice(failure: dict[str, str]) -> None:
    assert advice_id(failure["message"], failure["stage"]) == failure["advice"]  # type: ignore[arg-type]  # from JSON


@pytest.mark.parametrize("failure", FAILURES, ids=[failure["id"] for failure in FAILURES])
def test_a_message_found_in_a_log_needs_no_stage(failure: dict[str, str]) -> None:
    assert advice_id(failure["message"]) == failure["advice"]


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


@pytest.mark.parametrize("message", UNREACHABLE)
def test_a_connection_error_means_the_server_of_its_stage(message: str) -> None:
    assert advice_id(message, "token") == "token-endpoint-unreachable"
    assert advice_id(message, "authenticate") == "imap-unreachable"


def test_an_end_of_file_closes_the_connection_where_imap_is_under_way() -> None:
    message = "command: SELECT => socket error: EOF"
    assert advice_id(message, "runtime") == "connection-closed"
    assert advice_id(message) is None


def test_words_that_other_servers_use_too_count_where_exchange_was_asked_to_authenticate() -> None:
    assert advice_id("A1 NO LOGIN failed", "authenticate") == "basic-auth-disabled"
    assert advice_id("A1 NO AUTHENTICATE failed", "authenticate") == "authenticate-refused"


# ---- the rows --------------------------------------------------------------------------------


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
    assert explain(advice_id, **IDS, token_uri=china).fix.endswith(
        " Portal: https://portal.azure.cn"
    )
    fix = explain(advice_id, **IDS).fix
    assert re.search(rf"Page: https://entra\.microsoft\.com/#view/\S+/~/{blade}/\S*{CLIENT}$", fix)


def test_every_page_is_linked_from_somewhere() -> None:
    assert {row.page for row in TABLE} == {"", *PAGES}


def test_ids_are_unique_and_complete() -> None:
    assert len(set(ADVICE_IDS)) == len(ADVICE_IDS) == 49
    assert {example.id for example in EXAMPLES} == set(ADVICE_IDS)
    codes = [code for row in TABLE for code in f"{row.codes} {row.open_codes}".split()]
    assert len(set(codes)) == len(codes)
