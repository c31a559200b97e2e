"""Each mistake of an administrator: the text alone names the command or the field that fixes it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.checkup import USER, Setup, inbox_for, set_up

from exo_imap_oauth.checkup import check_setup
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.errors import ConfigError, ExoImapOAuthError
from exo_imap_oauth.testing import LoopbackExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from exo_imap_oauth.inbox import InboxConfig


def as_it_is(done: Setup) -> InboxConfig:
    return done.inbox


class Case(NamedTuple):
    """A mistake, and what must stand in every text about it.

    ``{client}``, ``{object}``, ``{wrong}`` and ``{user}`` are the values of the set-up.
    """

    name: str
    mistakes: str  # those of support.checkup, separated by commas
    must_say: tuple[str, ...]
    change: Callable[[Setup], InboxConfig] = as_it_is


def changed(**fields: str) -> Callable[[Setup], InboxConfig]:
    return lambda done: replace(done.inbox, **fields)  # type: ignore[arg-type] # one is a Literal


def of_no_tenant(done: Setup) -> InboxConfig:
    return replace(done.inbox, token_uri=done.exchange.token_uri("common"))


COMPARE = (
    "Check the address of the mailbox first, {user}",
    "Get-ServicePrincipal -Identity '{client}'",
    "it must be {object}",
    "Remove-ServicePrincipal -Identity '{client}'",
    "New-ServicePrincipal -AppId '{client}' -ObjectId '{object}'",
)
NEW_SECRET = ("Certificates & secrets > New client secret", "Value")
CONSENT = ("IMAP.AccessAsApp", "Grant admin consent")
GRANT = ("Add-MailboxPermission -Identity '{user}' -User '{object}' -AccessRights FullAccess",)
IMAP_ON = ("Set-CASMailbox -Identity '{user}' -ImapEnabled $true",)

CASES = [
    Case("no permission", "permission", CONSENT),
    Case("no consent", "consent", CONSENT),
    Case("a wrong secret", "secret", NEW_SECRET),
    Case("the Secret ID", "value of the secret", ("Secret ID was copied", *NEW_SECRET)),
    Case("an expired secret", "unexpired secret", ("past the end date", *NEW_SECRET)),
    Case("another tenant", "tenant", ("Directory (tenant) ID", "App registrations")),
    Case("another client ID", "client", ("Application (client) ID", "App registrations")),
    Case("no service principal", "service principal", COMPARE),
    Case("the wrong object ID, not told to the check-up",
         "right object id, no object id given", COMPARE),
    Case("a misspelt mailbox", "mailbox name", ("Check the address of the mailbox first",)),
    Case("no mailbox permission", "mailbox permission", (*GRANT, *IMAP_ON)),
    Case("permission on another mailbox", "permission on this mailbox", (*GRANT, *IMAP_ON)),
    Case("IMAP switched off", "imap", IMAP_ON),
    Case("the scope of Graph", "exchange scope", (Cloud.WORLDWIDE.scope,)),
    Case("a scope without .default", "", (Cloud.WORLDWIDE.scope,),
         changed(scope="https://outlook.office365.com/IMAP.AccessAsApp")),
    Case("port 443 closed", "token endpoint", ("Allow outgoing HTTPS (port 443)", "HTTPS_PROXY")),
    Case("port 993 closed", "imap port", ("Allow outgoing TCP", "openssl s_client -connect")),
    Case("a certificate of another authority", "certificate", ("SSL_CERT_FILE", "openssl")),
    Case("the same at the token endpoint", "endpoint certificate", ("SSL_CERT_FILE",)),
    Case("no TLS", "tls", ('tls="implicit"', "ssl = true")),
    Case("no tenant in the token URI", "", ("Directory (tenant) ID",),
         of_no_tenant),
]  # fmt: skip


@contextlib.contextmanager
def broken(case: Case) -> Generator[Setup]:
    with LoopbackExchange() as exchange, contextlib.ExitStack() as stack:
        done = set_up(exchange, stack, set(filter(None, case.mistakes.split(", "))))
        yield done


def assert_says(text: str, case: Case, done: Setup) -> None:
    # The report breaks its lines, but neither commands nor what has to be copied.
    text = " ".join(text.split())
    for template in case.must_say:
        expected = template.format(
            user=done.inbox.user, client=done.app.client_id, object=done.app.enterprise_object_id
        )
        assert expected in text, text
    assert done.secret.value not in text


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_error_and_report_name_what_fixes_it(case: Case) -> None:
    with broken(case) as done:
        with pytest.raises(ExoImapOAuthError) as raised:
            inbox = case.change(done)
            # Where nobody listens, all tries fail in the same way: one is enough.
            deadline = 0.5 if "token endpoint" in case.mistakes else 30
            source = inbox.token_source(ssl_context=done.ssl_context, deadline=deadline)
            with inbox.open(token=source, ssl_context=done.ssl_context, timeout=10):
                pass
        assert_says(str(raised.value), case, done)
        if not isinstance(raised.value, ConfigError):  # there is an inbox to look at
            report = check_setup(
                case.change(done),
                enterprise_object_id=done.object_id,
                ssl_context=done.ssl_context,
                timeout=10,
            )
            assert not report.ok
            assert_says(str(report), case, done)


def test_the_wrong_object_id_that_was_told_is_removed_by_name() -> None:
    with broken(Case("", "right object id", ())) as done:
        report = check_setup(
            done.inbox, enterprise_object_id=done.object_id, ssl_context=done.ssl_context
        )
        case = Case("", "", (
            f"Remove-ServicePrincipal -Identity '{done.app.app_object_id}'",
            "New-ServicePrincipal -AppId '{client}' -ObjectId '{object}'",
            "it must be {object}",
        ))  # fmt: skip
        assert_says(str(report), case, done)


def test_a_server_of_another_cloud_is_named_with_those_of_the_tenants() -> None:
    case = Case("", "", ("login.microsoftonline.us (US Government)", "US_GOVERNMENT"))
    with broken(case) as done:
        inbox = inbox_for(
            done.exchange,
            done.secret,
            token_uri=f"{Cloud.WORLDWIDE.authority}/{done.app.tenant_id}/oauth2/v2.0/token",
            host=Cloud.US_GOVERNMENT.imap_host,
            tls="none",  # so that nothing is connected
        )
        report = check_setup(inbox, ssl_context=done.ssl_context)
        assert report.first_failure
        assert report.first_failure.id == "config"
        assert_says(str(report), case, done)


def test_a_set_up_without_a_mistake_needs_no_fix() -> None:
    with broken(Case("", "", ())) as done:
        assert done.inbox.user == USER
        assert check_setup(done.inbox, ssl_context=done.ssl_context).ok
