"""The grammar of ``java.util.Properties.load(Reader)`` (Java SE 17), with line numbers; no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from typing_extensions import override

from exo_imap_oauth._arguments import Instead, require
from exo_imap_oauth._text import HiddenText
from exo_imap_oauth.errors import ConfigProblem, PropertiesError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Property", "parse"]


class Property(NamedTuple):
    """One entry of a file. Its ``repr()`` leaves the value out, which may be a secret.

    The value's own ``repr()`` is ``(hidden)`` if it or the key contains "secret" or "password":
    where two lines became one, the secret is in the value of another key.

    Attributes:
        key: The key.
        value: The value; quotes and trailing spaces are part of it.
        source: The file, as given to :func:`parse`.
        line: The line in which the entry begins, from 1.
    """

    key: str
    value: str
    source: str
    line: int

    @override
    def __repr__(self) -> str:
        return f"Property(key={self.key!r}, value=..., source={self.source!r}, line={self.line})"

    # pytest takes a named tuple apart, and shows its items, unless it has an __eq__ of its own.
    @override
    def __eq__(self, other: object) -> bool:
        return tuple(self) == other

    @override
    def __hash__(self) -> int:
        return hash(tuple(self))


def hidden_if_secret(key: str, value: str) -> str:
    """The value, as one whose ``repr()`` hides it where it or its key speaks of a secret."""
    return HiddenText(value) if _speaks_of_secret(f"{key}\n{value}") else value


def _speaks_of_secret(text: str) -> bool:
    text = text.casefold()
    return "secret" in text or "password" in text


# What lies between entries, then the end, or an entry without a backslash (key and value) or
# with one. It matches wherever a search begins; possessive quantifiers keep it linear.
_ENTRY = re.compile(
    r"""(?: [ \t\f\n]++ | [#!][^\n]*+ | \\\n(?!\Z) )*+
        (?: \Z
          | ([^\\=:\ \t\f\n]*+) [ \t\f]*+ [=:]?+ [ \t\f]*+ ([^\\\n]*+) (?=\n)
          | ([^\\\n]*+ (?:\\.[^\\\n]*+)++)
        )""",
    re.VERBOSE | re.DOTALL,
)
_CONTINUATION = re.compile(r"\\\n[ \t\f]*+")
_KEY_AND_VALUE = re.compile(r"\A((?:[^\\=: \t\f]++|\\.)*+)[ \t\f]*+[=:]?+[ \t\f]*+(.*+)", re.DOTALL)
_ESCAPE = re.compile(  # a surrogate pair is one character to Python
    r"\\(?:u([Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}|[0-9A-Fa-f]{4})|(.))",
    re.DOTALL,
)
_CONTENTS = {"pathlib": Instead("pass path.read_bytes()")}
_CODE_UNIT = 4  # hexadecimal digits
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse(data: bytes | str, *, source: str = "<string>") -> list[Property]:
    r"""Read a ``.properties`` file as Java does, duplicates included, in their order.

    >>> [(entry.key, entry.value) for entry in parse("a = 1\nb : x\\\n    y")]
    [('a', '1'), ('b', 'xy')]

    Args:
        data: The file; bytes are Latin-1.
        source: Its name, for :attr:`Property.source` and errors.

    Raises:
        PropertiesError: An escape ``\u`` is not followed by four hexadecimal digits.
    """
    expected = "the text or the bytes of a file"
    page = "reference/api/properties"
    require("data", data, (str, bytes, bytearray), expected, page=page, instead=_CONTENTS)
    errors: list[PropertiesError] = []
    text = data if isinstance(data, str) else data.decode("latin-1")
    plain = _with_plain_line_ends(text)
    entries = [entry for entry, _, _ in _entries(plain, source, errors)]
    if errors:
        del data, text, plain, entries  # they may hold secrets, and tracebacks hold frames
        raise errors[0]
    return entries


def read_entries(
    text: str, *, source: str, errors: list[PropertiesError]
) -> Iterator[tuple[Property, str, str]]:
    """The entries of a file, each with its lines as they stand there and the line below.

    Args:
        text: The file.
        source: Its name, for :attr:`Property.source` and errors.
        errors: Takes the errors of malformed entries, which are left out, as they are reached.
    """
    text = _with_plain_line_ends(text)
    for entry, start, end in _entries(text, source, errors):
        yield entry, text[start:end], text[end + 1 : text.find("\n", end + 1)]


def _entries(
    text: str, source: str, errors: list[PropertiesError]
) -> Iterator[tuple[Property, int, int]]:
    """The entries of a text with plain line ends, each with where its lines begin and end."""
    speaks_of_secret = _speaks_of_secret(text)  # once: of most entries no word is looked at again
    line, counted = 1, 0
    for match in _ENTRY.finditer(text):
        if match.lastindex is None:  # the end
            continue
        key, value, escaped = match.groups()
        start, end = match.start(1 if escaped is None else 3), match.end()
        line += text.count("\n", counted, start)
        counted = start
        if escaped is not None:
            try:
                key, value = _unescaped(escaped)
            except ValueError:
                errors.append(_malformed(source, line))
                continue
        if speaks_of_secret or escaped is not None:
            value = hidden_if_secret(key, value)
        yield Property(key, value, source, line), start, end


def _with_plain_line_ends(text: str) -> str:
    """The text with LF for every line end, one at its end included."""
    if "\r" in text:
        # To Java a backslash before the last CR LF continues into nothing, which is no entry;
        # before a last LF it is an entry without key and value.
        end = "\n" if text.endswith("\r\n") else ""
        text = text.replace("\r\n", "\n").replace("\r", "\n") + end
    return text if text.endswith("\n") else text + "\n"


def _unescaped(entry: str) -> tuple[str, str]:
    if "\\\n" in entry:
        entry = _CONTINUATION.sub("", entry)
    [(key, value)] = _KEY_AND_VALUE.findall(entry)
    if "\\" in key:
        key = _ESCAPE.sub(_unescape, key)
    if "\\" in value:
        value = _ESCAPE.sub(_unescape, value)
    return key, value


def _unescape(match: re.Match[str]) -> str:
    code_units, char = match.groups()
    if code_units:
        first, last = int(code_units[:4], 16), int(code_units[-4:], 16)
        is_pair = len(code_units) > _CODE_UNIT
        return chr(0x10000 + (first - 0xD800 << 10) + last - 0xDC00 if is_pair else first)
    if char == "u":
        raise ValueError
    return _CONTROL.get(char, char)


def _malformed(source: str, line: int) -> PropertiesError:
    message = r"A \u that is not followed by four hexadecimal digits is malformed to Java."
    problem = ConfigProblem("", source, line, message, r"Double the backslash: C:\\users.")
    return PropertiesError("malformed properties:", problems=[problem], source=source, line=line)
