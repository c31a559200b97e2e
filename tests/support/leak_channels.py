"""The channels through which a program might show a secret, and what one path gives to each."""

from __future__ import annotations

import contextlib
import copy
import http.client
import imaplib
import io
import json
import logging
import pickle
import pprint
import sys
import threading
import traceback
import warnings
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from _pytest._io.saferepr import saferepr
from typing_extensions import override

from support.leaks import CALLED_SECRET, chain_of, frames_of, leaks_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Several(list[object]):
    """What a path has to show, if it is more than one thing."""


Channel = tuple[str, str]  # its name, and the text that goes through it

# What must hold a secret to be of use, and the channels in which it is therefore to be seen.
# Nothing else is excused. The same list stands in .github/SECURITY.md.
MUST_HOLD: dict[tuple[str, str], str] = {
    ("AccessToken", "attributes"): "AccessToken.token",
    ("AccessToken", "dataclasses.asdict"): "dataclasses.asdict(access_token)",
    ("AccessToken", "pickle"): "a pickle of an AccessToken",
    ("InboxConfig", "attributes"): "InboxConfig.client_secret",
    ("InboxConfig", "dataclasses.asdict"): "dataclasses.asdict(inbox)",
    ("InboxConfig", "pickle"): "a pickle of an InboxConfig",
    ("Property", "attributes"): "Property.value",
    ("Property", "pickle"): "a pickle of a Property",
    ("Property", "items"): "the items of a Property, which is a tuple",
    ("Setting", "attributes"): "Setting.value",
    ("Setting", "dataclasses.asdict"): "dataclasses.asdict(setting)",
    ("Setting", "pickle"): "a pickle of a Setting",
}


# ---- an error --------------------------------------------------------------------------------


def channels_of_error(
    error: BaseException, compare: Callable[[Any, Any], str]
) -> Iterator[Channel]:
    """What can be shown of an error, of those behind it, and of what they carry."""
    yield "printed traceback", "".join(traceback.format_exception(error))
    yield "printed traceback of a group", _text_of_group(error)
    for current in chain_of(error):
        if _is_ours(current):
            yield "traceback in a notebook", "".join(cast("Any", current)._render_traceback_())
        yield "str", str(current)
        yield "repr", repr(current)
        yield "ascii", ascii(current)
        yield "format", f"{current}"
        yield "args", repr(current.args)
        yield "attributes", repr(vars(current))
        yield "attributes as JSON", json.dumps(vars(current), default=str)
        yield "notes", repr(getattr(current, "__notes__", []))
        yield "copy", repr(vars(copy.copy(current))) if _is_ours(current) else ""
        yield "pprint", pprint.pformat([current, vars(current)])
        yield "rich", _by_rich([current, vars(current)])
        yield "pytest: locals", saferepr(current, maxsize=None)
        yield "printed traceback with locals", _text_with_locals(current)
        for frame in frames_of(current):
            yield "locals of frames", repr(frame.f_locals)
        if _is_ours(current):
            yield "pickle", pickle.dumps(current).decode("latin-1")
        for value in vars(current).values():
            yield from _of_part(value)
    yield "pytest: assertion diff", compare(vars(error), {})


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("exo_imap_oauth")


def _text_of_group(error: BaseException) -> str:
    return "".join(traceback.format_exception(BaseExceptionGroup("group", [error])))


def _text_with_locals(error: BaseException) -> str:
    frames = ((frame, frame.f_lineno) for frame in frames_of(error))
    return "".join(traceback.StackSummary.extract(frames, capture_locals=True).format())


def _of_part(value: object) -> Iterator[Channel]:
    """Advice, a problem of a configuration, a challenge."""
    parts = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    for part in parts:
        yield "attributes, each", f"{part}\n{part!r}"
        if is_dataclass(part) and not isinstance(part, type):
            yield "attributes, each", repr(asdict(part))


# ---- a value ---------------------------------------------------------------------------------


def channels_of_value(value: Any, compare: Callable[[Any, Any], str]) -> Iterator[Channel]:
    """What can be shown of a result."""
    yield "str", str(value)
    yield "repr", repr(value)
    yield "ascii", ascii(value)
    yield "format", f"{value}"
    yield "percent", "%s %r" % (value, value)  # noqa: UP031 - as loggers do it
    yield "pprint", pprint.pformat([value])
    yield "rich", _by_rich([value])
    yield "pytest: locals", saferepr(value, maxsize=None)
    yield "pytest: assertion diff", compare(value, _other(value))
    yield "pytest: assertion diff", compare([value], [_other(value)])
    yield "JSON", json.dumps([value], default=str) if not _is_tuple(value) else ""
    if hasattr(value, "_repr_html_"):
        yield "HTML", value._repr_html_()
    if hasattr(value, "as_dict"):
        yield "JSON", json.dumps(value.as_dict())
    with contextlib.suppress(TypeError):  # it is no dataclass, or holds what refuses to be copied
        yield "dataclasses.asdict", json.dumps(asdict(value), default=str)
    yield "attributes", _attributes(value)
    if _is_tuple(value):
        yield "items", "\n".join(map(str, value))
    with contextlib.suppress(Exception):  # what holds a lock or a secret is not pickled
        yield "pickle", pickle.dumps(value).decode("latin-1")
    with contextlib.suppress(Exception):
        yield "copy", repr(copy.deepcopy(value))


def _by_rich(value: object) -> str:
    """As rich shows it, where some tool has brought rich."""
    try:
        from rich.pretty import pretty_repr
    except ImportError:
        return ""
    return pretty_repr(value)


def _is_tuple(value: object) -> bool:
    return isinstance(value, tuple)


def _attributes(value: object) -> str:
    """The public ones, each as its ``str()``; methods are not called."""
    names = [name for name in dir(value) if not name.startswith("_")]
    found = [getattr(value, name, None) for name in names]
    return "\n".join(str(part) for part in found if not callable(part))


def _other(value: Any) -> Any:
    """Something of the same type with another secret, so that a diff goes into that field."""
    if _is_tuple(value) and hasattr(value, "_replace"):
        return value._replace(**dict.fromkeys(_fields_with_secrets(value), CALLED_SECRET))
    try:
        twin = copy.copy(value)
    except Exception:  # noqa: BLE001 - what is not copied is compared with nothing
        return None
    for name in _fields_with_secrets(value):
        object.__setattr__(twin, name, CALLED_SECRET)
    return twin


def _fields_with_secrets(value: Any) -> list[str]:
    fields = getattr(value, "_fields", getattr(value, "__dataclass_fields__", ()))
    return [name for name in fields if leaks_in(repr(getattr(value, name)))]


# ---- what happens on the way -----------------------------------------------------------------


class Recorder(logging.Handler):
    """Takes note of all that is said while a path is gone, for a ``with``.

    Everything that can speak is made to: all loggers at level 1, all warnings, the debug output
    of http.client and, unless the server echoes, that of imaplib, which shows what a server sends.
    """

    def __init__(self, *, imaplib_speaks: bool) -> None:
        super().__init__(1)
        self._imaplib_speaks = imaplib_speaks
        self._records: list[logging.LogRecord] = []
        self._hooked: list[str] = []
        self._stdout, self._stderr = io.StringIO(), io.StringIO()
        self._warnings: list[warnings.WarningMessage] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begin to listen."""
        stack = self._stack
        stack.enter_context(contextlib.redirect_stdout(self._stdout))
        stack.enter_context(contextlib.redirect_stderr(self._stderr))
        self._warnings = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        self._set(http.client.HTTPConnection, "debuglevel", 1)
        self._set(imaplib, "Debug", 5 if self._imaplib_speaks else 0)
        self._set(threading, "excepthook", self._hook)
        self._set(sys, "unraisablehook", self._hook)
        self._set(logging, "raiseExceptions", True)
        root = logging.getLogger()
        self._set(root, "handlers", [self])  # not pytest's, which would write it down again
        loggers = [root, *map(logging.getLogger, ("exo_imap_oauth", "urllib3", "requests"))]
        for logger in loggers:
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(1)
        return self

    def __exit__(self, *_: object) -> None:
        """Let everything be as before."""
        self._stack.close()

    def _set(self, owner: Any, name: str, value: object) -> None:
        self._stack.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def _hook(self, failure: Any) -> None:
        self._hooked.append(repr(failure))
        if failure.exc_value is not None:
            self._hooked.append("".join(traceback.format_exception(failure.exc_value)))

    def channels(self) -> Iterator[Channel]:
        """What was said."""
        plain = logging.Formatter("%(name)s %(message)s")
        for record in [*self._records]:
            yield "log messages", record.getMessage()
            yield "log arguments", repr(record.args)
            yield "log records", repr(vars(record))
            yield "log with tracebacks", plain.format(record)
        for warning in self._warnings:
            yield "warnings", f"{warning.message} {warning.message!r} {warning}"
        yield "stdout, debug output of http.client", self._stdout.getvalue()
        yield "stderr, debug output of imaplib", self._stderr.getvalue()
        yield "hooks of threads and of what cannot be raised", "\n".join(self._hooked)


def channels_of_client(imap: imaplib.IMAP4) -> Iterator[Channel]:
    """What imaplib keeps of what was sent."""
    yield "imaplib: _cmd_log", repr(getattr(imap, "_cmd_log", ""))
    yield "imaplib: the client", repr(imap)
    yield "imaplib: vars", repr(vars(imap))


CHANNELS = (
    "str", "repr", "ascii", "format", "percent", "pprint", "rich", "copy", "pickle",
    "JSON", "HTML", "dataclasses.asdict", "items", "args", "attributes", "attributes, each",
    "attributes as JSON", "notes", "printed traceback", "printed traceback with locals",
    "printed traceback of a group", "traceback in a notebook", "locals of frames", "pytest: locals",
    "pytest: assertion diff", "pytest: a failing test", "log messages", "log arguments",
    "log records", "log with tracebacks", "warnings", "stdout, debug output of http.client",
    "stderr, debug output of imaplib", "hooks of threads and of what cannot be raised",
    "imaplib: _cmd_log", "imaplib: the client", "imaplib: vars",
)  # fmt: skip
