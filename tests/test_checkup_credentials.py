"""check_setup with any credential, certificates that end, several clouds, and odd characters."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from support.checkup import (
    CHECK_IDS,
    NOBODY,
    USER,
    check,
    everything,
    failures,
    inbox_for,
    inbox_of,
    statuses,
)
from typing_extensions import override

from exo_imap_oauth import _token_checks as checks
from exo_imap_oauth.checkup import check_setup
from exo_imap_oauth.clouds import Cloud, cloud_of_host, clouds_of
from exo_imap_oauth.credentials import ClientSecret
from exo_imap_oauth.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exo_imap_oauth.access_token import AccessToken
    from exo_imap_oauth.testing import ReadyExchange

NOT_TOLD = {"token-endpoint", "object-id"}


@dataclass
class Issued:
    """What azure-core's AccessToken is by shape; older ones of others lack ``expires_on``."""

    token: str
    expires_on: int = 0


class Credential:
    """A credential by its shape alone: a managed identity, say."""

    def __init__(self, issue: Callable[[], Any]) -> None:
        self._issue = issue
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_: object) -> Any:
        self.scopes += scopes
        return self._issue()


class AioCredential:
    """As those of azure.identity.aio are."""

    async def get_token(self, *_: str) -> Issued:
        return Issued("never")


class ClientAuthenticationError(Exception):
    """As azure-core's is called."""


def own_token(exchange: ReadyExchange) -> AccessToken:
    return inbox_of(exchange).token_source(ssl_context=exchange.ssl_context).get_token()


# ---- credentials of other libraries ----------------------------------------------------------


def test_a_credential_by_its_shape_gets_thirteen_checks(exchange: ReadyExchange) -> None:
    token = own_token(exchange)
    credential = Credential(lambda: Issued(token.token, token.expires_on))
    report = check_setup(
        inbox_of(exchange), token_source=credential, ssl_context=exchange.ssl_context
    )
    assert [each.id for each in report.checks] == CHECK_IDS
    assert report.ok, str(report)
    skipped = {id_ for id_, status in statuses(report).items() if status == "skipped"}
    assert skipped == NOT_TOLD
    assert check(report, "token-endpoint").detail == "Credential does not tell its endpoint"
    assert credential.scopes == [inbox_of(exchange).scope]
    assert token.token not in everything(report)


def test_commands_hold_the_ids_of_the_credentials_own_application(
    exchange: ReadyExchange,
) -> None:
    app = exchange.register_app("unknown to Exchange")
    exchange.add_permission(app, "IMAP.AccessAsApp")
    exchange.grant_admin_consent(app)
    secret = exchange.add_client_secret(app)
    source = inbox_for(exchange, secret).token_source(ssl_context=exchange.ssl_context)
    report = check_setup(
        inbox_of(exchange),
        token_source=Credential(source.get_token),
        ssl_context=exchange.ssl_context,
    )
    advice = check(report, "authenticate").advice
    assert advice
    expected = (
        f"New-ServicePrincipal -AppId '{app.client_id}' -ObjectId '{app.enterprise_object_id}'"
    )
    assert expected in advice.commands


def test_a_secret_that_is_an_id_is_said_to_be_one(exchange: ReadyExchange) -> None:
    inbox = inbox_of(exchange, client_secret=NOBODY)
    report = check_setup(inbox, ssl_context=exchange.ssl_context)
    advice = check(report, "token").advice
    assert advice
    assert "has the form of an ID" in advice.cause


def test_azures_own_credential_gets_thirteen_checks(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    identity = pytest.importorskip("azure.identity")
    ca = str(exchange.write_ca(tmp_path / "ca.pem"))
    options = {"authority": exchange.authority, "disable_instance_discovery": True}
    app, secret = exchange.app, exchange.secret
    for value, failed in ((secret.value, []), ("wrong-secret-of-some-length", ["token"])):
        with identity.ClientSecretCredential(
            app.tenant_id, app.client_id, value, connection_verify=ca, **options
        ) as credential:
            report = check_setup(
                inbox_of(exchange), token_source=credential, ssl_context=exchange.ssl_context
            )
        assert len(report.checks) == 13
        assert failures(report) == failed, str(report)
        assert value not in everything(report)
        assert "AttributeError" not in everything(report)
    refused = check(report, "token")
    assert refused.detail.startswith("ClientAuthenticationError: ")
    assert refused.advice
    assert refused.advice.id == "secret-wrong"


def test_an_opaque_token_of_unknown_life_is_tried_and_nothing_is_claimed_of_it(
    exchange: ReadyExchange,
) -> None:
    credential = Credential(lambda: Issued("opaque"))
    report = check_setup(
        inbox_of(exchange), token_source=credential, ssl_context=exchange.ssl_context
    )
    assert failures(report) == ["authenticate"]
    assert check(report, "lifetime").status == "skipped"
    assert "does not tell how long it lives" in check(report, "lifetime").detail


def test_the_error_of_a_credential_keeps_its_name_and_gets_the_advice_of_its_text(
    exchange: ReadyExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    jwt = "eyJhbGciOiJSUzI1NiJ9." + "QWxsIHRoaXMgaXMgc2VjcmV0" * 9

    def refuse() -> Issued:
        text = f"Authentication failed: AADSTS700016: Application not found\u202e\x1b {jwt}"
        raise ClientAuthenticationError(text)

    report = check_setup(
        inbox_of(exchange), token_source=Credential(refuse), ssl_context=exchange.ssl_context
    )
    found = check(report, "token")
    assert found.detail.startswith("ClientAuthenticationError: Authentication failed: AADSTS700016")
    assert found.advice
    assert found.advice.id == "application-not-found"
    for text in (everything(report), caplog.text):
        assert jwt not in text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_the_problems_of_a_configuration_stand_in_the_report(exchange: ReadyExchange) -> None:
    def refuse() -> Issued:
        problem = ConfigProblem("client_id", "environment", 0, "is not a GUID.", "Copy it again.")
        raise ConfigError("one problem", problems=[problem])

    report = check_setup(
        inbox_of(exchange), token_source=Credential(refuse), ssl_context=exchange.ssl_context
    )
    expected = "one problem environment: client_id: is not a GUID. Copy it again."
    assert check(report, "token").detail == expected


def test_an_error_without_a_text_is_a_finding_too(exchange: ReadyExchange) -> None:
    class WordlessError(Exception):
        @override
        def __str__(self) -> str:
            raise RuntimeError

    def refuse() -> Issued:
        raise WordlessError

    report = check_setup(
        inbox_of(exchange), token_source=Credential(refuse), ssl_context=exchange.ssl_context
    )
    assert check(report, "token").detail.startswith("WordlessError:")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (AioCredential(), "AioCredential is an asynchronous credential"),
        ("a token", "a credential or a function that returns a token, not str"),
        (AioCredential, "AioCredential itself"),
    ],
)
def test_what_cannot_give_a_token_is_told_at_the_first_check(
    exchange: ReadyExchange, source: Any, expected: str
) -> None:
    report = check_setup(inbox_of(exchange), token_source=source, ssl_context=exchange.ssl_context)
    assert failures(report) == ["config"]
    assert expected in check(report, "config").detail


def test_a_credential_that_gives_an_awaitable_is_told_when_it_does(
    exchange: ReadyExchange,
) -> None:
    credential = Credential(AioCredential().get_token)
    report = check_setup(
        inbox_of(exchange), token_source=credential, ssl_context=exchange.ssl_context
    )
    assert failures(report) == ["token"]
    assert "Credential is an asynchronous credential" in check(report, "token").detail


def test_a_credential_without_a_text_in_its_token_is_told(exchange: ReadyExchange) -> None:
    report = check_setup(
        inbox_of(exchange),
        token_source=Credential(lambda: {"access_token": "x"}),
        ssl_context=exchange.ssl_context,
    )
    assert "get_token() gave no token with a text, but dict" in check(report, "token").detail


def test_the_secret_of_another_source_is_hidden_too(
    exchange: ReadyExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = exchange.register_app("other")
    secret = exchange.add_client_secret(app)
    source = inbox_for(exchange, secret).token_source(ssl_context=exchange.ssl_context)
    inbox = inbox_of(exchange, host=f"{secret.value}.example", tls="none", client_secret="")
    report = check_setup(inbox, token_source=source, ssl_context=exchange.ssl_context)
    assert "(hidden)" in check(report, "config").detail
    assert secret.value not in everything(report)
    assert secret.value not in caplog.text


# ---- odd characters --------------------------------------------------------------------------


def test_names_from_outside_are_printable_in_report_and_log(
    exchange: ReadyExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    inbox = inbox_of(exchange, user="in\u202ebox\u200b@contoso.example", name="de\u2066fault")
    report = check_setup(inbox, ssl_context=exchange.ssl_context)
    for text in (everything(report), caplog.text):
        assert not {"\u202e", "\u200b", "\u2066"} & set(text)
    assert r"in\u202ebox" in str(report)


# ---- certificates ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "expected"),
    [(12.5, "ends in 12 days"), (-3, "ended on "), (31, None)],
)
def test_a_certificate_that_ends_within_thirty_days_is_a_warning(
    days: float, expected: str | None
) -> None:
    finding = checks.certificate(time.time() + days * 86_400)
    if expected is None:
        assert finding is None
        return
    assert finding
    assert finding.status == "warning"
    assert expected in finding.detail
    assert "Certificates & secrets" in finding.detail
    assert checks.certificate(None) is None


def test_the_certificate_of_a_source_is_looked_at(exchange: ReadyExchange) -> None:
    class Ending(ClientSecret):
        expires_on = time.time() + 5.2 * 86_400

    source = inbox_of(exchange).token_source(ssl_context=exchange.ssl_context)
    source._request = replace(source._request, credential=Ending(exchange.secret.value))
    report = check_setup(inbox_of(exchange), token_source=source, ssl_context=exchange.ssl_context)
    assert report.ok
    assert check(report, "config").status == "warning"
    assert "the client certificate ends in 5 days" in check(report, "config").detail


# ---- clouds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", Cloud)
def test_the_hosts_of_a_cloud_are_known_to_be_its(cloud: Cloud) -> None:
    assert cloud_of_host(cloud.imap_host.upper()) is cloud
    assert cloud in clouds_of(cloud.authority)


@pytest.mark.parametrize(
    "host", ["localhost", "outlook.example.cn", "login-us.microsoftonline.com", ""]
)
def test_of_other_hosts_no_cloud_is_known(host: str) -> None:
    assert cloud_of_host(host) is None


def test_an_imap_host_of_another_cloud_fails_the_configuration_and_sends_nothing(
    exchange: ReadyExchange,
) -> None:
    uri = f"https://login.microsoftonline.com/{NOBODY}/oauth2/v2.0/token"
    inbox = inbox_of(exchange, token_uri=uri, host=Cloud.CHINA.imap_host, tls="none")
    report = check_setup(inbox, ssl_context=exchange.ssl_context)
    found = check(report, "config")
    assert report.first_failure == found
    assert found.detail == "token_uri is of the cloud WORLDWIDE, host of CHINA"
    assert found.advice
    assert found.advice.id == "wrong-cloud"
    assert check(report, "token").status == "skipped"


def test_a_scope_of_another_cloud_fails_the_audience_and_is_tried_all_the_same(
    exchange: ReadyExchange,
) -> None:
    """A credential of others has no token URI to compare the scope with."""
    token = own_token(exchange)
    inbox = inbox_of(exchange, token_uri=None, host=Cloud.CHINA.imap_host, tls="none")
    report = check_setup(
        inbox, token_source=lambda: token, ssl_context=exchange.ssl_context, timeout=5
    )
    found = check(report, "audience")
    assert report.first_failure == found
    assert found.detail == "scope is of the cloud WORLDWIDE, host of CHINA"
    assert found.advice
    assert found.advice.id == "wrong-cloud"
    assert check(report, "role").status == "skipped"


@pytest.mark.parametrize(
    ("token_uri", "scope", "names"),
    [
        (f"{Cloud.CHINA.authority}/x", Cloud.CHINA.scope, None),
        (f"{Cloud.CHINA.authority}/x", Cloud.WORLDWIDE.scope, "token_uri is of the cloud CHINA"),
        (None, Cloud.WORLDWIDE.scope, "scope is of the cloud WORLDWIDE"),
        (None, "api://something/.default", None),
        ("https://[x/", Cloud.CHINA.scope, None),
    ],
)
def test_addresses_of_two_clouds_are_named(
    token_uri: str | None, scope: str, names: str | None
) -> None:
    found = checks.two_clouds(token_uri=token_uri, scope=scope, host=Cloud.CHINA.imap_host)
    if names is None:
        assert found is None
        return
    assert found
    assert found.status == "failed"
    assert found.detail.startswith(names)
    assert found.advice
    assert found.advice.id == "wrong-cloud"


def test_a_scope_of_another_cloud_than_the_token_uri_fails_the_audience() -> None:
    issued = checks.Issued(
        claims={"aud": "x"},
        telling={"aud": "https://partner.outlook.cn"},
        known={},
        token_uri=f"{Cloud.CHINA.authority}/x",
        scope=Cloud.WORLDWIDE.scope,
    )
    assert checks.audience(issued).status == "failed"
    assert checks.audience(replace(issued, scope=Cloud.CHINA.scope)).status == "passed"


@pytest.mark.parametrize("check", [checks.tenant, checks.application])
def test_what_the_configuration_does_not_say_is_not_compared(
    check: Callable[[checks.Issued], checks.Finding],
) -> None:
    claims = {"tid": NOBODY, "appid": NOBODY}
    assert check(checks.Issued(claims=claims, telling={}, known={})).status == "skipped"


# ---- roles and object IDs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "status"),
    [
        ("IMAP.AccessAsApp", "passed"),
        ("IMAP.AccessAsApp SMTP.SendAsApp POP.AccessAsApp", "passed"),
        ("IMAP.AccessAsApp full_access_as_app", "warning"),
        ("SMTP.SendAsApp", "failed"),
        ("", "failed"),
    ],
)
def test_roles_for_mail_are_fine_beside_that_of_imap(roles: str, status: str) -> None:
    issued = checks.Issued(claims={"roles": roles.split()}, telling={"roles": roles}, known={})
    found = checks.role(issued)
    assert found.status == status
    assert ("remove full_access_as_app" in found.detail) is (status == "warning")


def test_the_right_object_id_does_not_hide_that_exchange_may_have_been_told_another(
    exchange: ReadyExchange,
) -> None:
    app = exchange.register_app("told wrong")
    exchange.add_permission(app, "IMAP.AccessAsApp")
    exchange.grant_admin_consent(app)
    secret = exchange.add_client_secret(app)
    exchange.new_service_principal(app.client_id, app.app_object_id)
    report = check_setup(
        inbox_for(exchange, secret, user=USER),
        enterprise_object_id=app.enterprise_object_id,
        ssl_context=exchange.ssl_context,
    )
    assert failures(report) == ["authenticate"]
    assert "Get-ServicePrincipal must show the same ObjectId" in check(report, "object-id").detail
    advice = check(report, "authenticate").advice
    assert advice
    assert f"it must be {app.enterprise_object_id}" in advice.fix
    assert any(command.startswith("Remove-ServicePrincipal") for command in advice.commands)
