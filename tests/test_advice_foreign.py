# ruff: noqa: E501 - messages are quoted as they come, one a line
"""Messages of other servers and programs, which get no advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.advice import CLIENT, REFUSAL, STAGES, UNREACHABLE, advice_id

if TYPE_CHECKING:
    from exo_imap_oauth.advice import Stage

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


@pytest.mark.parametrize("message", UNREACHABLE)
def test_a_connection_error_without_a_stage_could_be_anybodys(message: str) -> None:
    assert advice_id(message) is None


@pytest.mark.parametrize("stage", ["token", "post_auth", "runtime"])
def test_a_refusal_to_authenticate_belongs_to_its_stage(stage: Stage) -> None:
    assert advice_id(REFUSAL, stage) is None
    assert advice_id("A1 NO LOGIN failed.", stage) is None


def test_dovecots_refusal_is_not_explained_by_the_claims_of_the_token() -> None:
    assert advice_id("a1 NO [AUTHENTICATIONFAILED] Authentication failed.", roles="") is None
