"""The listener at a real IMAP server: what is unread is handed over, and people read along."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from support.listening import LIMIT, Listening, running
from support.servers import LISTENED, Servers

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.imap import ok
from exo_imap_oauth.listener import InboxListener, MessageNotHandled
from exo_imap_oauth.mail import message

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from exo_imap_oauth.mail import Mail


def mail(number: int) -> bytes:
    return f"Message-ID: <[{number}@microsoft.com]>\r\nSubject: {number}\r\n\r\nx\r\n".encode()


def inbox_of(servers: Servers) -> InboxConfig:
    return InboxConfig(user=LISTENED, host=servers.dovecot.host, port=servers.dovecot.port)


@contextlib.contextmanager
def at_desk(servers: Servers) -> Generator[Any]:
    """A person with the mailbox open."""
    with servers.open(servers.source(), LISTENED) as imap:
        yield imap


@pytest.fixture(autouse=True)
def _empty(servers: Servers) -> Iterator[None]:
    yield
    with at_desk(servers) as imap:
        imap.store("1:*", "+FLAGS", r"(\Deleted)")
        imap.expunge()


@contextlib.contextmanager
def listening_at(servers: Servers, listening: Listening) -> Generator[Listening]:
    listening.listener = InboxListener(
        inbox_of(servers),
        listening.handle,
        token=servers.source(),
        ssl_context=servers.dovecot.ssl_context,
        on_failure=listening.on_failure,
        timeout=LIMIT,
        initial_backoff=0.01,
        max_backoff=0.05,
    )
    with running(listening):
        yield listening


def unread(servers: Servers) -> list[bytes]:
    with at_desk(servers) as imap:
        (numbers,) = ok(imap.search(None, "UNSEEN"))
    assert isinstance(numbers, bytes)
    return numbers.split()


def test_what_is_unread_and_what_arrives_is_handed_over_and_marked(servers: Servers) -> None:
    for number in range(1, 21):
        servers.dovecot.deliver(LISTENED, mail(number))
    with listening_at(servers, Listening()) as listening:
        listening.wait_for_handled(20)
        for number in range(21, 24):
            servers.dovecot.deliver(LISTENED, mail(number))
            listening.wait_for_handled(number)
    assert listening.subjects == [str(number) for number in range(1, 24)]
    assert listening.handled == sorted(set(listening.handled))
    assert listening.told == []
    assert unread(servers) == []


def test_what_a_person_marks_as_unread_is_handed_over_again(servers: Servers) -> None:
    servers.dovecot.deliver(LISTENED, mail(1))
    with listening_at(servers, Listening()) as listening:
        listening.wait_for_handled(1)
        with at_desk(servers) as imap:
            while unread(servers):
                pass
            imap.store("1", "-FLAGS", r"(\Seen)")
            listening.wait_for_handled(2)
    assert listening.subjects == ["1", "1"]


def test_a_message_that_fails_stays_unread_and_stops_no_other(servers: Servers) -> None:
    def handle(mail: Mail) -> None:
        if mail["Subject"] == "2":
            raise ZeroDivisionError

    for number in range(1, 4):
        servers.dovecot.deliver(LISTENED, mail(number))
    with listening_at(servers, Listening(handle)) as listening:
        told = listening.wait_for_told(3)
    assert {type(error) for error, _ in told} == {MessageNotHandled}
    assert {subject for subject in listening.subjects if subject != "2"} == {"1", "3"}
    assert len(unread(servers)) == 1


def test_its_reply_to_fetch_is_read(servers: Servers) -> None:
    servers.dovecot.deliver(LISTENED, mail(1))
    with at_desk(servers) as imap:
        fetched = message(imap.fetch("1", "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
    assert fetched is not None
    assert fetched["Message-ID"] == "<[1@microsoft.com]>"
    assert fetched.uid > 0
    assert fetched.size > len("Subject: 1")
    assert fetched.received.tzinfo is not None
