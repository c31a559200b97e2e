"""authenticate_xoauth2 and open_mailbox: what they do for those who call them."""

from __future__ import annotations

import imaplib
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from support.imap import (
    AUTHENTICATE,
    OPENING,
    REFUSE,
    SELECT,
    TOKEN,
    TOKEN_LINE,
    USER,
    connected,
    opened,
    opened_scripted,
    source_of,
    without,
)
from support.leaks import everything_in
from support.scripted_imap import CLIENT_CLOSES, GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import TokenSource, authenticate_xoauth2, open_mailbox
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ExoImapOAuthError,
    ImapError,
    MailboxNotConnected,
    SessionExpired,
    TokenRequestRejected,
)
from exo_imap_oauth.testing import LoopbackExchange

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


# ---- the way it should go --------------------------------------------------------------------


def test_one_line_opens_the_mailbox(exchange: ReadyExchange) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    with opened(exchange, source) as imap:
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])
    (login,) = exchange.logins
    assert login.initial_response
    assert imap.state == "LOGOUT"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="imap.idle() exists from CPython 3.14 on")
def test_imap_idle_tells_of_a_message_that_arrives(exchange: ReadyExchange) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    with opened(exchange, source) as imap:
        with imap.idle(duration=10) as idler:
            exchange.deliver(USER, b"Subject: new\r\n\r\nNew.\r\n")
            assert ("EXISTS", [b"4"]) in idler
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3 4"])


def test_an_open_imaplib_connection_is_logged_in(exchange: ReadyExchange) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    with connected(exchange) as imap:
        authenticate_xoauth2(imap, USER, source)
        assert imap.select("INBOX") == ("OK", [b"3"])
        assert "send" not in vars(imap)


@pytest.mark.parametrize(("starttls", "port"), [(False, 993), (True, 143)])
def test_without_a_port_it_is_the_one_of_the_protocol(
    starttls: bool, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def look_up(host: str, port: int, **options: Any) -> NoReturn:
        if not options["flags"]:  # else it is asked whether this is an address
            asked.append((host, port))
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ConnectionFailed, match=f"outlook.office365.com:{port}"):
        open_mailbox(USER, TOKEN, starttls=starttls).__enter__()
    assert asked == [("outlook.office365.com", port)]


# ---- the administrator's steps ---------------------------------------------------------------


APP_REGISTRATION = "https://entra.microsoft.com/#view/Microsoft_AAD_RegisteredApps"


@pytest.mark.parametrize(
    ("forgotten", "error", "advice", "texts"),
    [
        ("permission", AuthenticationRefused, "role-missing", [APP_REGISTRATION, "client_id"]),
        ("consent", AuthenticationRefused, "role-missing", [APP_REGISTRATION, "client_id"]),
        ("secret", TokenRequestRejected, "secret-wrong", [APP_REGISTRATION, "client_id"]),
        ("unexpired secret", TokenRequestRejected, "secret-expired", [APP_REGISTRATION]),
        (
            "service principal",
            AuthenticationRefused,
            "authenticate-refused",
            ["New-ServicePrincipal -AppId '{client_id}' -ObjectId '{enterprise_object_id}'"],
        ),
        (
            "object id",
            AuthenticationRefused,
            "authenticate-refused",
            ["New-ServicePrincipal -AppId '{client_id}' -ObjectId '{enterprise_object_id}'"],
        ),
        (
            "mailbox permission",
            MailboxNotConnected,
            "mailbox-not-connected",
            [f"Add-MailboxPermission -Identity '{USER}' -User '{{enterprise_object_id}}'"],
        ),
        (
            "right mailbox",
            MailboxNotConnected,
            "mailbox-not-connected",
            [f"Add-MailboxPermission -Identity '{USER}' -User '{{enterprise_object_id}}'"],
        ),
        (
            "imap",
            MailboxNotConnected,
            "mailbox-not-connected",
            [f"Set-CASMailbox -Identity '{USER}' -ImapEnabled $true"],
        ),
    ],
)
@pytest.mark.parametrize("way", ["open_mailbox", "authenticate_xoauth2"])
def test_a_forgotten_step_raises_its_error_with_the_command_that_mends_it(
    forgotten: str, error: type[ExoImapOAuthError], advice: str, texts: list[str], way: str
) -> None:
    with LoopbackExchange() as exchange:
        app, secret = without(forgotten)(exchange)
        source = source_of(exchange, app, secret)
        with pytest.raises(error) as raised:
            if way == "open_mailbox":
                with opened(exchange, source):
                    pass
            else:
                with connected(exchange) as imap:
                    authenticate_xoauth2(imap, USER, source)
    assert type(raised.value) is error
    assert raised.value.advice
    assert raised.value.advice.id == advice
    ids = {"client_id": app.client_id, "enterprise_object_id": app.enterprise_object_id}
    for text in texts:
        assert ids.get(text, text.format(**ids)) in str(raised.value)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"client_id": "f0000000-1111-4222-8333-444444444444"}, "application-not-found"),
        ({"tenant": "f0000000-1111-4222-8333-444444444444"}, "tenant-not-found"),
        ({"scope": "https://outlook.office365.com/IMAP.AccessAsApp"}, "scope-not-default"),
        ({"scope": "https://nowhere.example/.default"}, "resource-not-found"),
    ],
)
def test_a_wrong_value_is_named_by_the_token_endpoint(
    exchange: ReadyExchange, change: dict[str, str], advice: str
) -> None:
    app = exchange.app
    tenant = change.pop("tenant", app.tenant_id)
    client_id = change.pop("client_id", app.client_id)
    source = TokenSource(
        tenant,
        client_id,
        exchange.secret.value,
        token_uri=exchange.token_uri(app.tenant_id).replace(app.tenant_id, tenant),
        ssl_context=exchange.ssl_context,
        **change,  # type: ignore[arg-type] # only scope is left
    )
    with pytest.raises(TokenRequestRejected) as raised:
        source.get_token()
    assert raised.value.advice
    assert raised.value.advice.id == advice


def test_a_token_for_graph_is_told_from_a_missing_role(exchange: ReadyExchange) -> None:
    scope = "https://graph.microsoft.com/.default"
    source = source_of(exchange, exchange.app, exchange.secret.value, scope=scope)
    with pytest.raises(AuthenticationRefused) as raised, opened(exchange, source):
        pass
    assert raised.value.advice
    assert raised.value.advice.id == "audience-wrong"


def test_a_token_that_expires_in_an_open_connection_ends_it(exchange: ReadyExchange) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    with pytest.raises(SessionExpired) as raised, opened(exchange, source) as imap:
        exchange.advance_clock(4000)
        imap.noop()
    assert isinstance(raised.value, imaplib.IMAP4.abort)
    assert raised.value.retryable


# ---- the body of open_mailbox ----------------------------------------------------------------


def test_an_ordinary_exception_logs_out_and_passes() -> None:
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with pytest.raises(LookupError), opened_scripted(server):
            raise LookupError


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError, imaplib.IMAP4.abort])
def test_other_exceptions_hang_up_at_once(error: type[BaseException]) -> None:
    with ScriptedImap([*OPENING, CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(error), opened_scripted(server):
            raise error


def test_an_exception_with_a_reply_outstanding_hangs_up() -> None:
    noop = Step("{tag} NOOP")
    with ScriptedImap([*OPENING, noop, CLIENT_CLOSES], tls=True) as server:
        with pytest.raises(LookupError), opened_scripted(server) as imap:
            imap._command("NOOP")
            raise LookupError


def test_a_known_text_is_raised_typed_and_an_unknown_one_unchanged() -> None:
    known = Step("{tag} NOOP", "{tag} BAD User is authenticated but not connected.")
    unknown = Step("{tag} NOOP", "{tag} BAD What is that?")
    with ScriptedImap([*OPENING, known, LOGOUT], [*OPENING, unknown, LOGOUT], tls=True) as server:
        with pytest.raises(MailboxNotConnected) as raised, opened_scripted(server) as imap:
            imap.noop()
        assert raised.value.__cause__ is None  # it would quote the server as it is
        with pytest.raises(imaplib.IMAP4.error) as plain, opened_scripted(server) as imap:
            imap.noop()
        assert type(plain.value) is imaplib.IMAP4.error


def test_a_returned_no_is_the_callers() -> None:
    noop = Step("{tag} NOOP", "{tag} NO not now")
    with ScriptedImap([*OPENING, noop, LOGOUT], tls=True) as server:
        with opened_scripted(server) as imap:
            assert imap.noop()[0] == "NO"


def test_a_logout_in_the_body_is_not_repeated() -> None:
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server, opened_scripted(server) as imap:
        imap.logout()


# ---- wrong arguments and leaks ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"folder": ""}, ValueError),
        ({"folder": "a\r\nb"}, ValueError),
        ({"folder": b"INBOX"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": 1e20}, ValueError),
        ({"port": 0}, ValueError),
        ({"host": ""}, ValueError),
        ({"host": None}, ValueError),
    ],
)
def test_options_that_cannot_work_are_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        open_mailbox(USER, TOKEN, **options)


@pytest.mark.parametrize("arguments", [(1, TOKEN), (USER, 1), (USER, None)])
def test_arguments_of_a_wrong_type_are_refused(arguments: Any) -> None:
    with pytest.raises(TypeError):
        open_mailbox(*arguments)


@pytest.mark.parametrize(
    "steps",
    [
        [GREETING, capability(), REFUSE, LOGOUT],
        [GREETING, capability(), REFUSE._replace(reply=f"{{tag}} NO you sent {TOKEN}"), LOGOUT],
        [GREETING, capability(), REFUSE._replace(reply=""), CLIENT_CLOSES],
        [
            GREETING,
            capability("IMAP4rev1 AUTH=XOAUTH2"),
            Step("{tag} AUTHENTICATE XOAUTH2", "+ "),
            Step(".+", ""),
        ],
        [GREETING, capability(), AUTHENTICATE, SELECT._replace(reply="{tag} NO no"), LOGOUT],
    ],
)
def test_no_frame_text_or_record_of_a_failed_login_holds_the_token(
    steps: list[Step], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if steps[-1] is CLIENT_CLOSES:
        steps = steps[:-1]
    with ScriptedImap(steps, tls=True) as server:
        with pytest.raises(ImapError) as raised, opened_scripted(server, timeout=3):
            pass
    seen = everything_in(raised.value) + caplog.text
    assert TOKEN not in seen
    assert TOKEN_LINE.decode()[:40] not in seen
