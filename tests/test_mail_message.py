"""Mail: no header of a stranger raises, all goes out as it came, and a stand-in is no message."""

from __future__ import annotations

import copy
import email.policy
import io
import pickle
import time
from datetime import UTC, datetime, timedelta
from email import headerregistry, message_from_bytes
from email.generator import BytesGenerator
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from support.hostile_headers import KNOWN, NAMES, messages, read_everything

from exo_imap_oauth._mail.message import mail_of
from exo_imap_oauth._mail.replies import Fetched
from exo_imap_oauth.errors import MessageUnavailable
from exo_imap_oauth.mail import Mail

if TYPE_CHECKING:
    from collections.abc import Callable

STAND_IN = (
    b"From: %s\r\n"
    b"Subject: Retrieval using the IMAP4 protocol failed for the following message: 2\r\n\r\n"
    b"The server couldn't retrieve the following message:\r\n"
)


def mail(content: bytes, **known: object) -> Mail:
    return mail_of(Fetched(1, uid=7, content=content, **known))  # type: ignore[arg-type]


def on_the_wire(message: EmailMessage) -> bytes:
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


# ---- what it is ------------------------------------------------------------------------------


def test_a_mail_knows_where_it_is_and_how_it_was_fetched() -> None:
    received = datetime(2026, 1, 2, tzinfo=UTC)
    fetched = Fetched(
        1,
        uid=7,
        flags=frozenset({"\\Seen"}),
        received=received,
        size=99,
        content=b"Subject: x\r\n\r\n",
    )
    message = mail_of(fetched, uidvalidity=5, folder="INBOX")
    assert (message.uid, message.uidvalidity, message.folder) == (7, 5, "INBOX")
    assert (message.flags, message.received, message.size) == (fetched.flags, received, 99)
    assert type(message) is Mail
    assert f"{Mail.__module__}.{Mail.__name__}" == "exo_imap_oauth.mail.Mail"


def test_what_was_not_told_is_filled_in() -> None:
    message = mail_of(Fetched(1, content=b"Subject: x\r\n\r\n"))
    assert (message.uid, message.uidvalidity, message.folder) == (0, 0, "")
    assert message.size == 14
    assert message.flags == frozenset()
    assert timedelta(0) <= datetime.now(UTC) - message.received < timedelta(minutes=1)


def test_its_parts_are_plain_messages() -> None:
    message = mail(
        b"Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\n\r\ntext\r\n"
        b"--B\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nfile\r\n--B--\r\n"
    )
    root, *parts = message.walk()
    assert root is message
    assert [type(part) for part in parts] == [EmailMessage, EmailMessage]
    assert [part.get_filename() for part in message.iter_attachments()] == ["a.txt"]
    body = message.get_body()
    assert body is not None
    assert body.get_content() == "text"


def test_a_message_that_did_not_come_is_unavailable() -> None:
    with pytest.raises(MessageUnavailable, match="UID 7") as raised:
        mail_of(Fetched(1, uid=7, size=1234))
    assert (raised.value.uid, raised.value.size, raised.value.retryable) == (7, 1234, True)
    assert raised.value.advice is not None
    assert raised.value.advice.id == "message-unavailable"


def pickled(message: Mail) -> Mail:
    twin: Mail = pickle.loads(pickle.dumps(message))
    return twin


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, pickled])
def test_a_mail_survives_pickle_and_copy(twin_of: Callable[[Mail], Mail]) -> None:
    message = mail(b"From: a@b\r\nMessage-ID: <[x@y]>\r\n\r\nHello", flags=frozenset({"\\Seen"}))
    message["X-Set"] = "by the program"
    twin = twin_of(message)
    assert type(twin) is Mail
    assert twin.policy is message.policy
    assert bytes(twin) == bytes(message)
    assert (twin.uid, twin.flags, twin.received) == (7, message.flags, message.received)
    assert twin["Message-ID"] == "<[x@y]>"


def test_a_policy_made_of_a_mail_s_is_pickled_too() -> None:
    policy = mail(b"Subject: x\r\n\r\n").policy.clone(linesep="\r\n")
    assert pickle.loads(pickle.dumps(policy)).linesep == "\r\n"


# ---- headers of strangers --------------------------------------------------------------------


@pytest.mark.parametrize(
    "message_id",
    [
        "<[anu10].1c69fb81.7aec0.5503SMTPIN_ADDED_[au5]@[anu13].EURPRD10.PROD.OUTLOOK.COM>",
        "<[83c48ddd@microsoft.com]>",
        "<[0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef@microsoft.com]>",
        "<a@b> (comment)",
        "<a@b><c@d>",
        "<=?utf-8?q?x?=@b>",
    ],
)
def test_a_message_id_is_the_text_as_it_came(message_id: str) -> None:
    message = mail(f"Message-ID: {message_id}\r\n\r\n".encode())
    if "=?" not in message_id:
        assert message["Message-ID"] == message_id
    assert on_the_wire(message) == f"Message-ID: {message_id}\r\n\r\n".encode()


def test_a_header_that_cannot_be_parsed_is_its_text_with_the_attributes_of_its_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Which headers fail depends on the version of Python; what is done about it does not.
    for kind in (headerregistry.AddressHeader, headerregistry.DateHeader):
        monkeypatch.setattr(kind, "parse", stumbling_over_what_is_not_empty(kind.parse))
    message = mail("From: Zoë <a@b>\r\nDate: Mon, 2 Nov 2026 08:00:00 +0000\r\n\r\n".encode())
    assert message["From"] == "Zoë <a@b>"
    assert message["From"].addresses == ()
    assert message["Date"] == "Mon, 2 Nov 2026 08:00:00 +0000"
    assert message["Date"].datetime is None
    message.as_string()


def stumbling_over_what_is_not_empty(parse: Any) -> Any:
    def stumble(cls: Any, value: str, known: dict[str, Any]) -> None:
        if value:
            raise IndexError
        parse.__func__(cls, value, known)

    return classmethod(stumble)


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/plain; charset*0*=\x00''%FF",
        b"text/plain; name*" + b"9" * 5000 + b"*=x",
        b"text/plain; charset=idna",
        b"text/plain; charset=undefined",
        b"text/plain; charset=\x00",
        b"text/plain; charset=x-unknown",
        b"text/plain; charset=\xff",
        b"text/plain; charset=\xc3\xa4",
        b"text/plain; charset*=utf-8''%C3%A4",
    ],
)
def test_a_broken_parameter_leaves_the_type(content_type: bytes) -> None:
    message = mail(b"Content-Type: " + content_type + b"\r\n\r\n\xe4\xf6\xfc")
    assert message.get_content_type() == "text/plain"
    assert len(message.get_content()) == 3
    assert message.get_payload()
    assert message.as_string().startswith("Content-Type: text/plain;")
    assert on_the_wire(message).startswith(b"Content-Type: " + content_type)


def test_a_text_in_an_unknown_charset_is_read() -> None:
    message = mail("Content-Type: text/plain; charset=unicode-8\r\n\r\nGrüße".encode())
    assert message.get_content() == "Grüße"
    assert message.as_string().endswith("\n\nGrüße")


def test_a_multipart_without_a_boundary_goes_out_as_it_came() -> None:
    content = (
        b"Content-Type: multipart/mixed; boundary=B\r\n\r\n"
        b"Gr\xc3\xbc\xc3\x9fe\xff\r\nFrom here on it is text\r\n"
    )
    message = mail(content)
    assert on_the_wire(message) == content
    assert "Gr" in message.as_string()


def test_a_part_without_its_boundary_goes_out_with_the_others() -> None:
    content = (
        b"Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\n\r\ntext\r\n--B\r\n"
        b"Content-Type: multipart/mixed; boundary=C\r\n\r\nGr\xc3\xbc\xc3\x9fe\xff\r\n--B--\r\n"
    )
    written = on_the_wire(mail(content))
    assert written.startswith(content[:-40])
    assert "Grüße".encode() + b"\xff" in written


def test_a_header_that_would_take_hours_is_its_text() -> None:
    began = time.process_time()
    message = mail(b"To: " + b'"' * 1_000_000 + b"\r\nSubject: " + b"a " * 500_000 + b"\r\n\r\n")
    assert len(message["To"]) == 1_000_000
    assert message["To"].addresses == ()
    assert len(message["Subject"]) >= 999_999
    message.as_string()
    assert time.process_time() - began < 5


@pytest.mark.parametrize("value", KNOWN, ids=range(len(KNOWN)))
def test_a_header_known_to_crash_parsers_does_not_raise(value: bytes) -> None:
    value = value.replace(b"\n", b"\n ")
    headers = b"".join(name + b": " + value + b"\r\n" for name in NAMES)
    read_everything(mail(headers + b"\r\n\xff"))


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example(b"Content-Type: multipart/alternative\r\nSubject:\x83\rB\xc0\r\n\r\n\xff")
@given(messages)
def test_nothing_that_a_header_holds_raises(content: bytes) -> None:
    try:
        message = mail_of(Fetched(1, content=content or None))
    except MessageUnavailable:
        return
    read_everything(message)


# ---- as it came ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"Subject:no blank",
        b"Subject:   three blanks  and two at the end  ",
        b"Subject:\ttab",
        b"Subject: " + b"long " * 100,
        b"Subject: =?utf-8?q?not?= =?utf-8?q?_refolded?=",
        b"To: a@b,\r\n\tc@d,\r\n   e@f",
        b"X:\r\n value on the second line",
        b"X:",
        b"X: ",
        "Subject: Grüße".encode(),
        b'From: "M\xfcller" <a@b>',
        b"Message-ID: <[0123@microsoft.com]>",
        b"DKIM-Signature: v=1; a=rsa-sha256;\r\n\tb=abc\r\n\t  def==",
        b"X: a\x0bb\x0cc\x1cd\x85e",
    ],
)
def test_headers_go_out_as_they_came(header: bytes) -> None:
    content = header + b"\r\nsUbJeCt: odd\r\n\r\nbody \xff\r\n.\r\n"
    message = mail(content)
    message.items()
    assert on_the_wire(message) == content
    assert message.as_bytes() == content.replace(b"\r\n", b"\n")
    message.as_string().encode("utf-8")


def test_headers_as_text_are_ascii_and_hold_the_octets_as_encoded_words() -> None:
    message = mail("Subject: Grüße von hier\r\nX: ä ö \xff\r\n\r\n".encode() + b"x")
    text = message.as_string()
    assert text.startswith("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= von hier\n")
    assert text.isascii()
    assert message_from_bytes(text.encode(), policy=email.policy.default)["X"] == "ä ö \xff"


def test_headers_go_out_as_seven_bits_where_that_is_asked_for() -> None:
    message = mail("Subject: Grüße\r\n\r\n".encode())
    assert message.as_bytes(policy=message.policy.clone(cte_type="7bit")).isascii()


def test_a_generator_without_a_policy_of_its_own_writes_the_same() -> None:
    message = mail(b"Subject:  x\r\n\r\nbody")
    output = io.BytesIO()
    BytesGenerator(output).flatten(message)
    assert output.getvalue() == b"Subject:  x\n\nbody"


def test_a_header_that_the_program_sets_is_written_and_checked_as_ever() -> None:
    message = mail(b"Subject: x\r\n\r\nbody")
    message["X-Set"] = "Grüße"
    assert b"X-Set: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n" in message.as_bytes()
    with pytest.raises(ValueError, match="linefeed"):
        message["X-Bad"] = "a\nb"


# ---- Exchange's stand-in ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "sender",
    [
        b'"Microsoft Exchange Server"',
        b"Microsoft Exchange Server",
        b"Microsoft Exchange Server <>",
        b'"Microsoft Exchange Server" <.MISSING-HOST-NAME.>',
        b'"Microsoft Exchange Server" <x@.MISSING-HOST-NAME.>',
        b"=?us-ascii?Q?MICROSOFT_Exchange_Server?=",
    ],
)
def test_exchange_s_stand_in_is_no_message(sender: bytes) -> None:
    with pytest.raises(MessageUnavailable, match="stand-in") as raised:
        mail(STAND_IN % sender)
    assert raised.value.uid == 7
    assert "couldn't retrieve" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        STAND_IN % b"Microsoft Exchange <MicrosoftExchange329e@contoso.example>",
        STAND_IN % b'"Microsoft Exchange" <MAILER-DAEMON>',
        STAND_IN % b"Somebody Else",
        STAND_IN % b"<>",
        STAND_IN % b"Somebody <.MISSING-HOST-NAME.>",
        b"Message-ID: <a@b>\r\n" + STAND_IN % b"Microsoft Exchange Server",
        STAND_IN.partition(b"\r\n")[2],
    ],
)
def test_anybody_s_message_without_address_or_message_id_is_a_message(content: bytes) -> None:
    assert mail(content)["Subject"].startswith("Retrieval")


def test_a_mail_can_be_written_too() -> None:
    assert Mail().policy is mail(b"Subject: x\r\n\r\n").policy
    assert Mail(email.policy.SMTP).policy is email.policy.SMTP
    written = Mail()
    written.set_content("Grüße")
    assert written.get_content() == "Grüße\n"


def test_a_mail_that_nobody_fetched_tells_nothing() -> None:
    mail = Mail()
    assert (mail.uid, mail.uidvalidity, mail.folder, mail.size) == (0, 0, "", 0)
    assert not mail.flags
    assert mail.received.tzinfo is not None
