"""Logins for the tests: a token, the steps of a scripted server, and what an administrator did."""

from __future__ import annotations

import base64
import imaplib
import itertools
import socket
import time
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import AccessToken, TokenSource, authenticate_xoauth2, open_mailbox
from support.scripted_imap import GREETING, ScriptedImap, Step, capability

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.testing import LoopbackExchange


USER = "inbox@contoso.example"
TOKEN = f"eyJhbGciOi.{'Not-a_real' * 150}.token~1"  # as long as Entra's
TOKEN_LINE = base64.b64encode(f"user={USER}\x01auth=Bearer {TOKEN}\x01\x01".encode())
AUTHENTICATE = Step(
    "{tag} AUTHENTICATE XOAUTH2 [A-Za-z0-9+/=]+", "{tag} OK AUTHENTICATE completed."
)
REFUSE = Step("{tag} AUTHENTICATE XOAUTH2 [A-Za-z0-9+/=]+", "{tag} NO AUTHENTICATE failed.")
SELECT = Step("{tag} (SELECT|EXAMINE) .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done.")
STATUS = Step(
    r"{tag} STATUS INBOX \(UIDVALIDITY\)", "* STATUS INBOX (UIDVALIDITY 1)\n{tag} OK done."
)
OPENING = [GREETING, capability(), AUTHENTICATE, SELECT]


def source_of(exchange: LoopbackExchange, app: Any, secret: str, **options: Any) -> TokenSource:
    """A source of the loopback Exchange's tokens for one application."""
    return TokenSource(
        app.tenant_id,
        app.client_id,
        secret,
        token_uri=exchange.token_uri(app.tenant_id),
        ssl_context=exchange.ssl_context,
        **options,
    )


def opened(exchange: LoopbackExchange, token: Any, user: str = USER, **options: Any) -> Any:
    """A mailbox of the loopback Exchange."""
    options = {"ssl_context": exchange.ssl_context, "port": exchange.port, **options}
    return open_mailbox(user, token, host=exchange.host, **options)


def connected(server: Any) -> imaplib.IMAP4_SSL:
    """A bare connection of imaplib that trusts the server."""
    imap = imaplib.IMAP4_SSL(server.host, server.port, ssl_context=server.ssl_context)
    # Else a command in two parts waits 40 ms, until the server acknowledges the first.
    imap.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return imap


def opened_scripted(server: ScriptedImap, token: Any = TOKEN, **options: Any) -> Any:
    """A mailbox of a scripted server."""
    options = {"ssl_context": server.ssl_context, "port": server.port, **options}
    return open_mailbox(USER, token, host=server.host, **options)


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


class Source:
    """Issues one token after another, each obtained ``age`` seconds ago."""

    _numbers = itertools.count()

    def __init__(self, *tokens: str | Exception, age: float = 100) -> None:
        self._number = next(self._numbers)  # an address may be that of an earlier test's source
        self.tokens = list(tokens)
        self.age = age
        self.invalidated: list[str] = []

    def __hash__(self) -> int:
        return hash((Source, self._number))

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
    """Log in to a scripted server that takes these steps."""
    with ScriptedImap([GREETING, capability(), *steps], tls=True) as server:
        imap = connected(server)
        try:
            authenticate_xoauth2(imap, USER, source, verify_mailbox=False)
        finally:
            imap.shutdown()
