"""Texts and numbers from outside: checked, cleaned, made fit to be quoted."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any, cast
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_QUOTE = 400
_MAX_READ = 10 * _MAX_QUOTE  # a server may send a line of a megabyte
_ECHO = 16  # characters of a secret in a row that are hidden
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def one_line(text: str) -> str:
    """One line of printable text, cut to what a log line bears."""
    printable = "".join(c if c.isprintable() else " " for c in text[:_MAX_READ])
    line = " ".join(printable.split())
    return line if len(line) <= _MAX_QUOTE else line[:_MAX_QUOTE] + "…"


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text, cut to what may be quoted, with ``(hidden)`` for what it holds of a secret.

    Where a server echoes only a part, that part is hidden too, from 16 characters on.
    """
    text = text[:_MAX_READ]
    marked = list(text)
    for secret in filter(None, secrets):
        run = min(_ECHO, len(secret))
        for start in range(len(text) - run + 1):
            if text[start : start + run] in secret:
                marked[start : start + run] = "\0" * run
    return re.sub("\0+", "(hidden)", "".join(marked))


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
        ValueError: It is not positive, or longer than a thread can wait.
    """
    if may_be_zero and value == 0:
        return
    if not 0 < value <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")
