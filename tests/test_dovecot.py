"""The library against a real IMAP server: tokens of the loopback endpoint, Dovecot's mailboxes."""

from __future__ import annotations

import imaplib
import sys
from typing import Any

import pytest
from support.proxy import CountingProxy
from support.servers import DENIED, INBOX, WAITING, Servers

from exo_imap_oauth import InboxConfig, TokenSource, authenticate_xoauth2
from exo_imap_oauth.errors import AuthenticationRefused, ImapError, InsecureConnectionError

MESSAGE = b"From: someone@contoso.example\r\nSubject: Hello from Dovecot\r\n\r\nBody\r\n"


@pytest.fixture(scope="session", autouse=True)
def _message(servers: Servers) -> None:
    servers.dovecot.deliver(INBOX, MESSAGE)


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
    dovecot = servers.dovecot
    with (
        CountingProxy(dovecot.host, dovecot.plain_port) as proxy,
        servers.open(servers.source(), starttls=True, port=proxy.port) as imap,
    ):
        assert imap.state == "SELECTED"
    handshake = b"\x16\x03\x01"  # how a ClientHello begins
    in_plain_text, _, _ = proxy.sent_by_client.partition(handshake)
    assert in_plain_text.endswith(b" STARTTLS\r\n")
    assert b"AUTHENTICATE" not in proxy.sent_by_client


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
    assert _refusal(servers, token).challenge == servers.dovecot.challenge()


def test_a_wrong_audience_is_refused_with_the_challenge(servers: Servers) -> None:
    error = _refusal(servers, servers.source(scope="https://graph.microsoft.com/.default"))
    expected = servers.dovecot.challenge(token_is_valid=True)
    assert error.challenge == expected
    assert f'"status": "{expected["status"]}"' in str(error)


def test_a_denied_mailbox_is_refused_with_the_challenge(servers: Servers) -> None:
    refusal = _refusal(servers, servers.source(), DENIED)
    assert refusal.challenge == servers.dovecot.challenge(token_is_valid=True)


def test_a_folder_that_does_not_exist_is_named(servers: Servers) -> None:
    with pytest.raises(ImapError, match=r"did not open .*Sent Items.*NO"):
        with servers.open(servers.source(), folder="Sent Items"):
            pass


@pytest.mark.skipif(sys.version_info < (3, 14), reason="imap.idle() exists from CPython 3.14 on")
def test_imap_idle_tells_of_a_message_that_arrives(servers: Servers) -> None:
    with servers.open(servers.source(), WAITING) as imap, imap.idle(duration=10) as idler:
        servers.dovecot.deliver(WAITING, MESSAGE)
        assert ("EXISTS", [b"1"]) in idler
