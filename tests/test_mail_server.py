"""The server for what comes after the login does what it says, shown with plain imaplib."""

from __future__ import annotations

import contextlib
import imaplib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import mail_answers
from support.mail_server import MailServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from support.mail_server import Reply

ONE, TWO, THREE = (b"Subject: %d\r\n\r\nBody\r\n" % number for number in (1, 2, 3))
SEEN = r"(\Seen)"
PEEK = "(BODY.PEEK[])"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer(ONE, TWO, THREE) as server:
        yield server


@contextlib.contextmanager
def connected(server: MailServer) -> Generator[imaplib.IMAP4_SSL]:
    imap = imaplib.IMAP4_SSL(server.host, server.port, ssl_context=server.ssl_context, timeout=60.0)
    try:
        yield imap
    finally:
        imap.shutdown()


@contextlib.contextmanager
def opened(server: MailServer, *, readonly: bool = False) -> Generator[imaplib.IMAP4_SSL]:
    with connected(server) as imap:
        imap.authenticate("XOAUTH2", lambda _: b"user=x\x01auth=Bearer secret\x01\x01")
        imap.select(readonly=readonly)
        yield imap


@pytest.fixture
def imap(server: MailServer) -> Iterator[imaplib.IMAP4_SSL]:
    with opened(server) as imap:
        yield imap


def uid(imap: imaplib.IMAP4_SSL, *command: str) -> list[Any]:
    kind, data = imap.uid(*command)
    assert kind == "OK"
    return data


def say(imap: imaplib.IMAP4_SSL, line: bytes) -> None:
    imap.send(line + b"\r\n")


def test_login_without_an_initial_response(server: MailServer) -> None:
    with connected(server) as imap:
        assert imap.welcome == b"* OK Microsoft Exchange IMAP4 service ready."
        imap.authenticate("XOAUTH2", lambda _: b"user=x\x01auth=Bearer secret\x01\x01")
        assert (server.logins, server.connections) == (1, 1)


def test_login_with_one_is_cut_in_the_log(server: MailServer) -> None:
    with connected(server) as imap:
        say(imap, b"A AUTHENTICATE XOAUTH2 c2VjcmV0")
        assert imap.readline() == b"A OK AUTHENTICATE completed.\r\n"
    assert server.log[-1] == "AUTHENTICATE XOAUTH2 ***"


def test_refused_logins(server: MailServer) -> None:
    server.refuse_logins = 1
    with pytest.raises(imaplib.IMAP4.error, match=r"AUTHENTICATE failed\."), opened(server):
        pass
    with opened(server):
        assert server.logins == 1


def test_nothing_without_a_login(server: MailServer) -> None:
    with connected(server) as imap:
        say(imap, b"A SELECT INBOX")
        assert imap.readline() == b"A BAD Command received in Invalid state.\r\n"


def test_select(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    server.select_extra = [b"* OK [HIGHESTMODSEQ 7] x"]
    kind, data = imap.select()
    assert (kind, data) == ("OK", [b"3"])
    for code, value in (
        ("UIDVALIDITY", b"14"),
        ("UIDNEXT", b"4"),
        ("PERMANENTFLAGS", rb"(\Seen \Answered \Flagged \Deleted \Draft $MDNSent)"),
        ("READ-WRITE", b""),
        ("HIGHESTMODSEQ", b"7"),
    ):
        assert imap.response(code) == (code, [value])
    server.tell_uidnext = False
    server.permanent_flags = None
    imap.select()
    assert imap.response("UIDNEXT") == ("UIDNEXT", [None])
    assert imap.response("PERMANENTFLAGS") == ("PERMANENTFLAGS", [None])


def test_examine_stores_nothing(server: MailServer) -> None:
    with opened(server, readonly=True) as imap:
        kind, data = imap.uid("STORE", "1", "+FLAGS", SEEN)
        assert (kind, data) == ("NO", [b"Command received in Invalid state."])
        uid(imap, "FETCH", "1", "(BODY[])")
    assert server.unseen == {1, 2, 3}


def test_status_and_list(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    server.person_reads(2)
    data = imap.status("INBOX", "(MESSAGES UNSEEN UIDNEXT UIDVALIDITY)")[1]
    assert data == [b"INBOX (MESSAGES 3 UNSEEN 2 UIDNEXT 4 UIDVALIDITY 14)"]
    assert imap.list()[1] == [b'() "/" "INBOX"']


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("UNSEEN", b"3 8"),
        ("ALL", b"2 3 8"),
        ("UID 3:* UNSEEN", b"3 8"),
        ("UNSEEN UID 1:3,7", b"3"),
        ("UNSEEN UID 50:*", b"8"),
        ("1:2", b"2 3"),
    ],
)
def test_search(server: MailServer, imap: imaplib.IMAP4_SSL, keys: str, found: bytes) -> None:
    server.remove(1)
    server.deliver(b"", uid=8)
    server.person_reads(2)
    imap.noop()
    assert uid(imap, "SEARCH", keys) == [found]


def test_search_by_number_and_what_it_cannot(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    server.remove(1)
    imap.noop()
    assert imap.search(None, "UNSEEN") == ("OK", [b"1 2"])
    assert imap.search("UTF-8", "UNSEEN")[0] == "NO"
    with pytest.raises(imaplib.IMAP4.error, match="Command Argument Error"):
        imap.search(None, "FUZZY")


@pytest.mark.parametrize("hook", [None, mail_answers.two_lines, mail_answers.many(4)])
def test_search_finds_what_has_just_arrived(
    server: MailServer, imap: imaplib.IMAP4_SSL, hook: mail_answers.Answer | None
) -> None:
    if hook is not None:
        server.at("UID SEARCH", hook)
    server.deliver(b"new")
    assert b" ".join(uid(imap, "SEARCH", "UNSEEN")) == b"1 2 3 4"
    assert uid(imap, "FETCH", "4", PEEK)[0] == (b"4 (UID 4 BODY[] {3}", b"new")


def test_fetch(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    assert uid(imap, "FETCH", "2", PEEK) == [(b"2 (UID 2 BODY[] {20}", TWO), b")"]
    assert uid(imap, "FETCH", "1,3:*", "(FLAGS RFC822.SIZE)") == [
        b"1 (UID 1 FLAGS () RFC822.SIZE 20)",
        b"3 (UID 3 FLAGS () RFC822.SIZE 20)",
    ]
    assert imap.fetch("2", "(UID INTERNALDATE)")[1] == [
        b'2 (UID 2 INTERNALDATE " 1-Dec-2026 08:00:00 +0000")'
    ]
    assert uid(imap, "FETCH", "9", PEEK) == [None]
    assert server.seen == set()
    assert imap.fetch("3", "RFC822")[1][1] == rb" FLAGS (\Seen))"
    assert server.seen == {3}
    assert "UID FETCH 2 (BODY.PEEK[])" in server.log


def test_store(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    told = uid(imap, "STORE", "1:2", "+FLAGS", r"(\Seen $Done)")
    assert told == [rb"1 (UID 1 FLAGS ($Done \Seen))", rb"2 (UID 2 FLAGS ($Done \Seen))"]
    assert uid(imap, "STORE", "1", "-FLAGS.SILENT", SEEN) == [None]
    assert server.flags == {1: {"$Done"}, 2: {"$Done", r"\Seen"}, 3: set()}
    assert imap.store("3", "FLAGS", SEEN)[1] == [rb"3 (FLAGS (\Seen))"]


def test_others_are_told(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    with opened(server) as other:
        uid(other, "STORE", "3", "+FLAGS.SILENT", SEEN)
        server.remove(1)
        server.deliver(b"")
        imap.noop()
        assert imap.response("EXPUNGE")[1] == [b"1"]
        assert imap.response("EXISTS")[1][-1] == b"3"
        assert imap.response("FETCH")[1] == [rb"2 (FLAGS (\Seen))"]
        other.noop()
        assert other.response("FETCH")[1] == [None]


def test_move_copy_and_expunge(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    assert imap.uid("MOVE", "1", "Done")[0] == "NO"
    server.folders["Done"] = []
    imap.uid("MOVE", "1", "Done")
    assert imap.response("EXPUNGE")[1] == [b"1"]
    imap.uid("COPY", "2:3", '"Done"')
    assert server.folders == {"Done": [ONE, TWO, THREE]}
    uid(imap, "STORE", "2:3", "+FLAGS", r"(\Deleted)")
    imap.uid("EXPUNGE", "3")
    assert list(server.messages) == [2]
    imap.unselect()
    assert imap.state == "AUTH"


def test_idle(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    say(imap, b"I IDLE")
    assert imap.readline().startswith(b"+ ")
    server.wait_for(lambda: server.idlers == 1)
    server.deliver(b"")
    assert imap.readline() == b"* 4 EXISTS\r\n"
    server.person_reads(2)
    assert imap.readline() == b"* 2 FETCH (FLAGS (\\Seen))\r\n"
    server.person_marks_unread(2)
    assert imap.readline() == b"* 2 FETCH (FLAGS ())\r\n"
    server.remove(1)
    assert imap.readline() == b"* 1 EXPUNGE\r\n"
    say(imap, b"DONE")
    assert imap.readline() == b"I OK IDLE completed.\r\n"
    assert server.log[-2:] == ["IDLE", "DONE"]


def test_pipelined(imap: imaplib.IMAP4_SSL) -> None:
    say(imap, b"A UID SEARCH ALL\r\nB UID STORE 1 +FLAGS.SILENT (\\Seen)\r\nC IDLE\r\nDONE")
    lines = [imap.readline() for _ in range(5)]
    assert [line.split()[0] for line in lines] == [b"*", b"A", b"B", b"+", b"C"]


def test_dropped(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    server.drop()
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        imap.noop()


def test_a_client_may_stay_over_the_end() -> None:
    with MailServer() as server, contextlib.ExitStack() as stack:
        imap = stack.enter_context(opened(server))
        say(imap, b"I IDLE")
        assert imap.readline().startswith(b"+ ")
        kept = stack.pop_all()
    with kept:
        assert imap.readline() == b""
    assert not [t for t in threading.enumerate() if t.name.startswith("mail-server")]


def test_hooks(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    of_two = server.at("UID FETCH", mail_answers.nil, uid=2, times=1)
    others = server.at("uid fetch", mail_answers.says("NO", "Server Unavailable. 15"), uid=3)
    longer = server.at("UID FETCH 1 ", mail_answers.nothing)
    assert uid(imap, "FETCH", "2", PEEK) == [b"2 (UID 2 BODY[] NIL)"]
    assert uid(imap, "FETCH", "2", PEEK)[0][1] == TWO
    assert imap.uid("FETCH", "2:3", PEEK) == ("NO", [b"Server Unavailable. 15"])
    assert uid(imap, "FETCH", "1", PEEK) == [None]
    assert (of_two.hits, others.hits, longer.hits) == (1, 1, 1)
    longer.remove()
    assert uid(imap, "FETCH", "1", PEEK)[0][1] == ONE


def test_a_hook_for_a_message_leaves_others_as_they_are(
    server: MailServer, imap: imaplib.IMAP4_SSL
) -> None:
    server.at("UID FETCH", mail_answers.stand_in, uid=2)
    data = uid(imap, "FETCH", "1:3", PEEK)
    assert sorted(data[::2]) == [
        (b"1 (UID 1 BODY[] {20}", ONE),
        (b"2 (UID 2 BODY[] {%d}" % len(stand_in := mail_answers.stand_in_for(2)), stand_in),
        (b"3 (UID 3 BODY[] {20}", THREE),
    ]
    server.at("UID STORE", mail_answers.without_effect, uid=2)
    told = uid(imap, "STORE", "1:3", "+FLAGS", SEEN)
    assert rb"2 (UID 2 FLAGS ())" in told
    assert server.seen == {1, 3}


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (mail_answers.empty_string, [b'2 (UID 2 BODY[] "")']),
        (mail_answers.quoted(b'a"b\\'), [b'2 (UID 2 BODY[] "a\\"b\\\\")']),
        (mail_answers.instead(b"x"), [(b"2 (UID 2 BODY[] {1}", b"x"), b")"]),
        (mail_answers.flags_only, [b"2 (UID 2 FLAGS ())"]),
        (mail_answers.no_uid, [(b"2 (BODY[] {20}", TWO), b")"]),
        (mail_answers.uid_last, [(b"2 (BODY[] {20}", TWO), b" UID 2)"]),
        (mail_answers.twice, [(b"2 (UID 2 BODY[] {20}", TWO), b")"] * 2),
        (mail_answers.foreign_literal(3), [(b"3 (UID 3 BODY[] {20}", THREE), b")"]),
        (
            mail_answers.foreign_first(3),
            [
                b"3 (UID 3 FLAGS ())",
                *[(b"3 (UID 3 BODY[] {20}", THREE), b")"],
                *[(b"2 (UID 2 BODY[] {20}", TWO), b")"],
            ],
        ),
    ],
)
def test_answers_to_fetch(
    server: MailServer, imap: imaplib.IMAP4_SSL, answer: mail_answers.Answer, data: list[Any]
) -> None:
    server.at("UID FETCH", answer)
    assert uid(imap, "FETCH", "2", PEEK) == data


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (mail_answers.esearch, [b'* ESEARCH (TAG "A") UID ALL 2:3']),
        (mail_answers.esearch_empty, [b'* ESEARCH (TAG "A") UID']),
        (mail_answers.two_lines, [b"* SEARCH 2", b"* SEARCH 3"]),
        (mail_answers.doubled_unsorted, [b"* SEARCH 3 2 3 2"]),
        (mail_answers.modseq, [b"* SEARCH 2 3 (MODSEQ 917162500)"]),
        (mail_answers.no_line, []),
        (mail_answers.garbage(b"x"), [b"* SEARCH x"]),
        (mail_answers.many(100_000, first=5), [b"* SEARCH 5 6 7"]),
        (mail_answers.exists_first(9), [b"* 9 EXISTS", b"* SEARCH 2 3"]),
        (mail_answers.expunge_first(2), [b"* 2 EXPUNGE", b"* SEARCH 3"]),
    ],
)
def test_answers_to_search(
    server: MailServer, imap: imaplib.IMAP4_SSL, answer: mail_answers.Answer, lines: list[bytes]
) -> None:
    server.at("UID SEARCH", answer)
    say(imap, b"A UID SEARCH UID 2:7 UNSEEN")
    said = [imap.readline().rstrip(b"\r\n") for _ in range(len(lines) + 1)]
    assert said == [*lines, b"A OK SEARCH completed."]


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (mail_answers.bare_ok, {1}),
        (mail_answers.bare_ok_without_effect, set[int]()),
        (mail_answers.throttled(1_000, "NO"), set[int]()),
    ],
)
def test_answers_to_store(
    server: MailServer, imap: imaplib.IMAP4_SSL, answer: mail_answers.Answer, seen: set[int]
) -> None:
    server.at("UID STORE", answer)
    assert imap.uid("STORE", "1", "+FLAGS", SEEN)[1][0] in {
        None,
        b"Request is throttled. Suggested Backoff Time: 1000 milliseconds",
    }
    assert server.seen == seen


@pytest.mark.parametrize(
    "answer",
    [
        mail_answers.bye("Connection is closed. 13"),
        mail_answers.closes,
        mail_answers.resets,
        mail_answers.reply_lost,
    ],
)
def test_ends(server: MailServer, imap: imaplib.IMAP4_SSL, answer: mail_answers.Answer) -> None:
    server.at("UID STORE", answer)
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        imap.uid("STORE", "1", "+FLAGS", SEEN)
    assert server.seen == ({1} if answer is mail_answers.reply_lost else set())


def test_stalls(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    server.at("NOOP", mail_answers.stalls)
    imap.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        imap.noop()


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (mail_answers.exists_before_plus(b""), [b"* 4 EXISTS", b"+"]),
        (mail_answers.exists_with_plus(b""), [b"+", b"* 4 EXISTS"]),
        (mail_answers.idle_bye("Connection is closed. 13"), [b"+", b"* BYE Connection is closed"]),
        (mail_answers.drops_after(0.01), [b"+", b""]),
        (mail_answers.refused("Not now."), [b"I NO Not now."]),
    ],
)
def test_answers_to_idle(
    server: MailServer, imap: imaplib.IMAP4_SSL, answer: mail_answers.Answer, lines: list[bytes]
) -> None:
    server.at("IDLE", answer)
    say(imap, b"I IDLE")
    for line in lines:
        assert imap.readline().startswith(line)


def test_a_broken_answer_fails_the_test() -> None:
    def broken(_: Reply) -> None:
        raise ZeroDivisionError

    with pytest.raises(AssertionError, match="ZeroDivisionError"), MailServer() as server:
        server.at("CAPABILITY", broken)
        with pytest.raises((imaplib.IMAP4.abort, OSError)), opened(server):
            pass


def test_waiting_in_vain_shows_the_log(server: MailServer, imap: imaplib.IMAP4_SSL) -> None:
    imap.noop()
    began = time.monotonic()
    with pytest.raises(AssertionError, match="NOOP"):
        server.wait_for(lambda: server.seen == {1}, timeout=0.01)
    assert time.monotonic() - began < 30
