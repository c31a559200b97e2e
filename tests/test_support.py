"""The test servers do what tests rely on, shown with plain imaplib."""

from __future__ import annotations

import binascii
import contextlib
import imaplib
import json
import ssl
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from support import client_context
from support.dovecot import Dovecot
from support.proxy import CountingProxy
from support.scripted_imap import (
    CLIENT_CLOSES,
    GREETING,
    LOGOUT,
    ScriptedImap,
    Step,
    capability,
)
from support.servers import (
    AUDIENCE,
    DENIED,
    ISSUER,
    KID,
    OBJECT_ID,
    OTHER_OBJECT_ID,
    SALES,
    SUPPORT,
    Servers,
    public_pem,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from cryptography.hazmat.primitives.asymmetric import rsa

REFUSAL = b"[AUTHENTICATIONFAILED] Authentication failed."
LIMIT = 60.0  # s, for an answer, however busy the machine


@pytest.fixture
def key(servers: Servers) -> rsa.RSAPrivateKey:
    return servers.key


@pytest.fixture
def dovecot(servers: Servers) -> Dovecot:
    return servers.dovecot


def other_dovecot(servers: Servers, **options: Any) -> Dovecot:
    return Dovecot(
        {KID: public_pem(servers.key.public_key())},
        issuers=[ISSUER],
        audience=AUDIENCE,
        users={OBJECT_ID: SUPPORT},
        **options,
    )


def token(key: rsa.RSAPrivateKey, *without: str, **changes: object) -> str:
    now = int(time.time())
    claims: dict[str, object] = {
        "aud": AUDIENCE,
        "iss": ISSUER,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "oid": OBJECT_ID,
        "sub": OBJECT_ID,
        "roles": ["IMAP.AccessAsApp"],
    } | changes
    for name in without:
        del claims[name]
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": KID})


class Login:
    """The callback for imaplib; keeps the challenges that came after its answer."""

    def __init__(self, user: str, access_token: str) -> None:
        self.response = f"user={user}\x01auth=Bearer {access_token}\x01\x01".encode()
        self.challenges: list[bytes] = []
        self._answered = False

    def __call__(self, challenge: bytes) -> bytes:
        if self._answered:
            self.challenges.append(challenge)
            return b""
        self._answered = True
        return self.response


@contextlib.contextmanager
def connected(server: Dovecot | ScriptedImap, port: int | None = None) -> Generator[imaplib.IMAP4]:
    """An IMAP client over TLS that is closed whatever happens, without LOGOUT."""
    imap = imaplib.IMAP4_SSL(
        server.host, port or server.port, ssl_context=server.ssl_context, timeout=LIMIT
    )
    try:
        yield imap
    finally:
        with contextlib.suppress(OSError):  # after LOGOUT it is closed already
            imap.shutdown()


def report(timing: str) -> None:
    """Timings are shown with ``pytest -s`` or beside a failure, and decide nothing."""
    print(timing)  # noqa: T201 - that is what it is for


def members(process_group: int) -> list[str]:
    """The processes of a group that still run (a zombie only waits for init to notice)."""
    found: list[str] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(") ")
            state, _, group, *_ = rest.split()
            if int(group) == process_group and state not in "ZX":
                found.append(name)
    return found


# Dovecot ------------------------------------------------------------------------------------


def test_dovecot_lets_a_token_in_and_serves_what_was_delivered(
    dovecot: Dovecot, key: rsa.RSAPrivateKey
) -> None:
    dovecot.deliver(SUPPORT, b"Subject: one\r\n\r\nThe first.\r\n")

    with connected(dovecot) as imap:
        assert {"AUTH=XOAUTH2", "SASL-IR"} <= set(imap.capabilities)
        begin = time.monotonic()
        answer = imap.authenticate("XOAUTH2", Login(SUPPORT, token(key)))
        report(f"logged in after {time.monotonic() - begin:.3f} s")
        assert answer[0] == "OK"
        assert str(answer[1]).endswith("Logged in']")
        assert imap.list() == ("OK", [rb'(\HasNoChildren) "." INBOX'])
        assert imap.select() == ("OK", [b"1"])
        assert imap.search(None, "SUBJECT", "one") == ("OK", [b"1"])
        status, data = imap.fetch("1", "(BODY.PEEK[TEXT])")
        assert status == "OK"
        assert (b"1 (BODY[TEXT] {12}", b"The first.\r\n") in data
        dovecot.deliver(SUPPORT, b"Subject: two\r\n\r\nThe second.\r\n")
        imap.noop()
        assert imap.response("EXISTS") == ("EXISTS", [b"1", b"2"])
        imap.logout()


def test_dovecot_reads_mailbox_names_without_case(dovecot: Dovecot, key: rsa.RSAPrivateKey) -> None:
    with connected(dovecot) as imap:
        assert imap.authenticate("XOAUTH2", Login(SUPPORT.upper(), token(key)))[0] == "OK"


def test_dovecot_opens_a_mailbox_to_its_service_principal_only(
    dovecot: Dovecot, key: rsa.RSAPrivateKey
) -> None:
    with connected(dovecot) as imap:
        with pytest.raises(imaplib.IMAP4.error):
            imap.authenticate("XOAUTH2", Login(SALES, token(key)))
        login = Login(SALES, token(key, oid=OTHER_OBJECT_ID))
        assert imap.authenticate("XOAUTH2", login)[0] == "OK"


@pytest.mark.parametrize(
    ("user", "changes", "token_is_valid"),
    [
        pytest.param(SUPPORT, {"exp": 1_500_000_000}, False, id="expired"),
        pytest.param(SUPPORT, {"aud": "https://graph.microsoft.com"}, True, id="wrong-audience"),
        pytest.param(SUPPORT, {"iss": "https://sts.windows.net/other/"}, False, id="wrong-issuer"),
        pytest.param(SUPPORT, {"oid": "other"}, True, id="wrong-service-principal"),
        pytest.param(DENIED, {}, True, id="denied-mailbox"),
        pytest.param("nobody@contoso.example", {}, True, id="unknown-mailbox"),
    ],
)
def test_dovecot_refuses_with_a_challenge(
    dovecot: Dovecot,
    key: rsa.RSAPrivateKey,
    user: str,
    changes: dict[str, object],
    *,
    token_is_valid: bool,
) -> None:
    login = Login(user, token(key, **changes))

    with (
        CountingProxy(dovecot.host, dovecot.plain_port) as proxy,
        imaplib.IMAP4(proxy.host, proxy.port, timeout=LIMIT) as imap,
    ):
        begin = time.monotonic()
        with pytest.raises(imaplib.IMAP4.error) as caught:
            imap.authenticate("XOAUTH2", login)
        report(f"refused after {time.monotonic() - begin:.3f} s")
        *_, challenge, empty, refusal = proxy.connections[0].flights

    expected = dovecot.challenge(token_is_valid=token_is_valid)
    assert [json.loads(text) for text in login.challenges] == [expected]
    assert caught.value.args == (REFUSAL.decode(),)
    assert challenge.data == b"+ " + b64encode(login.challenges[0]) + b"\r\n"
    assert empty.data == b"\r\n"
    assert refusal.data.partition(b" ")[2] == b"NO " + REFUSAL + b"\r\n"


def test_dovecot_answers_unavailable_without_a_challenge_to_a_token_without_oid(
    dovecot: Dovecot, key: rsa.RSAPrivateKey
) -> None:
    login = Login(SUPPORT, token(key, "oid"))

    with (
        connected(dovecot) as imap,
        pytest.raises(imaplib.IMAP4.error, match=r"^\[UNAVAILABLE\] Temporary authentication"),
    ):
        imap.authenticate("XOAUTH2", login)

    assert login.challenges == []


def test_dovecot_offers_starttls_on_its_second_port(
    dovecot: Dovecot, key: rsa.RSAPrivateKey
) -> None:
    with imaplib.IMAP4(dovecot.host, dovecot.plain_port, timeout=LIMIT) as imap:
        assert {"STARTTLS", "AUTH=XOAUTH2"} <= set(imap.capabilities)
        imap.starttls(dovecot.ssl_context)
        assert imap.authenticate("XOAUTH2", Login(SUPPORT, token(key)))[0] == "OK"


def test_dovecot_can_hide_capabilities(servers: Servers) -> None:
    with other_dovecot(servers, capability="IMAP4rev1") as server, connected(server) as imap:
        assert not {"SASL-IR", "IDLE"} & set(imap.capabilities)
        assert "AUTH=XOAUTH2" in imap.capabilities
        assert imap.authenticate("XOAUTH2", Login(SUPPORT, token(servers.key)))[0] == "OK"


def test_dovecot_leaves_nothing_behind(servers: Servers) -> None:
    with other_dovecot(servers) as server, connected(server):
        assert members(server.pid)
    assert members(server.pid) == []
    assert not server.folder.exists()
    assert "starting up for imap" in server.log


def test_dovecot_that_does_not_start_says_why(servers: Servers) -> None:
    server = other_dovecot(servers, capability="IMAP4rev1\nno_such_setting = 1")
    with pytest.raises(RuntimeError, match=r"did not start:\n(.*\n)*.*Unknown setting"), server:
        pass
    assert not server.folder.exists()


# CountingProxy ------------------------------------------------------------------------------


def test_proxy_counts_the_round_trips_of_a_login_through_tls(
    dovecot: Dovecot, key: rsa.RSAPrivateKey
) -> None:
    with CountingProxy(dovecot.host, dovecot.port) as proxy:
        with connected(dovecot, proxy.port) as imap:
            (connection,) = proxy.connections
            # TCP, TLS, greeting, and CAPABILITY unless imaplib reads it in the greeting.
            before = connection.round_trips
            assert before in {3, 4}
            imap.authenticate("XOAUTH2", Login(SUPPORT, token(key)))
            # AUTHENTICATE, token.
            assert connection.round_trips == before + 2
            senders = [flight.sender for flight in connection.flights]
            assert senders == ["client", "server"] * (before + 1)
        assert b"AUTHENTICATE" not in proxy.sent_by_client


def test_proxy_shows_every_byte_of_a_plain_connection(dovecot: Dovecot) -> None:
    with CountingProxy(dovecot.host, dovecot.plain_port) as proxy:
        with imaplib.IMAP4(proxy.host, proxy.port, timeout=LIMIT) as imap:
            # TCP, greeting, and CAPABILITY unless imaplib reads it in the greeting.
            before = proxy.connections[0].round_trips
            assert before in {2, 3}
            imap.noop()
            assert proxy.connections[0].round_trips == before + 1
        commands = [line.partition(b" ")[2] for line in proxy.sent_by_client.splitlines()]
        assert commands == [b"CAPABILITY"] * (before - 2) + [b"NOOP", b"LOGOUT"]
        senders = [flight.sender for flight in proxy.connections[0].flights]
        assert senders == ["server", *["client", "server"] * before]
        assert proxy.connections[0].sent_by_server.count(b"OK NOOP completed") == 1


def test_proxy_ends_with_connections_still_open(dovecot: Dovecot) -> None:
    with contextlib.ExitStack() as clients:
        with CountingProxy(dovecot.host, dovecot.plain_port) as proxy:
            imaps = [imaplib.IMAP4(proxy.host, proxy.port, timeout=LIMIT) for _ in range(3)]
            for imap in imaps:
                clients.callback(imap.shutdown)
        assert len(proxy.connections) == 3
        with pytest.raises(imaplib.IMAP4.abort):
            imaps[0].noop()


def test_proxy_without_a_server_tells_the_test() -> None:
    with ScriptedImap() as unused:
        port = unused.port
    with (
        pytest.raises(ConnectionRefusedError),
        CountingProxy("127.0.0.1", port) as proxy,
        contextlib.suppress(OSError, imaplib.IMAP4.error),
    ):
        imaplib.IMAP4(proxy.host, proxy.port, timeout=LIMIT)


# ScriptedImap -------------------------------------------------------------------------------

AUTHENTICATE = Step("{tag} AUTHENTICATE XOAUTH2", "+")
BLOB = "[A-Za-z0-9+/]+=*"


@pytest.mark.parametrize("tls", [True, False])
def test_scripted_server_answers_no_and_then_ok_on_one_connection(tls: bool) -> None:
    script = [
        GREETING,
        capability(),
        AUTHENTICATE,
        Step(BLOB, "{tag} NO AUTHENTICATE failed."),
        AUTHENTICATE,
        Step(BLOB, "{tag} OK AUTHENTICATE completed."),
        LOGOUT,
    ]
    with ScriptedImap(script, tls=tls) as server:
        imap = (
            imaplib.IMAP4_SSL(
                server.host, server.port, ssl_context=server.ssl_context, timeout=LIMIT
            )
            if tls
            else imaplib.IMAP4(server.host, server.port, timeout=LIMIT)
        )
        with imap:
            with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATE failed"):
                imap.authenticate("XOAUTH2", Login(SUPPORT, "old"))
            imap.authenticate("XOAUTH2", Login(SUPPORT, "new"))
    assert server.lines[2] == b64encode(Login(SUPPORT, "old").response)
    assert len(server.lines) == 6


def test_scripted_server_greets_with_bye() -> None:
    with (
        ScriptedImap([Step(None, "* BYE Connection refused")], tls=True) as server,
        pytest.raises(imaplib.IMAP4.error, match="BYE Connection refused"),
        connected(server),
    ):
        pass  # the greeting raises


def test_scripted_server_greets_with_preauth_and_lacks_capabilities() -> None:
    script = [Step(None, "* PREAUTH welcome"), capability("IMAP4rev1"), CLIENT_CLOSES]
    with ScriptedImap(script, tls=True) as server, connected(server) as imap:
        assert imap.state == "AUTH"
        assert imap.capabilities == ("IMAP4REV1",)


def test_scripted_server_sends_malformed_and_endless_challenges() -> None:
    script = [
        GREETING,
        capability(),
        AUTHENTICATE,
        Step(BLOB, "+ e30="),
        Step("", "+ e30=", repeat=True),
    ]
    with ScriptedImap([*script[:3], Step(BLOB, "+ x"), CLIENT_CLOSES], script, tls=True) as server:
        with connected(server) as imap, pytest.raises(binascii.Error):
            imap.authenticate("XOAUTH2", Login(SUPPORT, "token"))

        seen: list[bytes] = []

        def answer(challenge: bytes) -> bytes:
            seen.append(challenge)
            if len(seen) > 10:
                raise InterruptedError
            return b"" if len(seen) > 1 else b"token"

        with connected(server) as imap, pytest.raises(InterruptedError):
            imap.authenticate("XOAUTH2", answer)
    assert seen == [b""] + [b"{}"] * 10


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "EOF"),
        (b"* OK half a l", "unterminated line|EOF"),
        ("* BYE Connection closed. 14\n{tag} NO AUTHENTICATE failed.", "Connection closed. 14"),
    ],
)
def test_scripted_server_ends_the_connection(reply: str | bytes, message: str, tls: bool) -> None:
    script = [GREETING, capability(), AUTHENTICATE, Step(BLOB, reply)]
    with ScriptedImap(script, tls=tls) as server:
        context = server.ssl_context
        imap = (
            imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context, timeout=LIMIT)
            if tls
            else imaplib.IMAP4(server.host, server.port, timeout=LIMIT)
        )
        with pytest.raises(imaplib.IMAP4.abort, match=message):
            imap.authenticate("XOAUTH2", Login(SUPPORT, "token"))
        imap.shutdown()


@pytest.mark.parametrize("kind", ["NO", "BAD"])
def test_scripted_server_throttles(kind: str) -> None:
    text = "Request is throttled. Suggested Backoff Time: 299961 milliseconds"
    script = [GREETING, capability(), Step(r"{tag} NOOP", f"{{tag}} {kind} {text}"), CLIENT_CLOSES]
    with ScriptedImap(script, tls=True) as server, connected(server) as imap:
        if kind == "NO":
            assert imap.noop() == ("NO", [text.encode()])
        else:
            with pytest.raises(imaplib.IMAP4.error, match=text):
                imap.noop()


def test_scripted_server_sees_a_client_that_does_not_trust_it() -> None:
    with ScriptedImap([], tls=True) as server, pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL(
            server.host, server.port, ssl_context=ssl.create_default_context(), timeout=LIMIT
        )
    assert server.lines == []


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        pytest.param(
            [GREETING, Step("{tag} NOOP")], "expected '{tag} NOOP', got '.* CAPABILITY'", id="line"
        ),
        pytest.param(
            [GREETING, capability(), LOGOUT], "expected '{tag} LOGOUT', got '{eof}'", id="eof"
        ),
        pytest.param([GREETING, Step("(")], r"broken: .*missing \)", id="pattern"),
    ],
)
def test_scripted_server_fails_the_test_that_leaves_the_script(
    script: list[Step], complaint: str
) -> None:
    complaint = complaint.replace("{", r"\{").replace("}", r"\}")
    with (
        pytest.raises(AssertionError, match=complaint),
        ScriptedImap(script) as server,
        contextlib.suppress(imaplib.IMAP4.error),
    ):
        imaplib.IMAP4(server.host, server.port, timeout=LIMIT).shutdown()


def test_scripted_server_wants_as_many_connections_as_scripts() -> None:
    with (
        pytest.raises(AssertionError, match="no connection came for script 1"),
        ScriptedImap([GREETING]),
    ):
        pass
    with (
        pytest.raises(AssertionError, match="a connection came that no script is for"),
        ScriptedImap() as server,
        contextlib.suppress(OSError, imaplib.IMAP4.error),
    ):
        imaplib.IMAP4(server.host, server.port, timeout=LIMIT)


def test_scripted_server_adds_a_note_to_the_error_of_the_test() -> None:
    with pytest.raises(KeyError) as caught, ScriptedImap([GREETING]):
        raise KeyError
    assert caught.value.__notes__ == ["ScriptedImap: no connection came for script 1"]


def test_client_context_verifies() -> None:
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
