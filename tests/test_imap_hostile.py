"""Servers that send what no server may send: each ends in an error of the tree, in little time."""

from __future__ import annotations

import imaplib
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.scripted_imap import CLIENT_CLOSES, GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import authenticate_xoauth2, open_mailbox
from exo_imap_oauth.errors import ConnectionFailed
from exo_imap_oauth.imap import ok

if TYPE_CHECKING:
    import contextlib

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"
AUTHENTICATE = "{tag} AUTHENTICATE XOAUTH2 [A-Za-z0-9+/=]+"
# Where the capabilities are volunteered, no version of imaplib asks for them again.
LOGGED_IN = Step(AUTHENTICATE, "* CAPABILITY IMAP4rev1\n{tag} OK AUTHENTICATE completed.")
SELECTED = Step('{tag} SELECT "?INBOX"?', "* 1 EXISTS\n{tag} OK [READ-WRITE] SELECT completed.")


def literal(size: str) -> str:
    return f"* 1 FETCH (BODY[] {{{size}}}"


SENSELESS = {
    "10^12 bytes": literal("1" + "0" * 12),
    "10^30 bytes": literal("1" + "0" * 30),
    "10^5000 bytes": literal("1" + "0" * 5000),
    "not ASCII": "* CAPABILITY \xff\xfe",
    "no IMAP": "\x00\x01 \x1b[31m garbage",
    "a megabyte": "* OK " + "'" * 1_000_000,
}


def test_a_longer_line_is_read_where_the_application_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imaplib, "_MAXLINE", 1_200_000)
    numbers = " 123456" * 160_000
    search = Step("{tag} SEARCH ALL", f"* SEARCH{numbers}\n{{tag}} OK SEARCH completed.")
    script = [GREETING, capability(), LOGGED_IN, SELECTED, search, LOGOUT]
    with ScriptedImap(script, tls=True) as server, opened(server) as imap:
        assert ok(imap.search(None, "ALL")) == [numbers.strip().encode()]


def opened(server: ScriptedImap) -> contextlib.AbstractContextManager[imaplib.IMAP4]:
    return open_mailbox(
        USER, TOKEN, host=server.host, port=server.port, ssl_context=server.ssl_context, timeout=5
    )


def open_and_leave(server: ScriptedImap) -> None:
    with opened(server):
        pass


@pytest.mark.parametrize("nonsense", SENSELESS.values(), ids=SENSELESS)
@pytest.mark.parametrize("stage", ["greeting", "capability", "AUTHENTICATE", "SELECT"])
def test_senseless_data_on_the_way_in_is_a_typed_error(stage: str, nonsense: str) -> None:
    script = {
        "greeting": [Step(None, nonsense)],
        "capability": [GREETING, Step("{tag} CAPABILITY", nonsense)],
        "AUTHENTICATE": [GREETING, capability(), Step(AUTHENTICATE, nonsense)],
        "SELECT": [
            GREETING,
            capability(),
            LOGGED_IN,
            Step("{tag} SELECT INBOX", nonsense),
        ],
    }[stage]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ConnectionFailed) as raised:
            open_and_leave(server)
    assert isinstance(raised.value, imaplib.IMAP4.abort)
    assert len(str(raised.value).splitlines()[0]) < 800
    assert str(raised.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("nonsense", SENSELESS.values(), ids=SENSELESS)
def test_senseless_data_at_the_probe_is_a_typed_error(nonsense: str) -> None:
    script = [GREETING, capability(), LOGGED_IN, Step("{tag} STATUS .*", nonsense)]
    with ScriptedImap(script, tls=True) as server:
        imap = imaplib.IMAP4_SSL(
            server.host, server.port, ssl_context=server.ssl_context, timeout=5
        )
        with pytest.raises(ConnectionFailed):
            authenticate_xoauth2(imap, USER, TOKEN)
        imap.shutdown()


@pytest.mark.parametrize("nonsense", SENSELESS.values(), ids=SENSELESS)
def test_senseless_data_at_logout_does_not_spoil_what_was_done(nonsense: str) -> None:
    script = [GREETING, capability(), LOGGED_IN, SELECTED, Step("{tag} LOGOUT", nonsense)]
    with ScriptedImap(script, tls=True) as server:
        open_and_leave(server)


def test_a_literal_of_senseless_size_in_the_body_is_an_error_of_imaplib() -> None:
    script = [
        GREETING,
        capability(),
        LOGGED_IN,
        SELECTED,
        Step("{tag} FETCH 1 .*", literal("1" + "0" * 12)),
        CLIENT_CLOSES,
    ]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(imaplib.IMAP4.abort, match="1000000000000 bytes"):
            with open_mailbox(
                USER, TOKEN, host=server.host, port=server.port, ssl_context=server.ssl_context
            ) as imap:
                imap.fetch("1", "(BODY[])")


def test_a_literal_of_a_mail_passes_in_the_body() -> None:
    size = 3_000_000
    mail = b"* 1 FETCH (BODY[] {%d}\r\n" % size + b"x" * size + b")\r\n"
    script = [
        GREETING,
        capability(),
        LOGGED_IN,
        SELECTED,
        Step("{tag} FETCH 1 .*", mail),
        Step(None, "{tag} OK FETCH completed."),
        LOGOUT,
    ]
    with ScriptedImap(script, tls=True) as server:
        with open_mailbox(
            USER, TOKEN, host=server.host, port=server.port, ssl_context=server.ssl_context
        ) as imap:
            _, data = imap.fetch("1", "(BODY[])")
    parts: Any = data
    assert len(parts[0][1]) == size


def test_a_plain_greeting_before_starttls_costs_next_to_nothing() -> None:
    greeting = "* BYE " + "command error: NO [b'" * 40_000
    with ScriptedImap([Step(None, greeting)]) as server:
        began = time.thread_time()
        with pytest.raises(ConnectionFailed):
            with open_mailbox(
                USER, TOKEN, host=server.host, port=server.port, starttls=True, timeout=5
            ):
                pass
        assert time.thread_time() - began < 1  # it was 200 s, with all threads frozen
