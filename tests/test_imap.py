"""authenticate_xoauth2 and open_mailbox, against the loopback Exchange and scripted servers."""

from __future__ import annotations

import base64
import imaplib
import io
import logging
import socket
import ssl
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pytest
from support.leaks import everything_in
from support.proxy import CountingProxy
from support.scripted_imap import (
    CLIENT_CLOSES,
    GREETING,
    LOGOUT,
    ScriptedImap,
    Step,
    capability,
)

from exo_imap_oauth import AccessToken, TokenSource, authenticate_xoauth2, open_mailbox
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ExoImapOAuthError,
    ImapError,
    InsecureConnectionError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
    TokenRequestRejected,
)
from exo_imap_oauth.testing import LoopbackExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.testing import ReadyExchange

USER = "inbox@contoso.example"
TOKEN = f"eyJhbGciOi.{'Not-a_real' * 150}.token~1"  # as long as Entra's
TOKEN_LINE = base64.b64encode(f"user={USER}\x01auth=Bearer {TOKEN}\x01\x01".encode())
AUTHENTICATE = Step(
    "{tag} AUTHENTICATE XOAUTH2 [A-Za-z0-9+/=]+", "{tag} OK AUTHENTICATE completed."
)
REFUSE = Step("{tag} AUTHENTICATE XOAUTH2 [A-Za-z0-9+/=]+", "{tag} NO AUTHENTICATE failed.")
SELECT = Step("{tag} (SELECT|EXAMINE) .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done.")
EXAMINE = Step("{tag} EXAMINE .+", "* 0 EXISTS\n{tag} OK [READ-ONLY] done.")
STATUS = Step(
    r"{tag} STATUS INBOX \(UIDVALIDITY\)", "* STATUS INBOX (UIDVALIDITY 1)\n{tag} OK done."
)


def source_of(exchange: LoopbackExchange, app: Any, secret: str, **options: Any) -> TokenSource:
    return TokenSource(
        app.tenant_id,
        app.client_id,
        secret,
        token_uri=exchange.token_uri(app.tenant_id),
        ssl_context=exchange.ssl_context,
        **options,
    )


def opened(exchange: LoopbackExchange, token: Any, user: str = USER, **options: Any) -> Any:
    options = {"ssl_context": exchange.ssl_context, "port": exchange.port, **options}
    return open_mailbox(user, token, host=exchange.host, **options)


def connected(server: Any) -> imaplib.IMAP4_SSL:
    return imaplib.IMAP4_SSL(server.host, server.port, ssl_context=server.ssl_context)


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


@pytest.mark.parametrize("form", ["text", "AccessToken", "source", "foreign credential"])
def test_every_form_of_token_logs_in(exchange: ReadyExchange, form: str) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    asked: list[tuple[str, ...]] = []

    class Credential:
        def get_token(self, *scopes: str, claims: str | None = None) -> Any:
            assert claims is None
            asked.append(scopes)
            return type("Token", (), {"token": source.get_token().token})()

    tokens = {
        "text": source.get_token().token,
        "AccessToken": source.get_token(),
        "source": source,
        "foreign credential": Credential(),
    }
    with opened(exchange, tokens[form]) as imap:
        assert imap.state == "SELECTED"
    if form == "foreign credential":
        assert set(asked) == {("https://outlook.office365.com/.default",)}


def test_a_folder_can_be_examined(exchange: ReadyExchange) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    with opened(exchange, source, readonly=True) as imap:
        assert imap.is_readonly
        typ, _ = imap.fetch("1", "(RFC822)")
        assert typ == "OK"
        assert imap.search(None, "UNSEEN") == ("OK", [b"1 2 3"])


@pytest.mark.parametrize(
    ("folder", "argument"),
    [
        ("INBOX", b"INBOX"),
        ("Sent Items", b'"Sent Items"'),
        ("Entwürfe/日本", b'"Entw&APw-rfe/&ZeVnLA-"'),
        ('a"b\\c', b'"a\\"b\\\\c"'),
        ("R&D", b'"R&-D"'),
        ("😀", b'"&2D3eAA-"'),
    ],
)
def test_folder_names_are_encoded(folder: str, argument: bytes) -> None:
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, SELECT, LOGOUT], tls=True) as server:
        with opened_scripted(server, folder=folder):
            pass
    assert server.lines[2].partition(b" ")[2] == b"SELECT " + argument


def opened_scripted(server: ScriptedImap, token: Any = TOKEN, **options: Any) -> Any:
    options = {"ssl_context": server.ssl_context, "port": server.port, **options}
    return open_mailbox(USER, token, host=server.host, **options)


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


def test_the_connection_waits_for_no_more_data_and_has_a_timeout_by_default() -> None:
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server, opened_scripted(server) as imap:
        assert imap.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert 0 < imap.sock.gettimeout() <= 30


# ---- the administrator's steps ---------------------------------------------------------------

APP_REGISTRATION = "https://entra.microsoft.com/#view/Microsoft_AAD_RegisteredApps"


def without(*forgotten: str) -> Callable[[LoopbackExchange], tuple[Any, str]]:
    """Do every administrator's step but these."""

    def set_up(exchange: LoopbackExchange) -> tuple[Any, str]:
        app = exchange.register_app("bot")
        if "permission" not in forgotten:
            exchange.add_permission(app, "IMAP.AccessAsApp")
        if "consent" not in forgotten:
            exchange.grant_admin_consent(app)
        secret = exchange.add_client_secret(app, lifetime=60)
        exchange.add_mailbox(USER, messages=1)
        exchange.add_mailbox("other@contoso.example")
        object_id = app.enterprise_object_id
        if "object id" in forgotten:
            object_id = app.app_object_id
        if "service principal" not in forgotten:
            exchange.new_service_principal(app.client_id, object_id)
            mailbox = "other@contoso.example" if "right mailbox" in forgotten else USER
            if "mailbox permission" not in forgotten:
                exchange.add_mailbox_permission(mailbox, object_id, "FullAccess")
        if "imap" in forgotten:
            exchange.set_cas_mailbox(USER, imap_enabled=False)
        if "unexpired secret" in forgotten:
            exchange.advance_clock(120)
        return app, "wrong" if "secret" in forgotten else secret.value

    return set_up


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
        ({"client_id": "00000000-1111-4222-8333-444444444444"}, "application-not-found"),
        ({"tenant": "00000000-1111-4222-8333-444444444444"}, "tenant-not-found"),
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


# ---- TLS before token ------------------------------------------------------------------------


def test_imaplibs_default_does_not_verify_and_gets_no_token(exchange: ReadyExchange) -> None:
    with imaplib.IMAP4_SSL(exchange.host, exchange.port) as imap:
        with pytest.raises(InsecureConnectionError, match=r"ssl\.create_default_context"):
            authenticate_xoauth2(imap, USER, TOKEN)
        assert exchange.logins == ()
        source = source_of(exchange, exchange.app, exchange.secret.value)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            authenticate_xoauth2(imap, USER, source, allow_unverified_tls=True)


def test_a_context_without_host_name_check_gets_no_token(exchange: ReadyExchange) -> None:
    exchange.ssl_context.check_hostname = False
    with connected(exchange) as imap, pytest.raises(InsecureConnectionError):
        authenticate_xoauth2(imap, USER, TOKEN)
    with pytest.raises(InsecureConnectionError), opened(exchange, TOKEN):
        pass
    assert exchange.logins == ()


@pytest.mark.parametrize("allowed", [False, True])
def test_a_plain_connection_never_gets_a_token(allowed: bool) -> None:
    with ScriptedImap([GREETING, capability(), LOGOUT]) as server:
        with imaplib.IMAP4(server.host, server.port) as imap:
            with pytest.raises(InsecureConnectionError, match="starttls"):
                authenticate_xoauth2(imap, USER, TOKEN, allow_unverified_tls=allowed)
    assert not [line for line in server.lines if b"AUTH" in line]


def test_starttls_that_is_not_offered_ends_the_attempt() -> None:
    with ScriptedImap([GREETING, capability(), LOGOUT]) as server:
        with pytest.raises(InsecureConnectionError, match="STARTTLS"):
            with opened_scripted(server, starttls=True):
                pass


# ---- what goes over the wire -----------------------------------------------------------------


def _round_trips(exchange: ReadyExchange, log_in: Callable[[imaplib.IMAP4], object]) -> int:
    with CountingProxy(exchange.host, exchange.port) as proxy:
        context = exchange.ssl_context
        imap = imaplib.IMAP4_SSL("localhost", proxy.port, ssl_context=context)
        log_in(imap)
        (connection,) = proxy.connections
        round_trips = connection.round_trips
        imap.shutdown()
    return round_trips


def test_the_login_takes_one_round_trip_less_than_imaplib(exchange: ReadyExchange) -> None:
    token = source_of(exchange, exchange.app, exchange.secret.value).get_token()
    message = f"user={USER}\x01auth=Bearer {token.token}\x01\x01".encode()
    plain = _round_trips(exchange, lambda imap: imap.authenticate("XOAUTH2", lambda _: message))
    ours = _round_trips(
        exchange, lambda imap: authenticate_xoauth2(imap, USER, token, verify_mailbox=False)
    )
    assert ours == plain - 1


@pytest.mark.parametrize("debug", range(6))
@pytest.mark.parametrize(
    "capabilities", ["IMAP4rev1 AUTH=XOAUTH2 SASL-IR", "IMAP4rev1 AUTH=XOAUTH2"]
)
@pytest.mark.parametrize("reply", ["OK done", "NO AUTHENTICATE failed."])
def test_imaplibs_debug_output_and_buffer_never_hold_the_token(
    debug: int, capabilities: str, reply: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    script = [GREETING, capability(capabilities)]
    if "SASL-IR" in capabilities:
        script += [AUTHENTICATE._replace(reply="{tag} " + reply)]
    else:
        script += [Step("{tag} AUTHENTICATE XOAUTH2", "+ "), Step(".+", "{tag} " + reply)]
    with ScriptedImap([*script, LOGOUT], tls=True) as server, connected(server) as imap:
        imap.debug = debug
        try:
            authenticate_xoauth2(imap, USER, TOKEN, verify_mailbox=False)
        except AuthenticationRefused:
            assert reply.startswith("NO")
        buffered = repr(imap._cmd_log)  # what imaplib prints when it fails
    assert any(TOKEN_LINE in line for line in server.lines)
    for secret in (TOKEN, TOKEN_LINE.decode()[:60]):
        assert secret not in buffered + stderr.getvalue()


def test_an_error_challenge_is_answered_with_an_empty_line_and_kept() -> None:
    challenge = base64.b64encode(b'{"status":"401","schemes":"bearer","scope":"mail"}').decode()
    script = [
        GREETING,
        capability(),
        AUTHENTICATE._replace(reply=f"+ {challenge}"),
        Step("", "{tag} NO [AUTHENTICATIONFAILED] Authentication failed."),
        LOGOUT,
    ]
    with ScriptedImap(script, tls=True) as server, connected(server) as imap:
        with pytest.raises(AuthenticationRefused) as raised:
            authenticate_xoauth2(imap, USER, TOKEN)
    assert raised.value.challenge == {"status": "401", "schemes": "bearer", "scope": "mail"}
    assert "401" in str(raised.value)
    assert sum(TOKEN_LINE in line for line in server.lines) == 1


# ---- strange servers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "error", "text"),
    [
        ([Step(None, "* BYE too busy"), CLIENT_CLOSES], ConnectionFailed, "too busy"),
        ([], ConnectionFailed, "cannot be reached"),
        ([GREETING, capability("IMAP4rev1 AUTH=PLAIN"), LOGOUT], ImapError, "AUTH=PLAIN"),
        (
            [Step(None, "* PREAUTH hello"), capability(), LOGOUT],
            ImapError,
            "in the state AUTH, not NONAUTH",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="")],
            ConnectionFailed,
            "broke off while logging in",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="* BYE Connection closed. 14")],
            ConnectionFailed,
            "Connection closed. 14",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="+ abcde"), CLIENT_CLOSES],
            ImapError,
            "refused to log in",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="{tag} BAD what?"), LOGOUT],
            ImapError,
            "BAD what?",
        ),
        (
            [
                GREETING,
                capability(),
                AUTHENTICATE._replace(reply="+ e30="),
                Step("", "+ e30=", repeat=True),
            ],
            ConnectionFailed,
            "challenges",
        ),
        (
            [
                GREETING,
                capability(),
                AUTHENTICATE._replace(
                    reply="{tag} NO Request is throttled."
                    " Suggested Backoff Time: 299961 milliseconds"
                ),
                LOGOUT,
            ],
            Throttled,
            "throttled",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="{tag} NO AUTHENTICATE? No.")],
            AuthenticationRefused,
            "AUTHENTICATE? No.",
        ),
        (
            [GREETING, capability(), AUTHENTICATE, SELECT._replace(reply="{tag} NO gone"), LOGOUT],
            MailboxNotConnected,
            "NO gone",
        ),
        (
            [GREETING, capability(), AUTHENTICATE, SELECT._replace(reply="* BYE bye")],
            ConnectionFailed,
            "bye",
        ),
    ],
)
def test_strange_servers_get_a_typed_error(
    steps: list[Step], error: type[ImapError], text: str
) -> None:
    with ScriptedImap(steps, tls=True) as server:
        with pytest.raises(ImapError) as raised, opened_scripted(server, timeout=3):
            pass
    assert type(raised.value) is error
    assert text in str(raised.value)
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after == pytest.approx(299.961)


def test_the_probe_tells_what_the_server_said() -> None:
    probe = STATUS._replace(reply="{tag} BAD User is authenticated but not connected.")
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, probe, LOGOUT], tls=True) as server:
        with connected(server) as imap, pytest.raises(MailboxNotConnected) as raised:
            authenticate_xoauth2(imap, USER, TOKEN)
    assert "BAD User is authenticated but not connected." in str(raised.value).splitlines()[0]


def test_a_server_that_refuses_starttls_is_left_at_once() -> None:
    script = [
        GREETING,
        capability("IMAP4rev1 STARTTLS AUTH=XOAUTH2"),
        Step("{tag} STARTTLS", "{tag} NO not now"),
        CLIENT_CLOSES,
    ]
    with ScriptedImap(script) as server:
        with pytest.raises(ConnectionFailed, match="cannot be reached"):
            opened_scripted(server, starttls=True).__enter__()


def test_a_server_that_says_nothing_is_left_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionFailed) as raised:
            with open_mailbox(USER, TOKEN, host="127.0.0.1", port=port, timeout=0.2):
                pass
    assert raised.value.retryable


@pytest.mark.parametrize("host", ["127.0.0.1", "name.invalid"])
def test_an_unreachable_server_is_named(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed) as raised:
        with open_mailbox(USER, TOKEN, host=host, port=port):
            pass
    assert f"{host}:{port}" in str(raised.value)
    assert raised.value.advice
    assert raised.value.advice.id == "imap-unreachable"


def test_a_bundle_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ConnectionFailed, match=r"/nowhere/ca\.pem") as raised:
        with open_mailbox(USER, TOKEN, host="127.0.0.1"):
            pass
    assert not raised.value.retryable


def test_an_untrusted_certificate_is_named(exchange: ReadyExchange) -> None:
    with pytest.raises(ConnectionFailed) as raised:
        with opened(exchange, TOKEN, ssl_context=ssl.create_default_context()):
            pass
    assert raised.value.advice
    assert raised.value.advice.id == "certificate-untrusted"
    assert not raised.value.retryable


# ---- the second try --------------------------------------------------------------------------


class Source:
    """Issues one token after another, each obtained ``age`` seconds ago."""

    def __init__(self, *tokens: str | Exception, age: float = 100) -> None:
        self.tokens = list(tokens)
        self.age = age
        self.invalidated: list[str] = []

    def get_token(self, *scopes: str) -> AccessToken:
        assert len(scopes) == 1
        token = self.tokens[0]
        if isinstance(token, Exception):
            raise token
        now = int(time.time())
        return AccessToken(token, now + 3600, now + 3000, time.time() - self.age)

    def invalidate(self, token: AccessToken) -> None:
        self.invalidated.append(token.token)
        del self.tokens[0]


def log_in(source: Any, *steps: Step) -> None:
    with ScriptedImap([GREETING, capability(), *steps], tls=True) as server:
        imap = connected(server)
        try:
            authenticate_xoauth2(imap, USER, source, verify_mailbox=False)
        finally:
            imap.shutdown()


def test_a_cached_token_that_was_revoked_heals_itself() -> None:
    with LoopbackExchange() as exchange:
        app, secret = without("consent")(exchange)
        source = source_of(exchange, app, secret)
        source.get_token()  # cached, without the role
        exchange.grant_admin_consent(app)
        with opened(exchange, source) as imap:
            assert imap.state == "SELECTED"
        assert [login.outcome for login in exchange.logins] == ["refused", "connected"]
        assert len(exchange.token_requests) == 2


def test_a_token_obtained_for_this_very_login_is_not_tried_twice() -> None:
    source = Source("one", "two", age=-1)
    with pytest.raises(AuthenticationRefused):
        log_in(source, REFUSE)
    assert source.invalidated == []


def test_the_second_try_comes_once_in_a_minute() -> None:
    source = Source("one", "two", "three")
    with pytest.raises(AuthenticationRefused):
        log_in(source, REFUSE, REFUSE)
    with pytest.raises(AuthenticationRefused):
        log_in(source, REFUSE)
    assert source.invalidated == ["one"]


@pytest.mark.parametrize(
    ("second", "steps"),
    [
        ("two", [REFUSE, REFUSE._replace(reply="* BYE Connection closed. 14")]),
        (LookupError("no token"), [REFUSE]),
    ],
)
def test_a_second_try_that_fails_otherwise_leaves_the_first_refusal(
    second: Any, steps: list[Step]
) -> None:
    with pytest.raises(AuthenticationRefused, match=r"AUTHENTICATE failed\."):
        log_in(Source("one", second), *steps)


def test_an_invalidate_that_fails_leaves_the_refusal() -> None:
    class Broken(Source):
        def invalidate(self, token: AccessToken) -> None:
            raise ConnectionError(f"the cache is down, {token!r} stays")

    class Unhashable(Source):
        __hash__ = None  # type: ignore[assignment] # on purpose

    for source in (Broken("one", "two"), Unhashable("one", "two")):
        with pytest.raises(AuthenticationRefused):
            log_in(source, REFUSE)


def test_a_scope_that_is_asked_for_goes_before_the_credentials_own() -> None:
    class Credential(Source):
        scope = "https://graph.microsoft.com/.default"

        def get_token(self, *scopes: str) -> AccessToken:
            asked.extend(scopes)
            return super().get_token(*scopes)

    asked: list[str] = []
    scope = "https://outlook.office365.us/.default"
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with opened_scripted(server, Credential(TOKEN), scope=scope):
            pass
    assert set(asked) == {scope}


def test_an_access_token_of_azure_core_logs_in() -> None:
    class Foreign(NamedTuple):
        token: str
        expires_on: int

    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with opened_scripted(server, Foreign(TOKEN, 1)):
            pass


def test_a_credential_that_also_shows_a_token_is_asked_for_a_new_one() -> None:
    class Credential(Source):
        token = "the one of an hour ago"

    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with opened_scripted(server, Credential(TOKEN)):
            pass
    assert server.lines[1].endswith(TOKEN_LINE)


@pytest.mark.parametrize("issued", ["eyJodd", {"token": "eyJodd"}, None])
def test_a_credential_that_gives_no_token_object_is_named(issued: object) -> None:
    class Odd:
        def get_token(self, *_: str) -> object:
            return issued

    with pytest.raises(TypeError, match="no token with a text") as raised:
        with open_mailbox(USER, Odd()):  # type: ignore[arg-type] # on purpose
            pass
    assert "eyJodd" not in everything_in(raised.value)


def test_a_plain_token_is_tried_once() -> None:
    with pytest.raises(AuthenticationRefused):
        log_in(TOKEN, REFUSE)


# ---- CAPABILITY after the OK, which imaplib asks for from 3.13.15, 3.14.8 and 3.15.0 on ------


@pytest.mark.parametrize(
    "reply",
    [
        "{tag} BAD Not now.",
        "{tag} NO Server busy.",
        "{tag} OK but no list",
        "* CAPABILITY IMAP4rev1 \xff\n{tag} OK done.",
    ],
)
def test_once_the_server_said_ok_the_login_stands(reply: str) -> None:
    source = Source("one", "two")
    steps = [AUTHENTICATE, Step("{tag} CAPABILITY", reply, optional=True), SELECT, LOGOUT]
    with ScriptedImap([GREETING, capability(), *steps], tls=True) as server:
        with opened_scripted(server, source) as imap:
            assert "AUTH=XOAUTH2" in imap.capabilities
    assert source.invalidated == []


@pytest.mark.parametrize(("end", "said"), [("", "EOF"), ("* BYE Going down.", "Going down")])
def test_a_connection_that_breaks_after_the_ok_is_no_refusal(end: str, said: str) -> None:
    source = Source("one", "two")
    with pytest.raises(ConnectionFailed, match=said):
        with ScriptedImap(
            [GREETING, capability(), AUTHENTICATE, asked_next(end)], tls=True
        ) as server:
            with opened_scripted(server, source):
                pass
    assert source.invalidated == []


def test_a_connection_that_breaks_after_the_second_tries_ok_is_no_refusal() -> None:
    source = Source("one", "two")
    script = [GREETING, capability(), REFUSE, AUTHENTICATE, asked_next("* BYE Bye.")]
    with pytest.raises(ConnectionFailed):
        with ScriptedImap(script, tls=True) as server, opened_scripted(server, source):
            pass


def asked_next(reply: str) -> Step:
    """Whatever the client's first command after the login is."""
    return Step("{tag} (CAPABILITY|SELECT .+)", reply)


# ---- the body of open_mailbox ----------------------------------------------------------------

OPENING = [GREETING, capability(), AUTHENTICATE, SELECT]


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
    unknown = Step("{tag} NOOP", "{tag} BAD Command Argument Error. 11")
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


def test_a_folder_that_only_opens_for_reading_says_how_to_open_it() -> None:
    step = SELECT._replace(reply="* 0 EXISTS\n* OK [READ-ONLY] so\n{tag} OK [READ-ONLY] done.")
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, step], tls=True) as server:
        with pytest.raises(ImapError, match="readonly=True"), opened_scripted(server):
            pass


# ---- wrong arguments and leaks ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "token", "text"),
    [
        ("", TOKEN, "user is empty"),
        ("a@b\x01auth=Bearer x", TOKEN, "control character"),
        ("a@b\r\n", TOKEN, "control character"),
        ("a\ud800@b", TOKEN, "surrogate"),
        (USER, "", "token is empty"),
        (USER, "secret\x01token", "no bearer token"),
        (USER, "secret token", "no bearer token"),
    ],
)
def test_text_that_would_forge_the_message_is_refused(user: str, token: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as raised:
        open_mailbox(user, token)
    assert "secret" not in everything_in(raised.value)


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


def test_ctrl_c_during_the_login_leaves_no_token_in_the_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with ScriptedImap([GREETING, capability()], tls=True) as server:
        imap = connected(server)
        monkeypatch.setattr(imap, "readline", interrupted)
        with pytest.raises(KeyboardInterrupt) as raised:
            authenticate_xoauth2(imap, USER, TOKEN)
        imap.shutdown()
    assert TOKEN not in everything_in(raised.value)
    assert TOKEN_LINE.decode()[:40] not in everything_in(raised.value)


def test_a_send_that_the_application_put_in_place_is_kept() -> None:
    sent: list[bytes] = []
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, LOGOUT], tls=True) as server:
        with connected(server) as imap:
            original = imap.send

            def recording(data: bytes) -> None:
                sent.append(data)
                original(data)

            vars(imap)["send"] = recording
            authenticate_xoauth2(imap, USER, TOKEN, verify_mailbox=False)
            assert imap.send is recording
    assert len([line for line in sent if not line.endswith(b" CAPABILITY\r\n")]) == 2
