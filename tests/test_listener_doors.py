"""What callers of the listener see: arguments, names of 0.2.0, run_once, status, listen."""

from __future__ import annotations

import functools
import linecache
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from support import mail_answers as answers
from support.concurrency import until
from support.listening import LIMIT, USER, Listening, inbox_of, listener_of, listening_to
from support.mail_server import MailServer

from exo_imap_oauth import InboxConfig, TokenSource, load_config
from exo_imap_oauth.errors import ConnectionFailed, TokenError
from exo_imap_oauth.listener import InboxListener, ListenerStatus, MessageNotHandled, listen
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exo_imap_oauth.mail import Mail
    from exo_imap_oauth.testing import ReadyExchange

INBOX = InboxConfig(user=USER)


def handle(_inbox: InboxConfig, _mail: Mail) -> None:
    """Never called."""


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with MailServer(b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n") as server:
        yield server


# ---- arguments -------------------------------------------------------------------------------


async def _coroutine(*_: object) -> None:
    """Would have to be awaited."""


class _AsyncCallable:
    async def __call__(self, *_: object) -> None:
        """The same."""


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("print", "handle must be a function, to be called with the inbox, not str"),
        (None, "not None"),
        (_coroutine, "handle is async"),
        (_AsyncCallable(), "handle is async"),
    ],
)
def test_a_handle_that_cannot_work_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        InboxListener(INBOX, wrong, token="t")
    with pytest.raises(TypeError, match=says):
        listen([INBOX], wrong, token="t")


def test_on_failure_must_be_a_function_too() -> None:
    with pytest.raises(TypeError, match="on_failure must be a function"):
        InboxListener(INBOX, handle, token="t", on_failure=True)  # type: ignore[arg-type] # wrong


def test_a_handle_that_gives_something_to_await_has_not_handled_the_message(
    server: MailServer,
) -> None:
    handler = functools.partial(_coroutine)  # that it is async shows when it is called
    with listening_to(server, handler) as listening:
        (error, _), *_ = listening.wait_for_told()
    assert isinstance(error, MessageNotHandled)
    assert "to be awaited" in str(error.__cause__)
    assert server.seen == set()


@pytest.mark.parametrize("wrong", [[INBOX], {"default": INBOX}, "inbox@contoso.example", None])
def test_a_listener_takes_one_inbox(wrong: Any) -> None:
    with pytest.raises(TypeError, match="must be an InboxConfig, not"):
        InboxListener(wrong, handle, token="t")


def test_listen_takes_several() -> None:
    with pytest.raises(TypeError, match=r"put a single one into a list: \[inbox\]"):
        listen(INBOX, handle, token="t")  # type: ignore[arg-type] # wrong
    for wrong in (5, "inbox", [INBOX, "inbox"]):
        with pytest.raises(TypeError, match="InboxConfig, not"):
            listen(wrong, handle, token="t")  # type: ignore[arg-type] # wrong


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"user": USER.upper()},
        {"folder": "inbox"},
        {"host": "OUTLOOK.office365.com"},
        {"client_id": "22222222-2222-4222-8222-222222222222"},
    ],
)
def test_one_folder_twice_is_refused(other: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"user": USER, "name": "second"} | other
    with pytest.raises(ValueError, match="default and second are the same folder"):
        listen([INBOX, InboxConfig(**fields)], handle, token="t")


@pytest.mark.parametrize(
    "other", [{"user": "b@contoso.example"}, {"folder": "Sales"}, {"host": "outlook.office365.us"}]
)
def test_other_folders_are_other_folders(other: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"user": USER, "name": "second"} | other
    thread_error: list[Exception] = []

    def run() -> None:
        try:
            listen([INBOX, InboxConfig(**fields)], handle, token="t")
        except RuntimeError as error:  # this is not the main thread, which is looked at last
            thread_error.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT)
    assert len(thread_error) == 1


def test_token_and_cache_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="give token or cache, not both"):
        InboxListener(INBOX, handle, token="t", cache=MemoryTokenCache())


def test_an_unknown_option_is_refused_as_by_any_function() -> None:
    with pytest.raises(TypeError, match="'unknown'"):
        InboxListener(INBOX, handle, token="t", unknown=1)  # type: ignore[call-arg] # wrong


def test_the_cache_is_that_of_the_inboxs_own_source(
    trusted_exchange: ReadyExchange,
) -> None:
    cache = MemoryTokenCache()
    listening = Listening()
    listener = InboxListener(trusted_exchange.inbox, listening.handle, cache=cache)
    assert listener.run_once() == 3
    assert trusted_exchange.inbox.token_source(cache=cache).get_token().token
    assert len(trusted_exchange.token_requests) == 1


# ---- the names of 0.2.0 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("look_every", "poll_interval"),
        ("pause", "initial_backoff"),
        ("longest_pause", "max_backoff"),
    ],
)
def test_the_names_of_0_2_0_work_and_say_what_they_are_called_now(old: str, new: str) -> None:
    options: Any = {old: 0.0}
    for call in (
        lambda: InboxListener(INBOX, handle, token="t", **options),
        lambda: listen([INBOX], handle, token="t", **options),
    ):
        with (
            pytest.warns(DeprecationWarning, match=f"{old}= .* called {new}= now") as caught,
            pytest.raises(ValueError, match=f"{new} must be a positive number"),
        ):
            call()
        assert caught[0].filename == __file__
        assert "handle, token=" in linecache.getline(__file__, caught[0].lineno)


def test_give_up_works_until_0_4(server: MailServer) -> None:
    def on_failure(_inbox: InboxConfig, error: Exception, _pause: float) -> None:
        assert isinstance(error, MessageNotHandled)
        with pytest.warns(DeprecationWarning, match="returning True") as caught:
            error.give_up()
        assert caught[0].filename == __file__

    def fails(_mail: Mail) -> None:
        raise ZeroDivisionError

    with listening_to(server, fails, on_failure=on_failure):
        server.wait_for(lambda: not server.unseen)


@pytest.mark.parametrize("answer", [1, "yes", None, False])
def test_only_true_gives_a_message_up(server: MailServer, answer: Any) -> None:
    def fails(_mail: Mail) -> None:
        raise ZeroDivisionError

    told: list[Exception] = []

    def on_failure(_inbox: InboxConfig, error: Exception, _pause: float) -> Any:
        told.append(error)
        return answer

    with listening_to(server, fails, on_failure=on_failure):
        until(lambda: len(told) >= 4)
    assert server.seen == set()


# ---- run_once --------------------------------------------------------------------------------


def test_run_once_hands_over_what_is_there(server: MailServer) -> None:
    listening = Listening()
    listener = listener_of(server, listening)
    assert listener.run_once() == 2
    assert (listening.handled, server.unseen) == ([1, 2], set())
    server.deliver(b"Subject: 3\r\n\r\n")
    assert listener.run_once() == 1
    assert listener.run_once() == 0
    assert server.logins == 3
    assert server.log.count("LOGOUT") == 3
    assert "IDLE" not in server.log
    assert listener.status.state == "stopped"


def test_run_once_tells_of_messages_that_fail_and_does_not_count_them(server: MailServer) -> None:
    def fails(mail: Mail) -> None:
        if mail.uid == 1:
            raise ZeroDivisionError

    listening = Listening(fails)
    assert listener_of(server, listening).run_once() == 1
    assert [type(error) for error in listening.errors] == [MessageNotHandled]
    assert server.unseen == {1}


def test_run_once_raises_what_goes_wrong_with_the_connection(server: MailServer) -> None:
    server.at("UID FETCH", answers.closes, uid=2)
    listening = Listening()
    listener = listener_of(server, listening)
    with pytest.raises(ConnectionFailed):
        listener.run_once()
    assert (listening.handled, listening.told) == ([1], [])
    for _ in range(2):  # whose fault it is shows when it is asked for alone, and that it lasts
        with pytest.raises(ConnectionFailed):
            listener.run_once()
    assert [type(error) for error in listening.errors] == [MessageNotHandled]  # with its UID


def test_run_once_raises_what_goes_wrong_with_the_token(server: MailServer) -> None:
    def token() -> str:
        raise TokenError("none today")

    with pytest.raises(TokenError, match="none today"):
        listener_of(server, Listening(), token=token).run_once()


def test_run_once_makes_up_for_a_mark_that_was_lost(server: MailServer) -> None:
    server.at("UID STORE", answers.closes, times=1)
    listening = Listening()
    listener = listener_of(server, listening)
    with pytest.raises(ConnectionFailed):
        listener.run_once()
    assert listening.handled
    assert server.seen == {*listening.handled}  # though nobody may call it again
    listener.run_once()
    assert (listening.handled, server.unseen) == ([1, 2], set())


def test_run_once_ends_early_when_it_is_stopped(server: MailServer) -> None:
    listening = Listening(lambda _: listening.listener.stop())
    assert listener_of(server, listening).run_once() == 1
    assert server.seen == {1}
    assert listening.listener.run_once() == 0


def test_run_once_outlives_a_token(server: MailServer) -> None:
    server.at("UID FETCH", answers.bye("Session invalidated - AccessTokenExpired"), uid=2, times=1)
    assert listener_of(server, Listening()).run_once() == 2
    assert server.logins == 2


# ---- status ----------------------------------------------------------------------------------


def test_the_status_tells_what_it_does(server: MailServer) -> None:
    began = time.time()
    seen: list[ListenerStatus] = []
    listening = Listening(lambda _: seen.append(listening.listener.status))
    listener = listener_of(server, listening)
    assert listener.status == ListenerStatus("stopped", listener.status.since, None, 0, 0, None)
    assert type(listener.status).__module__ == "exo_imap_oauth.listener"
    thread = threading.Thread(target=listener.run)
    thread.start()
    server.wait_for(lambda: not server.unseen and server.idlers == 1)
    status = listener.status
    assert [(each.state, each.handled) for each in seen] == [("handling", 0), ("handling", 1)]
    assert (status.state, status.handled, status.failing) == ("listening", 2, 0)
    assert status.last_look is not None
    assert began <= status.last_look <= time.time()
    assert began <= status.since <= time.time()
    listener.stop()
    thread.join(LIMIT)
    assert listener.status.state == "stopped"


def test_the_status_tells_what_fails(server: MailServer) -> None:
    def fails(mail: Mail) -> None:
        if mail.uid == 1:
            raise ZeroDivisionError

    with listening_to(server, fails, initial_backoff=LIMIT, max_backoff=LIMIT) as listening:
        until(lambda: listening.listener.status.failing == 1)
        assert listening.listener.status.last_error is None
        server.refuse_logins = 1
        server.drop()
        (error, _) = listening.wait_for_told(2)[-1]
        until(lambda: listening.listener.status.state == "pausing")
        assert listening.listener.status.last_error is error


def test_an_error_is_the_last_one_until_something_is_achieved(server: MailServer) -> None:
    server.refuse_logins = 2
    with listening_to(server) as listening:
        listening.wait_for_told(2)
        server.wait_for(lambda: not server.unseen)
        until(lambda: listening.listener.status.last_error is None)


# ---- listen ----------------------------------------------------------------------------------


def test_listen_takes_a_configuration_as_it_is(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    config = load_config(trusted_exchange.write_config(tmp_path))
    names: list[str] = []

    def leave(inbox: InboxConfig, _mail: Mail) -> None:
        names.append(inbox.name)
        raise SystemExit(7)

    with pytest.raises(SystemExit, match="7"):
        listen(config, leave)
    assert names == ["default"]


def test_no_warning_is_given_for_the_names_of_today(server: MailServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InboxListener(
            inbox_of(server),
            handle,
            token=TokenSource("contoso.example", "22222222-2222-4222-8222-222222222222", "secret"),
            poll_interval=1,
            initial_backoff=1,
            max_backoff=1,
        )
