"""docs/examples/inbox_listener.py through everything that can go wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth._tokens import slot
from exo_imap_oauth.errors import TokenError
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator
    from email.message import EmailMessage

    from exo_imap_oauth import AccessToken, TokenSource
    from exo_imap_oauth.testing import ReadyExchange

PATH = Path(__file__).parents[2] / "docs/examples/inbox_listener.py"
LIMIT = 60.0  # s, for what takes some milliseconds on an idle machine


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location("inbox_listener", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


@pytest.fixture(name="exchange")
def _exchange(trusted_exchange: ReadyExchange) -> ReadyExchange:
    return trusted_exchange


@pytest.fixture(name="inbox")
def _inbox(exchange: ReadyExchange, tmp_path: Path) -> InboxConfig:
    return load_config(exchange.write_config(tmp_path)).default


def impatient() -> Any:
    """A stop that waits for servers as ever, and hardly for the next try."""
    stop = example.Stop()
    wait = stop.wait

    def wait_less(seconds: float, server: socket.socket | None = None) -> None:
        wait(seconds if server else min(seconds, 0.001), server)

    stop.wait = wait_less
    return stop


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
def listening(
    inbox: InboxConfig, handle: Any, make_stop: Any = impatient, **options: Any
) -> Generator[None]:
    options = {"timeout": LIMIT} | options
    stop = make_stop()
    thread = threading.Thread(target=example.InboxListener(inbox, handle, stop, **options).run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LIMIT)
        assert not thread.is_alive()
        stop.close()


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
    with listening(inbox, handled, look_every=2 * LIMIT):
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
    with listening(inbox, handled, look_every=0.01):
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

    stop = example.Stop()
    with pytest.raises(Crash):
        example.InboxListener(inbox, crash, stop).run()
    stop.close()
    assert seen == ["Sample message 1", "Sample message 2"]
    handled = Handled()
    with listening(inbox, handled):
        assert handled.wait_for(2) == {"Sample message 2": 1, "Sample message 3": 1}


def test_a_message_that_cannot_be_handled_is_tried_again(
    inbox: InboxConfig, caplog: pytest.LogCaptureFixture
) -> None:
    handled = Handled()
    failures = itertools.count()

    def handle(inbox: InboxConfig, message: EmailMessage) -> None:
        if message["Subject"] == "Sample message 2" and next(failures) < 3:
            raise ZeroDivisionError
        handled(inbox, message)

    with listening(inbox, handle, look_every=0.001):
        assert set(handled.wait_for(3).values()) == {1}
    assert caplog.text.count("default: message b'102'") == 3


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


def test_a_fresh_token_is_there_before_the_old_one_expires(
    exchange: ReadyExchange,
    inbox: InboxConfig,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offset, real = 0.0, time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset)  # the server's
    moved = slot.Clock(lambda: real() + offset, time.monotonic)
    monkeypatch.setattr(slot, "SYSTEM_CLOCK", moved)
    logins = exchange.inject(Fault.IMAP_STALL, times=None, seconds=0, command="AUTHENTICATE")
    handled = Handled()
    with listening(inbox, handled, look_every=0.02):
        for number in range(1, 4):
            logins.wait_for_hits(number)
            deliver(exchange, f"message {number}")
            handled.wait_for(3 + number)
            offset += 3400  # of the hour for which a token lives
    assert {login.outcome for login in exchange.logins} == {"connected"}
    assert {request.outcome for request in exchange.token_requests} == {"issued"}
    assert caplog.text == ""


def test_an_expired_session_is_opened_anew(
    exchange: ReadyExchange, inbox: InboxConfig, caplog: pytest.LogCaptureFixture
) -> None:
    handled = Handled()
    with listening(inbox, handled):
        handled.wait_for(3)
        refused = exchange.inject(Fault.IMAP_STALL, times=3, seconds=0, command="AUTHENTICATE")
        exchange.advance_clock(3601)  # our own clock does not know that the token has expired
        deliver(exchange, "after the expiry")
        handled.wait_for(4)
    assert "Session invalidated - AccessTokenExpired" in caplog.text
    assert refused.hits == 2  # with the old token, and with the one that replaced it
    assert unread(inbox) == []


@pytest.mark.parametrize("command", ["AUTHENTICATE", "UID SEARCH", "UID FETCH", "IDLE"])
def test_throttling_is_waited_for(
    exchange: ReadyExchange, inbox: InboxConfig, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    exchange.inject(Fault.IMAP_THROTTLED, seconds=0.125, command=command)
    handled = Handled()
    with listening(inbox, handled, example.Stop):
        handled.wait_for(3)
        deliver(exchange, "afterwards")
        handled.wait_for(4)
    assert caplog.text.count("Trying again in 0.1 s") == 1
    assert len(exchange.logins) in (1, 2)


def test_it_stops_while_it_waits_for_its_next_try(
    exchange: ReadyExchange, inbox: InboxConfig
) -> None:
    throttled = exchange.inject(Fault.IMAP_THROTTLED, seconds=3600, command="SELECT")
    with listening(inbox, Handled(), example.Stop):
        throttled.wait_for_hits()
    assert len(exchange.logins) == 1


# ---- everything ------------------------------------------------------------------------------

IN_SESSION = [
    (fault, command)
    for command in ("UID SEARCH", "UID FETCH", "UID STORE", "IDLE")
    for fault in (
        Fault.IMAP_RESET,
        Fault.IMAP_THROTTLED,
        Fault.IMAP_SESSION_INVALIDATED,
        Fault.IMAP_CONNECTION_CLOSED,
    )
]
LOGGING_IN = [
    (Fault.IMAP_BYE_GREETING, None),
    (Fault.IMAP_AUTHENTICATE_FAILED, None),
    (Fault.IMAP_CHALLENGE, None),
    (Fault.IMAP_NO_XOAUTH2, None),
    (Fault.IMAP_NO_SASL_IR, None),
    (Fault.IMAP_RESET, "AUTHENTICATE"),
    (Fault.IMAP_THROTTLED, "AUTHENTICATE"),
    (Fault.IMAP_CONNECTION_CLOSED, "SELECT"),
]
FETCHING_A_TOKEN = [
    (Fault.TOKEN_HTML, None),
    (Fault.TOKEN_TRUNCATED_JSON, None),
    (Fault.TOKEN_REDIRECT, None),
    (Fault.TOKEN_EXPIRED_CERTIFICATE, None),
    (Fault.TOKEN_FOREIGN_CERTIFICATE, None),
]
SLOW = [
    (Fault.IMAP_NO_GREETING, None),
    (Fault.IMAP_STALL, "UID FETCH"),
    (Fault.IMAP_LONG_LINE, "UID SEARCH"),
    (Fault.IMAP_ENDLESS_LINES, "UID STORE"),
    (Fault.TOKEN_REFUSE, None),
    (Fault.TOKEN_RESET, None),
    (Fault.TOKEN_THROTTLED, None),
    (Fault.TOKEN_UNAVAILABLE, None),
    (Fault.TOKEN_HUGE_BODY, None),
]
FAULTS = 500
PARTS = 4  # so that several workers share them


def token_of(source: TokenSource) -> AccessToken:
    while True:
        with contextlib.suppress(TokenError):  # the fault before this one, if we share its fetch
            return source.get_token()


@pytest.mark.parametrize("part", range(PARTS))
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
        for number, (fault, command) in enumerate(plan):
            handled.wait_for(3 + number)
            token = token_of(source)
            injection = exchange.inject(fault, seconds=takes_seconds.get(fault), command=command)
            if fault.name.startswith("TOKEN_"):
                source.invalidate(token)
            elif (fault, command) in LOGGING_IN or fault is Fault.IMAP_NO_GREETING:
                exchange.inject(Fault.IMAP_RESET, command="UID SEARCH")
            deliver(exchange, f"message {number}")
            injection.wait_for_hits(timeout=LIMIT)
        counts = handled.wait_for(3 + len(plan))
    assert counts.total() == len(counts) == 3 + len(plan) == 3 + FAULTS // PARTS
    assert unread(inbox) == []
    with capsys.disabled():
        print(f" [{len(exchange.logins)} logins] ", end="")  # noqa: T201 - measured, not asserted


# ---- as a program ----------------------------------------------------------------------------


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
        [sys.executable, PATH, conf], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline().strip() for _ in range(4)]
        program.send_signal(signal.SIGTERM)
        output, errors = program.communicate(timeout=LIMIT)
    assert (program.returncode, output, errors) == (0, "", "")
    assert Counter(line.partition(":")[0] for line in lines) == {"default": 3, "second": 1}
