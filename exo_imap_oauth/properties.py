"""The grammar of ``java.util.Properties.load(Reader)`` (Java SE 17), with line numbers; no I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

from typing_extensions import override

from exo_imap_oauth.errors import ConfigProblem, PropertiesError


class Property(NamedTuple):
    """One entry of a file. Its ``repr()`` leaves the value out, which may be a secret.

    Attributes:
        key: The key.
        value: The value; quotes and trailing blanks are part of it.
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
_KEY_AND_VALUE = re.compile(r"\A((?:[^\\=: \t\f]|\\.)*+)[ \t\f]*+[=:]?+[ \t\f]*+(.*+)", re.DOTALL)
_ESCAPE = re.compile(  # a surrogate pair is one character to Python
    r"\\(?:u([Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}|[0-9A-Fa-f]{4})|(.))",
    re.DOTALL,
)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse(
    data: bytes | str, *, source: str = "<string>", errors: list[PropertiesError] | None = None
) -> list[Property]:
    r"""Read a ``.properties`` file as Java does, duplicates included, in their order.

    >>> [(entry.key, entry.value) for entry in parse("a = 1\nb : x\\\n    y")]
    [('a', '1'), ('b', 'xy')]

    Args:
        data: The file; bytes are Latin-1.
        source: Its name, for :attr:`Property.source` and errors.
        errors: Takes the errors of malformed entries, in place of raising the first one.

    Raises:
        PropertiesError: An escape ``\u`` is not followed by four hexadecimal digits.
    """
    found: list[PropertiesError] = []
    entries = _read(data if isinstance(data, str) else data.decode("latin-1"), source, found)
    if errors is not None:
        errors += found
    elif found:
        del data, entries  # they may hold secrets, and tracebacks hold frames
        raise found[0]
    return entries


def _read(text: str, source: str, errors: list[PropertiesError]) -> list[Property]:
    if "\r" in text:
        # To Java a backslash before the last CR LF continues into nothing, which is no entry;
        # before a last LF it is an entry without key and value.
        end = "\n" if text.endswith("\r\n") else ""
        text = text.replace("\r\n", "\n").replace("\r", "\n") + end
    text += "" if text.endswith("\n") else "\n"
    entries: list[Property] = []
    line, counted = 1, 0
    for match in _ENTRY.finditer(text):
        if match.lastindex is None:  # the end
            continue
        key, value, escaped = match.groups()
        start = match.start(1 if escaped is None else 3)
        line += text.count("\n", counted, start)
        counted = start
        if escaped is not None:
            [(key, value)] = _KEY_AND_VALUE.findall(_CONTINUATION.sub("", escaped))
            try:
                key = _ESCAPE.sub(_unescape, key) if "\\" in key else key
                value = _ESCAPE.sub(_unescape, value) if "\\" in value else value
            except ValueError:
                errors.append(_malformed(source, line))
                continue
        entries.append(Property(key, value, source, line))
    return entries


def _unescape(match: re.Match[str]) -> str:
    code_units, char = match.groups()
    if code_units:
        return bytes.fromhex(code_units.replace("\\u", "")).decode("utf-16-be", "surrogatepass")
    if char == "u":
        raise ValueError
    return _CONTROL.get(char, char)


def _malformed(source: str, line: int) -> PropertiesError:
    message = r"A \u that four hexadecimal digits do not follow is malformed to Java."
    problem = ConfigProblem("", source, line, message, r"Double the backslash: C:\\users.")
    return PropertiesError("malformed properties:", problems=[problem], source=source, line=line)
