r"""What a folder is asked for messages: SEARCH, FETCH, and STORE of ``\Seen``.

There is one way to ask and one to read what comes, whoever made the client. A refusal is raised
as one of this library's errors, and nothing of a reply is quoted as it is.
"""

from __future__ import annotations

import imaplib
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from exo_imap_oauth._errors_imap import (
    ConnectionFailed,
    ImapError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
)
from exo_imap_oauth._frames import without_locals
from exo_imap_oauth._imap.replies import ServerReply, text_of, typed_error
from exo_imap_oauth._mail.replies import fetched
from exo_imap_oauth.advice import explain
from exo_imap_oauth.errors import ExoImapOAuthError
from exo_imap_oauth.imap import ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exo_imap_oauth._imap.client import Client
    from exo_imap_oauth._mail.replies import Fetched

# imaplib reads no line beyond a million bytes, and a number with its blank has up to eleven.
_MOST_IN_A_LINE = 90_000
_WINDOW = 50_000  # messages, or UIDs where the server does not tell those of its messages
_MOST_FOUND = 2_000_000  # else three bytes of an answer, 1:*, could take all memory
_MOST_WINDOWS = 1_000
_NUMBER = re.compile(rb"[0-9]{1,10}")
_ALL = re.compile(rb" ALL ([0-9:,]+)(?: |\Z)", re.IGNORECASE)
_SOMETHING = re.compile(rb" (?:ALL|MIN|MAX|COUNT 0*[1-9])", re.IGNORECASE)  # is found
_MODSEQ = re.compile(rb"\(MODSEQ [0-9]{1,20}\)$")
_ITEMS = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"


@without_locals
def search(imap: imaplib.IMAP4, *criteria: str, messages: int) -> list[int]:
    """The UIDs of the messages that meet the criteria, ascending, each once.

    Args:
        imap: A client with a selected folder.
        *criteria: As in RFC 3501 section 6.4.4.
        messages: How many the folder has at most; a large one is searched by ranges of UIDs.

    Raises:
        ImapError: The server refused, or its answer is no list of numbers.
    """
    if not needs_windows(messages):
        return sorted(_found(imap, partial(imap.uid, "SEARCH", *criteria)))
    found: set[int] = set()
    first = 1
    for last in (*_ends_of_windows(imap, messages), "*"):
        window = f"{first}:{last}"
        named = _found(imap, partial(imap.uid, "SEARCH", "UID", window, *criteria))
        found.update(uid for uid in named if uid >= first)  # a star always names the last message
        first = last + 1 if isinstance(last, int) else first
    return sorted(found)


def needs_windows(messages: int) -> bool:
    """Whether a SEARCH in a folder of so many messages may find more than a line can name."""
    return messages > _MOST_IN_A_LINE


def concerns_all(error: Exception) -> bool:
    """Whether a refusal is about more than the messages that the command named."""
    session = (ConnectionFailed, MailboxNotConnected, SessionExpired, Throttled)
    return isinstance(error, (*session, imaplib.IMAP4.abort))


def number(text: object) -> int:
    """A number that the server told, or 0."""
    return int(text) if isinstance(text, bytes) and _NUMBER.fullmatch(text) else 0


def set_of(uids: Iterable[int]) -> str:
    """UIDs as a command names them."""
    return ",".join(map(str, uids))


# ---- commands whose replies are waited for later ---------------------------------------------


class Pending(NamedTuple):
    """A command on its way. Replies come in the order of the commands, and are read in it."""

    tag: Any
    uids: list[int]


def start_search(imap: Client, *criteria: str) -> Pending:
    """Send a SEARCH; :func:`finish_search` reads what it found."""
    return _started(imap, [], "SEARCH", *criteria)


@without_locals
def finish_search(imap: Client, pending: Pending) -> list[int]:
    """What was found, as by :func:`search`."""
    return sorted(_found(imap, partial(imap.finish, pending.tag, is_search=True)))


def start_fetch(imap: Client, uids: list[int]) -> Pending:
    """Ask for messages; that does not mark them as read."""
    return _started(imap, uids, "FETCH", set_of(uids), _ITEMS)


def start_sizes(imap: Client, uids: list[int]) -> Pending:
    """Ask how large messages are."""
    return _started(imap, uids, "FETCH", set_of(uids), "(UID RFC822.SIZE)")


def start_marking(imap: Client, uids: list[int]) -> Pending:
    r"""Set ``\Seen``."""
    return _started(imap, uids, "STORE", set_of(uids), "+FLAGS", r"(\Seen)")


def _started(imap: Client, uids: list[int], *words: str) -> Pending:
    try:
        return Pending(imap.start("UID", *words), uids)
    except imaplib.IMAP4.readonly:
        pass
    raise _became_readonly()


def _became_readonly() -> ImapError:
    text = "the server says that the folder can only be read from now on"
    return ImapError(text, advice=explain("folder-readonly"))


@without_locals
def finish(imap: Client, pending: Pending) -> dict[int, Fetched]:
    """What the server told of messages until the end of its reply, by UID.

    Raises:
        ImapError: The server refused.
    """
    _asked(partial(imap.finish, pending.tag))
    return told(imap)


@without_locals
def told(imap: imaplib.IMAP4) -> dict[int, Fetched]:
    """What the server told of messages, and nobody has read yet."""
    data = imap.response("FETCH")[1]
    return {each.uid: each for each in fetched(data) if each.uid is not None}


def is_read(message: Fetched | None) -> bool:
    r"""Whether the server said that a message has ``\Seen``; it need not say so."""
    flags = message.flags if message is not None else None
    return any(flag.lower() == r"\seen" for flag in flags or ())


# ---- one command -----------------------------------------------------------------------------


def _asked(command: Callable[[], tuple[str, list[Any]]]) -> list[Any]:
    """The data of a command's OK; else an error of ours, also for what imaplib raises."""
    try:
        reply = command()
    except imaplib.IMAP4.readonly:
        failure: ImapError = _became_readonly()
    except imaplib.IMAP4.error as error:
        if isinstance(error, (ExoImapOAuthError, imaplib.IMAP4.abort)):
            raise
        said = text_of(error)
        what = f"the server refused the command: {said}"
        failure = typed_error(what, ServerReply(said), "runtime") or ImapError(what)
    else:
        return ok(reply)
    raise failure


# ---- what SEARCH found -----------------------------------------------------------------------


def _found(imap: imaplib.IMAP4, command: Callable[[], tuple[str, list[Any]]]) -> set[int]:
    for stale in ("SEARCH", "ESEARCH"):
        imap.response(stale)
    lines = _asked(command)
    extended = imap.response("ESEARCH")[1]  # in place of SEARCH since IMAP4rev2 (RFC 9051)
    if extended != [None]:
        lines = [_all_of(line or b"") for line in extended]
    elif lines == [None]:  # nothing found is an empty line
        raise ImapError("the server did not say what SEARCH found", retryable=True)
    found: set[int] = set()
    for line in lines:
        for first, last in _ranges(line):
            if len(found) + last - first >= _MOST_FOUND:
                raise _no_list()
            found.update(range(first, last + 1))
    return found


def _all_of(line: bytes) -> bytes:
    """The set in an ESEARCH response (RFC 4731); empty if nothing was found."""
    named = _ALL.search(line)
    if named is None and _SOMETHING.search(line):
        raise _no_list()
    return named[1] if named else b""


def _ranges(line: object) -> Iterator[tuple[int, int]]:
    """The numbers in a SEARCH response, or in the set of an ESEARCH response."""
    listed = _MODSEQ.sub(b"", line) if isinstance(line, bytes) else b"?"
    for word in listed.replace(b",", b" ").split():
        first, _, last = word.partition(b":")
        yield _number(first), _number(last or first)


def _number(digits: bytes) -> int:
    if not _NUMBER.fullmatch(digits):
        raise _no_list()
    return int(digits)


def _no_list() -> ImapError:
    return ImapError("the server's answer to SEARCH is no list of numbers", retryable=True)


def _ends_of_windows(imap: imaplib.IMAP4, messages: int) -> Sequence[int]:
    """UIDs at which to cut, so that the numbers of what is in between fit into a line."""
    ends = range(_WINDOW, messages, _WINDOW)[:_MOST_WINDOWS]
    numbers = ",".join(map(str, ends))
    try:
        there = fetched(_asked(partial(imap.fetch, numbers, "(UID)")))
    except ImapError as error:  # one of them is gone
        if isinstance(error, imaplib.IMAP4.abort):
            raise
        there = []
    uids = sorted(each.uid for each in there if each.uid is not None)
    if uids:
        return uids
    next_uid = number(imap.untagged_responses.get("UIDNEXT", [None])[-1])
    return range(_WINDOW, next_uid, _WINDOW)[:_MOST_WINDOWS]
