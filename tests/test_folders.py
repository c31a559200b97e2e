"""A folder that does not exist: the error names those that do."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_imap import CLIENT_CLOSES, GREETING, LOGOUT, ScriptedImap, Step, capability
from support.servers import INBOX, Servers

from exo_imap_oauth import open_mailbox
from exo_imap_oauth._imap.folders import folder_argument, folder_name
from exo_imap_oauth.errors import ConnectionFailed, ImapError, MailboxNotConnected

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"
OPENING = [
    GREETING,
    capability(),
    Step("{tag} AUTHENTICATE .+", "* CAPABILITY IMAP4rev1\n{tag} OK done."),
]
NO_SUCH = Step("{tag} SELECT .+", "{tag} NO Orders doesn't exist.")
LISTED = r"""
* LIST (\HasNoChildren \Sent) "/" "Gesendete Elemente"
* LIST (\Noselect \HasChildren) "/" Shared
* LIST (\Inbox \HasNoChildren) "/" Posteingang
* LIST (\HasNoChildren) NIL Entw&APw-rfe
* LIST (\HasNoChildren) "\\" "R&-D \"new\""
* LIST (\HasNoChildren) "/" {7}
Bestell
* LIST nonsense
{tag} OK LIST completed.
""".strip()


def failing(script: list[Step], folder: str = "Orders") -> ImapError:
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ImapError) as raised:
            with open_mailbox(
                USER,
                TOKEN,
                host=server.host,
                port=server.port,
                ssl_context=server.ssl_context,
                folder=folder,
                timeout=5,
            ):
                pass
    return raised.value


def test_the_folders_there_are_stand_in_the_error() -> None:
    error = failing([*OPENING, NO_SUCH, Step('{tag} LIST "" \\*', LISTED), LOGOUT])
    names = (
        r"Gesendete Elemente \Sent, Posteingang \Inbox, Entwürfe, "
        r'R&D "new", Bestell'
    )
    assert f"NO Orders doesn't exist.; the folders there are: {names}" in str(error.args[0])
    assert error.advice
    assert error.advice.id == "folder-not-found"
    assert not error.retryable


def test_a_text_that_nothing_is_known_of_is_looked_up_in_the_list() -> None:
    select = NO_SUCH._replace(reply="{tag} NO [NONEXISTENT] Unknown Mailbox")
    error = failing([*OPENING, select, Step("{tag} LIST .+", LISTED), LOGOUT])
    assert error.advice
    assert error.advice.id == "folder-not-found"
    error = failing([*OPENING, select, Step("{tag} LIST .+", LISTED), LOGOUT], folder="Posteingang")
    assert error.advice is None  # it is there, so something else is wrong
    assert "Bestell" not in str(error)


def test_no_more_than_twenty_are_named() -> None:
    lines = "\n".join(f'* LIST () "/" folder{number}' for number in range(300))
    error = failing([*OPENING, NO_SUCH, Step("{tag} LIST .+", f"{lines}\n{{tag}} OK done"), LOGOUT])
    assert "folder19 and 280 more" in str(error)
    assert "folder20" not in str(error)


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([Step("{tag} LIST .+", "{tag} NO no")], LOGOUT),
        ([Step("{tag} LIST .+", "{tag} OK none")], LOGOUT),
        ([Step("{tag} LIST .+", "* BYE gone")], CLIENT_CLOSES),
        ([Step("{tag} LIST .+", "* LIST () x y\n" * 2_000)], CLIENT_CLOSES),
    ],
)
def test_a_second_failure_never_hides_the_first(steps: list[Step], last: Step) -> None:
    error = failing([*OPENING, NO_SUCH, *steps, last])
    assert "did not open Orders" in str(error)
    assert "Orders doesn't exist." in str(error)
    assert not isinstance(error, ConnectionFailed)


def test_what_is_known_is_not_followed_by_a_list() -> None:
    select = NO_SUCH._replace(reply="{tag} BAD User is authenticated but not connected.")
    assert isinstance(failing([*OPENING, select, LOGOUT]), MailboxNotConnected)
    inbox = NO_SUCH._replace(reply="{tag} NO not now")
    assert isinstance(failing([*OPENING, inbox, LOGOUT], folder="INBOX"), MailboxNotConnected)


@pytest.mark.parametrize(
    "name", ["INBOX", "Sent Items", "Entwürfe/日本", 'a"b\\c', "R&D", "😀", "&-", "a&b-c&"]
)
def test_a_name_survives_the_way_there_and_back(name: str) -> None:
    assert folder_name(folder_argument(name)) == name


@pytest.mark.parametrize("malformed", ["&AP", "&A-", "&!-", "&2D0-", '"', '"\\'])
def test_a_malformed_name_stays_readable(malformed: str) -> None:
    assert isinstance(folder_name(malformed), str)


def test_dovecots_folders_are_named(servers: Servers) -> None:
    with servers.open(servers.source(), INBOX) as imap:
        imap.create(folder_argument("Entwürfe"))
    with pytest.raises(ImapError) as raised:
        servers.open(servers.source(), INBOX, folder="Entwurf").__enter__()
    shown: Any = raised.value.args[0]
    assert "the folders there are:" in shown
    assert "Entwürfe" in shown
    assert raised.value.advice
    assert raised.value.advice.id == "folder-not-found"
