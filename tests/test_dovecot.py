"""The library against a real IMAP server: tokens of the loopback endpoint, Dovecot's mailboxes."""

from __future__ import annotations

import imaplib
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.dovecot import Dovecot

from exo_imap_oauth import InboxConfig, TokenSource, authenticate_xoauth2, open_mailbox
from exo_imap_oauth.errors import AuthenticationRefused, ImapError, InsecureConnectionError
from exo_imap_oauth.testing import LoopbackExchange, ready_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

INBOX, DENIED = "inbox@contoso.example", "denied@contoso.example"
MESSAGE = b"From: someone@contoso.example\r\nSubject: Hello from Dovecot\r\n\r\nBody\r\n"
CHALLENGE = {"status": "401", "schemes": "bearer", "scope": "mail"}


class Servers(NamedTuple):
    exchange: ReadyExchange
    dovecot: Dovecot

    def source(self, **options: Any) -> TokenSource:
        app = self.exchange.app
        return TokenSource(
            app.tenant_id,
            app.client_id,
            self.exchange.secret.value,
            token_uri=self.exchange.token_uri(),
            ssl_context=self.exchange.ssl_context,
            **options,
        )

    def open(self, token: Any, user: str = INBOX, **options: Any) -> Any:
        options = {"port": self.dovecot.port} | options
        return open_mailbox(
            user, token, host=self.dovecot.host, ssl_context=self.dovecot.ssl_context, **options
        )


def _public_key(exchange: LoopbackExchange, folder: Path) -> dict[str, Any]:
    uri = f"{exchange.authority}/{exchange.tenant_id}"
    ca = exchange.write_ca(folder / "ca.pem")
    with requests.Session() as session:
        session.trust_env = False
        with session.get(f"{uri}/discovery/v2.0/keys", verify=str(ca)) as response:
            (key,) = response.json()["keys"]
    pem = jwt.PyJWK(key).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {"public_key_pem": pem, "kid": key["kid"]}


@pytest.fixture(scope="module")
def servers(dovecot_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ready_exchange() as exchange:
        options = _public_key(exchange, tmp_path_factory.mktemp("ca"))
        with Dovecot(
            **options,
            issuer=f"https://sts.windows.net/{exchange.app.tenant_id}/",
            audience="https://outlook.office365.com",
            users={exchange.app.enterprise_object_id: [INBOX, DENIED]},
            denied=[DENIED],
            binary=dovecot_binary,
        ) as dovecot:
            dovecot.deliver(INBOX, MESSAGE)
            yield Servers(exchange, dovecot)


def test_a_token_logs_in_on_a_plain_imaplib_connection(servers: Servers) -> None:
    dovecot = servers.dovecot
    with imaplib.IMAP4_SSL(dovecot.host, dovecot.port, ssl_context=dovecot.ssl_context) as imap:
        authenticate_xoauth2(imap, INBOX, servers.source())
        assert imap.select("INBOX") == ("OK", [b"1"])


def test_a_delivered_message_is_listed_and_fetched(servers: Servers) -> None:
    with servers.open(servers.source(), readonly=True) as imap:
        assert imap.search(None, "SUBJECT", "Dovecot") == ("OK", [b"1"])
        typ, ((_, message), _) = imap.fetch("1", "(RFC822)")
    assert typ == "OK"
    assert message.replace(b"\r\n", b"\n") == MESSAGE.replace(b"\r\n", b"\n")


def test_starttls_protects_the_token(servers: Servers) -> None:
    port = servers.dovecot.plain_port
    with servers.open(servers.source(), starttls=True, port=port) as imap:
        assert imap.state == "SELECTED"


def test_an_inbox_can_be_configured_for_starttls(servers: Servers) -> None:
    dovecot = servers.dovecot
    inbox = InboxConfig(
        user=INBOX,
        token_uri=servers.exchange.token_uri(),
        client_id=servers.exchange.app.client_id,
        client_secret=servers.exchange.secret.value,
        host=dovecot.host,
        port=dovecot.plain_port,
        tls="starttls",
    )
    with inbox.open(token=servers.source(), ssl_context=dovecot.ssl_context) as imap:
        assert imap.state == "SELECTED"


def test_bare_starttls_does_not_verify_and_gets_no_token(servers: Servers) -> None:
    with imaplib.IMAP4(servers.dovecot.host, servers.dovecot.plain_port) as imap:
        imap.starttls()
        with pytest.raises(InsecureConnectionError):
            authenticate_xoauth2(imap, INBOX, servers.source())


def _refusal(servers: Servers, token: Any, user: str = INBOX) -> AuthenticationRefused:
    with pytest.raises(AuthenticationRefused) as raised, servers.open(token, user):
        pass
    return raised.value


def test_an_expired_token_is_refused_with_the_challenge(servers: Servers) -> None:
    app = servers.exchange.register_app("old", token_lifetime=60)
    secret = servers.exchange.add_client_secret(app)
    servers.exchange.advance_clock(-600)
    try:
        token = TokenSource(
            app.tenant_id,
            app.client_id,
            secret.value,
            token_uri=servers.exchange.token_uri(),
            ssl_context=servers.exchange.ssl_context,
        ).get_token()
    finally:
        servers.exchange.advance_clock(600)
    assert _refusal(servers, token).challenge == CHALLENGE


def test_a_wrong_audience_is_refused_with_the_challenge(servers: Servers) -> None:
    error = _refusal(servers, servers.source(scope="https://graph.microsoft.com/.default"))
    assert error.challenge == CHALLENGE
    assert '"status": "401"' in str(error)


def test_a_denied_mailbox_is_refused_with_the_challenge(servers: Servers) -> None:
    assert _refusal(servers, servers.source(), DENIED).challenge == CHALLENGE


def test_a_folder_that_does_not_exist_is_named(servers: Servers) -> None:
    with pytest.raises(ImapError, match=r"did not open .*Sent Items.*NO"):
        with servers.open(servers.source(), folder="Sent Items"):
            pass
