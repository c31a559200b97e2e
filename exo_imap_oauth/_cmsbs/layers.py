"""Where the settings come from: cmsbs.properties, conf.d, the environment and secret files."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from exo_imap_oauth import _files as files
from exo_imap_oauth._cmsbs import keys
from exo_imap_oauth._cmsbs.findings import Findings, Setting
from exo_imap_oauth._credentials.secret_file import SecretFile
from exo_imap_oauth._inbox_rules import MAX_VALUE
from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import one_line
from exo_imap_oauth.properties import read_entries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exo_imap_oauth.errors import PropertiesError

MAIN_FILE = "cmsbs.properties"
_FOLDER = "cmsbs-conf"  # as Universal Messenger calls it
_CONF_D = "conf.d"
_ENVIRONMENT = "environment"
_FILE = "$file"
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Python's codecs for other things than files; some take quadratic time or warn while they read.
_NO_FILE_ENCODINGS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")
# C:\secrets\bot.txt, after \\ was taken out; C\:/secrets needs none of its backslashes doubled.
_SINGLE_BACKSLASH = re.compile(r'\\[^\\u\n=:#! "]')
_DECLARED = re.compile(rb"(?im)^[ \t\f]*[#!].*?Pinuts File Encoding:[ \t]*([\w.:-]{1,40})")


class Layers:
    """All settings under our prefixes, the last one of each key on top."""

    def __init__(self, path: Path, environ: Mapping[str, str], findings: Findings) -> None:
        self._findings = findings
        self._values: dict[str, str | None] = {}
        self.settings: dict[str, Setting] = {}
        environment = self._environment(environ)
        self._is_folder = os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises below a locked folder
        if self._is_folder:
            self.folder = path
            self._merge(self._file(path / MAIN_FILE, instead=_near(path)))
            at = environment.get(keys.CONF_D) or self.settings.get(keys.CONF_D)
            for file in self._conf_d(at):
                self._merge(self._file(file))
        else:
            self.folder = path.parent
            self._merge(self._file(path, instead=_near(path)))
        findings.sources.append(_ENVIRONMENT)
        self._merge(list(environment.items()))

    def value(self, key: str) -> str | None:
        """The value of a key that is set; None if its file is unreadable.

        A file is read once, however many listeners inherit the key.
        """
        if key not in self._values:
            self._values[key] = self._value_of(self.settings[key])
        return self._values[key]

    def secret_file(self, setting: Setting) -> SecretFile | None:
        """The file that a setting names in place of its value, to be read again and again."""
        if not setting.names_file:
            return None
        return SecretFile(self.folder / unquoted(setting.value))

    @property
    def whole_folder(self) -> Path:
        """The folder with all files, of which one may have been given alone."""
        is_of_conf_d = not self._is_folder and self.folder.name == _CONF_D
        return self.folder.parent if is_of_conf_d else self.folder

    @cached_property
    def left_out(self) -> frozenset[str]:
        """The keys that other files set, where a file was given in place of its folder."""
        if self._is_folder:
            return frozenset()
        return frozenset(Layers(self.whole_folder, {}, Findings()).settings)

    def _value_of(self, setting: Setting) -> str | None:
        """The value without its quotes, for ``$file`` read from its file."""
        value = unquoted(setting.value)
        if not setting.names_file:
            return value
        try:
            return files.read_value(self.folder / value)
        except (OSError, ValueError) as error:
            if files.has_odd_ends(value) and not _has_single_backslashes(setting, value):
                self._unreadable("path-ends", setting, error, path=files.shown_path(value))
            elif _has_single_backslashes(setting):
                self._unreadable("backslashes", setting, error, path=_path_to_java(setting))
            else:
                mistake_id = "value-encoding" if files.is_of_encoding(error) else "value-file"
                path, folder = files.shown_path(value), one_line(str(self.folder))
                self._unreadable(mistake_id, setting, error, path=path, folder=folder)
            return None

    def _unreadable(
        self, mistake_id: str, at: Setting, error: OSError | ValueError, **details: str
    ) -> None:
        self._findings.add(mistake_id, at, severity=None, reason=files.reason(error), **details)
        self._findings.incomplete = True

    def _merge(self, layer: list[tuple[str, Setting]]) -> None:
        names = {name for name, _ in layer}
        for name, setting in layer:
            key = name.removesuffix(_FILE)
            if key != name and key in names:
                self._findings.add("value-and-file", setting)
            self.settings[key] = replace(setting, overrode=self.settings.get(key))

    def _environment(self, environ: Mapping[str, str]) -> dict[str, Setting]:
        # Those with dots come last, so they win over those with "__".
        variables = sorted(environ, key=lambda variable: ("__" not in variable, variable))
        found: dict[str, Setting] = {}
        for variable in variables:
            name = variable.replace("__", ".")
            if _is_ours(name):
                shown = keys.shown(variable)
                is_file = name.endswith(_FILE)
                setting = Setting(shown, environ[variable], _ENVIRONMENT, 0, names_file=is_file)
                if name in found:
                    self._findings.add("two-variables", setting)
                found[name] = setting
        return found

    def _conf_d(self, at: Setting | None) -> list[Path]:
        """The files of conf.d, or of the folder that a setting names in its place."""
        named = None if at is None else self._value_of(at)
        folder = self.folder / (named or _CONF_D)
        try:
            return files.property_files(folder)
        except (OSError, ValueError) as error:
            if at is not None or not isinstance(error, FileNotFoundError):
                self._unlisted(folder, at, named or "", error)
            return []

    def _unlisted(
        self, folder: Path, at: Setting | None, named: str, error: OSError | ValueError
    ) -> None:
        shown = one_line(str(folder))
        # What a setting names may be more than a path: two lines that became one.
        path = f" {shown}" if not named or files.is_plain_path(named) else ""
        mistake_id = "conf-d-locked" if isinstance(error, PermissionError) else "conf-d"
        at = at or Setting(keys.CONF_D, "", shown, 0)
        if files.has_odd_ends(named) and not _has_single_backslashes(at, named):
            mistake_id, path = "path-ends", files.shown_path(named)
        elif _has_single_backslashes(at):
            mistake_id, path = "backslashes", _path_to_java(at)
        self._unreadable(mistake_id, at, error, path=path)

    def _file(self, path: Path, instead: Path | None = None) -> list[tuple[str, Setting]]:
        """The settings of a file; where there is none, ``instead`` was meant, perhaps."""
        here = Setting("", "", one_line(str(path)), 0)
        self._findings.sources.append(here.source)
        try:
            data = files.read_file(path, files.MAX_FILE)
        except (OSError, ValueError) as error:
            is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            if is_missing:  # a relative path begins at a folder that nobody sees
                here = replace(here, source=one_line(str(_absolute(path))))
            mistake_id = "elsewhere" if is_missing and instead else "unreadable"
            self._unreadable(mistake_id, here, error, folder=one_line(str(instead)))
            return []
        if files.is_unmarked_utf_16(data):
            self._findings.add("utf-16", here)
            self._findings.incomplete = True
            return []
        layer: list[tuple[str, Setting]] = []
        errors: list[PropertiesError] = []
        for entry, raw, following in read_entries(
            self._decoded(data, here), source=here.source, errors=errors
        ):
            if _is_ours(entry.key):
                setting = Setting(
                    keys.shown(entry.key),
                    entry.value,
                    here.source,
                    entry.line,
                    names_file=entry.key.endswith(_FILE),
                    raw=raw[:MAX_VALUE],
                    following=following[:MAX_VALUE],
                )
                layer.append((entry.key, setting))
        for malformed in errors:
            self._findings.errors |= dict.fromkeys(malformed.problems)
            self._findings.incomplete = True
        return layer

    def _decoded(self, data: bytes, here: Setting) -> str:
        """The text in the encoding of the byte order mark, of the comment, or Latin-1."""
        encoding, shown = _encoding(data), ""
        if b"\0" in data and encoding != "utf-16":
            self._findings.add("nul-bytes", here)
        try:
            with no_fork:  # each encoding is a module
                is_of_files = codecs.lookup(encoding).name not in _NO_FILE_ENCODINGS
            shown = f" {encoding}"  # the name of one, and so nothing else
            if is_of_files:
                return data.decode(encoding)
        except (LookupError, UnicodeError):
            pass
        self._findings.add("encoding", here, encoding=shown)
        return data.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def _encoding(data: bytes) -> str:
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            return encoding
    declared = _DECLARED.search(data)
    return declared[1].decode("ascii") if declared else "latin-1"


def _near(path: Path) -> Path | None:
    """The folder with a configuration that is nearest to a path, if it is not there."""
    given = _absolute(path)
    above = (given.parent, given.parent.parent)
    for folder in (given / _FOLDER, *above, *(each / _FOLDER for each in above)):
        if os.path.isfile(folder / MAIN_FILE):  # noqa: PTH113 - as above
            return folder
    return None


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:  # the folder that the program runs in is gone
        return path


def _has_single_backslashes(setting: Setting, value: str = "") -> bool:
    """Whether there are any, but for those of the line breaks at the end of a ``value``."""
    written = setting.raw.rstrip(' \t\f\r\n"')
    while value.endswith(("\r", "\n")) and written.endswith((r"\r", r"\n")):
        value, written = value[:-1], written[:-2]
    return _SINGLE_BACKSLASH.search(written.replace(r"\\", "")) is not None


def _path_to_java(setting: Setting) -> str:
    r"""A blank and what became of a path such as ``C:\bot``, or nothing if it may be a secret."""
    written = setting.raw.partition(setting.key)[2].strip(' \t\f\n=:"')
    read = "".join(c if c.isprintable() else "?" for c in unquoted(setting.value))
    return f" {read}" if files.shown_path(written) else ""


def unquoted(value: str) -> str:
    """The value without the one pair of double quotes that encloses the whole of it."""
    inner = value.strip(" \t\f")
    return inner[1:-1] if len(inner) > 1 and inner[0] == inner[-1] == '"' else value


def _is_ours(key: str) -> bool:
    name = keys.cleaned(key).removesuffix(_FILE)
    is_inbox_key = name.startswith((keys.PRIMARY_PREFIX, keys.LISTENER_PREFIX))
    return is_inbox_key or name in (keys.LISTENERS, keys.CONF_D)
