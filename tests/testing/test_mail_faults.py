"""The faults of mail on the wire, as plain imaplib sees them."""

from __future__ import annotations

import imaplib
import socket
from email import message_from_bytes, policy
from typing import Any

import pytest
from testing.loopback_client import Wire, content, has_all, log_in

from exo_imap_oauth.testing import Fault, ReadyExchange

FETCH = "(BODY.PEEK[])"
SEEN = r"(\Seen)"


def came(data: list[Any]) -> list[bytes]:
    """The sequence numbers of the messages whose content came."""
    lines: list[bytes] = [part[0] for part in data if isinstance(part, tuple)]
    return [line.split()[0] for line in lines]


def unseen(exchange: ReadyExchange) -> bytes:
    with log_in(exchange) as imap:
        imap.select(readonly=True)
        [found] = imap.uid("SEARCH", "UNSEEN")[1]
        assert isinstance(found, bytes)
        return found


# ---- FETCH -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault.IMAP_FETCH_NOTHING, [None]),
        (Fault.IMAP_FETCH_NIL, [b"2 (BODY[] NIL UID 102)"]),
        (Fault.IMAP_FETCH_EMPTY, [b'2 (BODY[] "" UID 102)']),
        (
            Fault.IMAP_FETCH_QUOTED,
            [b'2 (BODY[] "From: Erika Mustermann <erika@fabrikam.example>" UID 102)'],
        ),
    ],
)
def test_a_message_does_not_come(
    exchange: ReadyExchange, imap: imaplib.IMAP4, fault: Fault, answer: list[Any]
) -> None:
    once = exchange.inject(fault)
    assert imap.uid("FETCH", "102", FETCH) == ("OK", answer)
    assert once.hits == 1
    assert has_all(imap)
    exchange.inject(fault, times=2)
    for _ in range(2):
        assert imap.uid("FETCH", "102", FETCH) == ("OK", answer)
    assert has_all(imap)
    for_good = exchange.inject(fault, times=None, uid=102)
    for _ in range(3):
        assert imap.uid("FETCH", "102", FETCH) == ("OK", answer)
        assert b"message 1" in content(imap, "101")
    assert for_good.hits == 3
    for_good.remove()
    assert has_all(imap)
    assert imap.uid("SEARCH", "UNSEEN") == ("OK", [b"101 102 103"])


@pytest.mark.parametrize("what", ["FLAGS", "RFC822.SIZE", "INTERNALDATE", "ENVELOPE", "UID"])
def test_what_is_no_content_comes(exchange: ReadyExchange, imap: imaplib.IMAP4, what: str) -> None:
    fault = exchange.inject(Fault.IMAP_FETCH_NOTHING, times=None)
    assert what.encode() in imap.uid("FETCH", "102", f"({what})")[1][0]
    assert fault.hits == 0


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("BODY[TEXT]", b"BODY[TEXT] NIL"),
        ("BODY.PEEK[HEADER.FIELDS (SUBJECT)]", b"BODY[HEADER.FIELDS (SUBJECT)] NIL"),
        ("BODY.PEEK[]<0.10>", b"BODY[]<0> NIL"),
        ("RFC822", b"RFC822 NIL"),
    ],
)
def test_nil_in_place_of_what_was_asked_for(
    exchange: ReadyExchange, imap: imaplib.IMAP4, what: str, answer: bytes
) -> None:
    exchange.inject(Fault.IMAP_FETCH_NIL)
    [line] = imap.fetch("2", f"({what})")[1]
    assert isinstance(line, bytes)
    assert line.startswith(b"2 (" + answer)


def test_a_set_is_struck_where_it_names_the_message(
    exchange: ReadyExchange, imap: imaplib.IMAP4
) -> None:
    fault = exchange.inject(Fault.IMAP_FETCH_NOTHING, times=None, uid=102)
    for numbers in ("101:103", "101,102,103", "101:*", "103:101"):
        _, data = imap.uid("FETCH", numbers, "(BODY[])")
        assert came(data) == [b"1", b"3"]
    imap.uid("FETCH", "101,103", "(BODY[])")
    assert fault.hits == 4
    assert imap.fetch("2", "(BODY[])") == ("OK", [None])
    assert unseen(exchange) == b"102"


def test_a_quoted_line_is_quoted(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    exchange.deliver(exchange.mailbox, b'Subject: "a\\b" \xfc\r\n\r\n')
    imap.noop()
    imap.response("FETCH")
    exchange.inject(Fault.IMAP_FETCH_QUOTED)
    assert imap.uid("FETCH", "104", FETCH) == (
        "OK",
        [rb'4 (BODY[] "Subject: \"a\\b\" ?" UID 104)'],
    )
    exchange.inject(Fault.IMAP_FETCH_QUOTED)
    assert imap.uid("FETCH", "104", "(BODY.PEEK[TEXT])")[1] == [b'4 (BODY[TEXT] "" UID 104)']


def test_the_stand_in(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    fault = exchange.inject(Fault.IMAP_FETCH_STAND_IN, times=None, uid=102)
    message = message_from_bytes(content(imap, "102"), policy=policy.default)
    assert str(message["From"]) == '"Microsoft Exchange Server"'
    assert message["Message-ID"] is None
    assert message["Subject"] == (
        "Retrieval using the IMAP4 protocol failed for the following message: 102"
    )
    text = message.get_content()
    assert text.startswith("The server couldn't retrieve the following message:")
    assert 'Subject: "Sample message 2"' in text
    assert "hasn't been deleted. You might be able to view it using either Outlook or" in text
    _, data = imap.uid("FETCH", "102", "(ENVELOPE BODY.PEEK[HEADER])")
    assert b'(("Microsoft Exchange Server" NIL NIL NIL))' in data[0][0]
    assert b"sample message 1" in content(imap, "101")
    fault.remove()
    assert has_all(imap)


def test_lines_of_another_message_come_first(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    imap.uid("STORE", "101", "+FLAGS", SEEN)
    exchange.inject(Fault.IMAP_FETCH_FOREIGN_FIRST)
    _, data = imap.uid("FETCH", "102", FETCH)
    flags, (foreign, other), _, (line, asked), _ = data
    assert flags == rb"1 (FLAGS (\Recent \Seen))"
    assert foreign.startswith(b"1 (UID 101 BODY[] {")
    assert b"sample message 1." in other
    assert line.startswith(b"2 (BODY[] {")
    assert b"sample message 2." in asked
    assert has_all(imap)


def test_a_message_is_invented_where_there_is_no_other(
    exchange: ReadyExchange, imap: imaplib.IMAP4
) -> None:
    exchange.inject(Fault.IMAP_FETCH_FOREIGN_FIRST)
    _, data = imap.uid("FETCH", "101:*", FETCH)
    assert data[0] == b"4 (FLAGS ())"
    assert data[1][0].startswith(b"4 (UID 104 BODY[] {")
    assert came(data) == [b"4", b"1", b"2", b"3"]


# ---- SEARCH ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "some", "none"),
    [
        (
            Fault.IMAP_SEARCH_ESEARCH,
            [b'* ESEARCH (TAG "A4") UID ALL 101:103\r\n'],
            [b'* ESEARCH (TAG "A5") UID\r\n'],
        ),
        (
            Fault.IMAP_SEARCH_TWO_LINES,
            [b"* SEARCH 101 102\r\n", b"* SEARCH 101 103\r\n"],
            [b"* SEARCH\r\n", b"* SEARCH\r\n"],
        ),
        (
            Fault.IMAP_SEARCH_MODSEQ,
            [b"* SEARCH 101 102 103 (MODSEQ 917162500)\r\n"],
            [b"* SEARCH\r\n"],
        ),
        (Fault.IMAP_SEARCH_NOTHING, [], []),
    ],
)
def test_odd_answers_to_search(
    exchange: ReadyExchange, session: Wire, fault: Fault, some: list[bytes], none: list[bytes]
) -> None:
    injection = exchange.inject(fault, times=2)
    assert session.ask("A4 UID SEARCH UNSEEN") == [*some, b"A4 OK SEARCH completed.\r\n"]
    assert session.ask("A5 UID SEARCH SEEN") == [*none, b"A5 OK SEARCH completed.\r\n"]
    assert session.ask("A6 UID SEARCH UNSEEN")[0] == b"* SEARCH 101 102 103\r\n"
    assert injection.hits == 2


def test_what_imaplib_makes_of_them(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    exchange.inject(Fault.IMAP_SEARCH_ESEARCH)
    assert imap.search(None, "ALL") == ("OK", [None])
    assert b"ALL 1:3" in (imap.response("ESEARCH")[1][0] or b"")
    exchange.inject(Fault.IMAP_SEARCH_TWO_LINES)
    assert imap.search(None, "ALL") == ("OK", [b"1 2", b"1 3"])
    exchange.inject(Fault.IMAP_SEARCH_NOTHING)
    assert imap.search(None, "ALL") == ("OK", [None])
    assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])


# ---- STORE -----------------------------------------------------------------------------------


def test_a_refused_store_changes_nothing(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    fault = exchange.inject(Fault.IMAP_STORE_REFUSED, times=None, uid=102)
    refused = ("NO", [b"Command Argument Error. 12"])
    assert imap.uid("STORE", "101:102", "+FLAGS", SEEN) == refused
    assert imap.store("2", "+FLAGS", SEEN) == refused
    assert imap.uid("STORE", "103", "+FLAGS", SEEN)[0] == "OK"
    assert fault.hits == 2
    assert unseen(exchange) == b"101 102"
    fault.remove()
    exchange.inject(Fault.IMAP_STORE_REFUSED, reply="BAD")
    with pytest.raises(imaplib.IMAP4.error, match=r"BAD \[b'Command Argument Error\. 12'\]"):
        imap.uid("STORE", "101", "+FLAGS", SEEN)


def test_a_store_without_effect(exchange: ReadyExchange, imap: imaplib.IMAP4) -> None:
    exchange.inject(Fault.IMAP_STORE_NO_EFFECT)
    assert imap.uid("STORE", "102", "+FLAGS", SEEN) == ("OK", [rb"2 (FLAGS (\Recent) UID 102)"])
    exchange.inject(Fault.IMAP_STORE_NO_EFFECT)
    assert imap.uid("STORE", "102", "+FLAGS.SILENT", SEEN) == ("OK", [None])
    assert unseen(exchange) == b"101 102 103"
    fault = exchange.inject(Fault.IMAP_STORE_NO_EFFECT, times=None, uid=102)
    _, data = imap.store("1:3", "+FLAGS", SEEN)
    assert sorted(line for line in data if isinstance(line, bytes)) == [
        rb"1 (FLAGS (\Recent \Seen))",
        rb"2 (FLAGS (\Recent))",
        rb"3 (FLAGS (\Recent \Seen))",
    ]
    assert unseen(exchange) == b"102"
    assert fault.hits == 1


@pytest.mark.parametrize("uid", [None, 102])
def test_a_store_whose_reply_is_lost(
    exchange: ReadyExchange, session: Wire, uid: int | None
) -> None:
    fault = exchange.inject(Fault.IMAP_STORE_REPLY_LOST, uid=uid)
    session.send("A3 UID STORE 101:102 +FLAGS.SILENT (\\Seen)")
    with pytest.raises(ConnectionResetError):
        socket.socket.recv(session.socket, 1)  # below TLS, which may take a reset for an end
    assert fault.hits == 1
    assert unseen(exchange) == b"103"


# ---- IDLE ------------------------------------------------------------------------------------


def test_idle_is_refused(exchange: ReadyExchange, session: Wire) -> None:
    exchange.inject(Fault.IMAP_IDLE_REFUSED, times=2)
    for tag in ("A3", "A4"):
        assert session.ask(f"{tag} IDLE") == [f"{tag} BAD Command Argument Error. 12\r\n".encode()]
    assert session.ask("A5 IDLE") == [b"+ Idling.\r\n"]


def test_mail_is_announced_before_the_plus(exchange: ReadyExchange, session: Wire) -> None:
    fault = exchange.inject(Fault.IMAP_IDLE_EXISTS_BEFORE)
    lines = session.ask("A3 IDLE")
    assert lines[0] == b"* 4 EXISTS\r\n"
    assert lines[-1] == b"+ Idling.\r\n"
    assert fault.hits == 1
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    assert session.line() == b"* 5 EXISTS\r\n"


def test_mail_is_announced_in_one_packet_with_the_plus(
    exchange: ReadyExchange, session: Wire
) -> None:
    exchange.inject(Fault.IMAP_IDLE_EXISTS_WITH)
    session.send("A3 IDLE")
    lines = session.socket.recv(10_000).splitlines()
    assert lines[:2] == [b"+ Idling.", b"* 4 EXISTS"]
    session.send("DONE")
    assert session.line() == b"A3 OK IDLE completed.\r\n"
    _, reply = session.ask("A4 UID FETCH 104 BODY.PEEK[HEADER.FIELDS (SUBJECT)]")[:2]
    assert reply == b"Subject: Sample message 4\r\n"
