"""Texts and numbers from outside: checked, cleaned, made fit to be quoted."""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from traceback import format_exception
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unicodedata import category

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_QUOTE = 400
_MAX_READ = 10 * _MAX_QUOTE  # a server may send a line of a megabyte
_ECHO = 16  # characters of a secret in a row that are hidden
_SHORTEST_BASE64 = 8  # characters; fewer may stand in other words
_HIDDEN = "(hidden)"
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# A JWT, or base64 as tokens are made of: long, and capitals, small letters and digits in one run.
# Thumbprints, host names and paths are shorter or lack one of the three.
_TOKEN_LIKE = re.compile(
    r"(?:\beyJ[A-Za-z0-9_\-]{5,}|[A-Za-z0-9+/_~\-]{32,}={0,2})(?:\.[A-Za-z0-9+/_~\-]+={0,2})*"
)
# Compiled on use, since this module is loaded with every token source.
_ESCAPE = r"""(?x)
    %(?P<url>[0-9a-fA-F]{2})            # %7E
  | \\x(?P<octet>[0-9a-fA-F]{2})        # \x7e, as repr() writes bytes
  | \\u(?P<json>[0-9a-fA-F]{4})         # \u007e
  | \\(?P<quoted>["'\\/])               # \"
  | \\(?P<blank>[nrt])                  # \n
  | (?P<html>&\#?[0-9a-zA-Z]{1,8};)     # &amp; &#126; &#x7e;
"""


class HiddenText(str):
    """A secret or a token, or a text that may hold one: ``repr()`` does not show it.

    It is a string in every other respect, so whoever prints it on purpose still can. Debuggers,
    ``pprint``, ``rich`` and pytest show a value by its ``repr()``.
    """

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return _HIDDEN


def one_line(text: str) -> str:
    r"""One line of printable text, cut to what a log line bears.

    Line ends and blanks become one blank; control, bidirectional, zero-width and other invisible
    characters become escapes such as ``\x1b``.
    """
    line = printable(text[:_MAX_READ])
    return line if len(line) <= _MAX_QUOTE else line[:_MAX_QUOTE] + "…"


def printable(text: str) -> str:
    """The same without the cut, for a text that was put together of such lines."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else _escaped(c) for c in line)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", errors="backslashreplace").decode("ascii")


def quotable(text: str, secrets: Iterable[str] = ()) -> str:
    """What may be shown of a text from outside: one line without secrets or what looks like one.

    Every text of a server, a proxy, a library underneath or a caller's function goes through
    this on its way into an error, a log record or a report.

    Args:
        text: The text; only its first 4,000 characters are read.
        secrets: What it must not show, in any encoding that :func:`hide` knows.
    """
    return one_line(_TOKEN_LIKE.sub(_blank, hide(text, secrets)))


def described(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """The class of an error and, as far as it is :func:`quotable`, its text."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a class of somebody else's
        text = ""
    return quotable(f"{type(error).__name__}: {text}", secrets)


def is_free_of(error: BaseException, secrets: Iterable[str]) -> bool:
    """Whether a traceback of an error, with its notes and the errors behind it, shows no secret."""
    secrets = {*secrets}
    try:
        lines = {repr(error), *"".join(format_exception(error)).splitlines()}
    except Exception:  # noqa: BLE001 - a class of somebody else's
        return False
    # hide() cuts a longer line, of which nobody would know what else it holds.
    return all(hide(line, secrets) == line for line in lines)


def _blank(run: re.Match[str]) -> str:
    return _HIDDEN if mixes_kinds(run[0]) and not is_guid(run[0]) else run[0]


def mixes_kinds(word: str) -> bool:
    """Whether there are capitals, small letters and digits in it."""
    return all(re.search(kind, word) for kind in ("[A-Z]", "[a-z]", "[0-9]"))


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text, cut to what may be quoted, with ``(hidden)`` for what it holds of a secret.

    A secret is found as it is, in the escapes of URLs, HTML and JSON, and in base64. Where only
    a part is echoed, that part is hidden too, from 16 characters on.
    """
    text = text[:_MAX_READ].replace("\0", "")  # as between the characters of UTF-16
    forms = {_visible(form) for secret in secrets for form in _forms_of(secret)} - {""}
    is_plain = text.isprintable() and not re.search(_ESCAPE, text)
    if is_plain and not any(_may_share(text, form) for form in forms):
        return text  # as most do; a closer look takes milliseconds
    marked = list(text)
    for reading in _readings(text):
        for start, end in _found(forms, reading):
            marked[start:end] = "\0" * (end - start)
    return re.sub("\0+", _HIDDEN, "".join(marked))


def _visible(text: str) -> str:
    return "".join(filter(str.isprintable, text))


def _may_share(text: str, form: str) -> bool:
    """Whether it is worth a closer look: any shared run that counts holds one of these pieces."""
    length = min(_ECHO, len(form))
    half = max(1, length // 2)
    step = length - half + 1
    return any(text[at : at + half] in form for at in range(0, len(text) - half + 1, step))


def _found(forms: Iterable[str], reading: list[_Character]) -> Iterator[tuple[int, int]]:
    """Where in the text a reading of it holds a part of one of the forms."""
    plain = _plain(reading)
    for form in forms:
        if _may_share(plain, form):
            length = min(_ECHO, len(form))
            for at in range(len(plain) - length + 1):
                if plain[at : at + length] in form:
                    yield reading[at].start, reading[at + length - 1].end


class _Character(NamedTuple):
    value: str
    start: int  # of it, or of its escape, in the text
    end: int


def _plain(reading: list[_Character]) -> str:
    return "".join(character.value for character in reading)


def _readings(text: str) -> Iterator[list[_Character]]:
    """A text as it is, unescaped, and unescaped twice, such as JSON within a ``repr()``.

    What is invisible is left out of each: a person, too, reads on across it.
    """
    reading = [_Character(c, at, at + 1) for at, c in enumerate(text) if c.isprintable()]
    yield reading
    for _ in range(2):
        if not re.search(_ESCAPE, _plain(reading)):
            return
        reading = list(_unescaped(reading))
        yield reading


def _unescaped(reading: list[_Character]) -> Iterator[_Character]:
    """The characters as a reader of URLs, JSON or HTML sees them."""
    at, plain, pattern = 0, _plain(reading), re.compile(_ESCAPE)
    while at < len(plain):
        escape = pattern.match(plain, at)
        if escape is None:
            _, start, end = reading[at]
            yield _Character(" " if plain[at] == "+" else plain[at], start, end)
            at += 1
            continue
        start, end = reading[at].start, reading[escape.end() - 1].end
        for character in _visible(_meaning(escape)):
            yield _Character(character, start, end)
        at = escape.end()


def _meaning(escape: re.Match[str]) -> str:
    if digits := escape["url"] or escape["octet"] or escape["json"]:
        return chr(int(digits, 16))
    if escape["blank"]:
        return ""
    return escape["quoted"] or html.unescape(escape[0])


def _forms_of(secret: str) -> Iterator[str]:
    """A secret as it is, in UTF-8 bytes, and in the base64 of a text that it is a part of."""
    octets = secret.encode("utf-8", errors="surrogatepass")
    yield secret
    yield octets.decode("latin-1")
    yield secret.replace("+", " ")
    for before in range(3):  # base64 depends on what precedes: nothing, or one or two bytes
        encoded = base64.b64encode(b"\0" * before + octets)
        # The first and the last character hold bits of the neighbours.
        certain = encoded[4 if before else 0 : -4].decode()
        if len(certain) >= _SHORTEST_BASE64:
            yield certain
            yield certain.replace("+", "-").replace("/", "_")


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """The JSON object in ``data``, or None if it is something else or not JSON at all."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def holds_control(text: str) -> bool:
    """Whether a text holds control characters, line separators or lone surrogates."""
    return any(category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def is_guid(value: str) -> bool:
    """Whether a value has the form of an ID: 32 hexadecimal digits in five groups."""
    return _GUID.fullmatch(value) is not None


def span(seconds: float) -> str:
    """A length of time for people: seconds up to two minutes, then minutes."""
    seconds = abs(seconds)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - s, min


def check_seconds(name: str, value: float, *, may_be_zero: bool = False) -> None:
    """Check an argument that is a number of seconds.

    Raises:
        TypeError: It is not a number.
        ValueError: It is not positive, or longer than a thread can wait.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a number of seconds, such as 30.0, not {kind}")
    if may_be_zero and value == 0:
        return
    if not 0 < value <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")
