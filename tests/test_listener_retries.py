"""Pauses between tries: what is achieved counts, and nothing is hammered."""

from __future__ import annotations

import logging
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from support import mail_answers as answers
from support.concurrency import until
from support.listening import LIMIT, listening_to
from support.mail_server import MailServer

from exo_imap_oauth._listener import session
from exo_imap_oauth._listener.retries import Pauses
from exo_imap_oauth.errors import (
    ConfigError,
    ConnectionFailed,
    ExoImapOAuthError,
    SessionExpired,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with MailServer(b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n") as server:
        yield server


# ---- how long --------------------------------------------------------------------------------

PAUSES = Pauses(1.0, 300.0)
MANY = 200


def after(failures: int, error: Exception) -> tuple[float, float]:
    drawn = [PAUSES.after(failures, error) for _ in range(MANY)]
    return min(drawn), max(drawn)


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [(1, 1, 1.25), (2, 2, 2.5), (8, 128, 160), (9, 225, 300), (10**9, 225, 300)],
)
def test_pauses_grow_to_the_longest_and_differ(failures: int, least: float, most: float) -> None:
    shortest, longest = after(failures, OSError())
    assert least <= shortest < longest <= most
    assert longest - shortest > (most - least) / 2


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(20.0, 20, 25), (240, 240, 300), (250, 225, 300), (999_999, 225, 300), (0.5, 1, 1.25)],
)
def test_what_a_server_asks_for_counts_if_it_is_longer(
    asked: float, least: float, most: float
) -> None:
    shortest, longest = after(1, Throttled("slow down", retry_after=asked))
    assert least <= shortest < longest <= most


@pytest.mark.parametrize("asked", [0, 0.0, -5, math.nan, math.inf, -math.inf, "soon", True, None])
def test_what_is_no_time_to_wait_is_no_invitation(asked: Any) -> None:
    shortest, longest = after(3, Throttled("slow down", retry_after=asked))
    assert 4 <= shortest < longest <= 5


def test_what_a_person_has_to_fix_is_asked_about_seldom() -> None:
    shortest, longest = after(1, ConfigError("no secret"))
    assert 225 <= shortest < longest <= 300


def test_a_first_pause_beyond_the_longest_is_the_longest() -> None:
    assert 7.5 <= Pauses(60.0, 10.0).after(1, OSError()) <= 10


# ---- what is achieved ------------------------------------------------------------------------


def test_a_connection_that_only_logs_in_and_looks_is_no_success(server: MailServer) -> None:
    server.deliver(b"Subject: 3\r\n\r\n")
    server.at("IDLE", answers.drops_after(0))
    with listening_to(server, initial_backoff=0.05, max_backoff=LIMIT) as listening:
        listening.wait_for_told(5)
    pauses = [told.pause for told in listening.told]
    for pause, least in zip(pauses[:5], (0.05, 0.1, 0.2, 0.4, 0.8), strict=True):
        assert least <= pause <= least * 1.25


@pytest.mark.parametrize("word", ["NO", "BAD"])
@pytest.mark.parametrize("command", ["UID SEARCH", "UID FETCH", "SELECT", "IDLE"])
def test_a_backoff_time_of_zero_is_no_invitation(
    server: MailServer, word: str, command: str
) -> None:
    server.at(command, answers.throttled(0, word))
    with listening_to(server, initial_backoff=0.05, max_backoff=LIMIT) as listening:
        until(lambda: sum(type(error) is Throttled for error in listening.errors) >= 4)
    told = [each for each in listening.told if type(each.error) is Throttled][:4]
    for (_, pause), least in zip(told, (0.05, 0.1, 0.2, 0.4), strict=True):
        assert least <= pause <= least * 1.25


def test_pauses_do_not_grow_while_messages_are_handled(server: MailServer) -> None:
    for number in range(3, 201):
        server.deliver(b"Subject: %d\r\n\r\n" % number)

    fetches = 0

    def every_fifth(reply: Any) -> None:
        nonlocal fetches
        fetches += 1
        answers.closes(reply) if fetches % 5 == 0 else reply.usual()

    server.at("UID FETCH", every_fifth)
    with listening_to(server, initial_backoff=0.02, max_backoff=LIMIT) as listening:
        server.wait_for(lambda: not server.unseen)
        assert sorted(listening.handled) == list(range(1, 201))
    lost = [told for told in listening.told if type(told.error) is ConnectionFailed]
    assert len(lost) >= 4
    assert max(pause for _, pause in lost) <= 0.08 * 1.25


def test_rfc_5530_says_what_can_pass(server: MailServer) -> None:
    server.at("UID SEARCH", answers.refused("[UNAVAILABLE] Back-end is down."), times=2)
    with listening_to(server, initial_backoff=0.01, max_backoff=LIMIT) as listening:
        server.wait_for(lambda: not server.unseen)
    retryable = [isinstance(e, ExoImapOAuthError) and e.retryable for e in listening.errors]
    assert retryable == [True, True]
    assert max(told.pause for told in listening.told) < 1


def test_a_session_that_expires_at_once_each_time_is_a_failure(server: MailServer) -> None:
    server.at("UID SEARCH", answers.bye("Session invalidated - AccessTokenExpired"))
    with listening_to(server, initial_backoff=0.02, max_backoff=LIMIT) as listening:
        told = listening.wait_for_told(4)[:4]
    assert {type(error) for error, _ in told} == {SessionExpired}
    assert [
        pause >= least for (_, pause), least in zip(told, (0.02, 0.04, 0.08, 0.16), strict=True)
    ]
    assert told[-1].pause >= 0.16


def test_a_session_that_expires_after_its_time_is_none(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_WORTHWHILE", 0.0)
    server.at("IDLE", answers.idle_bye("Session invalidated - AccessTokenExpired"), times=3)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.logins == 4 and server.idlers == 1)
    assert listening.told == []


# ---- what is logged --------------------------------------------------------------------------


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_problem_is_logged_once_as_long_as_it_lasts(
    server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    server.at("IDLE", answers.drops_after(0), times=6)  # a message is handled in the first session
    with listening_to(server) as listening:
        for number in range(3, 6):
            listening.wait_for_told(number)
            server.deliver(b"Subject: %d\r\n\r\n" % number)
            listening.wait_for_handled(number)
        server.wait_for(lambda: server.idlers == 1)
    assert len(warnings_in(caplog)) == 1
    assert "still ConnectionFailed after" in caplog.text
    assert "works again" in caplog.text


def test_it_is_logged_anew_if_it_was_over(
    server: MailServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_SETTLED", 0.0)
    server.at("IDLE", answers.drops_after(0), times=2)
    with listening_to(server):
        server.wait_for(lambda: server.logins == 3 and server.idlers == 1)
    assert len(warnings_in(caplog)) == 2


def test_it_is_said_if_a_server_gets_less_time_than_it_asks_for(
    server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.at("UID SEARCH", answers.throttled(999_999_999), times=1)
    with listening_to(server):
        server.wait_for(lambda: not server.unseen)
    (line,) = warnings_in(caplog)
    assert "The server asks for 1,000,000.0 s" in line


def test_nothing_is_said_if_a_server_gets_the_time_that_it_asks_for(
    server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.at("UID SEARCH", answers.throttled(50), times=1)
    with listening_to(server, max_backoff=0.05):
        server.wait_for(lambda: not server.unseen)
    (line,) = warnings_in(caplog)
    assert "The server asks for" not in line


def test_a_message_that_fails_in_another_way_is_logged_anew(
    server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.at("UID FETCH", answers.nothing, uid=1, times=2)
    failures: list[Exception] = [ZeroDivisionError("x"), ZeroDivisionError("x"), LookupError("y")]

    def handle(mail: Any) -> None:
        if mail.uid == 1 and failures:
            raise failures.pop(0)

    with listening_to(server, handle):
        server.wait_for(lambda: not server.unseen)
    said = [re.split(": |\n", line)[2] for line in warnings_in(caplog)]
    assert said == ["MessageUnavailable", "ZeroDivisionError", "LookupError"]


# ---- a source that fails ---------------------------------------------------------------------


class _Impatient(ExoImapOAuthError):
    """What a credential raises; its retry_after makes no sense."""


def test_the_notes_of_a_foreign_error_are_logged_up_to_20_lines(
    server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> str:
        error = LookupError("sealed")
        for number in range(1, 31):
            error.add_note(f"note {number}\n(end)")
        raise error

    with listening_to(server, token=fails):
        until(lambda: bool(warnings_in(caplog)))
    notes = re.findall(r"note \d+|\(end\)", warnings_in(caplog)[0])
    assert notes == [line for number in range(1, 11) for line in (f"note {number}", "(end)")]


def test_a_credential_that_asks_for_less_than_nothing_is_not_hammered(server: MailServer) -> None:
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        raise _Impatient("not now", retryable=True, retry_after=-5)

    with listening_to(server, token=token, initial_backoff=0.05, max_backoff=LIMIT) as listening:
        listening.wait_for_told(4)
    until(lambda: asked >= 4)
    assert [told.pause >= 0.05 for told in listening.told] == [True] * len(listening.told)
    assert asked <= 6
