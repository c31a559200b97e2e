"""What is delivered when, another UIDVALIDITY, and the structure of messages."""

from __future__ import annotations

import imaplib
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Any

import pytest
from testing.loopback_client import Wire, fetch_token, log_in

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

ERIKA = b'(("Erika Mustermann" NIL "erika" "fabrikam.example"))'


def uidvalidity(imap: imaplib.IMAP4) -> int:
    _, (value,) = imap.response("UIDVALIDITY")
    assert value is not None
    return int(value)


def fetched(exchange: ReadyExchange, message: EmailMessage | bytes, what: str) -> bytes:
    """What is said of a message, as one line."""
    exchange.deliver(exchange.mailbox, message, folder="Structures")
    with log_in(exchange) as imap:
        imap.select("Structures", readonly=True)
        _, data = imap.fetch("1", f"({what})")
    line = b"".join(b"".join(part) if isinstance(part, tuple) else part or b"" for part in data)
    return line.removeprefix(b"1 (" + what.encode() + b" ").removesuffix(b")")


# ---- delivery --------------------------------------------------------------------------------


def test_a_message_arrives_when_it_is_said_to(exchange: ReadyExchange) -> None:
    date = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1)))
    exchange.deliver(exchange.mailbox, b"Subject: old\r\n\r\n", date=date)
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    with log_in(exchange) as imap:
        imap.select()
        assert imap.fetch("4", "(INTERNALDATE)")[1] == [
            b'4 (INTERNALDATE "03-Feb-2026 04:05:06 +0100")'
        ]
        (line,) = imap.fetch("5", "(INTERNALDATE)")[1]
        assert isinstance(line, bytes)
        arrived = imaplib.Internaldate2tuple(line)
        assert arrived is not None
        assert abs(datetime(*arrived[:6]).astimezone() - datetime.now(UTC)) < timedelta(hours=1)
        assert imap.search(None, "SINCE", "4-Feb-2026") == ("OK", [b"1 2 3 5"])


def test_a_naive_date_is_refused_with_what_to_pass(exchange: ReadyExchange) -> None:
    naive = datetime(2026, 2, 3)  # noqa: DTZ001 - that is the test
    with pytest.raises(ValueError, match="pass an aware datetime"):
        exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n", date=naive)


def test_there_must_be_a_mailbox_and_a_folder(exchange: ReadyExchange) -> None:
    says = r"no mailbox x@y\.example: add_mailbox comes first"
    with pytest.raises(ValueError, match=says):
        exchange.change_uidvalidity("x@y.example")
    with pytest.raises(ValueError, match=says):
        exchange.deliver("x@y.example", b"")
    with pytest.raises(ValueError, match="no folder Nonsense"):
        exchange.change_uidvalidity(exchange.mailbox, "Nonsense")


# ---- UIDVALIDITY -----------------------------------------------------------------------------


def test_another_uidvalidity_brings_other_uids(exchange: ReadyExchange) -> None:
    with log_in(exchange) as imap:
        imap.select()
        imap.store("2", "+FLAGS", r"(\Seen)")
        old = uidvalidity(imap)
        exchange.change_uidvalidity(exchange.mailbox, "inbox")
        with pytest.raises(imaplib.IMAP4.abort, match=r"Connection closed\. 14"):
            imap.noop()
    with log_in(exchange) as imap:
        assert imap.select() == ("OK", [b"3"])
        assert uidvalidity(imap) > old
        assert imap.uid("SEARCH", "ALL") == ("OK", [b"1 2 3"])
        assert imap.uid("SEARCH", "SEEN") == ("OK", [b"2"])
        exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
        imap.noop()
        assert imap.uid("SEARCH", "ALL") == ("OK", [b"1 2 3 4"])


def test_only_the_sessions_of_that_folder_are_ended(exchange: ReadyExchange) -> None:
    with Wire(exchange) as idle, log_in(exchange) as other, log_in(exchange) as nowhere:
        idle.line()
        idle.authenticate(exchange.mailbox, fetch_token(exchange))
        idle.ask("A2 SELECT INBOX")
        idle.ask("A3 IDLE")
        other.select('"Sent Items"')
        exchange.change_uidvalidity(exchange.mailbox)
        assert idle.line() == b"* BYE Connection closed. 14\r\n"
        assert idle.line() == b""
        assert other.noop()[0] == "OK"
        assert nowhere.noop()[0] == "OK"


# ---- BODYSTRUCTURE, BODY and ENVELOPE --------------------------------------------------------


def test_the_structure_of_a_text(exchange: ReadyExchange) -> None:
    raw = b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\r\ntwo\r\n"
    structure = fetched(exchange, raw, "BODYSTRUCTURE")
    assert structure == (
        b'("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 10 2 NIL NIL NIL NIL)'
    )


def test_the_structure_without_extension_data(exchange: ReadyExchange) -> None:
    assert fetched(exchange, b"\r\none\r\n", "BODY") == (b'("text" "plain" NIL NIL NIL "7bit" 5 1)')


def test_the_structure_of_parts_is_their_concatenation(exchange: ReadyExchange) -> None:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = "x"
    message.set_content("one\n")
    message.add_alternative("<p>one", subtype="html")
    message.add_attachment(b"%PDF", "application", "pdf", filename='a "b".pdf')
    message.set_boundary("outer")
    structure = fetched(exchange, message, "BODYSTRUCTURE")
    assert structure.startswith(b'((("text" "plain" ("charset" "utf-8") NIL NIL "7bit" ')
    assert b')("text" "html" ("charset" "utf-8") NIL NIL "7bit" ' in structure
    assert b')("application" "pdf" NIL NIL NIL "base64" ' in structure
    assert b'("attachment" ("filename" "a \\"b\\".pdf")) NIL NIL)' in structure
    assert structure.endswith(b' "mixed" ("boundary" "outer") NIL NIL NIL)')


def test_the_structure_of_a_forwarded_message(exchange: ReadyExchange) -> None:
    inner = EmailMessage(policy=SMTP)
    inner["From"] = "Erika Mustermann <erika@fabrikam.example>"
    inner["Subject"] = "inner"
    inner.set_content("one\ntwo\n")
    outer = EmailMessage(policy=SMTP)
    outer["Subject"] = "outer"
    outer.set_content("see below\n")
    outer.add_attachment(inner)
    structure = fetched(exchange, outer, "BODYSTRUCTURE")
    start = structure.index(b'("message" "rfc822"')
    forwarded = structure[start:]
    assert b'(NIL "inner" %b %b %b NIL NIL NIL NIL NIL)' % ((ERIKA,) * 3) in forwarded
    assert b'("text" "plain" ("charset" "utf-8") NIL NIL "7bit" ' in forwarded


def test_imapclient_reads_the_structure(exchange: ReadyExchange) -> None:
    imapclient: Any = pytest.importorskip("imapclient")
    inner = EmailMessage(policy=SMTP)
    inner["Subject"] = "inner"
    inner.set_content("one\ntwo\n")
    message = EmailMessage(policy=SMTP)
    message["Subject"] = "Grüße"
    message["From"] = "Erika Mustermann <erika@fabrikam.example>"
    message["Date"] = datetime(2026, 2, 3, tzinfo=UTC)
    message.set_content("Schöne Grüße\n")
    message["Content-Language"] = "de, en"
    message.add_attachment(b"\0" * 100, "image", "png", filename="Grüße.png")
    message.add_attachment(inner)
    exchange.deliver(exchange.mailbox, message)
    client = imapclient.IMAPClient(exchange.host, exchange.port, ssl_context=exchange.ssl_context)
    with client:
        client.oauth2_login(exchange.mailbox, fetch_token(exchange))
        client.select_folder("INBOX", readonly=True)
        (found,) = client.fetch(
            [104], ["BODYSTRUCTURE", "BODY", "ENVELOPE", "BODY[1]", "BODY[2]"]
        ).values()
    structure, envelope = found[b"BODYSTRUCTURE"], found[b"ENVELOPE"]
    assert structure.is_multipart
    parts, kind, parameters, *_ = structure
    assert (kind, parameters[0]) == (b"mixed", b"boundary")
    text, picture, forwarded = parts
    assert text[10] == (b"de", b"en")
    assert text[:2] == (b"text", b"plain")
    assert text[7] == len(found[b"BODY[1]"].splitlines())
    assert picture[6] == len(found[b"BODY[2]"])
    assert picture[8] == (b"attachment", (b"filename*", b"utf-8''Gr%C3%BC%C3%9Fe.png"))
    assert forwarded[:2] == (b"message", b"rfc822")
    assert forwarded[7][1] == b"inner"
    assert forwarded[8][:2] == (b"text", b"plain")
    assert isinstance(forwarded[9], int)
    assert len(found[b"BODY"]) == 2
    assert envelope.subject == b"=?utf-8?q?Gr=C3=BC=C3=9Fe?="
    assert envelope.date == datetime(2026, 2, 3, tzinfo=UTC).astimezone().replace(tzinfo=None)
    assert (envelope.from_[0].mailbox, envelope.from_[0].host) == (b"erika", b"fabrikam.example")


@pytest.mark.parametrize(
    ("raw", "structure"),
    [
        (b"", b'("text" "plain" NIL NIL NIL "7bit" 0 0)'),
        (
            b"Content-Type: multipart/mixed; boundary=x\r\n\r\nnone\r\n",
            b'("text" "plain" ("boundary" "x") NIL NIL "7bit" 6 1)',
        ),
        (b"Content-Type: nonsense\r\n\r\n", b'("text" "plain" NIL NIL NIL "7bit" 0 0)'),
        (
            b"Content-ID: \xff\r\nContent-Type: image/png\r\n\r\n",
            b'("image" "png" NIL {1}\r\n\xff NIL "7bit" 0)',
        ),
    ],
)
def test_the_structure_of_damaged_messages(
    exchange: ReadyExchange, raw: bytes, structure: bytes
) -> None:
    assert fetched(exchange, raw, "BODY").replace(b"{1}\xff", b"{1}\r\n\xff") == structure


def test_the_envelope_shows_the_header_as_it_is(exchange: ReadyExchange) -> None:
    raw = (
        b'From: "Microsoft Exchange Server"\r\nTo: a@b.example,\r\n  "C, D" <c@d.example>\r\n'
        b"Date: yesterday\r\nSubject: =?utf-8?q?=C3=BC?=\r\n two\r\n\r\n"
    )
    server = b'(("Microsoft Exchange Server" NIL NIL NIL))'
    assert fetched(exchange, raw, "ENVELOPE") == (
        b'("yesterday" "=?utf-8?q?=C3=BC?= two" %b %b %b'
        b' ((NIL NIL "a" "b.example")("C, D" NIL "c" "d.example")) NIL NIL NIL NIL)'
        % ((server,) * 3)
    )
