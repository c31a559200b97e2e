"""What a server said of messages: the replies to FETCH, read as RFC 3501 section 9 writes them.

A response is ``message-data``: a sequence number, ``FETCH``, and in parentheses ``msg-att``, a
list of item names, each with its value. Clients cut it at its literals:

- imaplib gives ``(b"1 (UID 7 BODY[] {5}", b"Hello")`` and then ``b" FLAGS ())"``, without the
  word FETCH;
- aioimaplib gives ``b"1 FETCH (UID 7 BODY[] {5}"``, ``bytearray(b"Hello")``, ``b" FLAGS ())"``,
  and at the end the text of the tagged reply.

Both become a list of pieces, texts and literals by turns. The tokens of the texts are read one
after the other, and of nested lists only the depth is kept, so that no nesting exhausts the stack
and the time grows linearly with the length. What is not understood is skipped. Nothing of it is
quoted anywhere: it is somebody's mail.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEAD: Final = re.compile(rb"(?:\* )?([1-9][0-9]{0,9}) (?:FETCH )?\(", re.IGNORECASE)
_LITERAL_MARK: Final = re.compile(rb"~?\{[0-9]+\+?\}\Z")  # RFC 7888 has the +, RFC 3516 the ~
# A quoted string that does not end goes on to the end of its line, so that no text is read twice.
_TOKEN: Final = re.compile(
    rb'(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]++|\\.)*+)"?|(?P<atom>[^\s()"]++)', re.DOTALL
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_DATE: Final = re.compile(
    r"([ 0-3]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{4})"
)
_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_ITEMS: Final = frozenset({"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY[]", "RFC822"})


@dataclass(slots=True)
class Fetched:
    """What a server said of one message.

    Attributes:
        number: Its sequence number.
        uid: Its UID, None if not told.
        flags: Its flags as they came, None if not told.
        received: INTERNALDATE, aware; None if not told or malformed.
        size: RFC822.SIZE in octets, None if not told.
        content: The message, from ``BODY[]`` or ``RFC822``: the client's own object, not a copy,
            unless that was a ``bytearray``. None if it was not told, NIL or empty.
    """

    number: int
    uid: int | None = None
    flags: frozenset[str] | None = field(default=None, repr=False)
    received: datetime | None = None
    size: int | None = None
    content: bytes | None = field(default=None, repr=False)


def fetched(data: Iterable[object]) -> list[Fetched]:
    """What is said of each message, in the server's order, one for each message.

    Args:
        data: What imaplib or aioimaplib give as the data of a FETCH.

    Returns:
        The messages, also those for which nobody asked: a server may tell of any at any time.
    """
    messages = _Messages()
    for pieces in _responses(data):
        if (message := _message(pieces)) is not None:
            messages.add(message)
    return messages.in_order


# ---- from a client's data to responses -------------------------------------------------------


class _Piece(NamedTuple):
    octets: bytes | bytearray
    is_literal: bool


def _responses(data: Iterable[object]) -> Iterator[list[_Piece]]:
    """The pieces of each response."""
    pieces: list[_Piece] = []
    for piece in _pieces(data):
        # Behind a literal stands the rest of its response. Where that is missing, since somebody
        # kept only the pairs of imaplib, a number begins the next one.
        continues = pieces and (piece.is_literal or pieces[-1].is_literal)
        if not continues or (not piece.is_literal and _HEAD.match(piece.octets)):
            if pieces:
                yield pieces
            pieces = []
        pieces.append(piece)
    if pieces:
        yield pieces


def _pieces(data: Iterable[object]) -> Iterator[_Piece]:
    for part in data:
        if isinstance(part, bytes):
            yield _Piece(part, is_literal=False)
        elif isinstance(part, bytearray):
            yield _Piece(part, is_literal=True)
        elif isinstance(part, tuple):
            pair = cast("tuple[object, ...]", part)
            if len(pair) != 2 or not isinstance(pair[0], bytes):  # noqa: PLR2004 - a pair
                continue
            if isinstance(pair[1], bytes | bytearray):
                yield _Piece(pair[0], is_literal=False)
                yield _Piece(pair[1], is_literal=True)


# ---- from a response to tokens ---------------------------------------------------------------


class _Token(NamedTuple):
    kind: Literal["atom", "string", "open", "close"]
    octets: bytes | bytearray = b""


_OPEN: Final = _Token("open")
_CLOSE: Final = _Token("close")


def _tokens(pieces: list[_Piece], start: int) -> Iterator[_Token]:
    """The tokens of a response whose first piece is read from ``start`` on."""
    for piece in pieces:
        if piece.is_literal:
            yield _Token("string", piece.octets)
            continue
        mark = _LITERAL_MARK.search(piece.octets, max(start, len(piece.octets) - 24))
        end = len(piece.octets) if mark is None else mark.start()
        yield from _tokens_of_text(piece.octets, start, end)
        start = 0


def _tokens_of_text(text: bytes | bytearray, start: int, end: int) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text, start, end):
        if match.lastgroup == "open":
            yield _OPEN
        elif match.lastgroup == "close":
            yield _CLOSE
        elif match.lastgroup == "quoted":
            yield _Token("string", _ESCAPED.sub(rb"\1", match["quoted"]))
        else:
            yield _Token("atom", match["atom"])


# ---- from tokens to a message ----------------------------------------------------------------


def _message(pieces: list[_Piece]) -> Fetched | None:
    """What one response says, or None if it is none to FETCH."""
    head = None if pieces[0].is_literal else _HEAD.match(pieces[0].octets)
    if head is None:
        return None
    message = Fetched(int(head[1]))
    item = ""  # whose value comes next
    elements: list[bytes | bytearray] = []  # of the list that is this value, not of those in it
    depth = 0
    for token in _tokens(pieces, head.end()):
        if token.kind == "open":
            depth += 1
        elif token.kind == "close":
            if depth == 1:
                _note_list(message, item, elements)
                item, elements = "", []
            depth = max(0, depth - 1)  # one too many is passed over
        elif depth == 0:
            item = _note(message, item, token)
        elif depth == 1:
            elements.append(token.octets)
    return message


def _note(message: Fetched, item: str, token: _Token) -> str:
    """Note the value of an item; returns the item whose value comes next, if that is a name."""
    if token.kind == "atom":
        name = _text(token.octets[:20]).upper()
        if name in _ITEMS:
            return name
        _note_number(message, item, token.octets)
    elif item in ("BODY[]", "RFC822") and token.octets:  # of two, an empty one counts for nothing
        message.content = bytes(token.octets)  # of bytes, this is the object itself
    elif item == "INTERNALDATE":
        message.received = _date(_text(token.octets[:40]))
    return ""


def _note_number(message: Fetched, item: str, octets: bytes | bytearray) -> None:
    if item == "UID" and re.fullmatch(rb"[0-9]{1,10}", octets):
        message.uid = int(octets) or None
    elif item == "RFC822.SIZE" and re.fullmatch(rb"[0-9]{1,20}", octets):
        message.size = int(octets)


def _note_list(message: Fetched, item: str, elements: list[bytes | bytearray]) -> None:
    if item == "FLAGS":
        message.flags = frozenset(map(_text, elements))


def _text(octets: bytes | bytearray) -> str:
    return octets.decode("utf-8", errors="replace")


def _date(text: str) -> datetime | None:
    """A ``date-time`` of RFC 3501, such as ``17-Jul-1996 02:44:25 -0700``."""
    found = _DATE.fullmatch(text)
    if found is None or found[2].lower() not in _MONTHS:
        return None
    day, month, year, hour, minute, second, sign, zone = found.groups()
    offset = timedelta(hours=int(zone[:2]), minutes=int(zone[2:]))
    with contextlib.suppress(ValueError, OverflowError):
        date = datetime(
            int(year),
            _MONTHS.index(month.lower()) + 1,
            int(day),
            int(hour),
            int(minute),
            int(second),
            tzinfo=timezone(-offset if sign == "-" else offset),
        )
        date.astimezone(UTC)  # at the ends of the calendar this overflows
        return date
    return None


# ---- several responses to one message --------------------------------------------------------


class _Messages:
    """The messages so far.

    What is said with a UID and what is said without one are kept apart: a sequence number moves
    when another message is removed in between (RFC 3501 section 7.4.1), and nobody's text may be
    taken for somebody else's.
    """

    def __init__(self) -> None:
        self._messages: dict[tuple[str, int], Fetched] = {}

    @property
    def in_order(self) -> list[Fetched]:
        return list(self._messages.values())

    def add(self, message: Fetched) -> None:
        uid = message.uid
        key = ("number", message.number) if uid is None else ("UID", uid)
        known = self._messages.setdefault(key, message)
        if known is not message:
            merge(known, message)


def merge(known: Fetched, later: Fetched) -> None:
    """What is said later counts, but what is not said changes nothing."""
    if later.flags is not None:
        known.flags = later.flags
    if later.received is not None:
        known.received = later.received
    if later.size is not None:
        known.size = later.size
    if later.content is not None:
        known.content = later.content
