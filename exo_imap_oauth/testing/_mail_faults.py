"""What goes wrong with messages: odd answers to FETCH and SEARCH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymap.backend.dict.mailbox import Message
from pymap.mime import MessageContent
from pymap.parsing.response import UntaggedResponse
from pymap.parsing.response.specials import FetchResponse
from pymap.parsing.specials import SequenceSet
from pymap.parsing.specials.fetchattr import FetchRequirement, FetchValue

from exo_imap_oauth.testing._body_structure import Attributes
from exo_imap_oauth.testing._faults import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymap.parsing.command.select import SearchCommand
    from pymap.parsing.specials.fetchattr import FetchAttribute
    from pymap.selected import SelectedMailbox

COMMAND_ARGUMENT_ERROR = b"Command Argument Error. 12"
_INSTEAD = {Fault.IMAP_FETCH_NIL: b"NIL", Fault.IMAP_FETCH_EMPTY: b'""'}
_CHANGES_CONTENT = (*_INSTEAD, Fault.IMAP_FETCH_QUOTED)
_INVENTED = b"Subject: Nobody asked for this message\r\n\r\nNobody did.\r\n"
_STAND_IN = """\
From: "Microsoft Exchange Server"\r
Subject: Retrieval using the IMAP4 protocol failed for the following message: {uid}\r
MIME-Version: 1.0\r
Content-Type: text/plain; charset="us-ascii"\r
\r
The server couldn't retrieve the following message:\r
\r
Subject: "{subject}"\r
\r
The message hasn't been deleted. You might be able to view it using either Outlook or Outlook Web \
App. You can also contact the sender to find out what the message says.\r
"""


# ---- FETCH -----------------------------------------------------------------------------------


def is_content(attribute: FetchAttribute) -> bool:
    """Whether this is a message's content, or a part of it."""
    return attribute.section is not None and attribute.value != b"BINARY.SIZE"


async def fetch_line(
    number: int,
    message: Message,
    selected: SelectedMailbox,
    attributes: Sequence[FetchAttribute],
    fault: Fault | None,
) -> FetchResponse:
    """The line of one message in the answer to FETCH.

    Args:
        number: Its sequence number.
        message: The message.
        selected: The folder.
        attributes: What was asked for.
        fault: What goes wrong with this message.
    """
    if fault is Fault.IMAP_FETCH_STAND_IN:
        message = await _stand_in(message)
    values = Attributes(message, selected, attributes)
    if fault not in _CHANGES_CONTENT:
        return FetchResponse(number, values, writing_hook=values.load_hook())
    async with values.load_hook():
        return FetchResponse(number, [_changed(value, fault) for value in values])


def _changed(value: FetchValue, fault: Fault) -> FetchValue:
    data = bytes(value)[len(bytes(value.attribute.for_response)) + 1 :]
    if is_content(value.attribute):
        data = _INSTEAD.get(fault) or _quoted_first_line(data)
    return FetchValue.of(value.attribute, data)


def _quoted_first_line(literal: bytes) -> bytes:
    first = (literal.partition(b"\r\n")[2].splitlines() or [b""])[0]
    text = first.decode("ascii", "replace").replace("\ufffd", "?").replace("\0", "?")
    return b'"%b"' % text.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"')


async def _stand_in(message: Message) -> Message:
    loaded = await message.load_content(FetchRequirement.CONTENT)
    subject = (loaded.get_header(b"subject") or [""])[0]
    text = _STAND_IN.format(uid=message.uid, subject=subject)
    return Message(
        message.uid,
        message.internal_date,
        message.permanent_flags,
        email_id=message.email_id,
        thread_id=message.thread_id,
        content=MessageContent.parse(text.encode("ascii", "replace")),
    )


def not_named(selected: SelectedMailbox, numbers: SequenceSet) -> SequenceSet | None:
    """A message of the folder that a message set does not name, if there is one."""
    named = {uid for _, uid in selected.messages.get_uids(numbers)}
    every = selected.messages.get_uids(SequenceSet.all(uid=True))
    others = [uid for _, uid in every if uid not in named]
    return SequenceSet.build(others[:1], uid=True) if others else None


async def foreign_lines(
    selected: SelectedMailbox, foreign: tuple[int, Message] | None
) -> list[UntaggedResponse]:
    """The lines of a message that nobody asked for, or of an invented one."""
    if foreign is None:
        number, uid = selected.messages.exists + 1, selected.messages.max_uid + 1
        flags, content = b"()", _INVENTED
    else:
        number, message = foreign
        uid = message.uid
        shown = sorted(bytes(flag) for flag in message.get_flags(selected.session_flags))
        flags = b"(%b)" % b" ".join(shown)
        content = bytes((await message.load_content(FetchRequirement.CONTENT)).get_body())
    return [
        UntaggedResponse(b"%d FETCH (FLAGS %b)" % (number, flags)),
        UntaggedResponse(
            b"%d FETCH (UID %d BODY[] {%d}\r\n%b)" % (number, uid, len(content), content)
        ),
    ]


# ---- SEARCH ----------------------------------------------------------------------------------


def search_lines(command: SearchCommand, found: list[int], fault: Fault | None) -> list[bytes]:
    """The untagged lines of the answer to SEARCH.

    Args:
        command: The command.
        found: The numbers of what was found.
        fault: What goes wrong.
    """
    match fault:
        case Fault.IMAP_SEARCH_NOTHING:
            return []
        case Fault.IMAP_SEARCH_ESEARCH:
            return [_esearch(command, found)]
        case Fault.IMAP_SEARCH_TWO_LINES:
            half = (len(found) + 1) // 2
            return [_search(found[:half]), _search(found[:1] + found[half:])]
        case Fault.IMAP_SEARCH_MODSEQ if found:
            return [_search(found) + b" (MODSEQ 917162500)"]
        case _:
            return [_search(found)]


def _search(found: list[int]) -> bytes:
    return b" ".join([b"SEARCH", *(b"%d" % number for number in found)])


def _esearch(command: SearchCommand, found: list[int]) -> bytes:
    line = b'ESEARCH (TAG "%b")' % command.tag
    if command.uid:
        line += b" UID"
    return line + (b" ALL %b" % bytes(SequenceSet.build(found)) if found else b"")
