"""Set-ups on the loopback Exchange with steps left out, and what their report says."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt

from exo_imap_oauth.checkup import Check, SetupReport, check_setup
from exo_imap_oauth.config import InboxConfig
from exo_imap_oauth.testing import LoopbackExchange
from support import authority, client_context, server_context
from support.token_endpoint import TokenEndpoint

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    import pytest

    from exo_imap_oauth.testing import ReadyExchange
    from exo_imap_oauth.testing._records import App, ClientSecret

CHECK_IDS = [
    "config", "token-endpoint", "token", "tenant", "application", "object-id", "audience", "role",
    "lifetime", "imap-endpoint", "mechanism", "authenticate", "mailbox",
]  # fmt: skip
USER, OTHER = "inbox@contoso.example", "other@contoso.example"
NOBODY = "f0000000-1111-4222-8333-444444444444"
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
    inbox = InboxConfig(**values)  # type: ignore[arg-type] # fields of several types
    for name, value in changes.items():
        object.__setattr__(inbox, name, value)  # past its own checks, which find most of them
    return inbox


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


def closed_port(stack: contextlib.ExitStack) -> int:
    """A port where nobody listens, and that nobody else gets as long as the stack is open."""
    taken = stack.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    port: int = taken.getsockname()[1]
    return port


def trusting(exchange: LoopbackExchange) -> ssl.SSLContext:
    """A context that trusts the loopback Exchange and the servers of ``support``."""
    context = client_context()
    context.load_verify_locations(cadata=exchange.ca_pem.decode())
    return context


@dataclass
class Setup:
    """What an administrator did; each function below leaves out or mistakes one thing."""

    exchange: LoopbackExchange
    app: App
    secret: ClientSecret
    inbox: InboxConfig
    object_id: str | None
    ssl_context: ssl.SSLContext


def set_up(exchange: LoopbackExchange, stack: contextlib.ExitStack, mistakes: set[str]) -> Setup:
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
    other_host = server_context(authority().issue_cert("mail.fabrikam.example"))
    stranger = stack.enter_context(TokenEndpoint(b"", context=other_host))
    closed = closed_port(stack)
    changes: dict[str, dict[str, Any]] = {
        "secret": {"client_secret": "wrong-secret-of-some-length"},
        "value of the secret": {"client_secret": secret.secret_id},
        "tenant": {"token_uri": exchange.token_uri(NOBODY)},
        "client": {"client_id": NOBODY},
        "mailbox name": {"user": "nobody@contoso.example"},
        "exchange scope": {"scope": GRAPH},
        "token endpoint": {"token_uri": f"https://localhost:{closed}/{app.tenant_id}/token"},
        "imap port": {"port": closed},
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
        done = set_up(exchange, stack, set(mistakes))
        report = check_setup(
            done.inbox,
            enterprise_object_id=done.object_id,
            ssl_context=done.ssl_context,
            timeout=10,
        )
    return report, done


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


def everything(report: SetupReport) -> str:
    texts = (str(report), repr(report), report._repr_html_(), json.dumps(report.as_dict()))
    return "\n".join(texts)
