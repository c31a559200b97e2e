"""How incoming mail is read: whatever a header holds, reading it does not raise.

:data:`email.policy.default` parses a header when it is asked for, and its parsers raise now and
then for what strangers write: IndexError, ValueError, RecursionError, another one in each version
of Python. Here a header that cannot be parsed is its text, and has the attributes of its kind
without what could not be read. Headers go out as they came, since signatures hold for what came.
"""

from __future__ import annotations

import codecs
import re
from email import quoprimime
from email.contentmanager import ContentManager, raw_data_manager
from email.headerregistry import (
    BaseHeader,
    HeaderRegistry,
    UniqueUnstructuredHeader,
)
from email.policy import EmailPolicy
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, cast

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

__all__ = ["INCOMING"]

# The parsers copy the rest of a header at each of its words, so their time grows with the square
# of its length: up to some seconds for this one, and hours for a megabyte. A longer header is its
# text. An address list of this length has some 400 entries.
_LONGEST: Final = 20_000
_SHORT: Final = 500
_LINE_ENDS: Final = re.compile(r"\r\n|\r|\n")
_PARAMETERIZED: Final = frozenset({"content-type", "content-disposition"})
# Codecs that raise whatever one tells them to do about errors, or warn.
_UNFIT_CODECS: Final = frozenset({"idna", "punycode", "undefined", "unicode-escape"})


class _Headers(HeaderRegistry):
    """Makes header objects, and does not fail."""

    def __init__(self) -> None:
        super().__init__()
        # Its parser raised IndexError up to Python 3.11 for those of Outlook, and a Message-ID is
        # to be compared, not understood.
        self.map_to_type("message-id", cast("type[BaseHeader]", UniqueUnstructuredHeader))

    @override
    def __call__(self, name: str, value: Any) -> Any:
        if name.lower() == "content-type" and len(value) <= _SHORT:
            return _content_type(name, value)
        return self.read(name, value)

    def read(self, name: str, value: str) -> BaseHeader:
        """The header, whatever its parser makes of it."""
        for text in _readings(name.lower(), value):
            try:
                header: Any = super().__call__(name, text)
                if name.lower() in _PARAMETERIZED and "charset" in header.params:
                    _try_charset(header.params["charset"])
            except Exception:  # noqa: BLE001, S112 - whatever their parsers raise
                continue
            return cast("BaseHeader", header)
        return self._unparsed(name, value)

    def _unparsed(self, name: str, value: str) -> BaseHeader:
        """A header of its kind that is empty, but whose text is the value."""
        kind: Any = self[name]
        known: dict[str, Any] = {"defects": []}
        kind.parse("", known)
        del known["decoded"]
        header: BaseHeader = str.__new__(kind, _readable(value))
        header.init(name, **known)
        return header


def _readings(name: str, value: str) -> Iterator[str]:
    """The value, and what else of it may be read if that fails."""
    if len(value) <= _LONGEST:
        yield value
    if name in _PARAMETERIZED:
        short = _readable(value[:_LONGEST]).encode("ascii", "replace").decode()
        # Mostly it is RFC 2231 that fails: without its asterisks they are parameters of no meaning.
        yield short.replace("*", "_")
        yield short.partition(";")[0]
        yield ""


def _readable(value: str) -> str:
    """The text, with bytes that are not UTF-8 replaced."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _try_charset(charset: str) -> None:
    """Raise what those would raise that read or write a text in it."""
    charset.encode("ascii")  # a generator refuses it
    try:
        codec = codecs.lookup(charset)
    except LookupError:  # of an unknown one everything takes care
        return
    if codec.name in _UNFIT_CODECS:
        raise ValueError


def _in_encoded_words(value: str) -> str:
    """An unfolded header in which encoded words (RFC 2047) stand for all beyond ASCII.

    The standard library does this by parsing the header, which may fail or take its time.
    """
    words = _LINE_ENDS.sub("", value).split(" ")
    runs = [(is_ascii, " ".join(run)) for is_ascii, run in groupby(words, str.isascii)]
    return " ".join(text if is_ascii else _encoded_word(text) for is_ascii, text in runs)


def _encoded_word(text: str) -> str:
    octets = text.encode("utf-8", "surrogateescape")
    is_utf8 = "\N{REPLACEMENT CHARACTER}" not in octets.decode("utf-8", "replace")
    return quoprimime.header_encode(octets, "utf-8" if is_utf8 else "unknown-8bit")


class _Contents(ContentManager):
    """:data:`~email.contentmanager.raw_data_manager` that reads text in an unknown charset."""

    @override
    def get_content(self, msg: Message, *args: Any, **kw: Any) -> Any:
        try:
            return raw_data_manager.get_content(msg, *args, **kw)
        except (LookupError, ValueError):
            payload = msg.get_payload(decode=True)
            if msg.get_content_maintype() != "text" or not isinstance(payload, bytes):
                raise
            return payload.decode("utf-8", errors="replace")

    @override
    def set_content(self, msg: Message, obj: Any, *args: Any, **kw: Any) -> None:
        raw_data_manager.set_content(msg, obj, *args, **kw)


class _Incoming(EmailPolicy):
    """A policy of :mod:`email` for messages of strangers."""

    content_manager = _Contents()
    refold_source = "none"
    # From 3.13 on: what came goes out, even where a bare CR makes a line of it look like a header.
    verify_generated_headers = False

    @override
    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """Name and value; unlike elsewhere, with the blanks before the value."""
        name, _, value = sourcelines[0].partition(":")
        return name, "".join((value, *sourcelines[1:])).rstrip("\r\n")

    @override
    def header_fetch_parse(self, name: str, value: str) -> Any:
        if hasattr(value, "name"):
            return value
        return self.header_factory(name, _LINE_ENDS.sub("", value).lstrip(" \t"))

    @override
    def fold(self, name: str, value: str) -> str:
        if hasattr(value, "name") or value.isascii():
            return self._as_it_came(name, value)
        return self._as_it_came(name, _in_encoded_words(value))

    @override
    def fold_binary(self, name: str, value: str) -> bytes:
        if self.cte_type == "7bit":
            return self.fold(name, value).encode("ascii", "replace")
        charset = "utf-8" if self.utf8 else "ascii"
        return self._as_it_came(name, value).encode(charset, "surrogateescape")

    def _as_it_came(self, name: str, value: str) -> str:
        if hasattr(value, "name"):  # a header object, which somebody has set
            folded: str = super().fold(name, value)
            return folded
        return f"{name}:{self.linesep.join(_LINE_ENDS.split(value))}{self.linesep}"

    @override
    def __reduce_ex__(self, protocol: Any) -> Any:
        # By its name, so that messages are pickled without it, and a copy shares it.
        return "INCOMING" if self is INCOMING else super().__reduce_ex__(protocol)


_HEADERS: Final = _Headers()


@lru_cache(maxsize=64)  # the parser of messages asks five times for each part
def _content_type(name: str, value: str) -> BaseHeader:
    return _HEADERS.read(name, value)


INCOMING: Final = _Incoming(header_factory=_HEADERS)
"""The policy of every message that this library parses."""
