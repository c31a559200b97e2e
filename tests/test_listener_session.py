"""A listener at a server that answers as servers may, legally or foolishly: nothing is lost."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import mail_answers as answers
from support.concurrency import until
from support.listening import LIMIT, Listening, listener_of, listening_to
from support.mail_server import MailServer

from exo_imap_oauth.errors import (
    ConnectionFailed,
    ImapError,
    MessageUnavailable,
    SessionExpired,
)
from exo_imap_oauth.listener import MessageNotHandled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth.mail import Mail

Answer = Any  # mail_answers.Answer, of which pytest's parameters know nothing


def mails(number: int) -> list[bytes]:
    return [
        f"Subject: {uid}\r\nMessage-ID: <{uid}@x>\r\n\r\nx".encode() for uid in range(1, 1 + number)
    ]


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with MailServer(*mails(3)) as server:
        yield server


def commands(server: MailServer, start: str) -> list[str]:
    with server.changed:
        return [line for line in server.log if line.startswith(start)]


# ---- FETCH -----------------------------------------------------------------------------------

EMPTY = {
    "OK alone": answers.nothing,
    "NIL": answers.nil,
    "an empty string": answers.empty_string,
    "FLAGS only": answers.flags_only,
    "another message's literal": answers.foreign_literal(3),
    "a literal of nobody": answers.no_uid,
    "NO": answers.refused("The message could not be retrieved."),
    "BAD": answers.says("BAD", "Command Argument Error. 12"),
    "unavailable": answers.refused("Server Unavailable. 15"),
    "RFC 5530": answers.refused("[UNAVAILABLE] Try again."),
    "the stand-in": answers.stand_in,
}


@pytest.mark.parametrize("answer", EMPTY.values(), ids=EMPTY)
def test_a_message_that_does_not_come_stays_unread_and_stops_no_other(
    server: MailServer, answer: Answer
) -> None:
    server.at("UID FETCH", answer, uid=2)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.unseen == {2})
        told = listening.wait_for_told(3)
    assert sorted(listening.handled) == [1, 3]
    assert listening.subjects == [str(uid) for uid in listening.handled]
    assert server.unseen == {2}
    for number, (error, _) in enumerate(told, 1):
        assert isinstance(error, MessageNotHandled)
        assert (error.uid, error.attempts) == (2, number)
        assert isinstance(error.__cause__, ImapError)
    assert server.logins == 1


@pytest.mark.parametrize("answer", EMPTY.values(), ids=EMPTY)
def test_a_message_that_comes_the_second_time_is_handled_once(
    server: MailServer, answer: Answer
) -> None:
    server.at("UID FETCH", answer, uid=2, times=1)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        assert sorted(listening.handled) == [1, 2, 3]


@pytest.mark.parametrize("answer", [answers.nothing, answers.stand_in])
def test_what_exchange_does_not_hand_out_is_told_with_its_advice(
    server: MailServer, answer: Answer
) -> None:
    server.at("UID FETCH", answer, uid=2)
    with listening_to(server) as listening:
        (error, _), *_ = listening.wait_for_told()
    assert isinstance(error, MessageNotHandled)
    assert error.advice is not None
    assert error.advice.id == "message-unavailable"
    assert "readable" in str(error) or "Outlook" in str(error)
    cause = error.__cause__
    assert isinstance(cause, MessageUnavailable)
    assert cause.uid == 2


RIGHT = {
    "foreign lines first": answers.foreign_first(3),
    "twice": answers.twice,
    "its UID last": answers.uid_last,
    "EXPUNGE first": answers.expunge_first(1),
    "EXISTS first": answers.exists_first(3),
}


@pytest.mark.parametrize("answer", RIGHT.values(), ids=RIGHT)
def test_a_message_is_found_whatever_stands_around_it(server: MailServer, answer: Answer) -> None:
    server.at("UID FETCH", answer, uid=2, times=1)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        assert listening.handled == [1, 2, 3]
        assert listening.subjects == ["1", "2", "3"]
    assert listening.told == []


def test_a_message_may_come_as_a_quoted_string(server: MailServer) -> None:
    server.at("UID FETCH", answers.quoted(b'Subject: a "quoted" one'), uid=2)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
    assert listening.subjects == ["1", 'a "quoted" one', "3"]


def test_a_message_that_is_gone_is_no_failure(server: MailServer) -> None:
    def remove(reply: Any) -> None:
        if 2 in server.messages:
            server.remove(2)
        reply.ok()

    server.at("UID FETCH", remove, uid=2)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.seen == {1, 3})
        until(lambda: listening.listener.status.state == "listening" and server.idlers == 1)
    assert (listening.handled, listening.told) == ([1, 3], [])


def test_a_message_id_of_outlook_can_be_read(server: MailServer) -> None:
    message_id = "<[0123456789@microsoft.com]>"
    server.deliver(f"Message-ID: {message_id}\r\n\r\nx".encode())
    seen: list[str] = []
    with listening_to(server, lambda mail: seen.append(mail["Message-ID"])):
        server.wait_for(lambda: not server.unseen)
    assert seen[-1] == message_id


def test_the_mail_tells_where_it_is(server: MailServer) -> None:
    seen: list[Mail] = []
    with listening_to(server, seen.append):
        server.wait_for(lambda: not server.unseen)
    mail = seen[1]
    assert (mail.uid, mail.uidvalidity, mail.folder) == (2, server.uidvalidity, "INBOX")
    assert mail.size == len(server.messages[2])
    assert mail.received.tzinfo is not None
    assert r"\Seen" not in mail.flags


# ---- a connection that ends or stalls at one message -----------------------------------------

POISON = {
    "closes": answers.closes,
    "resets": answers.resets,
    "BYE": answers.bye("Connection closed. 14"),
    "an unknown BYE": answers.bye("Going down"),
}


@pytest.mark.parametrize("answer", POISON.values(), ids=POISON)
def test_a_message_at_which_the_connection_ends_stops_no_other(
    server: MailServer, answer: Answer
) -> None:
    server.at("UID FETCH", answer, uid=1)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.seen == {2, 3})
        until(lambda: sum(isinstance(e, MessageNotHandled) for e in listening.errors) >= 2)
    first = next(n for n, e in enumerate(listening.errors) if isinstance(e, MessageNotHandled))
    assert [type(e) for e in listening.errors[:first]] == [ConnectionFailed]  # not the first time
    error = listening.errors[first]
    assert isinstance(error, MessageNotHandled)
    assert (error.uid, error.attempts) == (1, 1)
    assert isinstance(error.__cause__, ConnectionFailed)
    assert (sorted(listening.handled), server.unseen) == ([2, 3], {1})


def test_what_came_before_the_connection_ended_is_not_suspected(server: MailServer) -> None:
    def ends_after_the_others(reply: Any) -> None:
        if "BODY" not in reply.command.args:  # the sizes
            reply.usual()
            return
        reply.send(reply.done_for_others())
        reply.close()

    server.at("UID FETCH", ends_after_the_others, uid=3)
    with listening_to(server) as listening:
        until(lambda: any(isinstance(error, MessageNotHandled) for error in listening.errors))
    lost, told = listening.errors[:2]
    assert isinstance(lost, ConnectionFailed)
    assert isinstance(told, MessageNotHandled)  # 2 needed no try of its own
    assert told.uid == 3


def test_a_message_at_which_the_server_stalls_stops_no_other(server: MailServer) -> None:
    server.at("UID FETCH", answers.stalls, uid=1)
    with listening_to(server, timeout=0.3) as listening:
        server.wait_for(lambda: server.seen == {2, 3})
        until(lambda: any(isinstance(e, MessageNotHandled) for e in listening.errors))
    assert sorted(listening.handled) == [2, 3]


def test_such_a_message_can_be_given_up(server: MailServer) -> None:
    server.at("UID FETCH", answers.closes, uid=1)
    listening = Listening()
    listening.gives_up = True  # whatever it is told of a connection changes nothing
    thread = threading.Thread(target=listener_of(server, listening).run)
    thread.start()
    server.wait_for(lambda: not server.unseen)
    listening.listener.stop()
    thread.join(LIMIT)
    assert listening.handled == [2, 3]


def test_a_session_that_a_new_token_ends_is_held_against_no_message(server: MailServer) -> None:
    server.at("UID FETCH", answers.bye("Session invalidated - AccessTokenExpired"), uid=2, times=1)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
    assert sorted(listening.handled) == [1, 2, 3]
    assert {type(error) for error in listening.errors} <= {SessionExpired}


KINDS = {
    "expired": answers.bye("Session invalidated - AccessTokenExpired"),
    "throttled": answers.throttled(1),
    "not connected": answers.refused("User is authenticated but not connected."),
}


@pytest.mark.parametrize("command", ["UID FETCH", "UID STORE"])
@pytest.mark.parametrize("answer", [*KINDS.values(), answers.closes], ids=[*KINDS, "closes"])
def test_what_always_ends_the_session_at_one_message_stops_no_other(
    server: MailServer, answer: Answer, command: str
) -> None:
    server.at(command, answer, uid=1)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.seen == {2, 3})
        until(lambda: any(isinstance(error, MessageNotHandled) for error in listening.errors))
    error = next(each for each in listening.errors if isinstance(each, MessageNotHandled))
    assert error.uid == 1
    assert listening.handled.count(1) == (command == "UID STORE")


# ---- STORE -----------------------------------------------------------------------------------


def test_a_lost_reply_to_store_repeats_nothing(server: MailServer) -> None:
    server.at("UID STORE", answers.reply_lost, times=2)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        until(lambda: server.idlers == 1)
    assert listening.handled == [1, 2, 3]


def test_a_lost_store_is_made_up_for(server: MailServer) -> None:
    server.at("UID STORE", answers.closes, times=3)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
    assert listening.handled == [1, 2, 3]


def test_another_uidvalidity_makes_the_same_uid_another_message(server: MailServer) -> None:
    def renumbered(reply: Any) -> None:
        server.uidvalidity += 1
        reply.close()

    server.at("UID STORE", renumbered, times=1)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
    assert set(listening.handled) == {1, 2, 3}
    assert listening.handled.count(1) == 2


@pytest.mark.parametrize("answer", [answers.reply_lost, answers.bare_ok, None])
def test_a_message_that_a_person_marks_as_unread_is_handed_over_again(
    server: MailServer, answer: Answer
) -> None:
    if answer is not None:
        server.at("UID STORE", answer, uid=1, times=1)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
        server.person_marks_unread(1)
        assert listening.wait_for_handled(4) == [1, 2, 3, 1]
        server.wait_for(lambda: not server.unseen)


NOT_KEPT = {
    "OK, and the old flags": answers.without_effect,
    "OK alone": answers.bare_ok_without_effect,
    "NO": answers.refused("Command received in Invalid state."),
    "BAD": answers.says("BAD", "Command Argument Error. 11"),
    "BAD, and the state": answers.says("BAD", "Command received in Invalid state."),
}


@pytest.mark.parametrize("answer", NOT_KEPT.values(), ids=NOT_KEPT)
def test_a_mark_that_is_not_kept_is_told_and_sent_again_and_nothing_is_handled_twice(
    server: MailServer, answer: Answer
) -> None:
    hook = server.at("UID STORE", answer, uid=2)
    with listening_to(server, poll_interval=0.01) as listening:
        listening.wait_for_told(3)
        assert sorted(listening.handled) == [1, 2, 3]
        hook.remove()
        server.wait_for(lambda: not server.unseen)
    assert sorted(listening.handled) == [1, 2, 3]
    errors = [error for error in listening.errors if isinstance(error, MessageNotHandled)]
    assert {(error.uid, type(error.__cause__)) for error in errors} == {(2, ImapError)}
    assert server.logins == 1


def test_marks_without_effect_are_sent_after_growing_pauses(server: MailServer) -> None:
    server.at("UID STORE", answers.bare_ok_without_effect, uid=2)
    with listening_to(server, poll_interval=0.01, max_backoff=10) as listening:
        listening.wait_for_told(5)
    pauses = [told.pause for told in listening.told]
    for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.08, 0.16), strict=False):
        assert least <= pause <= least * 1.25


def test_ok_alone_to_store_is_believed_where_it_is_true(server: MailServer) -> None:
    server.at("UID STORE", answers.bare_ok)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
    assert (listening.handled, listening.told) == ([1, 2, 3], [])


def test_what_is_given_up_is_marked_even_if_that_takes_several_tries(server: MailServer) -> None:
    store = server.at("UID STORE", answers.refused("not now"), uid=2, times=3)

    def handle(mail: Mail) -> None:
        if mail.uid == 2:
            raise ZeroDivisionError

    listening = Listening(handle)
    listening.gives_up = True
    thread = threading.Thread(target=listener_of(server, listening).run)
    thread.start()
    server.wait_for(lambda: not server.unseen)
    listening.listener.stop()
    thread.join(LIMIT)
    assert store.hits == 3
    assert len(listening.told) == 1  # who gave it up is not asked again
    assert listening.handled.count(2) == 1


def test_a_folder_whose_marks_do_not_last_is_refused(server: MailServer) -> None:
    server.permanent_flags = ""
    with listening_to(server) as listening:
        (error, _), *_ = listening.wait_for_told()
    assert listening.handled == []
    assert type(error) is ImapError
    assert "PERMANENTFLAGS" in str(error)
    assert error.advice is not None
    assert error.advice.id == "folder-readonly"


def test_a_folder_that_becomes_readonly_is_told_with_its_advice(server: MailServer) -> None:
    now = b"* OK [READ-ONLY] from now on\r\n"
    server.at("UID FETCH", lambda reply: reply.usual(before=now), times=1)
    with listening_to(server) as listening:
        (error, _), *_ = listening.wait_for_told()
        server.wait_for(lambda: not server.unseen)  # in the next session
    assert type(error) is ImapError
    assert error.advice is not None
    assert error.advice.id == "folder-readonly"
    assert listening.handled == [1, 2, 3]


@pytest.mark.parametrize("told", [None, r"(\seen \*)", r"\Answered \Seen"])
def test_other_permanent_flags_are_no_obstacle(server: MailServer, told: str | None) -> None:
    server.permanent_flags = told
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
    assert listening.told == []


# ---- SEARCH ----------------------------------------------------------------------------------

FOUND = {
    "ESEARCH": answers.esearch,
    "two lines": answers.two_lines,
    "twice and unsorted": answers.doubled_unsorted,
    "MODSEQ": answers.modseq,
}


@pytest.mark.parametrize("answer", FOUND.values(), ids=FOUND)
def test_whatever_form_a_search_is_answered_in_each_message_is_handled_once_and_in_order(
    server: MailServer, answer: Answer
) -> None:
    server.at("UID SEARCH", answer)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
        server.deliver(mails(4)[-1])
        assert listening.wait_for_handled(4) == [1, 2, 3, 4]
    assert listening.told == []


def test_esearch_without_numbers_is_an_empty_inbox(server: MailServer) -> None:
    server.at("UID SEARCH", answers.esearch_empty)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.idlers == 1)
    assert (listening.handled, listening.told) == ([], [])


TOKEN = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJodHRwczovL291dGxvb2sifQ.c2lnbmF0dXJl12345"


@pytest.mark.parametrize(
    "garbage", [b"1 2 x", b"-1", b"1 2 (MODSEQ", b"99999999999", b"1:4294967295", TOKEN.encode()]
)
def test_an_answer_that_is_no_list_of_numbers_is_told_and_not_quoted(
    server: MailServer, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    caplog.set_level(logging.DEBUG, "exo_imap_oauth")
    hook = server.at("UID SEARCH", answers.garbage(garbage))
    with listening_to(server, token=TOKEN) as listening:
        (error, _), *_ = listening.wait_for_told()
        hook.remove()
        server.wait_for(lambda: not server.unseen)
    assert type(error) is ImapError
    assert error.retryable
    assert garbage.decode() not in str(error)
    assert TOKEN not in caplog.text


def test_an_answer_that_says_nothing_is_told(server: MailServer) -> None:
    hook = server.at("UID SEARCH", answers.no_line)
    with listening_to(server) as listening:
        (error, _), *_ = listening.wait_for_told()
        hook.remove()
        server.wait_for(lambda: not server.unseen)
    assert "did not say what SEARCH found" in str(error)


def test_more_unread_messages_than_a_line_can_name_are_searched_by_windows(
    server: MailServer,
) -> None:
    """Of which the server tells the ends, however far their UIDs are apart."""
    number, first = 130_000, 4_100_000_000
    server.at("SELECT", answers.exists_first(number))
    server.at("FETCH", lambda reply: reply.ok(_uids_of(reply.line, first)))
    assert _first_taken(server, number, first) == [first + n for n in range(5)]
    assert commands(server, "FETCH") == ["FETCH 50000,100000 (UID)"]
    assert commands(server, "UID SEARCH") == [
        "UID SEARCH UID 1:4100049999 UNSEEN",
        "UID SEARCH UID 4100050000:4100099999 UNSEEN",
        "UID SEARCH UID 4100100000:* UNSEEN",
    ]


def test_the_windows_are_even_where_the_server_tells_no_ends(server: MailServer) -> None:
    number = 160_000
    server.at("SELECT", answers.exists_first(number))
    server.at("FETCH", answers.says("BAD", "The specified message set is invalid."))
    server.tell_uidnext = False
    server.select_extra = [b"* OK [UIDNEXT %d] The next unique identifier value" % (number + 1)]
    assert _first_taken(server, number, 1) == [1, 2, 3, 4, 5]
    assert [line.split()[3] for line in commands(server, "UID SEARCH")] == [
        "1:50000",
        "50001:100000",
        "100001:150000",
        "150001:*",
    ]


def _first_taken(server: MailServer, number: int, first: int) -> list[int]:
    """What is handed over of so many unread messages, which the server invents."""
    server.at("UID SEARCH", answers.many(number, first))
    server.at("UID FETCH", lambda reply: reply.ok(_invented(reply.line)))
    server.at("UID STORE", lambda reply: reply.ok(_stored(reply.line)))
    with listening_to(server) as listening:
        return listening.wait_for_handled(5)[:5]


def _uids_of(line: str, first: int) -> bytes:
    numbers = map(int, re.findall(r"\d+", line))
    return b"".join(b"* %d FETCH (UID %d)\r\n" % (n, first + n - 1) for n in numbers)


def _invented(line: str) -> bytes:
    uid = int(re.findall(r"\d+", line)[0])
    return b"* 1 FETCH (UID %d BODY[] {9}\r\nSubject: )\r\n" % uid


def _stored(line: str) -> bytes:
    return b"* 1 FETCH (UID %d FLAGS (\\Seen))\r\n" % int(re.findall(r"\d+", line)[0])
