"""When a session ends for another token; who gives it is asked, and nobody waits."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from support.concurrency import until
from support.listening import LIMIT, listening_to
from support.mail_server import MailServer

from exo_imap_oauth import AccessToken, TokenSource
from exo_imap_oauth._credentials.foreign import of_unknown_age
from exo_imap_oauth._listener import opening
from exo_imap_oauth._listener.opening import Renewal

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.mail import Mail

HELD = AccessToken(token="held", expires_on=0, refresh_on=0, obtained_on=0.0)
OURS = TokenSource("contoso.example", "22222222-2222-4222-8222-222222222222", "secret")


def ending(seconds: float, **fields: Any) -> AccessToken:
    return replace(HELD, expires_on=int(time.time() + seconds), **fields)


def another() -> AccessToken:
    return of_unknown_age("another")


def is_due_in_the_end(renewal: Renewal) -> bool:
    """What it says once the source has answered."""
    for _ in range(3):
        if renewal.is_due():
            return True
        asking = renewal._asking
        until(lambda: asking is None or asking.done())  # noqa: B023 - waited for at once
    return False


@pytest.mark.parametrize(
    ("source", "token", "current", "expected"),
    [
        (OURS, ending(3600), another, False),  # not before its time
        (OURS, ending(3600, refresh_on=1), another, True),
        (OURS, ending(299), another, True),
        (OURS, ending(299), lambda: HELD, False),  # not fetched yet
        (OURS, HELD, another, False),  # nobody knows when it ends
        (HELD, ending(-1), another, False),  # a bare token: there is no other
        (object(), ending(299), another, False),  # of others, not within the first minute
    ],
)
def test_a_session_ends_when_another_token_is_there(
    source: object, token: AccessToken, current: Callable[[], AccessToken], expected: bool
) -> None:
    assert is_due_in_the_end(Renewal(source, token, current)) is expected


def test_others_are_asked_after_the_first_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 59 <= Renewal(object(), ending(299), another).seconds() <= 60
    monkeypatch.setattr(opening, "_SHORTEST_SESSION", 0.0)
    assert is_due_in_the_end(Renewal(object(), ending(299), another))
    assert not is_due_in_the_end(Renewal(object(), ending(3600), another))


def test_a_tokens_text_alone_tells_by_its_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_SHORTEST_SESSION", 0.0)
    for ends_in, expected in ((299, True), (3600, False)):
        held = of_unknown_age(jwt.encode({"exp": time.time() + ends_in}, "x" * 32))
        assert is_due_in_the_end(Renewal(object(), held, another)) is expected


def test_others_are_not_asked_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_SHORTEST_SESSION", 0.0)
    asked: list[float] = []

    def same() -> AccessToken:
        asked.append(time.monotonic())
        return HELD

    renewal = Renewal(object(), ending(-1), same)
    for _ in range(20):
        assert not is_due_in_the_end(renewal)
    assert len(asked) == 1


def test_nobody_waits_for_the_answer() -> None:
    go_on = threading.Event()

    def slow() -> AccessToken:
        go_on.wait(LIMIT)
        return another()

    renewal = Renewal(OURS, ending(-1), slow)
    assert renewal.seconds() == opening._NEW_TOKEN_EVERY
    assert not renewal.is_due()
    assert not renewal.is_due()
    assert renewal.seconds() == opening._NEW_TOKEN_EVERY
    go_on.set()
    until(renewal.is_due)


def test_a_source_that_fails_does_not_end_the_session() -> None:
    def fails() -> AccessToken:
        raise LookupError("no vault today")

    assert not is_due_in_the_end(Renewal(OURS, ending(-1), fails))


def test_a_session_waits_until_its_token_is_due_and_no_longer() -> None:
    renewal = Renewal(OURS, replace(HELD, refresh_on=int(time.time()) + 100), another)
    assert 98 <= renewal.seconds() <= 100


def test_a_token_that_ends_during_a_backlog_is_replaced_and_nothing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "_SHORTEST_SESSION", 0.0)
    monkeypatch.setattr(opening, "_NEW_TOKEN_EVERY", 0.0)

    class Issued:
        token = "token-0"
        expires_on = 1

    class Credential:
        def get_token(self, *_scopes: str) -> Issued:
            return Issued()

    def handle(mail: Mail) -> None:
        if mail.uid == 5:
            Issued.token = "token-1"
            until(lambda: server.logins == 1)
            time.sleep(0.05)  # in which the next look at the token is answered

    contents = [b"Subject: %d\r\n\r\n" % number for number in range(1, 11)]
    with (
        MailServer(*contents) as server,
        listening_to(server, handle, token=Credential()) as listening,
    ):
        server.wait_for(lambda: not server.unseen)
        server.wait_for(lambda: server.logins == 2 and server.idlers == 1)
    assert (listening.handled, listening.told) == (list(range(1, 11)), [])
