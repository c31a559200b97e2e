"""What comes after the login: the messages of a mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from exo_imap_oauth._arguments import REPLIES, kind_of, wrong_kind
from exo_imap_oauth._frames import without_locals
from exo_imap_oauth._mail.message import Mail, mail_of
from exo_imap_oauth._mail.replies import fetched
from exo_imap_oauth.imap import ok

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Mail", "message"]

_REPLY = "the whole reply to one FETCH, such as imap.uid('FETCH', '7', '(UID FLAGS BODY.PEEK[])')"
_WHAT_TO_PASS = f"give {_REPLY}, or its data"


@without_locals
def message(reply: tuple[str, list[Any]] | list[Any]) -> Mail | None:
    r"""The message in the reply to one FETCH, of imaplib or of aioimaplib.

    It is found wherever it stands: as a literal or a quoted string, in any order of items, and
    among what the server says of other messages. What the reply tells is noted: ask for ``UID
    FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[]`` to have it all.

    Args:
        reply: What ``imap.fetch(…)`` or ``imap.uid("FETCH", …)`` returned, before or after
            :func:`~exo_imap_oauth.imap.ok`.

    Returns:
        The message, or None: the server sent none. Exchange does so now and then for a message
        that exists, so a program should come back to it, and not mark it as read.

    Raises:
        MessageUnavailable: Exchange sent its stand-in, "Retrieval using the IMAP4 protocol failed
            …", in place of the message.
        ImapError: The reply is NO or BAD: what :func:`~exo_imap_oauth.imap.ok` raises.
        ValueError: There are several messages in it.
        TypeError: It is no reply.

    Examples:
        >>> data = [(b"1 (UID 7 BODY[] {17}", b"Subject: Hello\r\n\r\n"), b")"]
        >>> mail = message(("OK", data))
        >>> mail["Subject"], mail.uid
        ('Hello', 7)
        >>> message(data)["Subject"]
        'Hello'
        >>> message(("OK", [None])) is None
        True
    """
    data = _data_of(reply)
    found = [each for each in fetched(data) if each.content is not None]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(
            f"the reply holds {len(found)} messages: fetch one at a time, or read them one by one"
        )
    return mail_of(found[0])


def _data_of(reply: object) -> Iterable[object]:
    data: object = reply
    if isinstance(reply, tuple):
        pair = cast("tuple[object, ...]", reply)
        if len(pair) != 2 or not isinstance(pair[0], str):  # noqa: PLR2004 - status and data
            raise TypeError(f"a pair of status and data was expected: {_WHAT_TO_PASS}")
        data = ok(cast("tuple[str, list[Any]]", reply))
    if not isinstance(data, list):
        expected = f"{_REPLY} returns, or its data"
        page = "reference/api/mail"
        raise wrong_kind("reply", data, expected, page=page, instead=REPLIES)
    parts = cast("list[object]", data)
    for part in parts:
        if part is not None and not isinstance(part, bytes | bytearray | tuple):
            raise TypeError(f"not a list of {kind_of(part)}: {_WHAT_TO_PASS}")
    return parts
