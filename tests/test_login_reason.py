"""The reason that Exchange may write into the OK to AUTHENTICATE, for a mailbox that stays shut."""

from __future__ import annotations

import imaplib
import logging
from typing import Any

import pytest
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import authenticate_xoauth2, open_mailbox
from exo_imap_oauth.errors import ConnectionFailed, ImapError, MailboxNotConnected

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"
DISABLED = '[Error="UserDisabled" AuthResult=27 Proxy=DB9PR01MB1234.eurprd01 Service=Imap4]'
MOVED = (
    '[Error="Microsoft.Exchange.Data.Storage.WrongServerException:Cross Server access is not'
    ' allowed for mailbox 71487acd-ec93-476d-bd0e-6c8b31831053" AuthResultFromPopImapEnd=0'
    " Proxy=AM0P190MB0642.EURP190 MailboxBE=AM0P190MB0642.EURP190 Service=Imap4]"
)
NOT_CONNECTED = "{tag} BAD User is authenticated but not connected."


def opening(reason: str) -> list[Step]:
    # Where the capabilities are volunteered, no version of imaplib asks for them again.
    said = f"* CAPABILITY IMAP4rev1\n{{tag}} OK {reason} AUTHENTICATE completed."
    return [GREETING, capability(), Step("{tag} AUTHENTICATE .+", said)]


def opened(server: ScriptedImap, **options: Any) -> Any:
    context = server.ssl_context
    return open_mailbox(
        USER, TOKEN, host=server.host, port=server.port, ssl_context=context, **options
    )


@pytest.mark.parametrize("way", ["open_mailbox", "authenticate_xoauth2"])
@pytest.mark.parametrize(
    ("reason", "advice", "retryable"),
    [
        (DISABLED, "imap-disabled", False),
        (MOVED, "mailbox-moved", True),
        ("", "mailbox-not-connected", False),
        ('[Error="NoADRecipient" AuthResultFromPopImapEnd=8]', "mailbox-not-connected", False),
    ],
)
def test_it_chooses_the_advice_when_the_mailbox_does_not_open(
    reason: str, advice: str, retryable: bool, way: str
) -> None:
    script = [*opening(reason), Step("{tag} (SELECT|STATUS) .+", NOT_CONNECTED), LOGOUT]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(MailboxNotConnected) as raised:
            if way == "open_mailbox":
                opened(server).__enter__()
            context = server.ssl_context
            with imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context) as imap:
                authenticate_xoauth2(imap, USER, TOKEN)
    assert raised.value.advice
    assert raised.value.advice.id == advice
    assert raised.value.retryable is retryable
    first_line = str(raised.value).splitlines()[0]
    assert "BAD User is authenticated but not connected." in first_line
    assert ("the login said: " in first_line) is bool(reason)
    assert reason[:60] in first_line


def test_a_connection_that_ends_before_the_mailbox_opens_has_the_reason_too() -> None:
    script = [*opening(DISABLED), Step("{tag} SELECT .+", "* BYE Connection closed. 14")]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(MailboxNotConnected) as raised:
            opened(server).__enter__()
    assert raised.value.advice
    assert raised.value.advice.id == "imap-disabled"


def test_a_mailbox_that_opens_makes_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "exo_imap_oauth")
    select = Step("{tag} SELECT .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done.")
    with ScriptedImap([*opening(MOVED), select, LOGOUT], tls=True) as server:
        with opened(server) as imap:
            assert imap.state == "SELECTED"
    assert "WrongServerException" in caplog.text


@pytest.mark.parametrize(
    "code", ["[CAPABILITY IMAP4rev1 IDLE]", "[REFERRAL imap://x]", "Logged in"]
)
def test_another_code_is_no_reason(code: str) -> None:
    script = [*opening(code), Step("{tag} SELECT .+", "* BYE Bye."), LOGOUT._replace(optional=True)]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ConnectionFailed) as raised:
            opened(server).__enter__()
    assert "the login said" not in str(raised.value)


def test_a_reason_of_any_length_is_one_bounded_line() -> None:
    endless = '[Error="\x1b[31m' + "y" * 50_000 + '"]'
    script = [*opening(endless), Step("{tag} SELECT .+", "{tag} NO no"), LOGOUT]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ImapError) as raised:
            opened(server).__enter__()
    first_line = str(raised.value).splitlines()[0]
    assert first_line.isprintable()
    assert len(first_line) < 1_000
