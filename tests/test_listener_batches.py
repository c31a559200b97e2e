"""Batches: asked for ahead, marked together, and as careful as one message after the other."""

from __future__ import annotations

import imaplib
import itertools
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import mail_answers as answers
from support.concurrency import until
from support.listening import LIMIT, Listening, listener_of, listening_to
from support.mail_server import MailServer, Reply

from exo_imap_oauth._listener import batches
from exo_imap_oauth.errors import ConnectionFailed, MessageUnavailable
from exo_imap_oauth.listener import InboxListener, MessageNotHandled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth.mail import Mail


def contents(number: int, size: int = 0) -> list[bytes]:
    return [f"Subject: {uid}\r\n\r\n{'x' * size}".encode() for uid in range(1, number + 1)]


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with MailServer(*contents(200)) as server:
        yield server


def asked_for(server: MailServer) -> list[int]:
    """How many messages each FETCH of their contents named."""
    with server.changed:
        lines = [line for line in server.log if "BODY" in line]
    return [len(line.split()[2].split(",")) for line in lines]


def stored(server: MailServer) -> list[int]:
    with server.changed:
        lines = [line for line in server.log if line.startswith("UID STORE")]
    return [len(line.split()[2].split(",")) for line in lines]


def test_batches_begin_with_one_message_and_double(server: MailServer) -> None:
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
    assert listening.handled == list(range(1, 201))
    sizes = asked_for(server)
    assert sizes[0] == 1
    assert all(b <= 2 * a for a, b in itertools.pairwise(sizes))
    assert max(sizes) == 50
    assert sum(sizes) == 200
    assert len(stored(server)) <= 20
    assert server.log.count("UID SEARCH UNSEEN") <= 2  # the server speaks when IDLE begins


def test_one_new_message_is_fetched_without_a_look_at_its_size() -> None:
    with MailServer() as server, listening_to(server):
        server.wait_for(lambda: server.idlers == 1)
        before = len(server.log)
        server.deliver(contents(1)[0])
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
        said = server.log[before:]
    assert [re.split(r"[ (]", line)[1:2] or line for line in said][:4] == [
        "DONE",
        ["SEARCH"],
        ["FETCH"],
        ["STORE"],
    ]


def noted_writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What clients write from now on."""
    writes: list[bytes] = []
    send = imaplib.IMAP4_SSL.send

    def noted(self: imaplib.IMAP4_SSL, data: Any) -> None:
        writes.append(bytes(data))
        send(self, data)

    monkeypatch.setattr(imaplib.IMAP4_SSL, "send", noted)
    return writes


def test_done_and_the_next_search_go_out_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = noted_writes(monkeypatch)
    with MailServer() as server, listening_to(server):
        server.wait_for(lambda: server.idlers == 1)
        server.deliver(contents(1)[0])
        server.wait_for(lambda: not server.unseen)
    assert any(b"DONE\r\n" in data and b"UID SEARCH UNSEEN" in data for data in writes)


def test_sizes_are_asked_for_with_the_first_message_of_each_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes = noted_writes(monkeypatch)
    with MailServer(*contents(5)) as server, listening_to(server):
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
        with server.changed:
            for content in contents(5):
                server.deliver(content)
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
    assert sum(b"BODY" in data and b"(UID RFC822.SIZE)" in data for data in writes) == 2


def test_a_slow_handle_makes_batches_small(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_QUICK", 0.0)  # whatever is handled takes too long
    with listening_to(server) as listening:
        listening.wait_for_handled(30)
    assert max(asked_for(server)) <= 2
    assert asked_for(server)[5:15] == [1] * 10


def test_batches_are_halved_as_long_as_they_take_too_long(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_QUICK", LIMIT)

    def handle(mail: Mail) -> None:
        if mail.uid == 6:
            batches._QUICK = 0.0

    with listening_to(server, handle) as listening:
        listening.wait_for_handled(60)
        server.wait_for(lambda: not server.unseen)
    asked = asked_for(server)
    largest = max(asked)
    assert largest >= 8
    smaller = asked[len(asked) - asked[::-1].index(largest) :][:4]
    assert smaller == [largest // 2, largest // 4, largest // 8, max(1, largest // 16)]


def test_marks_of_slow_messages_do_not_wait_for_many(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MARKS_EVERY", 0.0)
    unmarked: list[int] = []

    def handle(mail: Mail) -> None:
        time.sleep(0.01)
        unmarked.append(mail.uid - 1 - len(server.seen))

    with listening_to(server, handle) as listening:
        listening.wait_for_handled(40)
    assert max(unmarked) <= 2


@pytest.mark.parametrize("unconfirmed", [1, 2, 7, 32])
def test_no_more_marks_are_unconfirmed_than_allowed(server: MailServer, unconfirmed: int) -> None:
    """What would be handed over again if the process were killed now, this message included."""
    repeats: list[int] = []

    def handle(mail: Mail) -> None:
        repeats.append(mail.uid - len(server.seen))

    with listening_to(server, handle, unconfirmed=unconfirmed):
        server.wait_for(lambda: not server.unseen)
    assert max(repeats) <= unconfirmed


@pytest.mark.parametrize("unconfirmed", [1, 8])
def test_refused_marks_do_not_pile_up(server: MailServer, unconfirmed: int) -> None:
    """Else a crash would hand over again all that was handled since they are refused."""
    refuse = server.at("UID STORE", answers.without_effect)
    options: Any = {"unconfirmed": unconfirmed, "initial_backoff": 0.2, "max_backoff": 0.2}
    with listening_to(server, **options) as listening:
        listening.wait_for_told(2 * unconfirmed)
        assert len(listening.handled) == unconfirmed
        refuse.remove()
        server.wait_for(lambda: not server.unseen)
        assert listening.handled == list(range(1, 201))


def test_one_refused_mark_stops_no_other(server: MailServer) -> None:
    server.at("UID STORE", answers.without_effect, uid=5)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.unseen == {5})
        assert listening.handled == list(range(1, 201))


def test_batches_of_large_messages_hold_few() -> None:
    with (
        MailServer(*contents(12, 1_500_000)) as server,
        listening_to(server) as listening,
    ):
        server.wait_for(lambda: not server.unseen)
        assert listening.handled == list(range(1, 13))
        assert max(asked_for(server)) == 2


def test_a_message_of_more_than_4_mb_is_not_asked_for_ahead() -> None:
    asked_before_handled: list[bool] = []

    def handle(mail: Mail) -> None:
        if mail.uid == 1:
            time.sleep(0.05)
            asked_before_handled.append(
                any(line.startswith("UID FETCH 2 (UID F") for line in server.log)
            )

    with MailServer(contents(1)[0], *contents(1, 4_100_000)) as server:
        with listening_to(server, handle):
            server.wait_for(lambda: not server.unseen)
    assert asked_before_handled == [False]


def test_a_server_that_tells_no_sizes_is_asked_one_by_one(server: MailServer) -> None:
    def no_sizes(reply: Any) -> None:
        if "BODY" in reply.line:
            reply.usual()
        else:
            reply.no("not today")

    server.at("UID FETCH", no_sizes)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        assert listening.handled == list(range(1, 201))
    assert set(asked_for(server)) == {1}


@pytest.mark.parametrize("word", ["NO", "BAD"])
def test_a_batch_that_is_refused_is_taken_one_by_one(server: MailServer, word: str) -> None:
    def refuses_many(reply: Any) -> None:
        if "BODY" in reply.line and "," in reply.line:
            answers.says(word, "Command Argument Error. 12")(reply)
        else:
            reply.usual()

    server.at("UID FETCH", refuses_many)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        assert sorted(listening.handled) == list(range(1, 201))
        assert listening.told == []
    assert server.logins == 1


def test_after_all_were_taken_one_by_one_there_are_batches_again(server: MailServer) -> None:
    lost: list[str] = []

    def closes_at_the_sizes_of_many(reply: Reply) -> None:
        if "BODY" in reply.line or "," not in reply.line or lost:
            reply.usual()
        else:
            lost.append(reply.line)
            answers.closes(reply)

    def handle(mail: Mail) -> None:
        if mail.uid == 201:  # others come meanwhile
            for content in contents(20):
                server.deliver(content)

    server.at("UID FETCH", closes_at_the_sizes_of_many)
    with listening_to(server, handle) as listening:
        server.wait_for(lambda: not server.unseen and server.idlers == 1)
        alone = asked_for(server)
        server.deliver(contents(1)[0])
        server.wait_for(lambda: len(listening.handled) == 221 and not server.unseen)
    assert lost
    assert set(alone) == {1}
    assert max(asked_for(server)[len(alone) :]) > 1


def test_after_a_refused_batch_its_messages_alone_are_taken_one_by_one(server: MailServer) -> None:
    refused: list[int] = []

    def refuses_eight(reply: Reply) -> None:
        uids = reply.line.split()[2].split(",")
        if "BODY" in reply.line and len(uids) == 8 and not refused:
            refused.extend(map(int, uids))
            reply.no("not today")
        else:
            reply.usual()

    server.at("UID FETCH", refuses_eight)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        assert sorted(listening.handled) == list(range(1, 201))
    sizes = asked_for(server)
    assert sizes.count(1) == 1 + len(refused)  # the first of all, and these
    assert sizes[-1] > 1


@pytest.mark.parametrize("word", ["NO", "BAD"])
def test_a_store_of_several_that_is_refused_is_sent_one_by_one(
    server: MailServer, word: str
) -> None:
    def refuses_many(reply: Any) -> None:
        if "," in reply.line:
            answers.says(word, "Command Argument Error. 12")(reply)
        else:
            reply.usual()

    server.at("UID STORE", refuses_many)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        assert listening.handled == list(range(1, 201))
    assert listening.told == []


def test_what_fails_in_a_batch_is_told_and_the_others_are_handled(server: MailServer) -> None:
    server.at("UID FETCH", answers.nil, uid=20)
    server.at("UID FETCH", answers.stand_in, uid=140)

    def handle(mail: Mail) -> None:
        if mail.uid == 180:
            raise ZeroDivisionError

    with listening_to(server, handle, initial_backoff=LIMIT, max_backoff=LIMIT) as listening:
        server.wait_for(lambda: server.unseen == {20, 140, 180})
        listening.wait_for_told(3)
    uids = {error.uid for error in listening.errors if isinstance(error, MessageNotHandled)}
    assert uids == {20, 140, 180}
    assert len(listening.handled) == len(set(listening.handled)) == 198


@pytest.mark.parametrize("answer", [answers.closes, answers.resets])
def test_a_message_that_ends_the_connection_is_found_within_batches(
    server: MailServer, answer: Any
) -> None:
    """Also if already the look at its size ends it."""
    server.at("UID FETCH", answer, uid=100)
    with listening_to(server) as listening:
        server.wait_for(lambda: server.unseen == {100})
        until(lambda: any(isinstance(error, MessageNotHandled) for error in listening.errors))
        assert sorted(listening.handled) == [uid for uid in range(1, 201) if uid != 100]
    uids = {error.uid for error in listening.errors if isinstance(error, MessageNotHandled)}
    assert uids == {100}
    assert server.logins <= 6


def test_after_one_of_them_the_others_come_in_batches_again(server: MailServer) -> None:
    def ends_it(reply: Reply) -> None:
        (answers.closes if "BODY" in reply.line else Reply.usual)(reply)

    server.at("UID FETCH", ends_it, uid=20)
    with listening_to(server):
        server.wait_for(lambda: server.logins == 2)
        before = len(asked_for(server))
        server.wait_for(lambda: len(server.unseen) == 1)
    assert max(asked_for(server)[before:]) > 10


def test_a_message_that_did_not_come_is_not_blamed_for_what_the_search_for_it_ends() -> None:
    with MailServer(*contents(1)) as server:
        server.at("UID FETCH", answers.nothing, times=3)
        server.at("UID SEARCH UID 1", answers.closes, times=3)
        with listening_to(server) as listening:
            server.wait_for(lambda: not server.unseen)
    assert [type(error) for error in listening.errors] == [ConnectionFailed] * 3


def test_a_connection_that_is_lost_in_a_batch_repeats_nothing(server: MailServer) -> None:
    server.at("UID STORE", answers.reply_lost, times=2)
    server.at("UID STORE", answers.closes, times=2)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
        assert sorted(listening.handled) == list(range(1, 201))


def test_what_somebody_read_meanwhile_is_not_handed_over(server: MailServer) -> None:
    def handle(mail: Mail) -> None:
        if mail.uid == 1:
            server.person_reads(150)

    with listening_to(server, handle) as listening:
        server.wait_for(lambda: not server.unseen)
    assert listening.handled == [uid for uid in range(1, 201) if uid != 150]


def test_a_flag_that_contradicts_the_search_loses_nothing(server: MailServer) -> None:
    def says_seen(reply: Any) -> None:
        uid = int(re.findall(r"\d+", reply.line)[0])
        reply.send(b"* 1 FETCH (UID %d FLAGS (\\Seen) BODY[] {9}\r\nSubject: )\r\n" % uid)
        reply.ok()

    server.at("UID FETCH 1", says_seen)
    with listening_to(server) as listening:
        server.wait_for(lambda: not server.unseen)
    assert listening.handled == list(range(1, 201))


def test_a_stop_leaves_what_is_fetched_and_not_handled_unread(server: MailServer) -> None:
    def handle(mail: Mail) -> None:
        if mail.uid == 60:
            listening.listener.stop()

    with listening_to(server, handle) as listening:
        server.wait_for(lambda: 60 in server.seen)
    assert listening.handled == list(range(1, 61))
    assert server.seen == set(range(1, 61))


def test_owed_marks_are_sent_at_the_end_even_if_the_connection_is_gone(server: MailServer) -> None:
    def handle(_mail: Mail) -> None:
        server.drop()
        listening.listener.stop()

    listening = Listening(handle)
    thread = threading.Thread(target=listener_of(server, listening).run)
    thread.start()
    thread.join(LIMIT)
    assert (listening.handled, server.seen) == ([1], {1})
    last = "\n".join(server.log).rpartition("SELECT INBOX\n")[2]
    assert last.startswith(r"UID STORE 1 +FLAGS (\Seen)")


def test_marks_that_are_owed_are_sent_before_anything_is_asked_for(server: MailServer) -> None:
    lost = server.at("UID STORE", answers.closes, times=1)
    with listening_to(server, unconfirmed=1) as listening:
        server.wait_for(lambda: not server.unseen)
        assert listening.handled == list(range(1, 201))
    assert lost.hits == 1
    second = "\n".join(server.log).split("SELECT INBOX\n")[2].splitlines()
    assert re.match("UID SEARCH", second[0])
    assert second[1] == r"UID STORE 1 +FLAGS (\Seen)"
    assert re.match("UID FETCH 2 ", second[2])


def test_what_is_told_of_a_message_before_it_comes_takes_nothing_from_it() -> None:
    with MailServer(*contents(7)) as server:
        server.at("UID STORE", lambda reply: reply.usual(before=reply.flags_line(4)), uid=1)
        listening = Listening()
        assert listener_of(server, listening).run_once() == 7
        assert (listening.handled, listening.told) == ([*range(1, 8)], [])


def test_refused_marks_are_tried_once_more_at_the_end(server: MailServer) -> None:
    server.at("UID STORE", answers.bare_ok_without_effect, times=1)
    with listening_to(server, initial_backoff=LIMIT, max_backoff=LIMIT) as listening:
        listening.wait_for_told()
        server.wait_for(lambda: server.idlers == 1)
    assert server.seen == set(listening.handled)


# ---- sizes -----------------------------------------------------------------------------------


def test_a_message_that_is_too_long_stays_unread_and_is_told() -> None:
    small, large = contents(1)[0], b"Subject: 2\r\n\r\n" + b"x" * 2_000
    with (
        MailServer(small, large, small) as server,
        listening_to(server, longest=1_000) as listening,
    ):
        server.wait_for(lambda: server.seen == {1, 3})
        listening.wait_for_told(2)
        assert not [line for line in server.log if "BODY" in line and " 2" in line.split("(")[0]]
    error = listening.errors[0]
    assert isinstance(error, MessageNotHandled)
    assert error.uid == 2
    cause = error.__cause__
    assert isinstance(cause, MessageUnavailable)
    assert (cause.uid, cause.size, cause.advice) == (2, len(large), None)
    assert listening.handled == [1, 3]


def test_one_of_the_allowed_length_is_not() -> None:
    content = contents(1)[0]
    with (
        MailServer(content) as server,
        listening_to(server, longest=len(content)) as listening,
    ):
        server.wait_for(lambda: server.seen == {1})
    assert listening.told == []


def test_a_long_message_can_be_given_up_unseen() -> None:
    with MailServer(b"x" * 2_000) as server:
        listening = Listening()
        listening.gives_up = True
        assert listener_of(server, listening, longest=1_000).run_once() == 0
        assert server.seen == {1}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"longest": 0}, ValueError, "longest must be at least 1"),
        ({"longest": "1 MB"}, TypeError, "longest must be a whole number, not str"),
        ({"unconfirmed": 0}, ValueError, "unconfirmed must be at least 1"),
        ({"unconfirmed": None}, TypeError, "unconfirmed must be a whole number"),
        ({"unconfirmed": True}, TypeError, "unconfirmed must be a whole number, not bool"),
    ],
)
def test_limits_that_cannot_work_are_refused(
    server: MailServer, options: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        InboxListener(listener_of(server, Listening())._inbox, print, token="t", **options)


def test_a_size_that_ends_the_connection_keeps_no_other_message_back() -> None:
    """Nor does it if the reset has swallowed the reply before it."""
    with MailServer(*contents(20)) as server:
        server.at("UID FETCH", lambda _: None, times=1, uid=1)
        server.at("UID FETCH", answers.resets, uid=15)
        listener = listener_of(server, Listening())
        for _ in range(3):
            with pytest.raises(imaplib.IMAP4.abort):
                listener.run_once()
        assert server.unseen == {15}


# ---- hostile mail ----------------------------------------------------------------------------


def test_a_mail_that_no_parser_can_read_stops_no_other() -> None:
    """A thousand messages within messages exhaust the stack."""
    nested = b"Content-Type: message/rfc822\r\n\r\n" * 3_000 + b"Subject: x\r\n\r\n"
    with (
        MailServer(contents(1)[0], nested, contents(1)[0]) as server,
        listening_to(server) as listening,
    ):
        server.wait_for(lambda: server.seen == {1, 3})
        listening.wait_for_told()
    error = listening.errors[0]
    assert isinstance(error, MessageNotHandled)
    assert error.uid == 2
    assert server.logins == 1


# ---- servers that talk without an end --------------------------------------------------------


def exists_then_plus(reply: Reply) -> None:
    reply.idle(b"* 1 EXISTS\r\n+ idling\r\n")


def plus_then_line(reply: Reply) -> None:
    reply.idle(b"+ idling\r\n* OK hi\r\n")


def ok_alone(reply: Reply) -> None:
    reply.ok()


CHATTY: dict[str, tuple[str, Any]] = {
    "EXISTS with every SEARCH": ("UID SEARCH", answers.exists_first(1)),
    "EXISTS before each +": ("IDLE", exists_then_plus),
    "a line in one packet with +": ("IDLE", plus_then_line),
    "OK without +": ("IDLE", ok_alone),
}


@pytest.mark.parametrize(("command", "answer"), CHATTY.values(), ids=CHATTY)
def test_a_server_that_speaks_and_has_nothing_new_is_not_hammered(
    command: str, answer: Any
) -> None:
    with MailServer(contents(1)[0]) as server:
        server.at(command, answer)
        with listening_to(server, initial_backoff=0.2, poll_interval=0.2):
            server.wait_for(lambda: not server.unseen)
            time.sleep(1.0)
            looks = server.log.count("UID SEARCH UNSEEN")
    assert 3 <= looks <= 12
