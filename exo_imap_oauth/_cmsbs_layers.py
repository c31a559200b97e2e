"""Where the settings come from: cmsbs.properties, conf.d, the environment and secret files."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from exo_imap_oauth._cmsbs_keys import (
    CONF_D,
    LISTENER_PREFIX,
    LISTENERS,
    PRIMARY_PREFIX,
    cleaned,
    shown,
)
from exo_imap_oauth._cmsbs_mistakes import BY_ID
from exo_imap_oauth.errors import ConfigError, ConfigProblem, PropertiesError
from exo_imap_oauth.properties import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_ENVIRONMENT = "environment"
_FILE = "$file"
_MAX_VALUE_FILE = 65_536  # bytes; a secret is shorter
_CONTINUES = re.compile(r"(?<!\\)(?:\\\\)*+\\\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_DECLARED = re.compile(
    rb"^[ \t\f]*[#!].*?Pinuts File Encoding:[ \t]*([\w.:-]+)", re.MULTILINE | re.IGNORECASE
)
# A path that a $file key names is shown; a secret that was put there by mistake is not.
_PATH = re.compile(r"(?:/|\\|\.\.?[/\\]|[A-Za-z]:[/\\]).*|(?=.{1,30}$)[\w-]+(?:[./\\][\w-]+)+")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, where it was made, and what it overrode.

    Attributes:
        key: The key or environment variable as it is written.
        value: What is written there, for a ``$file`` key the path; left out of ``repr()``.
        source: The file, or ``environment``.
        line: The line in that file, from 1; 0 in the environment.
        overrode: The earlier setting of the same key, or None.
    """

    key: str
    value: str = field(repr=False)
    source: str
    line: int
    overrode: Setting | None = None
    raw: str = field(default="", repr=False)
    following: str = field(default="", repr=False)


class Findings:
    """What is found to be wrong, and the order in which it is reported."""

    def __init__(self) -> None:
        self.sources: list[str] = []  # in the order of reading
        self.incomplete = False  # something could not be read, so nothing counts as missing
        self._errors: dict[ConfigProblem, None] = {}  # the same one for several inboxes is one
        self._warnings: dict[ConfigProblem, None] = {}

    def add(
        self, mistake_id: str, at: Setting, is_fatal: bool | None = None, /, **details: str
    ) -> ConfigProblem:
        """Note a mistake; by default its own severity decides."""
        mistake = BY_ID[mistake_id]
        message, fix = (text.format(**details) for text in (mistake.message, mistake.fix))
        problem = ConfigProblem(at.key, at.source, at.line, message, fix)
        is_fatal = mistake.severity == "error" if is_fatal is None else is_fatal
        (self._errors if is_fatal else self._warnings)[problem] = None
        return problem

    def malformed(self, error: PropertiesError) -> None:
        """Note the error of the grammar."""
        self._errors |= dict.fromkeys(error.problems)
        self.incomplete = True

    def unreadable(self, mistake_id: str, at: Setting, error: Exception, **details: str) -> None:
        """Note that a file could not be read."""
        reason = getattr(error, "strerror", None) or "it is no text"
        self.add(mistake_id, at, reason=reason, **details)
        self.incomplete = True

    @property
    def warnings(self) -> tuple[ConfigProblem, ...]:
        """All warnings, in the order of files and lines."""
        return self._sorted(self._warnings)

    def error(self, path: str) -> ConfigError | None:
        """One error for all that was found, or None."""
        if not self._errors:
            return None
        message = f"{path} cannot be used; mistakes found: {len(self._errors)}"
        return ConfigError(message, problems=self._sorted(self._errors), warnings=self.warnings)

    def _sorted(self, problems: Iterable[ConfigProblem]) -> tuple[ConfigProblem, ...]:
        order = {source: number for number, source in enumerate(self.sources)}
        return tuple(sorted(problems, key=lambda p: (order.get(p.source, -1), p.line)))


class Layers:
    """All settings under our prefixes, the last one of each key on top."""

    def __init__(self, path: Path, environ: Mapping[str, str], findings: Findings) -> None:
        self._findings = findings
        self.settings: dict[str, Setting] = {}
        environment = self._environment(environ)
        if not path.is_dir():
            self.folder = path.parent
            self._merge(self._file(path))
        else:
            self.folder = path
            self._merge(self._file(path / "cmsbs.properties"))
            at = dict(environment).get(CONF_D) or self.settings.get(CONF_D)
            for file in self._conf_d(at):
                self._merge(self._file(file))
        findings.sources.append(_ENVIRONMENT)
        self._merge(environment)

    def value(self, setting: Setting) -> str | None:
        """The value, quotes removed, read from its file for ``$file``; None if unreadable."""
        value = unquoted(setting.value)
        if not setting.key.endswith(_FILE):
            return value
        try:
            with (self.folder / value).open("rb") as file:
                text = file.read(_MAX_VALUE_FILE).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            path = f" {value}" if _PATH.fullmatch(value) else ""
            folder = str(self.folder)
            self._findings.unreadable("value-file", setting, error, path=path, folder=folder)
            return None
        return re.sub(r"(?:\r\n|\r|\n)\Z", "", text)

    def _merge(self, layer: list[tuple[str, Setting]]) -> None:
        names = {name for name, _ in layer}
        for name, setting in layer:
            key = name.removesuffix(_FILE)
            if key != name and key in names:
                self._findings.add("value-and-file", setting)
            self.settings[key] = replace(setting, overrode=self.settings.get(key))

    def _environment(self, environ: Mapping[str, str]) -> list[tuple[str, Setting]]:
        found: dict[str, Setting] = {}
        for variable in sorted(environ, key=lambda name: ("__" not in name, name)):
            name = variable.replace("__", ".")
            if _is_ours(name):
                setting = Setting(shown(variable), environ[variable], _ENVIRONMENT, 0)
                if name in found:
                    self._findings.add("two-variables", setting)
                found[name] = setting
        return list(found.items())

    def _conf_d(self, at: Setting | None) -> list[Path]:
        folder = self.folder / ((at and self.value(at)) or "conf.d")
        try:
            names = sorted((entry.name for entry in folder.iterdir()), key=os.fsencode)
        except (OSError, ValueError) as error:
            if at is not None or not isinstance(error, FileNotFoundError):
                at = at or Setting(CONF_D, "", str(folder), 0)
                self._findings.unreadable("conf-d", at, error, path=str(folder))
            return []
        return [
            folder / name
            for name in names
            if name.endswith(".properties") and not name.startswith(".")
        ]

    def _file(self, path: Path) -> list[tuple[str, Setting]]:
        source = str(path)
        here = Setting("", "", source, 0)
        self._findings.sources.append(source)
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            self._findings.unreadable("unreadable", here, error)
            return []
        bom = next((name for mark, name in _BOMS.items() if data.startswith(mark)), None)
        declared = _DECLARED.search(data)
        encoding = bom or (declared[1].decode("ascii", "replace") if declared else "latin-1")
        try:
            text = data.decode(encoding)
        except (LookupError, UnicodeError):
            self._findings.add("encoding", here, encoding=encoding)
            text = data.removeprefix(codecs.BOM_UTF8).decode("latin-1")
        errors: list[PropertiesError] = []
        entries = parse(text, source=source, errors=errors)
        for malformed in errors:
            self._findings.malformed(malformed)
        lines = [*_LINE_END.split(text), ""]
        layer: list[tuple[str, Setting]] = []
        for key, value, _, line in entries:
            if _is_ours(key):
                end = line
                while _CONTINUES.search(lines[end - 1]) and end < len(lines) - 1:
                    end += 1
                raw = "\n".join(lines[line - 1 : end])
                at = Setting(shown(key), value, source, line, raw=raw, following=lines[end])
                layer.append((key, at))
        return layer


def unquoted(value: str) -> str:
    """The value without the one pair of double quotes that encloses the whole of it."""
    inner = value.strip(" \t\f")
    return inner[1:-1] if len(inner) > 1 and inner[0] == inner[-1] == '"' else value


def _is_ours(key: str) -> bool:
    name = cleaned(key).removesuffix(_FILE)
    return name.startswith((PRIMARY_PREFIX, LISTENER_PREFIX)) or name in (LISTENERS, CONF_D)
