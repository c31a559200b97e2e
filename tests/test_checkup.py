"""check_setup: for each step that an administrator left out, the check that says so."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import pickle
import socket
import ssl
import threading
import uuid
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import jwt
import pytest
from support import authority, client_context, server_context
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability
from support.servers import DENIED, Servers
from support.token_endpoint import TokenEndpoint, http, rejected
from typing_extensions import override

from exo_imap_oauth.checkup import Check, SetupReport, check_setup
from exo_imap_oauth.config import InboxConfig
from exo_imap_oauth.testing import Fault, LoopbackExchange, ready_exchange
from exo_imap_oauth.token_cache import default_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.testing import ReadyExchange
    from exo_imap_oauth.testing._records import App, ClientSecret

CHECK_IDS = [
    "config", "token-endpoint", "token", "tenant", "application", "object-id", "audience", "role",
    "lifetime", "imap-endpoint", "mechanism", "authenticate", "mailbox",
]  # fmt: skip
USER, OTHER = "inbox@contoso.example", "other@contoso.example"
NOBODY = "00000000-1111-4222-8333-444444444444"
GRAPH = "https://graph.microsoft.com/.default"


def inbox_of(exchange: ReadyExchange, **changes: Any) -> InboxConfig:
    return inbox_for(exchange, exchange.secret, **changes)


def inbox_for(exchange: LoopbackExchange, secret: ClientSecret, **changes: Any) -> InboxConfig:
    values = {
        "user": USER,
        "token_uri": exchange.token_uri(secret.app.tenant_id),
        "client_id": secret.app.client_id,
        "client_secret": secret.value,
        "host": exchange.host,
        "port": exchange.port,
    }
    return InboxConfig(**values | changes)  # type: ignore[arg-type] # fields of several types


def statuses(report: SetupReport) -> dict[str, str]:
    return {check.id: check.status for check in report.checks}


def check(report: SetupReport, check_id: str) -> Check:
    return next(check for check in report.checks if check.id == check_id)


def failures(report: SetupReport) -> list[str]:
    return [check.id for check in report.checks if check.status == "failed"]


def always(answer: Any) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        return answer

    return function


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


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


def trusting(exchange: LoopbackExchange) -> ssl.SSLContext:
    """A context that trusts the loopback Exchange and the servers of ``support``."""
    context = client_context()
    context.load_verify_locations(cadata=exchange.ca_pem.decode())
    return context


# ---- the administrator's steps ---------------------------------------------------------------


@dataclass
class Setup:
    """What an administrator did; each function below leaves out or mistakes one thing."""

    exchange: LoopbackExchange
    app: App
    secret: ClientSecret
    inbox: InboxConfig
    object_id: str | None
    ssl_context: ssl.SSLContext


def _set_up(exchange: LoopbackExchange, stack: contextlib.ExitStack, mistakes: set[str]) -> Setup:
    def did(step: str) -> bool:
        return step not in mistakes

    app = exchange.register_app("bot")
    if did("permission"):
        exchange.add_permission(app, "IMAP.AccessAsApp")
    if did("consent"):
        exchange.grant_admin_consent(app)
    secret = exchange.add_client_secret(app, lifetime=60 if did("unexpired secret") else -60)
    for mailbox in (USER, OTHER):
        exchange.add_mailbox(mailbox, imap_enabled=did("imap"))
    object_id = app.enterprise_object_id if did("right object id") else app.app_object_id
    if did("service principal"):
        exchange.new_service_principal(app.client_id, object_id)
    if did("mailbox permission"):
        mailbox = USER if did("permission on this mailbox") else OTHER
        exchange.add_mailbox_permission(mailbox, object_id, "FullAccess")
    if not did("clock"):
        exchange.advance_clock(300)
    other_host = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # trustme also names pyOpenSSL's context, which is not installed.
    authority().issue_cert("mail.fabrikam.example").configure_cert(other_host)  # pyright: ignore[reportUnknownMemberType] # its types
    stranger = stack.enter_context(TokenEndpoint(b"", context=other_host))
    changes: dict[str, dict[str, Any]] = {
        "secret": {"client_secret": "wrong-secret-of-some-length"},
        "value of the secret": {"client_secret": secret.secret_id},
        "tenant": {"token_uri": exchange.token_uri(NOBODY)},
        "client": {"client_id": NOBODY},
        "mailbox name": {"user": "nobody@contoso.example"},
        "exchange scope": {"scope": GRAPH},
        "token endpoint": {"token_uri": f"https://localhost:{free_port()}/{app.tenant_id}/token"},
        "imap port": {"port": free_port()},
        "certificate": {"host": "127.0.0.1", "port": stranger.port},
        "endpoint certificate": {"token_uri": stranger.url},
        "folder": {"folder": "No such folder"},
        "tls": {"tls": "none"},
    }
    made = [change for mistake, change in changes.items() if mistake in mistakes]
    inbox = inbox_for(exchange, secret, **{k: v for change in made for k, v in change.items()})
    given = None if "no object id given" in mistakes else object_id
    return Setup(exchange, app, secret, inbox, given, trusting(exchange))


def report_on(*mistakes: str) -> tuple[SetupReport, Setup]:
    with LoopbackExchange() as exchange, contextlib.ExitStack() as stack:
        done = _set_up(exchange, stack, set(mistakes))
        report = check_setup(
            done.inbox,
            enterprise_object_id=done.object_id,
            ssl_context=done.ssl_context,
            timeout=10,
        )
    return report, done


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
        ("folder", "mailbox", None, set[str]()),
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
    for secret in (done.secret.value, done.inbox.client_secret):
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
        done = _set_up(exchange, stack, {"mailbox permission"})
        report = check_setup(done.inbox, enterprise_object_id=NOBODY, ssl_context=done.ssl_context)
    assert failures(report) == ["object-id", "mailbox"]
    advice = check(report, "mailbox").advice
    assert advice
    assert NOBODY not in " ".join(advice.commands)
    assert done.app.enterprise_object_id in " ".join(advice.commands)


def test_the_pasted_secret_id_is_named() -> None:
    report, _ = report_on("value of the secret")
    assert "Secret ID" in str(report)


def test_tls_none_says_what_to_write() -> None:
    report, _ = report_on("tls")
    assert 'tls="implicit"' in check(report, "imap-endpoint").detail


# ---- tokens of other kinds -------------------------------------------------------------------


def issuing(exchange: LoopbackExchange, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the token endpoint issue genuine tokens with other claims; None leaves one out."""
    issuer = exchange._issuer
    issue = issuer.issue

    def changed(*arguments: Any) -> str:
        claims = jwt.decode(issue(*arguments), options={"verify_signature": False}) | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        headers = {"kid": issuer._key_id}
        return jwt.encode(claims, issuer._key, algorithm="RS256", headers=headers)

    monkeypatch.setattr(issuer, "issue", changed)


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


# ---- strange servers -------------------------------------------------------------------------


def test_a_context_that_does_not_verify_gets_neither_secret_nor_token(
    exchange: ReadyExchange,
) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    report = check_setup(inbox_of(exchange), ssl_context=context)
    assert failures(report) == ["token-endpoint", "imap-endpoint"]
    assert exchange.token_requests == ()
    assert exchange.logins == ()


def test_an_outage_of_entra_beyond_the_time_is_reported_at_once(exchange: ReadyExchange) -> None:
    exchange.inject(Fault.TOKEN_UNAVAILABLE, times=None, seconds=3600)
    report = check_setup(inbox_of(exchange), ssl_context=exchange.ssl_context)
    first = report.first_failure
    assert first
    assert (first.id, first.advice and first.advice.id) == ("token", "entra-unavailable")
    assert "503" in first.detail


def test_the_token_endpoint_is_looked_at_with_a_get_of_its_root_before_a_secret_is_sent(
    exchange: ReadyExchange,
) -> None:
    with TokenEndpoint(http(404), rejected()) as endpoint:
        inbox = inbox_of(exchange, token_uri=endpoint.url)
        report = check_setup(inbox, ssl_context=trusting(exchange))
    assert failures(report) == ["token"]
    assert [head.split("HTTP")[0] for head in endpoint.headers] == [
        "GET / ",
        f"POST {endpoint.url.partition(str(endpoint.port))[2]} ",
    ]
    assert endpoint.forms[0] == {}


def test_a_server_without_xoauth2_gets_no_token(exchange: ReadyExchange) -> None:
    with ScriptedImap([GREETING, capability("IMAP4rev1 AUTH=PLAIN"), LOGOUT], tls=True) as server:
        inbox = inbox_of(exchange, host=server.host, port=server.port)
        report = check_setup(inbox, ssl_context=trusting(exchange))
    assert failures(report) == ["mechanism"]
    assert "AUTH=PLAIN" in check(report, "mechanism").detail


class Dripping:
    """An IMAP server that sends a byte now and then, from some point on.

    Args:
        commands: So many it answers before.
        end: What it says when :attr:`over` is set.

    Attributes:
        over: Set it to have it stop; leaving the ``with`` does so too.
        closed_by_client: Whether the client has closed the connection when it ends.
    """

    def __init__(self, commands: int, end: bytes = b"") -> None:
        self._commands = commands
        self._end = end
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.over = threading.Event()
        self.closed_by_client = False
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join(60)
        self._listener.close()

    def _serve(self) -> None:
        raw, _ = self._listener.accept()
        raw.settimeout(60)
        with raw, server_context().wrap_socket(raw, server_side=True) as connection:
            try:
                if self._commands:
                    connection.sendall(b"* OK hello\r\n")
                for _ in range(self._commands):
                    self._answer(connection)
                connection.sendall(b"* OK ")
                while not self.over.wait(0.02):
                    connection.sendall(b"*")
                if self._end:
                    connection.sendall(self._end)
                    self._answer(connection)
                while connection.recv(65536):
                    pass
            except TimeoutError:
                return
            except OSError:  # closed without an end of TLS
                pass
            self.closed_by_client = True

    def _answer(self, connection: ssl.SSLSocket) -> None:
        tag, _, _ = connection.recv(65536).partition(b" ")
        offered = b"* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR\r\n"
        connection.sendall(offered + tag + b" OK done\r\n")


def join_checkup_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "exo_imap_oauth-checkup":
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("commands", "check_id", "advice_id"),
    [
        (0, "imap-endpoint", "imap-unreachable"),
        (1, "authenticate", "connection-closed"),
        (2, "mailbox", "connection-closed"),
    ],
)
def test_a_server_that_drips_is_left_in_time(
    exchange: ReadyExchange, commands: int, check_id: str, advice_id: str
) -> None:
    with Dripping(commands) as server:
        inbox = inbox_of(exchange, host="127.0.0.1", port=server.port)
        report = check_setup(inbox, ssl_context=trusting(exchange), timeout=1.5)
    join_checkup_threads()
    first = report.first_failure
    assert first
    assert (first.id, first.advice and first.advice.id) == (check_id, advice_id)
    assert "1.5 s" in first.detail
    assert server.closed_by_client


def test_a_connection_that_is_made_too_late_is_closed(exchange: ReadyExchange) -> None:
    with Dripping(0, end=b"\r\n") as server:
        inbox = inbox_of(exchange, host="127.0.0.1", port=server.port)
        report = check_setup(inbox, ssl_context=trusting(exchange), timeout=1.5)
        server.over.set()
        join_checkup_threads()
    assert failures(report) == ["imap-endpoint"]
    assert server.closed_by_client


@pytest.mark.parametrize(
    ("fault", "command", "check_id", "advice_id"),
    [
        (Fault.TOKEN_EXPIRED_CERTIFICATE, None, "token-endpoint", "certificate-untrusted"),
        (Fault.TOKEN_FOREIGN_CERTIFICATE, None, "token-endpoint", "certificate-untrusted"),
        (Fault.TOKEN_REFUSE, None, "token-endpoint", "token-endpoint-unreachable"),
        (Fault.TOKEN_HTML, None, "token", "token-endpoint-unreachable"),
        (Fault.TOKEN_THROTTLED, None, "token", "throttled"),
        (Fault.IMAP_BYE_GREETING, None, "imap-endpoint", "imap-unreachable"),
        (Fault.IMAP_NO_XOAUTH2, None, "mechanism", None),
        (Fault.IMAP_CONNECTION_CLOSED, "AUTHENTICATE", "authenticate", "connection-closed"),
        (Fault.IMAP_CHALLENGE, None, "authenticate", "authenticate-refused"),
        (Fault.IMAP_STALL, "EXAMINE", "mailbox", "connection-closed"),
        (Fault.IMAP_THROTTLED, "EXAMINE", "mailbox", "throttled"),
    ],
)
def test_a_fault_on_the_way_is_reported_where_it_struck(
    exchange: ReadyExchange, fault: Fault, command: str | None, check_id: str, advice_id: str | None
) -> None:
    # What is asked for goes beyond the time, so that nothing is waited for but a stall.
    seconds = 3600 if fault is Fault.TOKEN_THROTTLED else None
    exchange.inject(fault, times=None, command=command, seconds=seconds)
    report = check_setup(
        inbox_of(exchange),
        ssl_context=exchange.ssl_context,
        timeout=1.5 if fault in (Fault.IMAP_STALL, Fault.TOKEN_REFUSE) else 30,
    )
    first = report.first_failure
    assert first
    assert (first.id, first.advice and first.advice.id) == (check_id, advice_id), str(report)
    if fault is Fault.IMAP_CHALLENGE:
        assert "(challenge: " in first.detail


def test_a_token_endpoint_that_says_nothing_is_left_in_time(exchange: ReadyExchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"https://127.0.0.1:{listener.getsockname()[1]}/{NOBODY}/oauth2/v2.0/token"
        report = check_setup(
            inbox_of(exchange, token_uri=uri), ssl_context=exchange.ssl_context, timeout=0.4
        )
    assert report.first_failure
    assert report.first_failure.id == "token-endpoint"


@pytest.mark.parametrize(
    ("changes", "check_id", "text"),
    [
        ({"folder": "a\u200bb"}, "config", "invisible"),
        ({"user": "a\ud800@contoso.example"}, "config", "surrogate"),
        ({"client_id": "an id"}, "config", "client_id"),
        ({"client_secret": None}, "config", "client_secret is not a string"),
        ({"token_uri": "https://[x/"}, "config", "Invalid IPv6 URL"),
        ({"host": "a" * 64 + ".example"}, "imap-endpoint", "Unicode"),
    ],
)
def test_values_that_cannot_work_are_findings_not_exceptions(
    exchange: ReadyExchange, changes: dict[str, Any], check_id: str, text: str
) -> None:
    report = check_setup(inbox_of(exchange, **changes), ssl_context=exchange.ssl_context)
    assert failures(report) == [check_id]
    assert text in check(report, check_id).detail


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_no_thread_can_wait_for_is_refused(
    exchange: ReadyExchange, timeout: float
) -> None:
    with pytest.raises(ValueError, match="timeout"):
        check_setup(inbox_of(exchange), timeout=timeout)


# ---- a real server ---------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_against_dovecot_all_that_applies_passes(servers: Servers, tls: str) -> None:
    exchange, server = servers.exchange, servers.dovecot
    port = server.port if tls == "implicit" else server.plain_port
    report = check_setup(
        inbox_of(exchange, host=server.host, port=port, tls=tls),
        enterprise_object_id=exchange.app.enterprise_object_id,
        ssl_context=trusting(exchange),
    )
    assert set(statuses(report).values()) == {"passed"}, str(report)


def test_dovecots_challenge_stands_in_the_report(servers: Servers) -> None:
    exchange, server = servers.exchange, servers.dovecot
    report = check_setup(
        inbox_of(exchange, host=server.host, port=server.port, user=DENIED),
        ssl_context=trusting(exchange),
    )
    assert failures(report) == ["authenticate"]
    refused = check(report, "authenticate")
    assert json.dumps(server.challenge(token_is_valid=True)) in refused.detail
    assert "[AUTHENTICATIONFAILED]" in refused.detail
    assert refused.advice is None  # it is not for us to explain Dovecot
    assert check(report, "mailbox").status == "skipped"


# ---- nothing leaks ---------------------------------------------------------------------------


def everything(report: SetupReport) -> str:
    texts = (str(report), repr(report), report._repr_html_(), json.dumps(report.as_dict()))
    return "\n".join(texts)


SECRET = "s3cr3t~Value+with/odd=chars&of.an.application"
TOKEN = "eyJhbGciOiJub25lIn0." + "QWxsIHRoaXMgaXMgc2VjcmV0" * 30 + ".c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("NO you sent {token}", id="the token"),
        pytest.param("NO it was {token} and AUTHENTICATE failed.", id="in a known text"),
        pytest.param("NO {part}", id="a part of it"),
        pytest.param("BAD {sasl}", id="the SASL message"),
        pytest.param("NO {secret}, and as a form: {form}", id="the secret"),
    ],
)
def test_what_a_server_echoes_of_token_and_secret_is_hidden(
    exchange: ReadyExchange,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(exchange._issuer, "issue", always(TOKEN))
    monkeypatch.setattr(exchange._directory, "find_secret", always(exchange.secret))
    sasl = base64.b64encode(f"user={USER}\x01auth=Bearer {TOKEN}\x01\x01".encode()).decode()
    form = urlencode({"s": SECRET})[2:]
    reply = said.format(token=TOKEN, part=TOKEN[30:90], sasl=sasl, secret=SECRET, form=form)
    challenge = base64.b64encode(json.dumps({"status": "401", "token": TOKEN}).encode()).decode()
    script = [
        GREETING,
        capability(),
        Step("{tag} AUTHENTICATE XOAUTH2 .+", f"+ {challenge}"),
        Step("", f"{{tag}} {reply}"),
    ]
    with ScriptedImap([*script, LOGOUT], tls=True) as server:
        inbox = inbox_of(exchange, host=server.host, port=server.port, client_secret=SECRET)
        report = check_setup(inbox, ssl_context=trusting(exchange))
    assert failures(report) == ["authenticate"]
    seen = everything(report) + caplog.text
    for secret in (TOKEN, SECRET, sasl, form):
        for start in range(0, len(secret) - 16, 8):
            assert secret[start : start + 16] not in seen
    assert "(hidden)" in seen or "(the token)" in seen


def test_claims_that_hold_the_secret_do_not_get_it_into_the_advice(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = exchange.secret.value
    issuing(exchange, monkeypatch, aud=value, oid=value, tid=value, roles=[value])
    report = check_setup(
        inbox_of(exchange), enterprise_object_id=NOBODY, ssl_context=exchange.ssl_context
    )
    assert {"tenant", "object-id", "audience"} <= set(failures(report))
    assert value[:20] not in everything(report)
    assert "(hidden)" in str(report)


# ---- the report ------------------------------------------------------------------------------


def test_the_text_is_readable_at_80_columns_and_commands_stay_whole() -> None:
    report, done = report_on("consent", "right object id")
    lines = str(report).splitlines()
    unbreakable = [line for line in lines if len(line) > 80]
    assert all("https://" in line or line.startswith("        ") for line in unbreakable)
    assert str(report).isascii()
    assert "FAILED   role" in str(report)
    assert "    Cause and fix: those of role." in lines
    new = (
        f"        New-ServicePrincipal -AppId '{done.app.client_id}'"
        f" -ObjectId '{done.app.enterprise_object_id}'"
    )
    assert new in lines
    assert not any(line != line.rstrip() for line in lines)


def test_the_dict_is_json_and_says_the_same() -> None:
    report, _ = report_on("mailbox permission")
    found = json.loads(json.dumps(report.as_dict()))
    assert found["ok"] is False
    assert found["mailbox"] == USER
    assert found["first_failure"] == "mailbox"
    assert [each["id"] for each in found["checks"]] == CHECK_IDS
    last = found["checks"][-1]
    assert set(last) == {"id", "title", "status", "detail", "advice"}
    assert last["advice"]["id"] == "mailbox-not-connected"
    assert last["advice"]["commands"]
    assert found["checks"][0]["advice"] is None


def test_a_report_survives_pickle() -> None:
    report, _ = report_on("mailbox permission")
    assert pickle.loads(pickle.dumps(report)) == report


class Page(HTMLParser):
    """The text and tags of a page that is well-formed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes += attrs

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.text += data


def test_the_html_says_the_same_needs_nothing_else_and_runs_nothing() -> None:
    report, done = report_on("mailbox permission", "permission")
    page = Page(report._repr_html_())
    for each in report.checks:
        assert each.title in page.text
        assert each.detail in page.text
        if each.advice:
            assert each.advice.cause in page.text
            assert all(command in page.text for command in each.advice.commands)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "form"}
    assert {name for name, _ in page.attributes} <= {"class", "href", "rel"}
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert all(link.startswith("https://") for link in links)
    assert any(done.app.client_id in link for link in links)
    assert "url(" not in report._repr_html_()


def test_the_html_escapes_everything(exchange: ReadyExchange) -> None:
    hostile = """a"b'&<!--@contoso.example"""
    report = check_setup(
        inbox_of(exchange, user=hostile, folder="<b>&amp;"), ssl_context=exchange.ssl_context
    )
    page = Page(report._repr_html_())
    assert hostile in page.text
    assert "b" in page.tags  # the badges
    assert hostile not in report._repr_html_()


def test_the_badge_of_the_report_is_that_of_its_worst_check() -> None:
    checks = [Check(str(uuid.uuid4()), "", "passed", "")]
    for status in ("skipped", "warning", "failed"):
        checks.insert(0, replace(checks[0], status=status))
        header, _, _ = SetupReport(USER, tuple(checks))._repr_html_().partition("</header>")
        badge = "passed" if status == "skipped" else status
        assert f'<b class="{badge}">' in header
