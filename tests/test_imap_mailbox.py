"""The first command on a mailbox: folders, their names, and what a refusal says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.imap import (
    AUTHENTICATE,
    SELECT,
    STATUS,
    TOKEN,
    USER,
    connected,
    opened,
    opened_scripted,
    source_of,
)
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, capability

from exo_imap_oauth import authenticate_xoauth2
from exo_imap_oauth.errors import ImapError, MailboxNotConnected

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


def test_a_folder_can_be_examined(exchange: ReadyExchange) -> None:
    source = source_of(exchange, exchange.app, exchange.secret.value)
    with opened(exchange, source, readonly=True) as imap:
        assert imap.is_readonly
        typ, _ = imap.fetch("1", "(RFC822)")
        assert typ == "OK"
        assert imap.search(None, "UNSEEN") == ("OK", [b"1 2 3"])


@pytest.mark.parametrize(
    ("folder", "argument"),
    [
        ("INBOX", b"INBOX"),
        ("Sent Items", b'"Sent Items"'),
        ("Entwürfe/日本", b'"Entw&APw-rfe/&ZeVnLA-"'),
        ('a"b\\c', b'"a\\"b\\\\c"'),
        ("R&D", b'"R&-D"'),
        ("😀", b'"&2D3eAA-"'),
    ],
)
def test_folder_names_are_encoded(folder: str, argument: bytes) -> None:
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, SELECT, LOGOUT], tls=True) as server:
        with opened_scripted(server, folder=folder):
            pass
    assert server.lines[2].partition(b" ")[2] == b"SELECT " + argument


def test_a_folder_that_only_opens_for_reading_says_how_to_open_it() -> None:
    step = SELECT._replace(reply="* 0 EXISTS\n* OK [READ-ONLY] so\n{tag} OK [READ-ONLY] done.")
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, step], tls=True) as server:
        with pytest.raises(ImapError, match="readonly=True"), opened_scripted(server):
            pass


def test_the_probe_tells_what_the_server_said() -> None:
    probe = STATUS._replace(reply="{tag} BAD User is authenticated but not connected.")
    with ScriptedImap([GREETING, capability(), AUTHENTICATE, probe, LOGOUT], tls=True) as server:
        with connected(server) as imap, pytest.raises(MailboxNotConnected) as raised:
            authenticate_xoauth2(imap, USER, TOKEN)
    assert "BAD User is authenticated but not connected." in str(raised.value).splitlines()[0]
