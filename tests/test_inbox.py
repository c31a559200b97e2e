"""An inbox of a configuration, opened on the loopback Exchange."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
import shutil
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.config import TENANT, by_hand

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConfigError,
    InsecureConnectionError,
    TokenRequestRejected,
)

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


@pytest.fixture
def inbox(exchange: ReadyExchange, tmp_path: Path) -> InboxConfig:
    return load_config(exchange.write_config(tmp_path), environ={}).default


def test_one_trust_serves_both_ways(inbox: InboxConfig, exchange: ReadyExchange) -> None:
    with inbox.open(ssl_context=exchange.ssl_context) as imap:
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])
    assert [request.scope for request in exchange.token_requests] == [inbox.scope]


def test_the_folder_is_the_configured_one_unless_another_is_asked_for(
    inbox: InboxConfig, exchange: ReadyExchange
) -> None:
    with inbox.open(ssl_context=exchange.ssl_context) as imap:
        imap.create('"Sent Orders"')
    elsewhere = dataclasses.replace(inbox, folder="Sent Orders")
    with elsewhere.open(ssl_context=exchange.ssl_context) as imap:
        assert imap.response("EXISTS") == ("EXISTS", [b"0"])
    with elsewhere.open(ssl_context=exchange.ssl_context, folder="INBOX") as imap:
        assert imap.response("EXISTS") == ("EXISTS", [b"3"])


def test_a_token_that_is_at_hand_is_used(inbox: InboxConfig, exchange: ReadyExchange) -> None:
    token = inbox.token_source(ssl_context=exchange.ssl_context).get_token().token
    with inbox.open(token=token, ssl_context=exchange.ssl_context, readonly=True) as imap:
        assert imap.is_readonly
    assert len(exchange.token_requests) == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("default", "The inbox default .* ssl = true"),
        ("sales", "The inbox sales .* ssl = true"),
    ],
)
def test_no_token_leaves_without_tls(
    inbox: InboxConfig, exchange: ReadyExchange, name: str, line: str
) -> None:
    plain = dataclasses.replace(inbox, name=name)
    object.__setattr__(plain, "tls", "none")  # it refuses that itself
    with pytest.raises(InsecureConnectionError, match=line) as caught:
        plain.open(token="a secret token")
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in report.stack if not frame.name.startswith("test_")]
    assert "a secret token" not in str([frame.locals for frame in frames])
    assert exchange.token_requests == ()


@pytest.mark.parametrize("token", [b"a secret token", {"access_token": "a secret token"}])
def test_a_token_of_a_wrong_type_stands_in_no_frame(inbox: InboxConfig, token: Any) -> None:
    for call in (
        lambda: inbox.open(token=token),
        lambda: inbox.token_source().invalidate(token),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        frames = [frame for frame in report.stack if frame.filename != __file__]
        assert frames
        assert "a secret token" not in str([frame.locals for frame in frames])


# ---- debug -----------------------------------------------------------------------------------


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    return caplog


def test_debug_logs_a_summary_without_token_and_secret(
    inbox: InboxConfig, exchange: ReadyExchange, log: pytest.LogCaptureFixture
) -> None:
    source = inbox.token_source(ssl_context=exchange.ssl_context)
    with inbox.open(token=source, ssl_context=exchange.ssl_context):
        token = source.get_token()
    app = exchange.app
    claims = (app.tenant_id, app.client_id, app.enterprise_object_id, "IMAP.AccessAsApp")
    for part in (
        "inbox default",
        inbox.user,
        str(inbox.port),
        str(inbox.token_uri),
        " ms",
        *claims,
    ):
        assert part in log.text
    for secret in (exchange.secret.value, token.token):
        assert secret not in log.text
    assert {record.levelno for record in log.records} == {logging.INFO}


def test_debug_logs_what_entra_answered(
    inbox: InboxConfig, exchange: ReadyExchange, log: pytest.LogCaptureFixture
) -> None:
    wrong = dataclasses.replace(inbox, client_secret="not-the-right-one")
    with pytest.raises(TokenRequestRejected) as caught:
        with wrong.open(ssl_context=exchange.ssl_context):
            pass
    assert "TokenRequestRejected, status 401" in log.text
    assert f"correlation ID {caught.value.correlation_id}" in log.text
    assert "not-the-right-one" not in log.text


def test_an_error_of_the_body_is_not_logged_as_a_refusal(
    inbox: InboxConfig, exchange: ReadyExchange, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(AuthenticationRefused):
        with inbox.open(ssl_context=exchange.ssl_context):
            raise AuthenticationRefused("of the caller")
    assert "refused" not in log.text


def test_without_debug_nothing_is_logged_at_info(
    inbox: InboxConfig, exchange: ReadyExchange, log: pytest.LogCaptureFixture
) -> None:
    quiet = dataclasses.replace(inbox, debug=False)
    with quiet.open(ssl_context=exchange.ssl_context):
        pass
    assert log.text == ""


# ---- several inboxes -------------------------------------------------------------------------


EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "cmsbs-conf"


def test_three_inboxes_of_two_applications_take_two_token_requests(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    conf = tmp_path / "cmsbs-conf"
    shutil.copytree(EXAMPLE, conf)
    support_bot = exchange.register_app("support-bot")
    exchange.add_permission(support_bot, "IMAP.AccessAsApp")
    exchange.grant_admin_consent(support_bot)
    exchange.new_service_principal(support_bot.client_id, support_bot.enterprise_object_id)
    for name, app in (("sales", exchange.app), ("support", support_bot)):
        mailbox = f"{name}@contoso.example"
        exchange.add_mailbox(mailbox, messages=1)
        exchange.add_mailbox_permission(mailbox, app.enterprise_object_id)
    (conf / "secrets").mkdir()
    (conf / "secrets" / "mail-bot").write_text(exchange.secret.value + "\n")
    secret = exchange.add_client_secret(support_bot)
    (conf / "secrets" / "support-bot").write_text(secret.value)
    environ = {
        "cmsbs__mail__imap__server": exchange.host,
        "cmsbs__mail__imap__port": str(exchange.port),
        "cmsbs__mail__imap__oauth2__accessTokenUri": exchange.token_uri(),
        "cmsbs__mail__imap__oauth2__clientId": exchange.app.client_id,
        "cmsbs.bouncelistener.sales.mail.imap.server": exchange.host,
        "cmsbs.bouncelistener.support.mail.imap.server": exchange.host,
        "cmsbs.bouncelistener.support.oauth2.clientId": support_bot.client_id,
    }
    config = load_config(conf, environ=environ)
    assert config.warnings == ()
    assert list(config) == ["default", "sales", "support"]
    found: dict[str, bytes] = {}
    for inbox in config.values():
        with inbox.open(ssl_context=exchange.ssl_context, readonly=True) as imap:
            found[inbox.user], *_ = imap.response("EXISTS")[1]
    assert found == {
        "inbox@contoso.example": b"3",
        "sales@contoso.example": b"1",
        "support@contoso.example": b"1",
    }
    assert {request.client_id for request in exchange.token_requests} == {
        exchange.app.client_id,
        support_bot.client_id,
    }
    assert len(exchange.token_requests) == 2


def test_the_example_configuration_lacks_only_its_secrets() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(EXAMPLE, environ={})
    assert [problem.key for problem in caught.value.problems] == [
        "cmsbs.mail.imap.oauth2.clientSecret$file",
        "cmsbs.bouncelistener.support.oauth2.clientSecret$file",
    ]


# ---- by hand ---------------------------------------------------------------------------------


def test_an_inbox_can_be_written_by_hand() -> None:
    inbox = by_hand()
    assert (inbox.host, inbox.port, inbox.tls) == ("outlook.office365.com", 993, "implicit")
    assert inbox.scope == "https://outlook.office365.com/.default"
    assert inbox.tenant_id == TENANT
    assert dataclasses.replace(inbox, folder="Orders").folder == "Orders"
    assert pickle.loads(pickle.dumps(inbox)) == copy.deepcopy(inbox) == inbox
