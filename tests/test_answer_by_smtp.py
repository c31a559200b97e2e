"""docs/how-to/answer-by-smtp.md, run as it stands against a real SMTP server with STARTTLS."""

from __future__ import annotations

import smtplib
import ssl
from email import message_from_string, policy
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest
from support import HOST, authority
from support.pages import DOCS, blocks, run

from exo_imap_oauth import check_setup
from exo_imap_oauth.testing._trust import DEFAULT_TRUST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

pytest.importorskip("aiosmtpd", reason="pip install aiosmtpd")
from support.smtp_server import SubmissionServer

PAGE = DOCS / "how-to/answer-by-smtp.md"
SEND, ANSWER, LISTEN, KEEP_COPY = blocks(PAGE, "python")
ROLE = "SMTP.SendAsApp"


@pytest.fixture(name="exchange")
def _exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    monkeypatch.chdir(tmp_path)
    trusted_exchange.write_config(tmp_path)
    return trusted_exchange


@pytest.fixture(name="server")
def _server(exchange: ReadyExchange) -> Iterator[SubmissionServer]:
    """A server whose certificate is trusted, and that lets the application send."""
    exchange.add_permission(exchange.app, ROLE)
    exchange.grant_admin_consent(exchange.app)
    allowed = {(exchange.mailbox, exchange.app.enterprise_object_id)}
    with (
        DEFAULT_TRUST.trusted(authority().cert_pem.bytes()),
        SubmissionServer(exchange, allowed) as server,
    ):
        yield server


@pytest.fixture(name="page")
def _page(server: SubmissionServer) -> dict[str, Any]:
    """The functions of the page, for the server of the test."""
    names: dict[str, Any] = {}
    run(SEND, names)
    run(ANSWER, names)
    names |= {"HOST": HOST, "PORT": server.port}
    return names


def question(**headers: str) -> EmailMessage:
    lines = {"From": "Ann <ann@example.org>", "Subject": "Hello", "Message-ID": "<1@example.org>"}
    text = "".join(
        f"{name.replace('_', '-')}: {value}\n" for name, value in (lines | headers).items()
    )
    return message_from_string(f"{text}\nHow are you?\n", EmailMessage, policy=policy.default)


def note(exchange: ReadyExchange) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = exchange.mailbox, "ann@example.org"
    message.set_content("We have received your message.")
    return message


# ---- sending -----------------------------------------------------------------------------------


def test_the_token_that_reads_the_mailbox_sends_from_it(
    exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    source = exchange.inbox.token_source()
    with exchange.inbox.open(token=source):
        pass
    page["send"](note(exchange), exchange.mailbox, source)
    ((user, sent),) = server.sent
    assert user == exchange.mailbox
    assert sent["To"] == "ann@example.org"
    assert len(exchange.token_requests) == 1


def test_in_the_command_itself_the_token_is_too_long(
    exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    token = exchange.inbox.token_source().get_token().token
    response = page["initial_response"](exchange.mailbox, token).decode()

    def always(_challenge: object = None) -> str:
        return str(response)

    with smtplib.SMTP(HOST, server.port, timeout=60) as smtp:
        smtp.starttls(context=ssl.create_default_context())
        smtp.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError) as raised:
            smtp.auth("XOAUTH2", always)
    assert (raised.value.smtp_code, raised.value.smtp_error) == (500, b"Command line too long")
    assert server.responses == []


@pytest.mark.parametrize("challenges", [False, True])
def test_without_the_role_it_is_refused_and_the_token_is_sent_once(
    challenges: bool, exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    exchange.revoke_consent(exchange.app)
    exchange.remove_permission(exchange.app, ROLE)
    server.challenges = challenges
    source = exchange.inbox.token_source()
    refused = source.get_token()
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3") as raised:
        page["send"](note(exchange), exchange.mailbox, source)
    assert refused.token not in str(raised.value)
    assert len([each for each in server.responses if refused.token.encode() in each]) == 1
    assert server.responses[1:] == ([b""] if challenges else [])

    exchange.add_permission(exchange.app, ROLE)
    exchange.grant_admin_consent(exchange.app)
    page["send"](note(exchange), exchange.mailbox, source)  # it asks for another token
    assert len(server.sent) == 1


def test_a_mailbox_with_smtp_switched_off_says_so(
    exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    server.disabled.add(exchange.mailbox)
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.139 .* is disabled"):
        page["send"](note(exchange), exchange.mailbox, exchange.inbox.token_source())


def test_without_sendas_the_login_works_and_the_message_is_refused(
    exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    server.send_as.clear()
    with pytest.raises(smtplib.SMTPDataError, match=r"5\.2\.252 SendAsDenied"):
        page["send"](note(exchange), exchange.mailbox, exchange.inbox.token_source())
    assert server.sent == []


def test_a_server_that_is_not_trusted_gets_no_token(
    exchange: ReadyExchange,
    server: SubmissionServer,
    page: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = exchange.inbox.token_source()
    source.get_token()
    with monkeypatch.context() as patch, pytest.raises(ssl.SSLCertVerificationError):
        patch.setenv("SSL_CERT_FILE", str(exchange.write_ca("ca.pem")))
        page["send"](note(exchange), exchange.mailbox, source)
    assert server.responses == []


def test_a_server_without_starttls_gets_no_token(
    exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    server.offers_tls = False
    with pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS extension not supported"):
        page["send"](note(exchange), exchange.mailbox, exchange.inbox.token_source())
    assert server.responses == []


def test_a_user_name_that_smtplib_cannot_send_is_refused_without_showing_the_token(
    exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    source = exchange.inbox.token_source()
    with pytest.raises(ValueError, match="not ASCII") as raised:
        page["send"](note(exchange), "jürgen@contoso.example", source)
    assert source.get_token().token not in repr(raised.value) + str(vars(raised.value))
    assert not hasattr(raised.value, "object")  # that of a UnicodeEncodeError is the whole text
    assert server.responses == []


def test_check_setup_has_nothing_against_an_application_that_also_sends(
    exchange: ReadyExchange, server: SubmissionServer
) -> None:
    report = check_setup(exchange.inbox)
    (role,) = [check for check in report.checks if check.id == "role"]
    assert (report.ok, role.status) == (True, "passed")
    assert [check for check in report.checks if check.status == "warning"] == []
    assert server.responses == []


# ---- answering ---------------------------------------------------------------------------------


@pytest.fixture(name="answer")
def _answer() -> Callable[[EmailMessage], EmailMessage | None]:
    names: dict[str, Any] = {}
    run(ANSWER, names)
    return lambda message: names["answer_to"](message, "inbox@contoso.example", "Thank you.")


def test_an_answer_goes_to_who_wrote_and_stays_in_the_thread(
    answer: Callable[[EmailMessage], EmailMessage | None],
) -> None:
    made = answer(question(References="<a@example.org>\n <b@example.org>"))
    assert made is not None
    assert made["To"] == "Ann <ann@example.org>"
    assert made["From"] == "inbox@contoso.example"
    assert made["Subject"] == "Re: Hello"
    assert made["In-Reply-To"] == "<1@example.org>"
    assert made["References"] == "<a@example.org> <b@example.org> <1@example.org>"
    assert made["Auto-Submitted"] == "auto-replied"
    assert made["Message-ID"].endswith("@contoso.example>")
    assert made.get_content() == "Thank you.\n"


def test_an_answer_goes_where_the_sender_wants_it(
    answer: Callable[[EmailMessage], EmailMessage | None],
) -> None:
    made = answer(question(Reply_To="desk@example.org", Subject="RE: Hello", In_Reply_To="<0@x>"))
    assert made is not None
    assert made["To"] == "desk@example.org"
    assert made["Subject"] == "RE: Hello"
    assert made["References"] == "<0@x> <1@example.org>"


def test_a_message_without_an_id_is_answered_outside_any_thread(
    answer: Callable[[EmailMessage], EmailMessage | None],
) -> None:
    message = question()
    del message["Message-ID"], message["Subject"]
    made = answer(message)
    assert made is not None
    assert (made["In-Reply-To"], made["References"], made["Subject"]) == (None, None, "Re:")


def test_a_subject_on_several_lines_adds_no_header(
    answer: Callable[[EmailMessage], EmailMessage | None],
) -> None:
    made = answer(question(Subject="=?utf-8?q?Hello=0D=0ABcc=3A_all=40example=2Eorg?="))
    assert made is not None
    assert made["Bcc"] is None
    assert b"\nBcc:" not in made.as_bytes()


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "auto-replied"},
        {"Auto-Submitted": "auto-generated; owner=x"},
        {"Return-Path": "<>"},
        {"Content-Type": "multipart/report; boundary=x"},
        {"Precedence": "Bulk"},
        {"List-Id": "<news.example.org>"},
        {"List-Unsubscribe": "<mailto:off@example.org>"},
        {"X-Auto-Response-Suppress": "All"},
        {"X-Auto-Response-Suppress": "DR, OOF, AutoReply"},
        {"From": "Inbox@Contoso.example"},
        {"From": "undisclosed"},
        {"From": ""},
    ],
)
def test_what_a_program_sent_gets_no_answer(
    headers: dict[str, str], answer: Callable[[EmailMessage], EmailMessage | None]
) -> None:
    assert answer(question(**headers)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "no"},
        {"Auto-Submitted": "No ; x=y"},
        {"Return-Path": "<ann@example.org>"},
        {"X-Auto-Response-Suppress": "None"},
        {"X-Auto-Response-Suppress": "DR, RN"},  # these are delivery and read reports
        {"Precedence": "first-class"},
    ],
)
def test_what_a_person_sent_gets_one(
    headers: dict[str, str], answer: Callable[[EmailMessage], EmailMessage | None]
) -> None:
    assert answer(question(**headers)) is not None


def test_the_listener_answers_what_it_reads(
    exchange: ReadyExchange, server: SubmissionServer, page: dict[str, Any]
) -> None:
    send = page["send"]
    subjects: list[str] = []

    def send_and_end(message: EmailMessage, user: str, source: Any) -> None:
        try:
            send(message, user, source)
        except smtplib.SMTPException as error:
            pytest.fail(str(error))
        subjects.append(message["Subject"])
        if len(subjects) == 2:
            raise SystemExit

    page["send"] = send_and_end
    bounce = question(Subject="Undelivered", **{"Return-Path": "<>"})
    for message in (bounce, question(Subject="Order 7")):
        exchange.deliver(exchange.mailbox, message.as_bytes())
    with pytest.raises(SystemExit):
        run(LISTEN, page)
    assert [message["Subject"] for _, message in server.sent] == subjects
    assert len(exchange.token_requests) == 1


def test_a_copy_is_kept_as_read(exchange: ReadyExchange) -> None:
    names: dict[str, Any] = {}
    run(KEEP_COPY, names)
    with exchange.inbox.open() as imap:
        names["keep_copy"](imap, note(exchange))
        names["ok"](imap.select('"Sent Items"', readonly=True))
        assert names["ok"](imap.search(None, "SEEN")) == [b"1"]
