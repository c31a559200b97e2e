"""What a server says of messages, in the shapes in which imaplib and aioimaplib give it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_imap_oauth._mail.replies import fetched

MAIL = b"Subject: x\r\n\r\nHello"
DONE = b"FETCH completed."


def only(data: list[Any]) -> Any:
    (message,) = fetched(data)
    return message


def test_imaplib_s_pieces_become_one_message() -> None:
    message = only(
        [
            (b"3 (UID 7 BODY[] {20}", MAIL),
            b' FLAGS (\\Seen $Forwarded) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 44)',
        ]
    )
    assert (message.number, message.uid, message.size) == (3, 7, 44)
    assert message.flags == {"\\Seen", "$Forwarded"}
    assert message.received == datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)
    assert message.received.utcoffset() == -timedelta(hours=7)
    assert message.content is MAIL  # not a copy


def test_aioimaplib_s_lines_become_one_message() -> None:
    lines = [b"3 FETCH (UID 7 FLAGS () RFC822 {20}", bytearray(MAIL), b" RFC822.SIZE 20)", DONE]
    message = only(lines)
    assert (message.uid, message.size, message.content) == (7, 20, MAIL)
    assert message.flags == frozenset()


@pytest.mark.parametrize(
    "data",
    [
        [(b"1 (BODY[] {20}", MAIL), b" UID 7)"],
        [(b"1 (UID 7 BODY[] {20+}", MAIL), b")"],
        [(b"1 (uid 7 body[] {20}", MAIL), b")"],
        [(b"1 (X-GM-MSGID 12 MODSEQ (5) UID 7 BODY[] {20}", MAIL), b")"],
        [(b'1 (ENVELOPE ("a" (("b" NIL)) UID 9) UID 7 BODY[] {20}', MAIL), b")"],
        [(b"1 (BODY[HEADER.FIELDS (UID)] {2}", b"\r\n"), (b" UID 7 BODY[] {20}", MAIL), b")"],
        [(b"1 (ENVELOPE (({5}", b"UID 3"), (b" NIL)) UID 7 BODY[] {20}", MAIL), b")"],
        [b"1 FETCH (UID 7 BODY[] {20}", bytearray(MAIL), b")", DONE],
        [b'1 (UID 7 BODY[] "Subject: x\r\n\r\nHello")'],
        [(b"1 (UID 7 BODY[] {20}", MAIL)],  # somebody kept the pairs only
        [b"garbage", 5, None, (b"1 (UID 7 BODY[] {20}", MAIL), b")", ("x",), [b"1 (UID 8)"]],
    ],
)
def test_items_come_in_any_order_and_form(data: list[Any]) -> None:
    message = only(data)
    assert (message.uid, message.content) == (7, MAIL)


@pytest.mark.parametrize("value", [b"NIL", b'""', b"{0}", b"", b"5", b"(a b)"])
def test_what_is_no_message_is_none(value: bytes) -> None:
    data: list[Any] = [b"1 (UID 7 BODY[] " + value + b")"]
    if value == b"{0}":
        data = [(b"1 (UID 7 BODY[] {0}", b""), b")"]
    assert only(data).content is None
    assert only(data).uid == 7


@pytest.mark.parametrize("item", [b"BODY[]<0>", b"BODY[TEXT]", b"RFC822.TEXT", b"BODY[1]"])
def test_a_part_is_not_the_message(item: bytes) -> None:
    assert only([(b"1 (" + item + b" {20}", MAIL), b")"]).content is None


def test_a_quoted_string_is_unescaped() -> None:
    assert only([rb'1 (BODY[] "a \"b\" \\ c)" UID 7)']).content == rb'a "b" \ c)'


def test_several_messages_keep_the_server_s_order_and_their_own_contents() -> None:
    data = [
        (b"5 (UID 50 BODY[] {1}", b"e"),
        b")",
        b"9 (FLAGS (\\Deleted))",
        (b"2 (BODY[] {1}", b"b"),
        b" UID 20)",
    ]
    assert [(m.number, m.uid, m.content) for m in fetched(data)] == [
        (5, 50, b"e"),
        (9, None, None),
        (2, 20, b"b"),
    ]


def test_pairs_alone_are_told_apart() -> None:
    pairs = [(b"1 (UID 10 BODY[] {1}", b"a"), (b"2 (UID 20 BODY[] {1}", b"b")]
    assert [(m.uid, m.content) for m in fetched(pairs)] == [(10, b"a"), (20, b"b")]


def test_what_is_said_of_one_message_in_several_responses_is_put_together() -> None:
    data = [
        b"1 (UID 7 FLAGS ())",
        (b"1 (UID 7 BODY[] {1}", b"a"),
        b")",
        b"2 (UID 7 RFC822.SIZE 9 FLAGS (\\Seen))",
        b"1 (UID 7 BODY[] NIL)",
    ]
    message = only(data)
    assert (message.uid, message.content, message.size) == (7, b"a", 9)
    assert message.flags == {"\\Seen"}


def test_what_is_said_by_number_alone_is_said_of_nobody_with_a_uid() -> None:
    data = [b"1 (UID 7 FLAGS ())", (b"1 (BODY[] {1}", b"a"), b" FLAGS (\\Seen))"]
    named, numbered = fetched(data)
    assert (named.uid, named.content, named.flags) == (7, None, frozenset())
    assert (numbered.uid, numbered.content) == (None, b"a")


def test_after_a_removal_a_number_belongs_to_another_message() -> None:
    data = [
        (b"3 (UID 30 BODY[] {1}", b"c"),
        b")",
        (b"3 (UID 40 BODY[] {1}", b"d"),
        b")",
        b"2 (UID 30 FLAGS (\\Seen))",
    ]
    first, second = fetched(data)
    assert (first.uid, first.content, first.flags) == (30, b"c", frozenset({"\\Seen"}))
    assert (second.uid, second.content, second.flags) == (40, b"d", None)


@pytest.mark.parametrize(
    "date",
    [
        b"17-Jul-1996", b"31-Feb-2026 00:00:00 +0000", b"17-Foo-1996 02:44:25 -0700",
        b"17-Jul-1996 25:44:25 -0700", b"17-Jul-1996 02:44:25 -9900", b"01-Jan-0001 00:00:00 +1400",
        b"17-Jul-0000 02:44:25 +0000", b"\xff" * 26, b"",
    ],
)  # fmt: skip
def test_a_malformed_date_is_no_date(date: bytes) -> None:
    assert only([b'1 (INTERNALDATE "' + date + b'" UID 7)']).received is None


def test_a_day_of_one_digit_is_padded_with_a_blank() -> None:
    message = only([b'1 (INTERNALDATE " 1-Feb-2026 02:03:04 +0100")'])
    assert message.received == datetime(2026, 2, 1, 1, 3, 4, tzinfo=UTC)


def test_a_number_beyond_all_numbers_is_none() -> None:
    message = only([b"1 (UID " + b"9" * 5000 + b" RFC822.SIZE " + b"9" * 5000 + b")"])
    assert (message.uid, message.size) == (None, None)


def test_the_content_is_in_no_repr() -> None:
    assert "Hello" not in repr(fetched([(b"1 (BODY[] {20}", MAIL), b")"]))


@pytest.mark.parametrize(
    "piece",
    [b"(", b")", b'"', b'"\\', b'\\"', b"[", b"a[", b"{1}", b"UID ", b"FLAGS (", b"BODY[] ", b" "],
)
def test_hostile_nesting_and_quoting_take_linear_time(piece: bytes) -> None:
    began = time.process_time()
    fetched([b"1 (" + piece * (200_000 // len(piece)), (b"1 (" + piece * 9, b"x")])
    assert time.process_time() - began < 5


_texts = st.text('()[]{}"\\ 123NILUDBOY~+\r\n<>*', max_size=30).map(str.encode)
_parts = st.one_of(
    _texts,
    _texts.map(lambda text: b"1 (" + text),
    _texts.map(bytearray),
    st.tuples(_texts, _texts),
    st.tuples(_texts.map(lambda text: b"2 FETCH (UID 4 " + text), st.binary(max_size=9)),
    st.none(),
    st.integers(),
    st.tuples(st.integers(), _texts),
)


@given(st.lists(_parts, max_size=6))
def test_garbage_is_skipped_and_never_raises(data: list[Any]) -> None:
    for message in fetched(data):
        assert message.content is None or message.content


@given(st.lists(_parts, max_size=4))
def test_garbage_does_not_hide_a_message_behind_it(data: list[Any]) -> None:
    found = fetched([*data, b"", b'77 (UID 123456 BODY[] "x")'])
    assert [m.content for m in found if m.uid == 123456] == [b"x"]
