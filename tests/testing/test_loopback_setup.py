"""Each of the administrator's steps, left out or done wrong: the answer of the real service."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from testing.loopback_client import Wire, connect, fetch_token, log_in, sasl

from exo_imap_oauth.testing import ReadyExchange, ready_exchange

if TYPE_CHECKING:
    from exo_imap_oauth.testing import App

REFUSED = b"A1 NO AUTHENTICATE failed.\r\n"
ACCEPTED = b"A1 OK AUTHENTICATE completed.\r\n"
NOT_CONNECTED = b"BAD User is authenticated but not connected.\r\n"


def another_app(exchange: ReadyExchange, *, tenant_id: str | None = None) -> tuple[App, str]:
    """An app with token, for which nothing has been done in Exchange yet."""
    app = exchange.register_app("another", tenant_id=tenant_id)
    exchange.add_permission(app, "IMAP.AccessAsApp")
    exchange.grant_admin_consent(app)
    secret = exchange.add_client_secret(app)
    default, exchange.app = exchange.app, app
    token = fetch_token(exchange, client_secret=secret.value)
    exchange.app = default
    return app, token


def attempt(exchange: ReadyExchange, token: str, user: str | None = None) -> bytes:
    with Wire(exchange) as wire:
        wire.line()
        return wire.authenticate(user or exchange.mailbox, token)


def reason(exchange: ReadyExchange) -> str:
    assert exchange.logins[-1].outcome == "refused"
    return exchange.logins[-1].reason


def assert_not_connected(exchange: ReadyExchange, token: str, user: str | None = None) -> None:
    """AUTHENTICATE and CAPABILITY succeed, mailbox commands do not, then comes a BYE."""
    with Wire(exchange) as wire:
        wire.line()
        assert wire.authenticate(user or exchange.mailbox, token) == ACCEPTED
        assert b" BACKENDAUTHENTICATE " in wire.ask("A2 CAPABILITY")[0]
        assert wire.ask("A3 NAMESPACE") == [b"A3 " + NOT_CONNECTED]
        assert wire.ask('A4 LIST "" "*"') == [b"A4 " + NOT_CONNECTED]
        assert wire.ask("A5 NOOP") == [b"A5 OK NOOP completed.\r\n"]
        assert wire.ask("A6 SELECT INBOX") == [b"A6 " + NOT_CONNECTED]
        assert wire.line() == b"* BYE Connection closed. 14\r\n"
        assert wire.line() == b""
    assert exchange.logins[-1].outcome == "not connected"


def test_all_steps_done_the_mailbox_opens(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        assert imap.select() == ("OK", [b"3"])
    (login,) = exchange.logins
    assert (login.user, login.mechanism, login.initial_response) == (
        exchange.mailbox,
        "XOAUTH2",
        False,
    )
    assert (login.client_id, login.outcome, login.reason) == (
        exchange.app.client_id,
        "connected",
        "",
    )


def test_no_consent_is_refused(exchange: ReadyExchange) -> None:
    app = exchange.register_app("no consent")
    exchange.add_permission(app, "IMAP.AccessAsApp")
    secret = exchange.add_client_secret(app)
    exchange.new_service_principal(app.client_id, app.enterprise_object_id)
    exchange.add_mailbox_permission(exchange.mailbox, app.enterprise_object_id, "FullAccess")
    token = fetch_token(exchange, client_id=app.client_id, client_secret=secret.value)
    assert attempt(exchange, token) == REFUSED
    assert reason(exchange) == "the token lacks the role IMAP.AccessAsApp"
    assert exchange.logins[-1].client_id == app.client_id


def test_no_service_principal_is_refused(exchange: ReadyExchange) -> None:
    app, token = another_app(exchange)
    exchange.add_mailbox_permission(exchange.mailbox, app.enterprise_object_id, "FullAccess")
    assert attempt(exchange, token) == REFUSED
    assert "no service principal" in reason(exchange)


def test_the_app_registrations_object_id_is_accepted_and_refused_later(
    exchange: ReadyExchange,
) -> None:
    app, token = another_app(exchange)
    exchange.new_service_principal(app.client_id, app.app_object_id)
    exchange.add_mailbox_permission(exchange.mailbox, app.app_object_id, "FullAccess")
    assert attempt(exchange, token) == REFUSED
    assert app.enterprise_object_id in reason(exchange)


def test_no_mailbox_permission_is_authenticated_but_not_connected(exchange: ReadyExchange) -> None:
    app, token = another_app(exchange)
    exchange.new_service_principal(app.client_id, app.enterprise_object_id)
    assert_not_connected(exchange, token)


@pytest.mark.parametrize("rights", ["ReadPermission", "ChangePermission"])
def test_another_access_right_does_not_connect(exchange: ReadyExchange, rights: str) -> None:
    app, token = another_app(exchange)
    exchange.new_service_principal(app.client_id, app.enterprise_object_id)
    exchange.add_mailbox_permission(exchange.mailbox, app.enterprise_object_id, rights)
    assert_not_connected(exchange, token)


def test_permission_on_another_mailbox_only_does_not_connect(exchange: ReadyExchange) -> None:
    exchange.add_mailbox("other@contoso.example")
    assert_not_connected(exchange, fetch_token(exchange), "other@contoso.example")


def test_disabled_imap_does_not_connect_until_it_is_enabled(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange)
    exchange.set_cas_mailbox(exchange.mailbox, imap_enabled=False)
    assert_not_connected(exchange, token)
    assert exchange.logins[-1].reason == "IMAP is disabled for the mailbox"
    exchange.set_cas_mailbox(exchange.mailbox, imap_enabled=True)
    assert attempt(exchange, token) == ACCEPTED
    assert exchange.logins[-1].outcome == "connected"


def test_what_changes_during_a_session_is_seen_by_the_next_login(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange)
    with Wire(exchange) as wire:
        wire.line()
        wire.authenticate(exchange.mailbox, token)
        exchange.remove_mailbox_permission(exchange.mailbox, exchange.app.enterprise_object_id)
        assert wire.ask("A2 SELECT INBOX")[-1].startswith(b"A2 OK")
    assert_not_connected(exchange, token)


def test_an_unknown_user_is_refused(exchange: ReadyExchange) -> None:
    assert attempt(exchange, fetch_token(exchange), "nobody@contoso.example") == REFUSED
    assert reason(exchange) == "unknown user"


def test_a_mailbox_of_another_tenant_is_refused(exchange: ReadyExchange) -> None:
    exchange.add_mailbox("inbox@fabrikam.example", tenant_id=str(uuid4()))
    object_id = exchange.app.enterprise_object_id
    exchange.add_mailbox_permission("inbox@fabrikam.example", object_id, "FullAccess")
    assert attempt(exchange, fetch_token(exchange), "inbox@fabrikam.example") == REFUSED


def test_a_token_of_another_tenant_is_refused(exchange: ReadyExchange) -> None:
    app, token = another_app(exchange, tenant_id=str(uuid4()))
    exchange.new_service_principal(app.client_id, app.enterprise_object_id)
    exchange.add_mailbox_permission(exchange.mailbox, app.enterprise_object_id, "FullAccess")
    assert attempt(exchange, token) == REFUSED
    assert reason(exchange) == "the token is of another tenant than the mailbox"


def test_a_graph_token_is_refused(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange, scope="https://graph.microsoft.com/.default")
    assert attempt(exchange, token) == REFUSED
    assert reason(exchange) == "the token is for https://graph.microsoft.com"


def test_a_token_for_the_other_exchange_audience_is_accepted(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange, scope="https://outlook.office.com/.default")
    assert attempt(exchange, token) == ACCEPTED


def test_an_expired_token_is_refused(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange)
    exchange.advance_clock(3600)
    assert attempt(exchange, token) == REFUSED
    assert reason(exchange) == "the token has expired"


def test_a_token_from_the_future_is_refused(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange)
    exchange.advance_clock(-60)
    assert attempt(exchange, token) == REFUSED
    assert reason(exchange) == "the token is not valid yet"


@pytest.mark.parametrize("damage", ["nonsense", "a.b.c", "e30.e30.e30"])
def test_a_malformed_token_is_refused(exchange: ReadyExchange, damage: str) -> None:
    assert attempt(exchange, damage) == REFUSED
    assert exchange.logins[-1].client_id is None


def test_a_forged_token_is_refused(exchange: ReadyExchange) -> None:
    head, payload, signature = fetch_token(exchange).split(".")
    forged = ".".join((head, payload, ("B" if signature[0] == "A" else "A") + signature[1:]))
    assert attempt(exchange, forged) == REFUSED


def test_a_token_of_another_exchange_is_refused(exchange: ReadyExchange) -> None:
    with ready_exchange() as other:
        token = fetch_token(other)
    assert attempt(exchange, token) == REFUSED


def test_the_login_is_open_to_upper_case(exchange: ReadyExchange) -> None:
    assert attempt(exchange, fetch_token(exchange), exchange.mailbox.upper()) == ACCEPTED
    assert exchange.logins[-1].outcome == "connected"


def test_imaplib_sees_the_documented_errors(exchange: ReadyExchange) -> None:
    token = fetch_token(exchange)
    exchange.set_cas_mailbox(exchange.mailbox, imap_enabled=False)
    with connect(exchange) as imap:
        with pytest.raises(imaplib.IMAP4.error, match=r"^AUTHENTICATE failed\.$"):
            imap.authenticate("XOAUTH2", lambda _: sasl("nobody@contoso.example", token))
        imap.authenticate("XOAUTH2", lambda _: sasl(exchange.mailbox, token))
        for _ in range(3):
            with pytest.raises(imaplib.IMAP4.error, match="authenticated but not connected"):
                imap.select()
        with pytest.raises(imaplib.IMAP4.abort, match=r"Connection closed\. 14"):
            imap.select()


def test_wrong_arguments_are_value_errors(exchange: ReadyExchange) -> None:
    app = exchange.app
    with pytest.raises(ValueError, match=r"IMAP\.AccessAsApp"):
        exchange.add_permission(app, "Mail.Read")
    with pytest.raises(ValueError, match="FullAccess"):
        exchange.add_mailbox_permission(exchange.mailbox, app.enterprise_object_id, "All")
    with pytest.raises(ValueError, match="not a GUID"):
        exchange.new_service_principal(app.client_id, "object")
    with pytest.raises(ValueError, match="exists already"):
        exchange.add_mailbox(exchange.mailbox.upper())
    with pytest.raises(ValueError, match="not a mailbox address"):
        exchange.add_mailbox("a\r\nb")
    with pytest.raises(ValueError, match="add_mailbox comes first"):
        exchange.set_cas_mailbox("nobody@contoso.example", imap_enabled=True)
    with pytest.raises(ValueError, match="add_mailbox comes first"):
        exchange.deliver("nobody@contoso.example", b"")
    with ready_exchange() as other, pytest.raises(ValueError, match="another LoopbackExchange"):
        other.grant_admin_consent(app)
