"""Folders and their names: modified UTF-7, quoted strings, and what LIST tells of them."""

from __future__ import annotations

import base64
import codecs
import re
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._arguments import require_text
from exo_imap_oauth._text import holds_control

if TYPE_CHECKING:
    import imaplib
    from collections.abc import Iterator

codecs.lookup("utf-16-be")  # else the first such name loads it
# (\HasNoChildren \Sent) "/" "Sent Items"; a name that follows as a literal is {10}
_LISTED = re.compile(rb'\((?P<attributes>[^)]{0,400})\) (?:NIL|"\\?.") (?P<name>.+)', re.DOTALL)
_ENCODED = re.compile(r"&([A-Za-z0-9+,]*)-")
# What tells which folder it is whatever its language (RFC 6154 section 2, and \Inbox).
_SPECIAL_USES = frozenset(
    (r"\inbox", r"\all", r"\archive", r"\drafts", r"\flagged", r"\junk", r"\sent", r"\trash")
)


class Folder(NamedTuple):
    """A folder that there is."""

    name: str  # as people write it
    use: str  # its special use, such as \Sent, or an empty string


def folder_argument(folder: str) -> str:
    """A folder's name as an IMAP argument: modified UTF-7, quoted (RFC 3501 section 5.1.3)."""
    require_text("folder", folder, "reference/api/imap")
    if not folder or holds_control(folder):
        raise ValueError(f"folder is empty or holds a control character: {folder!r}")

    def encode(run: re.Match[str]) -> str:
        text = base64.b64encode(run[0].encode("utf-16-be")).decode()
        return f"&{text.rstrip('=').replace('/', ',')}-"

    encoded = re.sub(r"[^\x20-\x7e]+", encode, folder.replace("&", "&-"))
    if re.fullmatch(r"[A-Za-z0-9./_\-]+", encoded):
        return encoded
    return '"' + re.sub(r'(["\\])', r"\\\1", encoded) + '"'


def folder_name(argument: str) -> str:
    """The name behind an argument of IMAP; what is malformed in it stays as it is."""
    if len(argument) > 1 and argument.startswith('"') and argument.endswith('"'):
        argument = re.sub(r"\\(.)", r"\1", argument[1:-1])
    return _ENCODED.sub(_decoded, argument)


def _decoded(run: re.Match[str]) -> str:
    if not run[1]:
        return "&"
    padded = run[1].replace(",", "/") + "=" * (-len(run[1]) % 4)
    try:
        return base64.b64decode(padded).decode("utf-16-be")
    except ValueError:
        return run[0]


def list_folders(imap: imaplib.IMAP4) -> Iterator[Folder]:
    """The folders of a mailbox, in the server's order.

    Raises:
        imaplib.IMAP4.error: The server tells none.
    """
    _, data = imap.list()
    for entry in data:
        # imaplib gives a name that was sent as a literal apart from what precedes it.
        line, literal = entry if isinstance(entry, tuple) else (entry, None)
        found = _LISTED.match(line) if isinstance(line, bytes) else None
        if found is None:
            continue
        attributes = found["attributes"].decode("latin-1").split()
        if r"\noselect" in map(str.lower, attributes):
            continue
        uses = [attribute for attribute in attributes if attribute.lower() in _SPECIAL_USES]
        if literal is None:
            name = folder_name(found["name"].decode(errors="replace"))
        else:
            name = _ENCODED.sub(_decoded, literal.decode(errors="replace"))
        yield Folder(name, "".join(uses))
