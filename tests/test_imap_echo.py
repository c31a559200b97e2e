"""A server that says the token back, in every form and at every stage: it is shown nowhere."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import io
import json
import time
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from support.leaks import everything_in
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import AccessToken, authenticate_xoauth2, open_mailbox
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ImapError,
    MailboxNotConnected,
)

USER = "inbox@contoso.example"
TOKEN = f"eyJhbGciOi.{'Not-a_real' * 30}.token~1+/="
SENT = base64.b64encode(f"user={USER}\x01auth=Bearer {TOKEN}\x01\x01".encode()).decode()
FORMS = {
    "as it is": TOKEN,
    "as it was sent": SENT,
    "in base64": base64.b64encode(f'{{"t":"{TOKEN}"}}'.encode()).decode(),
    "in JSON": json.dumps({"token": TOKEN}).replace("/", "\\/").replace("+", "\\u002b"),
    "in a URL": quote(TOKEN, safe=""),
    "in part": TOKEN[40:90],
}
AUTHENTICATE = Step("{tag} AUTHENTICATE XOAUTH2 .+", "* CAPABILITY IMAP4rev1\n{tag} OK done.")
SELECT = Step("{tag} (SELECT|EXAMINE) .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done.")
OPENING = [GREETING, capability(), AUTHENTICATE, SELECT]


def script(stage: str, echo: str) -> list[Step]:
    """A server that echoes at one stage, where this ends the attempt."""
    challenge = base64.b64encode(json.dumps({"status": "401", "scope": echo}).encode()).decode()
    noop = "{tag} NOOP"
    refused = {
        "greeting": [Step(None, f"* BYE {echo}")],
        "greeting and capabilities": [
            Step(None, f"* OK {echo}"),
            Step("{tag} CAPABILITY", f"* CAPABILITY IMAP4rev1 {echo}\n{{tag}} OK {echo}"),
        ],
        "no capabilities": [GREETING, Step("{tag} CAPABILITY", f"{{tag}} BAD {echo}")],
        "no IMAP": [Step(None, f"HTTP/1.1 400 {echo}")],
        "NO": [GREETING, capability(), Step("{tag} AUTHENTICATE .+", f"{{tag}} NO {echo}")],
        "BAD": [GREETING, capability(), Step("{tag} AUTHENTICATE .+", f"{{tag}} BAD {echo}")],
        "BYE": [GREETING, capability(), Step("{tag} AUTHENTICATE .+", f"* BYE {echo}")],
        "challenge": [
            GREETING,
            capability(),
            Step("{tag} AUTHENTICATE .+", f"+ {challenge}"),
            Step("", "{tag} NO AUTHENTICATE failed."),
        ],
        "the OK": [
            GREETING,
            capability(),
            AUTHENTICATE._replace(
                reply=f'* CAPABILITY IMAP4rev1\n{{tag}} OK [Error="{echo}"] done'
            ),
            SELECT._replace(reply="{tag} BAD User is authenticated but not connected."),
        ],
        "SELECT": [
            GREETING,
            capability(),
            AUTHENTICATE,
            SELECT._replace(reply=f"{{tag}} NO {echo}"),
        ],
        "SELECT, BAD": [
            GREETING,
            capability(),
            AUTHENTICATE,
            SELECT._replace(reply=f"{{tag}} BAD {echo}"),
        ],
        "SELECT, BYE": [
            GREETING,
            capability(),
            AUTHENTICATE,
            SELECT._replace(reply=f"* BYE {echo}"),
        ],
        "body, BAD": [
            GREETING,
            capability(),
            AUTHENTICATE,
            SELECT,
            Step(noop, f"{{tag}} BAD {echo}"),
        ],
        "body, BYE": [GREETING, capability(), AUTHENTICATE, SELECT, Step(noop, f"* BYE {echo}")],
        "body, nonsense": [
            GREETING,
            capability(),
            AUTHENTICATE,
            SELECT,
            Step(noop, f"what {echo}"),
        ],
        "body, known": [
            GREETING,
            capability(),
            AUTHENTICATE,
            SELECT,
            Step(noop, f"{{tag}} BAD User is authenticated but not connected. {echo}"),
        ],
    }[stage]
    if stage == "BYE":  # imaplib waits for the end of the connection
        return refused
    return [*refused, LOGOUT._replace(reply=f"* BYE {echo}\n{{tag}} OK {echo}", optional=True)]


STAGES = (
    *("greeting", "greeting and capabilities", "no capabilities", "no IMAP"),
    *("NO", "BAD", "BYE", "challenge", "the OK"),
    *("SELECT", "SELECT, BAD", "SELECT, BYE"),
    *("body, BAD", "body, BYE", "body, nonsense", "body, known"),
)


def opened(server: ScriptedImap, user: str = USER, **options: Any) -> Any:
    return open_mailbox(
        user, TOKEN, host=server.host, port=server.port, ssl_context=server.ssl_context, **options
    )


def printed(error: BaseException) -> str:
    """What reports of the error show, the locals of its frames included."""
    return "".join(traceback.format_exception(error)) + everything_in(error)


def pieces(text: str) -> list[str]:
    return [text[at : at + 16] for at in range(0, len(text) - 16, 8)]


def assert_hidden(seen: str) -> None:
    for secret in (TOKEN, SENT[8:-8], *FORMS.values()):
        shown = [piece for piece in pieces(secret) if piece in seen]
        assert not shown


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stage", STAGES)
def test_no_error_record_or_debug_output_shows_what_a_server_echoes(
    stage: str, form: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(1)
    monkeypatch.setattr(imaplib, "Debug", 5)  # all that it can print
    with ScriptedImap(script(stage, FORMS[form]), tls=True) as server:
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            with pytest.raises(ImapError) as raised:
                with opened(server) as imap:
                    imap.noop()
    assert "(hidden)" in str(raised.value) or stage == "greeting and capabilities"
    assert_hidden(printed(raised.value) + caplog.text)
    assert "new IMAP4 connection" in stderr.getvalue()
    assert_hidden(stderr.getvalue())


@pytest.mark.parametrize("form", FORMS)
def test_imaplibs_buffer_of_the_last_lines_shows_no_echo(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaplib, "Debug", 1)  # from here on it is kept, and below 4 not printed
    buffered = ""
    with ScriptedImap(script("body, BAD", FORMS[form]), tls=True) as server:
        with contextlib.redirect_stderr(io.StringIO()), pytest.raises(imaplib.IMAP4.error):
            with opened(server) as imap:
                try:
                    imap.noop()
                finally:
                    buffered = repr(imap._cmd_log)
    assert "NOOP" in buffered
    assert_hidden(buffered)


@pytest.mark.parametrize("form", FORMS)
def test_the_probe_of_an_open_connection_shows_no_echo(form: str) -> None:
    status = Step(
        "{tag} STATUS .+", f"{{tag}} BAD User is authenticated but not connected. {FORMS[form]}"
    )
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, status, LOGOUT], tls=True) as server:
        context = server.ssl_context
        with imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context) as imap:
            with pytest.raises(MailboxNotConnected) as raised:
                authenticate_xoauth2(imap, USER, TOKEN)
    assert "(hidden)" in str(raised.value)
    assert_hidden(printed(raised.value))


def test_the_attributes_of_an_error_show_no_echo() -> None:
    long = "x" * 5_000
    challenge = base64.b64encode(
        json.dumps({"status": "401", TOKEN: TOKEN, "list": [SENT], "long": long, "n": 1}).encode()
    ).decode()
    steps = [
        Step("{tag} AUTHENTICATE .+", f"+ {challenge}"),
        Step("", "{tag} NO AUTHENTICATE failed."),
        LOGOUT,
    ]
    with ScriptedImap([GREETING, capability(), *steps], tls=True) as server:
        with pytest.raises(AuthenticationRefused) as raised:
            opened(server).__enter__()
    challenge_shown = raised.value.challenge
    assert challenge_shown is not None
    assert challenge_shown["status"] == "401"
    assert challenge_shown["n"] == 1
    assert len(challenge_shown["long"]) < 500
    assert_hidden(repr(vars(raised.value)))
    with ScriptedImap([Step(None, f"* BYE {TOKEN}")], tls=True) as server:
        with pytest.raises(ConnectionFailed) as closed:
            opened(server).__enter__()
    assert closed.value.last_reply
    assert_hidden(repr(vars(closed.value)))


def test_names_that_would_rearrange_a_line_are_escaped() -> None:
    user, folder = "in\u202ebox@contoso.example", "Post\u200beingang"
    steps = [
        AUTHENTICATE,
        SELECT._replace(reply="{tag} NO \x1b[31mno"),
        Step("{tag} LIST .+", "{tag} NO no"),
        LOGOUT,
    ]
    with ScriptedImap([GREETING, capability(), *steps], tls=True) as server:
        with pytest.raises(ImapError) as raised:
            opened(server, user=user, folder=folder).__enter__()
    first_line = str(raised.value).splitlines()[0]
    assert first_line.isprintable()
    assert r"in\u202ebox@contoso.example" in first_line
    assert r"Post\u200beingang" in first_line


def test_what_the_body_raises_of_imaplibs_shows_no_echo() -> None:
    for kind in (imaplib.IMAP4.error, imaplib.IMAP4.abort):
        end = LOGOUT._replace(optional=True)
        with ScriptedImap([*OPENING, end], tls=True) as server:
            with pytest.raises(ImapError) as raised, opened(server):
                raise kind(f"another connection said {TOKEN}")
        assert isinstance(raised.value, ConnectionFailed) is (kind is imaplib.IMAP4.abort)
        assert "(hidden)" in str(raised.value)
        assert raised.value.__context__ is None
        assert_hidden("".join(traceback.format_exception(raised.value)))


def test_a_long_refusal_shows_no_echo_at_its_end() -> None:
    search = Step("{tag} SEARCH ALL", f"{{tag}} BAD {'so long ' * 600}{TOKEN}")
    with ScriptedImap([*OPENING, search, LOGOUT], tls=True) as server:
        with pytest.raises(ImapError, match="SEARCH on") as raised:
            with opened(server) as imap:
                imap.search(None, "ALL")
    assert_hidden("".join(traceback.format_exception(raised.value)))


def test_a_token_that_was_refused_and_replaced_is_hidden_too() -> None:
    now = int(time.time())
    first = "no-digits-at-all-" * 5  # so that nothing but the token itself gives it away
    tokens = [AccessToken(text, now + 3600, now + 3000, now - 100) for text in (first, "x" * 40)]

    class Source:
        def get_token(self, *_: str) -> AccessToken:
            return tokens[0]

        def invalidate(self, token: AccessToken) -> None:
            tokens.remove(token)

    refused = Step("{tag} AUTHENTICATE .+", "{tag} NO AUTHENTICATE failed.")
    again = refused._replace(reply=f"{{tag}} NO AUTHENTICATE failed. You had {first}")
    with ScriptedImap([GREETING, capability(), refused, again, LOGOUT], tls=True) as server:
        with pytest.raises(AuthenticationRefused, match="You had") as raised:
            open_mailbox(
                USER,
                Source(),
                host=server.host,
                port=server.port,
                ssl_context=server.ssl_context,
            ).__enter__()
    assert first[:16] not in printed(raised.value)
