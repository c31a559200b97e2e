"""Files, read so that nothing hangs and nothing fills the memory.

Patterns are compiled on use: this is loaded with every token source.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from typing import TYPE_CHECKING, cast

from exo_imap_oauth._text import mixes_kinds

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE = 1_048_576  # bytes; a configuration has some hundred kilobytes at most
MAX_VALUE_FILE = 65_536  # bytes; a secret is shorter

ODD_ENDS = "quotes or line breaks at its ends are read as parts of it"
WITHOUT_ODD_ENDS = "Write it without them."
SAVE_IN_UTF_8 = "Save the file in UTF-8, in PowerShell with Set-Content -Encoding UTF8."

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOKED_AT = 4_096  # bytes; even, so that no character is cut in two
_LONGEST_PATH = 200
_NOT_OF_PATHS = "\r\n'\""
_LONG_WORD = 12  # characters; names that mix capitals, small letters and digits are shorter
_LONG_RUN = r"[0-9a-zA-Z]{24,}"  # hexadecimal digits, for example
_PATH = r"(?:[A-Za-z]:)?[\w.@+/\\-]+"
# At least two names: /run/secrets/imap, C:\um\secret, ./secret, secrets/imap; or secret.txt.
_PATH_OF_NAMES = r"""(?x)
    (?: (?:[A-Za-z]:)? [/\\]{1,2} [\w.@+-]+ | \.\.? ) (?: [/\\] [\w.@+-]+ )+
  | (?=.{1,30}$) [\w-]+ (?: [./\\] [\w-]+ )+
"""


def property_files(folder: Path) -> list[Path]:
    """The ``.properties`` files of a folder that are not hidden, in byte order of their names.

    Raises:
        OSError: It cannot be listed.
        ValueError: There cannot be such a path.
    """
    files = sorted(folder.iterdir(), key=lambda file: os.fsencode(file.name))
    return [file for file in files if file.suffix == ".properties" and file.name[0] != "."]


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of up to ``limit`` bytes.

    Raises:
        OSError: It cannot be read, is larger, or is something else than a file.
        ValueError: There cannot be such a path.
    """
    _require_file(path.stat().st_mode)  # to open a device may already have an effect
    with open(path, "rb", opener=_open) as file:
        _require_file(os.fstat(file.fileno()).st_mode)  # it may have been replaced since
        # None is not in their types: what does not block reads nothing yet.
        data, rest = cast("tuple[bytes | None, ...]", (file.read(limit + 1), file.read(1)))
    if data is None or rest is None:  # /proc/kmsg calls itself a file, and waits for more
        raise _no_file()
    if problem := too_large(data, limit):
        raise OSError(errno.EFBIG, problem)
    return data


def too_large(data: bytes, limit: int) -> str | None:
    """What is said of more than ``limit`` bytes, or None."""
    return f"it is larger than {limit:,} bytes" if len(data) > limit else None


def read_value(path: Path) -> str:
    """The text of a file that holds one value, without one line end at its end.

    Raises:
        OSError: As for :func:`read_file`.
        ValueError: The same, or the file is not text in UTF-8.
    """
    data = read_file(path, MAX_VALUE_FILE)
    if data.startswith(_UTF_16) or is_unmarked_utf_16(data):
        raise OSError(
            errno.EILSEQ, "it is not text in UTF-8, but in UTF-16, as PowerShell 5 writes"
        )
    text = data.removeprefix(codecs.BOM_UTF8).decode()
    return re.sub(r"(?:\r\n|\n|\r)\Z", "", text)


def is_unmarked_utf_16(data: bytes) -> bool:
    """Whether a text is in UTF-16 without a byte order mark: every second byte is 0, or most."""
    begin = b"" if data.startswith(_UTF_16) else data[:_LOOKED_AT]
    fewer, more = sorted((begin[::2].count(0), begin[1::2].count(0)))
    return 4 * more > len(begin) and 4 * fewer < more


def is_of_encoding(error: OSError | ValueError) -> bool:
    """Whether it is the encoding why :func:`read_value` could not read a file."""
    return isinstance(error, UnicodeDecodeError) or getattr(error, "errno", 0) == errno.EILSEQ


def reason(error: OSError | ValueError) -> str:
    """Why a file or folder could not be read; the text does not name it."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return "its path holds a character that no path can hold"


def is_plain_path(text: str) -> bool:
    """Whether a text is a path and nothing else: no setting, nothing that looks random."""
    if len(text) > _LONGEST_PATH or not re.fullmatch(_PATH, text) or "cmsbs." in text.casefold():
        return False
    return not any(looks_random(part) for part in re.split(r"[/\\]", text))


def shown_path(path: str) -> str:
    """A blank and the path that a setting names, or nothing where it may be a secret.

    Somebody writes the secret itself where the path of its file belongs.
    """
    plain = path.strip(_NOT_OF_PATHS)
    if not is_plain_path(plain) or not re.fullmatch(_PATH_OF_NAMES, plain):
        return ""
    return f" {path}" if path == plain else f" {str.__repr__(path)}"


def has_odd_ends(path: str) -> bool:
    """Whether quotes or line breaks stand at the ends of a path."""
    return path != path.strip(_NOT_OF_PATHS)


def looks_random(word: str) -> bool:
    """Whether a word is more like a secret than like a name: long, and of mixed characters."""
    if any(not run.isalpha() and not run.isdigit() for run in re.findall(_LONG_RUN, word)):
        return True
    return len(word) >= _LONG_WORD and mixes_kinds(word)


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for a writer; Windows has no such flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_file(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise _no_file()


def _no_file() -> OSError:
    return OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file")
