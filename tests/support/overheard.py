"""All that a block of code lets out: log records, warnings, what it prints, its error."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import logging
import re
import traceback
import warnings
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, quote_plus, unquote_plus

from support.leaks import everything_in

if TYPE_CHECKING:
    from collections.abc import Callable

ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "URL": quote,
    "form": quote_plus,
    "every byte of a URL": lambda s: "".join(f"%{octet:02x}" for octet in s.encode()),
    "HTML": html.escape,
    "HTML by number": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "JSON": lambda s: json.dumps(s)[1:-1],
    "every character of JSON": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "every byte of a repr": lambda s: "".join(f"\\x{octet:02x}" for octet in s.encode()),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 amid others": lambda s: base64.urlsafe_b64encode(f"u:{s}!".encode()).decode(),
}


class Overheard(logging.Handler):
    """Listens to every channel while it is entered; an error is passed to :meth:`error`.

    Attributes:
        text: What was heard so far.
    """

    def __init__(self) -> None:
        super().__init__(level=1)
        self._exits = contextlib.ExitStack()
        self._printed = io.StringIO()
        self._lines: list[str] = []
        self._warned: list[warnings.WarningMessage] = []

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._exits.callback(root.setLevel, root.level)
        self._exits.callback(root.removeHandler, self)
        root.addHandler(self)
        root.setLevel(1)
        self._exits.enter_context(contextlib.redirect_stdout(self._printed))
        self._exits.enter_context(contextlib.redirect_stderr(self._printed))
        self._warned = self._exits.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(logging.Formatter("%(levelname)s %(name)s %(message)s").format(record))

    def error(self, error: BaseException) -> None:
        """Add what an error holds, and what a traceback with all locals shows of it."""
        self._lines.append(everything_in(error))
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        # The tests' own frames come first; they hold the secrets that are looked for.
        for frame in list(report.stack):
            if "/tests/" in frame.filename:
                report.stack.remove(frame)
        self._lines.append("".join(report.format()))

    @property
    def warnings(self) -> list[str]:
        """The warnings of Python and the log records from WARNING on."""
        logged = [line for line in self._lines if re.match("WARNING|ERROR|CRITICAL", line)]
        return [str(warning.message) for warning in self._warned] + logged

    @property
    def text(self) -> str:
        """Everything."""
        warned = [str(warning.message) for warning in self._warned]
        return "\n".join([*self._lines, *warned, self._printed.getvalue()])


def shows(text: str, secret: str) -> bool:
    """Whether a text holds a secret, or 16 characters of it in a row, in any encoding or case.

    It decodes the text, where the library encodes the secret: one does not prove the other.
    """
    secret = secret.lower()
    parts = [secret[at : at + 16] for at in range(max(1, len(secret) - 15))]
    return any(part in reading for reading in map(str.lower, _readings(text)) for part in parts)


def _readings(text: str) -> list[str]:
    readings = [text, unquote_plus(text), html.unescape(text), text.replace("(hidden)", "")]
    readings.append(re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text))
    readings.append(re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text))
    readings += [re.sub(r"\\(.)", r"\1", reading) for reading in list(readings)]
    readings += [reading.replace("\0", "") for reading in list(readings)]
    for run in re.findall(r"[A-Za-z0-9+/_\-]{20,}", text):
        standard = run.replace("-", "+").replace("_", "/")
        for start in range(4):
            whole = standard[start : start + (len(run) - start) // 4 * 4]
            readings.append(base64.b64decode(whole).decode("latin-1"))
    return readings
