"""Listening through everything that can go wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextvars import ContextVar
from dataclasses import replace
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import pytest
from pymap.backend.session import BaseSession as MailboxSession
from pymap.exceptions import NotAllowedError
from support.concurrency import until
from support.pages import DOCS, blocks

from exo_imap_oauth import InboxConfig, TokenSource, load_config
from exo_imap_oauth._listener import opening
from exo_imap_oauth.errors import (
    MailboxNotConnected,
    Throttled,
    TokenError,
    TokenRequestRejected,
)
from exo_imap_oauth.listener import InboxListener, MessageNotHandled, listen
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from exo_imap_oauth import AccessToken
    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/listen.md"
EXAMPLE = DOCS / "examples/inbox_listener.py"
LIMIT = 60.0  # s, for what takes some milliseconds on an idle machine


@pytest.fixture(name="exchange")
def _exchange(trusted_exchange: ReadyExchange) -> ReadyExchange:
    return trusted_exchange


@pytest.fixture(name="inbox")
def _inbox(exchange: ReadyExchange, tmp_path: Path) -> InboxConfig:
    return load_config(exchange.write_config(tmp_path)).default


class Handled:
    """Counts messages by subject, and lets tests wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count: Counter[str] = Counter()

    def __call__(self, _inbox: InboxConfig, message: EmailMessage) -> None:
        with self._changed:
            self._count[message["Subject"]] += 1
            self._changed.notify_all()

    def wait_for(self, messages: int) -> Counter[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: self._count.total() >= messages, LIMIT), self
            return self._count.copy()


@contextlib.contextmanager
def listening(inbox: InboxConfig, handle: Any, **options: Any) -> Generator[InboxListener]:
    """A listener that waits for servers as ever, and hardly for the next try."""
    options = {"timeout": LIMIT, "initial_backoff": 0.001, "max_backoff": 0.001} | options
    listener = InboxListener(inbox, handle, **options)
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        yield listener
    finally:
        listener.stop()
        thread.join(LIMIT)
        assert not thread.is_alive()


def deliver(exchange: ReadyExchange, subject: str) -> None:
    exchange.deliver(exchange.mailbox, f"Subject: {subject}\r\n\r\n".encode())


def unread(inbox: InboxConfig) -> list[bytes]:
    with inbox.open(readonly=True) as imap:
        found = imap.search(None, "UNSEEN")[1][0]
    assert isinstance(found, bytes)
    return found.split()


def test_unread_messages_are_handled_and_marked(
    exchange: ReadyExchange, inbox: InboxConfig
) -> None:
    with inbox.open() as imap:
        imap.store("2", "+FLAGS", r"(\Seen)")
    handled = Handled()
    with listening(inbox, handled):
        assert handled.wait_for(2) == {"Sample message 1": 1, "Sample message 3": 1}
    assert unread(inbox) == []
    assert len(exchange.token_requests) == 1


def test_idle_reports_new_mail_at_once(exchange: ReadyExchange, inbox: InboxConfig) -> None:
    handled = Handled()
    with listening(inbox, handled, poll_interval=2 * LIMIT):
        for number in range(4, 10):
            handled.wait_for(number - 1)
            deliver(exchange, f"message {number}")
        handled.wait_for(9)
    assert len(exchange.logins) == 1


def test_without_idle_the_inbox_is_polled(
    exchange: ReadyExchange, inbox: InboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exo_imap_oauth.testing._imap._BEFORE_LOGIN", b"IMAP4rev1 AUTH=XOAUTH2")
    monkeypatch.setattr("exo_imap_oauth.testing._imap._AFTER_LOGIN", b"IMAP4rev1")
    idles = exchange.inject(Fault.IMAP_RESET, command="IDLE")
    handled = Handled()
    with listening(inbox, handled, poll_interval=0.01):
        handled.wait_for(3)
        deliver(exchange, "polled")
        handled.wait_for(4)
    assert (len(exchange.logins), idles.hits) == (1, 0)


def test_a_crash_repeats_the_message_and_loses_none(inbox: InboxConfig) -> None:
    class Crash(BaseException):
        pass

    seen: list[str] = []

    def crash(_: InboxConfig, message: EmailMessage) -> None:
        seen.append(message["Subject"])
        if len(seen) == 2:
            raise Crash

    with pytest.raises(Crash):
        InboxListener(inbox, crash).run()
    assert seen == ["Sample message 1", "Sample message 2"]
    handled = Handled()
    with listening(inbox, handled):
        assert handled.wait_for(2) == {"Sample message 2": 1, "Sample message 3": 1}


def test_a_message_that_cannot_be_handled_is_tried_again(
    inbox: InboxConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    handled = Handled()
    failures = itertools.count()

    def handle(inbox: InboxConfig, message: EmailMessage) -> None:
        if message["Subject"] == "Sample message 2" and next(failures) < 3:
            raise ZeroDivisionError
        handled(inbox, message)

    with listening(inbox, handle, poll_interval=0.001):
        assert set(handled.wait_for(3).values()) == {1}
    said = [record for record in caplog.records if "message 102" in record.getMessage()]
    assert [re.split("[.\n]", record.getMessage())[0] for record in said] == [
        "inbox default: message 102 failed once: ZeroDivisionError",
        "inbox default: message 102 failed 2 times: ZeroDivisionError",
        "inbox default: message 102 failed 3 times: ZeroDivisionError",
    ]
    assert [record.levelname for record in said] == ["WARNING", "INFO", "INFO"]
    assert [bool(record.exc_info) for record in said] == [True, False, False]


def test_a_lost_mark_is_made_up_for_without_handling_twice(
    exchange: ReadyExchange, inbox: InboxConfig
) -> None:
    lost = exchange.inject(Fault.IMAP_RESET, times=3, command="UID STORE")
    handled = Handled()
    with listening(inbox, handled):
        assert set(handled.wait_for(3).values()) == {1}
        lost.wait_for_hits(3)
        deliver(exchange, "last")
        assert set(handled.wait_for(4).values()) == {1}
    assert unread(inbox) == []


def test_a_misspelt_variable_is_logged_by_a_listener_that_starts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ = {"EXO_IMAP_USER": "inbox@contoso.example", "EXO_IMAP_FODLER": "Sales"}
    inbox = InboxConfig.from_env(environ=environ)
    listener = InboxListener(inbox, print, token=lambda: "unused")
    listener.stop()
    listener.run()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "EXO_IMAP_FODLER: is not a variable that is read." in caplog.text
    assert "Did you mean EXO_IMAP_FOLDER?" in caplog.text


def test_a_fresh_token_is_there_before_the_old_one_expires(
    exchange: ReadyExchange,
    inbox: InboxConfig,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    clock: Callable[[float], None],
) -> None:
    offset, real = 0.0, time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset)  # the server's
    monkeypatch.setattr(opening, "_NEW_TOKEN_EVERY", 0.0)
    logins = exchange.inject(Fault.IMAP_STALL, times=None, seconds=0, command="AUTHENTICATE")
    handled = Handled()
    with listening(inbox, handled, poll_interval=0.02):
        for number in range(1, 4):
            logins.wait_for_hits(number)
            deliver(exchange, f"message {number}")
            handled.wait_for(3 + number)
            offset += 3400  # of the hour for which a token lives
            clock(3400)
    assert {login.outcome for login in exchange.logins} == {"connected"}
    assert {request.outcome for request in exchange.token_requests} == {"issued"}
    assert caplog.text == ""


def test_an_expired_session_is_opened_anew_and_is_no_failure(
    exchange: ReadyExchange, inbox: InboxConfig, caplog: pytest.LogCaptureFixture
) -> None:
    handled = Handled()
    told: list[Exception] = []

    def on_failure(_inbox: InboxConfig, error: Exception, _pause: float) -> None:
        told.append(error)

    with listening(inbox, handled, on_failure=on_failure):
        handled.wait_for(3)
        refused = exchange.inject(Fault.IMAP_STALL, times=3, seconds=0, command="AUTHENTICATE")
        exchange.advance_clock(3601)  # our own clock does not know that the token has expired
        deliver(exchange, "after the expiry")
        handled.wait_for(4)
    assert (told, caplog.text) == ([], "")
    assert refused.hits == 2  # with the old token, and with the one that replaced it
    assert unread(inbox) == []


@pytest.mark.parametrize("command", ["AUTHENTICATE", "UID SEARCH", "UID FETCH", "IDLE"])
def test_throttling_is_waited_for(
    exchange: ReadyExchange, inbox: InboxConfig, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    throttled = exchange.inject(Fault.IMAP_THROTTLED, seconds=0.25, command=command)
    handled = Handled()
    pauses: list[float] = []

    def on_failure(_inbox: InboxConfig, error: Exception, pause: float) -> None:
        assert isinstance(error, Throttled)
        pauses.append(pause)

    with listening(inbox, handled, max_backoff=LIMIT, on_failure=on_failure):
        handled.wait_for(3)
        throttled.wait_for_hits()
        deliver(exchange, "afterwards")
        handled.wait_for(4)
    (pause,) = pauses
    assert 0.25 <= pause <= 0.25 * 1.25
    assert caplog.text.count("Next try in 0.3 s") == 1
    assert len(exchange.logins) in (1, 2)


def test_it_stops_while_it_waits_for_its_next_try(
    exchange: ReadyExchange, inbox: InboxConfig
) -> None:
    throttled = exchange.inject(Fault.IMAP_THROTTLED, seconds=3600, command="SELECT")
    with listening(inbox, Handled(), max_backoff=3600):
        throttled.wait_for_hits()
    assert len(exchange.logins) == 1


# ---- everything ------------------------------------------------------------------------------


class Plan(NamedTuple):
    """A fault, and where it strikes."""

    fault: Fault
    command: str | None = None
    reply: Literal["NO"] | None = None


AT_ANY_COMMAND = (
    Plan(Fault.IMAP_RESET),
    Plan(Fault.IMAP_THROTTLED),
    Plan(Fault.IMAP_THROTTLED, reply="NO"),
    Plan(Fault.IMAP_SESSION_INVALIDATED),
    Plan(Fault.IMAP_CONNECTION_CLOSED),
)
IN_SESSION = [
    planned._replace(command=command)
    for command in ("UID SEARCH", "UID FETCH", "UID STORE", "IDLE")
    for planned in AT_ANY_COMMAND
] + [Plan(Fault.IMAP_IDLE_RESET)]
LOGGING_IN = [
    Plan(Fault.IMAP_BYE_GREETING),
    Plan(Fault.IMAP_AUTHENTICATE_FAILED),
    Plan(Fault.IMAP_CHALLENGE),
    Plan(Fault.IMAP_WRONG_SERVER),
    Plan(Fault.IMAP_THROTTLED, "SELECT", "NO"),
    Plan(Fault.IMAP_NO_XOAUTH2),
    Plan(Fault.IMAP_NO_SASL_IR),
    Plan(Fault.IMAP_RESET, "AUTHENTICATE"),
    Plan(Fault.IMAP_THROTTLED, "AUTHENTICATE"),
    Plan(Fault.IMAP_CONNECTION_CLOSED, "SELECT"),
]
FETCHING_A_TOKEN = [
    Plan(Fault.TOKEN_HTML),
    Plan(Fault.TOKEN_TRUNCATED_JSON),
    Plan(Fault.TOKEN_REDIRECT),
    Plan(Fault.TOKEN_EXPIRED_CERTIFICATE),
    Plan(Fault.TOKEN_FOREIGN_CERTIFICATE),
]
SLOW = [
    Plan(Fault.IMAP_NO_GREETING),
    Plan(Fault.IMAP_STALL, "UID FETCH"),
    Plan(Fault.IMAP_LONG_LINE, "UID SEARCH"),
    Plan(Fault.IMAP_ENDLESS_LINES, "UID STORE"),
    Plan(Fault.TOKEN_REFUSE),
    Plan(Fault.TOKEN_RESET),
    Plan(Fault.TOKEN_THROTTLED),
    Plan(Fault.TOKEN_UNAVAILABLE),
    Plan(Fault.TOKEN_HUGE_BODY),
]
FAULTS = 500
PARTS = 4  # so that several workers share them


def token_of(source: TokenSource) -> AccessToken:
    while True:
        with contextlib.suppress(TokenError):  # the fault before this one, if we share its fetch
            return source.get_token()


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))]
)
def test_no_message_is_lost_in_five_hundred_faults(
    exchange: ReadyExchange, inbox: InboxConfig, capsys: pytest.CaptureFixture[str], part: int
) -> None:
    kinds = (IN_SESSION + LOGGING_IN + FETCHING_A_TOKEN) * FAULTS
    plan = (SLOW + kinds[: FAULTS - len(SLOW)])[part::PARTS]
    takes_seconds = {
        Fault.IMAP_THROTTLED: 0.002,
        Fault.IMAP_ENDLESS_LINES: 0.02,
        Fault.TOKEN_THROTTLED: 0,
        Fault.TOKEN_UNAVAILABLE: 0,
    }
    handled = Handled()
    source = inbox.token_source()
    with listening(inbox, handled, timeout=0.5):
        for number, planned in enumerate(plan):
            fault = planned.fault
            handled.wait_for(3 + number)
            token = token_of(source)
            injection = exchange.inject(
                fault,
                seconds=takes_seconds.get(fault),
                command=planned.command,
                reply=planned.reply,
            )
            needs_token = fault.name.startswith("TOKEN_")
            if needs_token:
                source.invalidate(token)
            if needs_token or planned in LOGGING_IN or fault is Fault.IMAP_NO_GREETING:
                exchange.inject(Fault.IMAP_RESET, command="UID SEARCH")
            deliver(exchange, f"message {number}")
            injection.wait_for_hits(timeout=LIMIT)
        counts = handled.wait_for(3 + len(plan))
    assert counts.total() == len(counts) == 3 + len(plan) == 3 + FAULTS // PARTS
    assert unread(inbox) == []
    with capsys.disabled():
        print(f" [{len(exchange.logins)} logins] ", end="")  # noqa: T201 - measured, not asserted


# ---- as a program ----------------------------------------------------------------------------


def test_the_page_runs_as_it_stands(exchange: ReadyExchange, tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "python")
    exchange.write_config(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline().strip() for _ in range(3)]
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=LIMIT)
    assert program.returncode == 0
    assert lines == [f"default Sample message {number}" for number in (1, 2, 3)]


def test_sigterm_ends_the_program_cleanly(exchange: ReadyExchange, tmp_path: Path) -> None:
    conf = exchange.write_config(tmp_path)
    second = "second@contoso.example"
    exchange.add_mailbox(second, messages=1)
    exchange.add_mailbox_permission(second, exchange.app.enterprise_object_id)
    (conf / "conf.d/second.properties").write_text(
        'cmsbs.bounce.listeners = "second"\n'
        f"cmsbs.bouncelistener.second.mail.imap.user = {second}\n"
        f"cmsbs.bouncelistener.second.mail.imap.server = {exchange.host}\n"
    )
    with subprocess.Popen(
        [sys.executable, EXAMPLE, conf], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline().strip() for _ in range(4)]
        program.send_signal(signal.SIGTERM)
        output, errors = program.communicate(timeout=LIMIT)
    assert (program.returncode, output, errors) == (0, "", "")
    assert Counter(line.partition(":")[0] for line in lines) == {"default": 3, "second": 1}


# ---- messages that fail ----------------------------------------------------------------------


def test_a_message_can_be_given_up(inbox: InboxConfig, caplog: pytest.LogCaptureFixture) -> None:
    handled = Handled()
    told: list[tuple[int, int, float]] = []

    def handle(inbox: InboxConfig, message: EmailMessage) -> None:
        if message["Subject"] == "Sample message 2":
            raise ZeroDivisionError
        handled(inbox, message)

    def on_failure(inbox: InboxConfig, error: Exception, pause: float) -> bool:
        assert isinstance(error, MessageNotHandled)
        assert isinstance(error.__cause__, ZeroDivisionError)
        told.append((error.uid, error.attempts, pause))
        if error.attempts < 4:
            return False
        handled(inbox, EmailMessage())
        return True

    options = {"initial_backoff": 0.01, "max_backoff": 0.05, "on_failure": on_failure}
    with listening(inbox, handle, **options):
        handled.wait_for(3)
    assert [(uid, attempts) for uid, attempts, _ in told] == [(102, n) for n in range(1, 5)]
    for (_, _, pause), least in zip(told, (0.01, 0.02, 0.04, 0.0375), strict=True):
        assert least <= pause <= min(least * 1.25, 0.05) or least == 0.0375 <= pause <= 0.05
    assert "message 102 is given up" in caplog.text
    assert unread(inbox) == []


def test_a_message_that_the_server_cannot_give_stops_no_other(
    trusted_exchange: ReadyExchange, inbox: InboxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch: Any = getattr(MailboxSession, "fetch_messages")  # noqa: B009 - its own type is incomplete
    told: list[MessageNotHandled] = []

    async def refuse_the_second(self: Any, selected: Any, sequence_set: Any, *rest: Any) -> Any:
        if "102" in str(sequence_set):
            raise NotAllowedError("The message could not be converted")
        return await fetch(self, selected, sequence_set, *rest)

    monkeypatch.setattr(MailboxSession, "fetch_messages", refuse_the_second)
    handled = Handled()

    def on_failure(_inbox: InboxConfig, error: Exception, _pause: float) -> None:
        assert isinstance(error, MessageNotHandled)
        told.append(error)

    with listening(inbox, handled, on_failure=on_failure):
        assert handled.wait_for(2) == {"Sample message 1": 1, "Sample message 3": 1}
    assert {error.uid for error in told} == {102}
    assert len(trusted_exchange.logins) == 1


def test_what_on_failure_raises_stops_nothing(
    inbox: InboxConfig, caplog: pytest.LogCaptureFixture
) -> None:
    handled = Handled()
    failures = itertools.count()

    def handle(inbox: InboxConfig, message: EmailMessage) -> None:
        if next(failures) < 3:
            raise ZeroDivisionError
        handled(inbox, message)

    def on_failure(_inbox: InboxConfig, _error: Exception, _pause: float) -> None:
        raise LookupError

    with listening(inbox, handle, on_failure=on_failure):
        handled.wait_for(3)
    assert "on_failure raised" in caplog.text


def test_no_name_of_an_inbox_reaches_the_log_as_it_is(
    inbox: InboxConfig, caplog: pytest.LogCaptureFixture
) -> None:
    handled = Handled()
    failures = itertools.count()

    def handle(inbox: InboxConfig, message: EmailMessage) -> None:
        if next(failures) < 1:
            raise ZeroDivisionError
        handled(inbox, message)

    def on_failure(_inbox: InboxConfig, _error: Exception, _pause: float) -> None:
        raise LookupError

    named = dataclasses.replace(inbox, name="a\x1b[31m\nb")
    with listening(named, handle, on_failure=on_failure):
        handled.wait_for(3)
    told = [each.getMessage() for each in caplog.records if "listen" in each.name]
    assert len(told) >= 2
    assert all("\x1b" not in text for text in told)


# ---- what a person has to fix ----------------------------------------------------------------


def test_what_somebody_has_to_fix_is_told_once_and_survived(
    exchange: ReadyExchange, inbox: InboxConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    object_id = exchange.app.enterprise_object_id
    exchange.remove_mailbox_permission(exchange.mailbox, object_id)
    failed, told = threading.Event(), itertools.count()

    def on_failure(_inbox: InboxConfig, error: Exception, _pause: float) -> None:
        assert isinstance(error, MailboxNotConnected)
        if next(told) == 3:
            failed.set()

    handled = Handled()
    with listening(inbox, handled, on_failure=on_failure):
        assert failed.wait(LIMIT)
        exchange.add_mailbox_permission(exchange.mailbox, object_id, "FullAccess")
        handled.wait_for(3)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "Add-MailboxPermission -Identity 'inbox@contoso.example'" in warnings[0]
    assert "still MailboxNotConnected after 2 tries" in caplog.text
    assert "inbox default works again" in caplog.text


def test_a_secret_that_expired_is_replaced_on_disk(
    exchange: ReadyExchange, inbox: InboxConfig, tmp_path: Path
) -> None:
    file = tmp_path / "client-secret"
    file.write_text(exchange.add_client_secret(exchange.app, lifetime=60).value)
    source = TokenSource(
        exchange.tenant_id,
        exchange.app.client_id,
        file.read_text,
        token_uri=exchange.token_uri(),
    )
    failed = threading.Event()

    def on_failure(_inbox: InboxConfig, error: Exception, _pause: float) -> None:
        if isinstance(error, TokenRequestRejected):
            assert error.advice is not None
            assert error.advice.id == "secret-expired"
            failed.set()

    handled = Handled()
    with listening(inbox, handled, token=source, on_failure=on_failure):
        handled.wait_for(3)
        exchange.advance_clock(3700)
        source.invalidate(source.get_token())
        deliver(exchange, "after the expiry")
        assert failed.wait(LIMIT)
        file.write_text(exchange.add_client_secret(exchange.app).value)
        handled.wait_for(4)
    assert unread(inbox) == []


# ---- crashes ---------------------------------------------------------------------------------

WRITES_DOWN = """
import os, sys
from exo_imap_oauth import load_config
from exo_imap_oauth.listener import listen

out = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def handle(inbox, message):
    os.write(out, (message["Subject"] + "\\n").encode())

listen(load_config(sys.argv[1]), handle, unconfirmed=1)
"""
KILLS = 20
BETWEEN_KILLS = 5


@pytest.mark.slow
def test_a_program_that_is_killed_again_and_again_loses_no_message(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    conf = exchange.write_config(tmp_path)
    written = tmp_path / "handled"
    written.touch()
    sent = [f"Sample message {number}" for number in range(1, 4)]

    def lines() -> list[str]:
        return written.read_text().splitlines()

    for number in range(KILLS + 1):
        fresh = [f"message {number}.{place}" for place in range(BETWEEN_KILLS)]
        program = subprocess.Popen([sys.executable, "-c", WRITES_DOWN, conf, written])
        try:
            for subject in fresh:
                deliver(exchange, subject)
            sent += fresh
            is_last = number == KILLS
            enough = len(sent) if is_last else len(set(lines())) + 1 + number % BETWEEN_KILLS
            until(lambda wanted=enough: len(set(lines())) >= wanted)  # type: ignore[misc] # its default is bound
        finally:
            program.kill()
            program.wait(LIMIT)
    counts = Counter(lines())
    assert set(counts) == set(sent)
    assert counts.total() <= len(sent) + KILLS  # what was in its hands when it died


# ---- stopping --------------------------------------------------------------------------------

SILENT = [
    (Fault.TOKEN_STALL, None),
    (Fault.IMAP_NO_GREETING, None),
    (Fault.IMAP_STALL, "AUTHENTICATE"),
    (Fault.IMAP_STALL, "SELECT"),
    (Fault.IMAP_STALL, "UID SEARCH"),
    (Fault.IMAP_STALL, "UID FETCH"),
    (Fault.IMAP_STALL, "UID STORE"),
    (Fault.IMAP_STALL, "IDLE"),
]


@pytest.mark.parametrize(("fault", "command"), SILENT)
def test_it_stops_though_a_server_is_silent(
    exchange: ReadyExchange, inbox: InboxConfig, fault: Fault, command: str | None
) -> None:
    silent = exchange.inject(fault, times=None, seconds=10 * LIMIT, command=command)
    with listening(inbox, Handled(), timeout=10 * LIMIT):
        silent.wait_for_hits()
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT  # a second; a server's timeout would be ten minutes


def test_it_stops_in_a_pause(exchange: ReadyExchange, inbox: InboxConfig) -> None:
    refused = exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED, times=None)
    with listening(inbox, Handled(), initial_backoff=10 * LIMIT, max_backoff=10 * LIMIT):
        refused.wait_for_hits()


def test_a_stopped_listener_does_not_run_again(inbox: InboxConfig) -> None:
    listener = InboxListener(inbox, Handled())
    listener.stop()
    listener.stop()
    listener.run()


def test_a_listener_runs_once_at_a_time(inbox: InboxConfig) -> None:
    handled = Handled()
    with listening(inbox, handled) as listener:
        handled.wait_for(3)
        with pytest.raises(RuntimeError, match="running already"):
            listener.run()


# ---- many ------------------------------------------------------------------------------------


def test_without_an_inbox_there_is_nothing_to_listen_to() -> None:
    with pytest.raises(ValueError, match="no inbox"):
        listen([], Handled())


def test_signals_reach_the_main_thread_only(inbox: InboxConfig) -> None:
    errors: list[Exception] = []

    def run() -> None:
        try:
            listen([inbox], Handled())
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT)
    assert "main thread" in str(errors)


def test_a_handler_that_exits_ends_all(inbox: InboxConfig) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    are_daemons: list[bool] = []  # else a handler that hangs would keep the program alive

    def leave(_inbox: InboxConfig, _message: EmailMessage) -> None:
        are_daemons.append(threading.current_thread().daemon)
        raise SystemExit(7)

    other = replace(inbox, user="nobody@contoso.example", name="other")
    began = time.monotonic()
    with pytest.raises(SystemExit, match="7"):
        listen([other, inbox], leave)
    assert time.monotonic() - began < LIMIT, "the other one waited for its next try"
    assert are_daemons == [True]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"timeout": 0}, ValueError, "timeout"),
        ({"poll_interval": -1}, ValueError, "poll_interval"),
        ({"initial_backoff": 0}, ValueError, "initial_backoff"),
        ({"max_backoff": float("nan")}, ValueError, "max_backoff"),
        ({"token": 5}, TypeError, "token"),
    ],
)
def test_arguments_that_cannot_work_are_refused(
    inbox: InboxConfig, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        InboxListener(inbox, Handled(), **options)


def test_a_handler_must_be_callable(inbox: InboxConfig) -> None:
    with pytest.raises(TypeError, match=r"handle must be a function.*, not str"):
        InboxListener(inbox, cast("Any", "print"))


SPAN: ContextVar[str] = ContextVar("SPAN", default="none")


def test_secrets_and_handlers_see_what_the_caller_of_listen_has_set(
    exchange: ReadyExchange, inbox: InboxConfig
) -> None:
    seen: list[str] = []

    def secret() -> str:
        seen.append(f"secret: {SPAN.get()}")
        return exchange.secret.value

    def leave(_inbox: InboxConfig, _message: EmailMessage) -> None:
        seen.append(f"message: {SPAN.get()}")
        raise SystemExit

    before = SPAN.set("of the caller")
    try:
        with pytest.raises(SystemExit):
            listen([replace(inbox, client_secret=secret)], leave)
    finally:
        SPAN.reset(before)
    assert seen == ["secret: of the caller", "message: of the caller"]
