"""What an IMAP server said, as a typed error."""

from __future__ import annotations

import imaplib
import time

import pytest
from support.imap import AUTHENTICATE, SELECT, opened_scripted
from support.scripted_imap import CLIENT_CLOSES, GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth._imap.replies import text_of
from exo_imap_oauth._text import one_line
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ImapError,
    MailboxNotConnected,
    Throttled,
)


@pytest.mark.parametrize(
    ("steps", "error", "text"),
    [
        ([Step(None, "* BYE too busy"), CLIENT_CLOSES], ConnectionFailed, "too busy"),
        ([], ConnectionFailed, "cannot be reached"),
        ([GREETING, capability("IMAP4rev1 AUTH=PLAIN"), LOGOUT], ImapError, "AUTH=PLAIN"),
        (
            [Step(None, "* PREAUTH hello"), capability(), LOGOUT],
            ImapError,
            "in the state AUTH, not NONAUTH",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="")],
            ConnectionFailed,
            "broke off while logging in",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="* BYE Connection closed. 14")],
            ConnectionFailed,
            "Connection closed. 14",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="+ abcde"), CLIENT_CLOSES],
            ImapError,
            "refused to log in",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="{tag} BAD what?"), LOGOUT],
            ImapError,
            "BAD what?",
        ),
        (
            [
                GREETING,
                capability(),
                AUTHENTICATE._replace(reply="+ e30="),
                Step("", "+ e30=", repeat=True),
            ],
            ConnectionFailed,
            "challenges",
        ),
        (
            [
                GREETING,
                capability(),
                AUTHENTICATE._replace(
                    reply="{tag} NO Request is throttled."
                    " Suggested Backoff Time: 299961 milliseconds"
                ),
                LOGOUT,
            ],
            Throttled,
            "throttled",
        ),
        (
            [GREETING, capability(), AUTHENTICATE._replace(reply="{tag} NO AUTHENTICATE? No.")],
            AuthenticationRefused,
            "AUTHENTICATE? No.",
        ),
        (
            [GREETING, capability(), AUTHENTICATE, SELECT._replace(reply="{tag} NO gone"), LOGOUT],
            MailboxNotConnected,
            "NO gone",
        ),
        (
            [GREETING, capability(), AUTHENTICATE, SELECT._replace(reply="* BYE bye")],
            ConnectionFailed,
            "bye",
        ),
    ],
)
def test_strange_servers_get_a_typed_error(
    steps: list[Step], error: type[ImapError], text: str
) -> None:
    with ScriptedImap(steps, tls=True) as server:
        with pytest.raises(ImapError) as raised, opened_scripted(server, timeout=3):
            pass
    assert type(raised.value) is error
    assert text in str(raised.value)
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after == pytest.approx(299.961)


def test_what_imaplib_puts_around_the_servers_words_is_taken_off() -> None:
    for said, shown in {
        "AUTHENTICATE command error: BAD [b'it says \"no\"']": 'BAD it says "no"',
        'SELECT command error: NO [b"it\'s closed"]': "NO it's closed",
        "command: LIST => Session invalidated - AccessTokenExpired": (
            "Session invalidated - AccessTokenExpired"
        ),
        "anything else": "anything else",
    }.items():
        assert text_of(imaplib.IMAP4.error(said)) == shown


@pytest.mark.parametrize(
    "repeated", ["command error: NO [b'", "command: X => ", "'", '"]', " ", "\x00", "Z"]
)
def test_a_servers_text_is_read_in_linear_time(repeated: str) -> None:
    def cost(length: int) -> float:
        text = (f"X command error: BAD [b'{repeated * (length // len(repeated))}']")[:length]
        began = time.thread_time()
        text_of(imaplib.IMAP4.error(text))
        one_line(text)
        return time.thread_time() - began

    assert cost(1_000_000) < 1  # quadratic, the first of them took minutes
