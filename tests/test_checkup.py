"""check_setup: for each step that an administrator left out, the check that says so."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from support.checkup import (
    CHECK_IDS,
    NOBODY,
    USER,
    always,
    check,
    everything,
    failures,
    inbox_for,
    inbox_of,
    issuing,
    report_on,
    set_up,
    statuses,
    trusting,
)
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth.checkup import check_setup
from exo_imap_oauth.testing import LoopbackExchange, ready_exchange
from exo_imap_oauth.token_cache import default_cache

if TYPE_CHECKING:
    from exo_imap_oauth.checkup import SetupReport
    from exo_imap_oauth.testing import ReadyExchange

# ---- the way it should go --------------------------------------------------------------------


def test_everything_in_place_passes_every_check(exchange: ReadyExchange) -> None:
    report = check_setup(
        inbox_of(exchange),
        enterprise_object_id=f" {exchange.app.enterprise_object_id.upper()}\n",
        ssl_context=exchange.ssl_context,
    )
    assert [check.id for check in report.checks] == CHECK_IDS
    assert set(statuses(report).values()) == {"passed"}
    assert report.ok
    assert report.first_failure is None
    assert str(report).startswith(f"Set-up of {USER}: 13 passed\n")


def test_without_an_object_id_to_compare_with_the_report_is_ok_and_names_the_tokens(
    exchange: ReadyExchange,
) -> None:
    report = check_setup(inbox_of(exchange), ssl_context=exchange.ssl_context)
    assert report.ok
    assert check(report, "object-id").status == "skipped"
    assert exchange.app.enterprise_object_id in check(report, "object-id").detail


def test_a_tenant_given_as_a_domain_has_nothing_to_compare_with(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_uri = exchange.token_uri("contoso.example")
    directory = exchange._directory
    monkeypatch.setattr(directory, "has_tenant", always(True))
    monkeypatch.setattr(directory, "find_app", always(exchange.app))
    report = check_setup(inbox_of(exchange, token_uri=token_uri), ssl_context=exchange.ssl_context)
    assert report.ok
    assert check(report, "tenant").status == "skipped"


def test_the_mailbox_is_only_examined() -> None:
    script = [
        GREETING,
        capability(),
        Step("{tag} AUTHENTICATE XOAUTH2 .+", "{tag} OK AUTHENTICATE completed."),
        Step("{tag} EXAMINE .Sent Items.", "* 0 EXISTS\n{tag} OK [READ-ONLY] done."),
        LOGOUT,
    ]
    with ready_exchange() as exchange, ScriptedImap(script, tls=True) as server:
        inbox = inbox_of(exchange, host=server.host, port=server.port, folder="Sent Items")
        assert check_setup(inbox, ssl_context=trusting(exchange)).ok


# ---- the administrator's steps ---------------------------------------------------------------

TOKEN_CHECKS = {"tenant", "application", "object-id", "audience", "role", "lifetime"}
LOGIN_CHECKS = {"authenticate", "mailbox"}


@pytest.mark.parametrize(
    ("mistakes", "check_id", "advice_id", "skipped"),
    [
        ("permission", "role", "role-missing", {"mailbox"}),
        ("consent", "role", "role-missing", {"mailbox"}),
        ("secret", "token", "secret-wrong", TOKEN_CHECKS | LOGIN_CHECKS),
        ("value of the secret", "token", "secret-wrong", TOKEN_CHECKS | LOGIN_CHECKS),
        ("unexpired secret", "token", "secret-expired", TOKEN_CHECKS | LOGIN_CHECKS),
        ("tenant", "token", "tenant-not-found", TOKEN_CHECKS | LOGIN_CHECKS),
        ("client", "token", "application-not-found", TOKEN_CHECKS | LOGIN_CHECKS),
        ("service principal", "authenticate", "authenticate-refused", {"mailbox"}),
        ("right object id", "object-id", "object-id-mismatch", {"mailbox"}),
        (
            "right object id, no object id given",
            "authenticate",
            "authenticate-refused",
            {"object-id", "mailbox"},
        ),
        ("mailbox permission", "mailbox", "mailbox-not-connected", set[str]()),
        ("permission on this mailbox", "mailbox", "mailbox-not-connected", set[str]()),
        ("imap", "mailbox", "mailbox-not-connected", set[str]()),
        ("mailbox name", "authenticate", "authenticate-refused", {"mailbox"}),
        ("exchange scope", "audience", "audience-wrong", {"role", "mailbox"}),
        (
            "token endpoint",
            "token-endpoint",
            "token-endpoint-unreachable",
            {"token"} | TOKEN_CHECKS | LOGIN_CHECKS,
        ),
        (
            "endpoint certificate",
            "token-endpoint",
            "certificate-untrusted",
            {"token"} | TOKEN_CHECKS | LOGIN_CHECKS,
        ),
        ("imap port", "imap-endpoint", "imap-unreachable", {"mechanism"} | LOGIN_CHECKS),
        ("certificate", "imap-endpoint", "certificate-untrusted", {"mechanism"} | LOGIN_CHECKS),
        ("tls", "imap-endpoint", None, {"mechanism"} | LOGIN_CHECKS),
        ("folder", "mailbox", "folder-not-found", set[str]()),
    ],
)
def test_a_step_left_out_is_named_by_its_check_and_skips_only_what_needs_it(
    mistakes: str, check_id: str, advice_id: str | None, skipped: set[str]
) -> None:
    report, done = report_on(*mistakes.split(", "))
    first = report.first_failure
    assert first is not None
    assert (first.id, first.advice and first.advice.id) == (check_id, advice_id), str(report)
    assert {id_ for id_, status in statuses(report).items() if status == "skipped"} == skipped
    assert not report.ok
    for secret in (done.secret.value, str(done.inbox.client_secret)):
        assert secret not in everything(report)


def test_the_clock_is_a_warning_in_both_directions(exchange: ReadyExchange) -> None:
    for seconds, word in ((300, "behind"), (-600, "ahead")):
        exchange.advance_clock(seconds)
        report = check_setup(inbox_of(exchange), ssl_context=exchange.ssl_context)
        found = check(report, "lifetime")
        assert report.ok
        assert (found.status, found.advice and found.advice.id) == ("warning", "clock-skew")
        assert f"5 min {word}" in found.detail


@pytest.mark.parametrize(
    ("mistakes", "expected"),
    [
        (("secret", "imap port"), ["token", "imap-endpoint"]),
        (("token endpoint", "certificate"), ["token-endpoint", "imap-endpoint"]),
        (("consent", "imap port"), ["role", "imap-endpoint"]),
        (("right object id", "consent"), ["object-id", "role", "authenticate"]),
        (("tenant", "tls"), ["token", "imap-endpoint"]),
    ],
)
def test_two_mistakes_at_once_are_both_reported(
    mistakes: tuple[str, ...], expected: list[str]
) -> None:
    report, _ = report_on(*mistakes)
    assert failures(report) == expected


def test_a_wrong_secret_does_not_hide_a_wrong_clock() -> None:
    report, _ = report_on("secret", "clock")
    assert failures(report) == ["token"]
    assert check(report, "lifetime").status == "warning"


def test_commands_hold_the_users_own_ids() -> None:
    report, done = report_on("mailbox permission", "no object id given")
    first = report.first_failure
    assert first
    assert first.advice
    grant = (
        f"Add-MailboxPermission -Identity '{USER}' -User '{done.app.enterprise_object_id}'"
        " -AccessRights FullAccess"
    )
    assert grant in first.advice.commands
    assert f"Connect-ExchangeOnline -Organization '{done.app.tenant_id}'" in first.advice.commands


def test_a_wrong_object_id_that_was_given_does_not_spoil_the_commands_for_the_mailbox() -> None:
    with LoopbackExchange() as exchange, contextlib.ExitStack() as stack:
        done = set_up(exchange, stack, {"mailbox permission"})
        report = check_setup(done.inbox, enterprise_object_id=NOBODY, ssl_context=done.ssl_context)
    assert failures(report) == ["object-id", "mailbox"]
    advice = check(report, "mailbox").advice
    assert advice
    assert NOBODY not in " ".join(advice.commands)
    assert done.app.enterprise_object_id in " ".join(advice.commands)


def test_the_pasted_secret_id_is_named() -> None:
    report, _ = report_on("value of the secret")
    advice = check(report, "token").advice
    assert advice
    assert "has the form of an ID: the column Secret ID was copied" in advice.cause


def test_tls_none_says_what_to_write() -> None:
    report, _ = report_on("tls")
    assert 'tls="implicit"' in check(report, "imap-endpoint").detail


# ---- what the server accepts outranks what the token says ------------------------------------


def _opening(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch, **claims: Any
) -> SetupReport:
    """A report on a token with these claims, which a mail server accepts all the same."""
    issuing(exchange, monkeypatch, **claims)
    script = [
        GREETING,
        capability(),
        Step("{tag} AUTHENTICATE XOAUTH2 .+", "{tag} OK AUTHENTICATE completed."),
        Step("{tag} EXAMINE .+", "* 0 EXISTS\n{tag} OK [READ-ONLY] done."),
        LOGOUT,
    ]
    with ScriptedImap(script, tls=True) as server:
        inbox = inbox_of(exchange, host=server.host, port=server.port)
        return check_setup(inbox, ssl_context=trusting(exchange))


@pytest.mark.parametrize(
    ("claims", "check_id"),
    [
        ({"roles": None}, "role"),
        ({"roles": ["SMTP.SendAsApp"]}, "role"),
        ({"aud": "https://webmail.example"}, "audience"),
        ({"exp": 1_500_000_000}, "lifetime"),
    ],
)
def test_a_claim_that_looks_wrong_is_a_warning_where_the_mailbox_opens(
    exchange: ReadyExchange,
    monkeypatch: pytest.MonkeyPatch,
    claims: dict[str, Any],
    check_id: str,
) -> None:
    report = _opening(exchange, monkeypatch, **claims)
    assert report.ok, str(report)
    found = check(report, check_id)
    assert (found.status, found.advice) == ("warning", None)
    assert found.detail.endswith("; the mailbox opens all the same")
    assert check(report, "mailbox").status == "passed"


def test_what_differs_from_the_configuration_is_a_failure_even_if_the_mailbox_opens(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failures(_opening(exchange, monkeypatch, tid=NOBODY)) == ["tenant"]


# ---- tokens of other kinds -------------------------------------------------------------------


def test_an_opaque_token_leaves_nothing_to_compare_and_is_tried(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange._issuer, "issue", always("an-encrypted-token-of-tomorrow"))
    report = check_setup(
        inbox_of(exchange), enterprise_object_id=NOBODY, ssl_context=exchange.ssl_context
    )
    skipped = {id_ for id_, status in statuses(report).items() if status == "skipped"}
    assert skipped == {"tenant", "application", "object-id", "audience", "role", "mailbox"}
    assert failures(report) == ["authenticate"]
    assert check(report, "lifetime").status == "passed"
    assert "opaque" in check(report, "token").detail
    assert "an-encrypted-token" not in everything(report)


def test_more_roles_than_needed_are_a_warning(exchange: ReadyExchange) -> None:
    exchange.add_permission(exchange.app, "full_access_as_app")
    exchange.grant_admin_consent(exchange.app)
    report = check_setup(inbox_of(exchange), ssl_context=exchange.ssl_context)
    assert report.ok
    assert check(report, "role").status == "warning"
    assert "full_access_as_app" in check(report, "role").detail


def test_a_short_life_is_a_warning(exchange: ReadyExchange) -> None:
    app = exchange.register_app("short", token_lifetime=300)
    secret = exchange.add_client_secret(app)
    report = check_setup(inbox_for(exchange, secret), ssl_context=exchange.ssl_context)
    assert check(report, "lifetime").status == "warning"
    assert "5 min" in check(report, "lifetime").detail


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"tid": NOBODY}, {"tenant", "authenticate"}),
        ({"appid": NOBODY}, {"application", "authenticate"}),
        ({"appid": None, "azp": NOBODY}, {"application"}),
        ({"exp": 1_500_000_000}, {"lifetime", "authenticate"}),
        ({"aud": ["https://graph.microsoft.com"]}, {"authenticate"}),
    ],
)
def test_claims_that_differ_fail_their_check(
    exchange: ReadyExchange,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    failed: set[str],
) -> None:
    issuing(exchange, monkeypatch, **changes)
    report = check_setup(inbox_of(exchange), ssl_context=exchange.ssl_context)
    assert set(failures(report)) >= failed - {"authenticate"}
    assert not report.ok


def test_v2_tokens_name_the_application_azp(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuing(exchange, monkeypatch, azp=exchange.app.client_id)
    report = check_setup(inbox_of(exchange), ssl_context=exchange.ssl_context)
    assert check(report, "application").detail == f"azp {exchange.app.client_id}"


# ---- which token is asked for ----------------------------------------------------------------


def test_entra_is_asked_each_time_and_no_cache_sees_the_token(exchange: ReadyExchange) -> None:
    inbox = inbox_of(exchange)
    source = inbox.token_source(ssl_context=exchange.ssl_context)
    held = source.get_token()
    for token_source in (None, source, source):
        report = check_setup(inbox, token_source=token_source, ssl_context=exchange.ssl_context)
        assert report.ok
    assert len(exchange.token_requests) == 4
    assert source.get_token() is held


def test_a_refusal_of_just_now_is_asked_again(exchange: ReadyExchange) -> None:
    inbox = inbox_of(exchange, client_secret="wrong")
    source = inbox.token_source(ssl_context=exchange.ssl_context)
    for _ in range(2):
        report = check_setup(inbox, token_source=source, ssl_context=exchange.ssl_context)
        assert failures(report) == ["token"]
    assert len(exchange.token_requests) == 2
    assert default_cache() is not None


def test_the_token_sources_own_context_is_used_for_the_token_endpoint(
    exchange: ReadyExchange,
) -> None:
    source = inbox_of(exchange).token_source(ssl_context=exchange.ssl_context)
    report = check_setup(inbox_of(exchange), token_source=source)
    assert check(report, "token").status == "passed"
    assert failures(report) == ["imap-endpoint"]


def test_a_source_of_another_application_is_told(exchange: ReadyExchange) -> None:
    app = exchange.register_app("other")
    secret = exchange.add_client_secret(app)
    source = inbox_for(exchange, secret).token_source()
    report = check_setup(inbox_of(exchange), token_source=source, ssl_context=exchange.ssl_context)
    assert report.first_failure
    assert report.first_failure.id == "application"
