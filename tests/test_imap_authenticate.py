"""AUTHENTICATE XOAUTH2: what goes over the wire, the second try, and what comes after the OK."""

from __future__ import annotations

import base64
import imaplib
import io
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from support.imap import (
    AUTHENTICATE,
    REFUSE,
    SELECT,
    TOKEN,
    TOKEN_LINE,
    USER,
    Source,
    connected,
    log_in,
    opened,
    opened_scripted,
    source_of,
    without,
)
from support.leaks import everything_in
from support.proxy import CountingProxy
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import AccessToken, authenticate_xoauth2
from exo_imap_oauth.errors import AuthenticationRefused, ConnectionFailed, ImapError
from exo_imap_oauth.testing import LoopbackExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.testing import ReadyExchange


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


@pytest.mark.parametrize(
    "reply", ["NO [UNAVAILABLE] AUTHENTICATE failed.", "NO [INUSE] Later.", "BAD [SERVERBUG] Oh."]
)
def test_what_a_response_code_calls_temporary_is_no_refusal_of_the_token(reply: str) -> None:
    source = Source("one", "two")
    script = [GREETING, capability(), AUTHENTICATE._replace(reply=f"{{tag}} {reply}"), LOGOUT]
    with ScriptedImap(script, tls=True) as server, connected(server) as imap:
        with pytest.raises(ImapError) as raised:
            authenticate_xoauth2(imap, USER, source)
    assert type(raised.value) is ImapError
    assert raised.value.retryable
    assert source.invalidated == []


def test_a_bye_with_such_a_code_is_still_a_lost_connection() -> None:
    script = [GREETING, capability(), AUTHENTICATE._replace(reply="* BYE [UNAVAILABLE] Later.")]
    with pytest.raises(ConnectionFailed, match="Later") as raised:
        with ScriptedImap(script, tls=True) as server, opened_scripted(server, TOKEN):
            pass
    assert raised.value.retryable


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


# ---- the second try --------------------------------------------------------------------------


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
    source = Source("one", "two", age=0)
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
