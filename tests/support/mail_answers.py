"""Answers for :meth:`support.mail_server.MailServer.at`: what servers have been seen to say.

Those to FETCH and STORE bend what is said of the messages that the hook is for; of others that
the same command names the usual is said.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from support.mail_server import IDLING, literal, matching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.mail_server import Reply

    Answer = Callable[[Reply], None]
    Parts = dict[str, bytes]

_BODIES = ("BODY[]", "RFC822")


# Any command


def says(word: str, text: str) -> Answer:
    """NO, BAD or OK with a text, and nothing is done."""
    return lambda reply: reply.send(f"{reply.tag} {word} {text}\r\n".encode())


def refused(text: str) -> Answer:
    """NO with a text, and nothing is done."""
    return says("NO", text)


def throttled(milliseconds: int, word: str = "BAD") -> Answer:
    """Exchange's request to wait for so long, by BAD or NO."""
    return says(word, f"Request is throttled. Suggested Backoff Time: {milliseconds} milliseconds")


def bye(text: str) -> Answer:
    """BYE and the end of the connection, in place of a tagged answer."""

    def answer(reply: Reply) -> None:
        reply.send(f"* BYE {text}\r\n".encode())
        reply.close()

    return answer


def closes(reply: Reply) -> None:
    """The connection ends (FIN) without an answer."""
    reply.close()


def resets(reply: Reply) -> None:
    """The connection breaks (RST) without an answer, and nothing is done."""
    reply.reset()


def stalls(reply: Reply) -> None:
    """No answer, ever."""
    reply.stall()


def nothing(reply: Reply) -> None:
    """OK alone, and nothing is done; where other messages are named, the usual for them."""
    _each(reply, lambda _: b"")


def exists_first(number: int) -> Answer:
    """An EXISTS of so many messages (true or not), and the usual answer."""
    return lambda reply: reply.usual(before=b"* %d EXISTS\r\n" % number)


def expunge_first(number: int) -> Answer:
    """Somebody removes the message of this number, EXPUNGE is told, and the usual answer."""

    def answer(reply: Reply) -> None:
        reply.server.remove(reply.uid_at(number))
        reply.usual(before=reply.news())

    return answer


# FETCH


def _each(reply: Reply, line: Callable[[int], bytes]) -> None:
    """What is usual for other messages than the hook's, for the hook's this line, then OK."""
    reply.ok(reply.done_for_others() + b"".join(map(line, reply.uids)))


def _with(change: Callable[[int, Parts], Parts]) -> Answer:
    def answer(reply: Reply) -> None:
        _each(reply, lambda uid: reply.fetch_line(uid, change(uid, reply.parts(uid))))

    return answer


def _with_body(body: Callable[[int], bytes]) -> Answer:
    def change(uid: int, parts: Parts) -> Parts:
        return parts | {name: body(uid) for name in _BODIES if name in parts}

    return _with(change)


def nil(reply: Reply) -> None:
    """``BODY[] NIL``."""
    _with_body(lambda _: b"NIL")(reply)


def empty_string(reply: Reply) -> None:
    """``BODY[] ""``."""
    _with_body(lambda _: b'""')(reply)


def quoted(text: bytes) -> Answer:
    """The message as a quoted string."""
    escaped = re.sub(rb'(["\\])', rb"\\\1", text)
    return _with_body(lambda _: b'"%b"' % escaped)


def instead(content: bytes) -> Answer:
    """Another content than the message's."""
    return _with_body(lambda _: literal(content))


def stand_in_for(uid: int) -> bytes:
    """What Exchange hands out for a message that it cannot turn into MIME."""
    return (
        b'From: "Microsoft Exchange Server" <.MISSING-HOST-NAME.>\r\n'
        b"To: \r\n"
        b"Subject: Retrieval using the IMAP4 protocol failed for the following message: %d\r\n"
        b"Date: Tue, 1 Dec 2026 08:00:00 +0000\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n"
        b"\r\n"
        b"The server couldn't retrieve the following message:\r\n\r\nSubject: x\r\n\r\n"
        b"The message hasn't been deleted. You might be able to view it using either Outlook or"
        b" Outlook Web App. You can also contact the sender to find out what the message says.\r\n"
    ) % uid


def stand_in(reply: Reply) -> None:
    """Exchange's stand-in, see :func:`stand_in_for`."""
    _with_body(lambda uid: literal(stand_in_for(uid)))(reply)


def flags_only(reply: Reply) -> None:
    """A FETCH line with UID and FLAGS, but no body."""
    _each(reply, reply.flags_line)


def no_uid(reply: Reply) -> None:
    """The literal without the UID."""
    _with(lambda _, parts: {name: parts[name] for name in parts if name != "UID"})(reply)


def uid_last(reply: Reply) -> None:
    """The UID behind the literal."""
    _with(lambda _, parts: {name: parts[name] for name in sorted(parts, key=lambda n: n == "UID")})(
        reply
    )


def twice(reply: Reply) -> None:
    """The same FETCH line twice."""
    _each(reply, lambda uid: 2 * reply.fetch_line(uid, reply.parts(uid)))


def foreign_literal(other_uid: int) -> Answer:
    """The literal of another message in place of the right one, and OK."""
    return lambda reply: _each(reply, lambda _: reply.fetch_line(other_uid, reply.parts(other_uid)))


def foreign_first(other_uid: int) -> Answer:
    """FLAGS and the literal of another message, then the right answer."""

    def answer(reply: Reply) -> None:
        literal_line = reply.fetch_line(other_uid, reply.parts(other_uid))
        reply.usual(before=reply.flags_line(other_uid) + literal_line)

    return answer


# SEARCH


def _search_line(numbers: Iterable[int]) -> bytes:
    return "".join(["* SEARCH", *(f" {number}" for number in numbers), "\r\n"]).encode()


def _esearch(reply: Reply, found: list[int]) -> None:
    told = [f'* ESEARCH (TAG "{reply.tag}")']
    told += ["UID"] if reply.command.by_uid else []
    told += [f"ALL {ranges(found)}"] if found else []
    reply.ok(f"{' '.join(told)}\r\n".encode())


def ranges(ascending: list[int]) -> str:
    """Numbers as a set: ``1:3,7``."""
    runs: list[list[int]] = []
    for number in ascending:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join(":".join(map(str, run)) for run in runs)


def esearch(reply: Reply) -> None:
    """What is found, as IMAP4rev2 tells it."""
    _esearch(reply, reply.found())


def esearch_empty(reply: Reply) -> None:
    """Nothing is found, as IMAP4rev2 tells it."""
    _esearch(reply, [])


def two_lines(reply: Reply) -> None:
    """The numbers in two SEARCH lines."""
    found = reply.found()
    half = len(found) // 2
    reply.ok(_search_line(found[:half]) + _search_line(found[half:]))


def doubled_unsorted(reply: Reply) -> None:
    """Each number twice, descending."""
    reply.ok(_search_line(2 * reply.found()[::-1]))


def modseq(reply: Reply) -> None:
    """The numbers with a MODSEQ behind them, as CONDSTORE has it."""
    line = _search_line(reply.found()).removesuffix(b"\r\n")
    reply.ok(line + b" (MODSEQ 917162500)\r\n")


def no_line(reply: Reply) -> None:
    """OK without a SEARCH line."""
    reply.ok()


def garbage(text: bytes) -> Answer:
    """A SEARCH line with this in place of numbers."""
    return lambda reply: reply.ok(b"* SEARCH " + text + b"\r\n")


def many(count: int, first: int = 1) -> Answer:
    """As if there were so many unread messages, with UIDs from ``first``; minds ``UID a:b``."""
    pretended = range(first, first + count)
    return lambda reply: reply.ok(_search_line(matching(reply.command.args, pretended, set())))


# STORE


def without_effect(reply: Reply) -> None:
    """OK and a FETCH line with the old flags; nothing is done."""
    _each(reply, reply.flags_line)


def bare_ok_without_effect(reply: Reply) -> None:
    """OK alone; nothing is done."""
    nothing(reply)


def bare_ok(reply: Reply) -> None:
    """It is done, but no FETCH line tells so."""
    reply.usual_without_saying()
    reply.ok()


def reply_lost(reply: Reply) -> None:
    """It is done, and the connection breaks before the answer."""
    reply.usual_without_saying()
    reply.reset()


# IDLE


def exists_before_plus(content: bytes) -> Answer:
    """A message arrives, and is told, between IDLE and its ``+``."""

    def answer(reply: Reply) -> None:
        reply.server.deliver(content)
        reply.send(reply.news())
        reply.idle()

    return answer


def exists_with_plus(content: bytes) -> Answer:
    """A message arrives just after the ``+``, and is told in the same packet."""

    def answer(reply: Reply) -> None:
        reply.server.deliver(content)
        reply.idle(IDLING + reply.news())

    return answer


def drops_after(seconds: float) -> Answer:
    """IDLE begins, and the connection ends (FIN) after so many seconds."""

    def answer(reply: Reply) -> None:
        reply.send(IDLING)
        reply.pause(seconds)
        reply.close()

    return answer


def idle_bye(text: str, after: float = 0.0) -> Answer:
    """IDLE begins, and after so many seconds there is BYE, and the connection ends."""

    def answer(reply: Reply) -> None:
        reply.send(IDLING)
        reply.pause(after)
        bye(text)(reply)

    return answer
