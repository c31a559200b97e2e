"""Small files, read so that nothing hangs and nothing fills the memory."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from os import PathLike

MAX_VALUE_FILE = 65_536  # bytes; a secret is shorter


class SecretFile:
    """A callable that reads a client secret from its file, each time anew.

    It goes where a ``client_secret`` goes. A secret that another program replaces in the file,
    as container platforms do, is thus used from the next token request on. Files of one path
    are equal. ``repr()`` tells nothing: what was given for a path may be the secret itself.

    Args:
        path: The file: text in UTF-8; one line end at its end is no part of the secret.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)

    def __call__(self) -> str:
        """The secret as it is now.

        Raises:
            OSError: The file cannot be read; the text says which and why.
        """
        try:
            return read_value(self._path)
        except (OSError, ValueError) as error:
            why = f"{self._path} cannot be read: {reason(error)}"
        raise OSError(why)

    @override
    def __eq__(self, other: object) -> bool:
        return self._path == other._path if isinstance(other, SecretFile) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(self._path)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of up to ``limit`` bytes.

    Raises:
        OSError: It cannot be read, is larger, or is something else than a file.
        ValueError: There cannot be such a path.
    """
    _require_file(path.stat().st_mode)  # to open a device may already have an effect
    with open(path, "rb", opener=_open) as file:
        _require_file(os.fstat(file.fileno()).st_mode)  # it may have been replaced since
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes")
    return data


def read_value(path: Path) -> str:
    """The text of a file that holds one value, without one line end at its end.

    Raises:
        OSError: As for :func:`read_file`.
        ValueError: The same, or the file is not text in UTF-8.
    """
    text = read_file(path, MAX_VALUE_FILE).decode("utf-8-sig")
    for line_end in ("\r\n", "\n", "\r"):
        if text.endswith(line_end):
            return text.removesuffix(line_end)
    return text


def reason(error: OSError | ValueError) -> str:
    """Why a file or folder could not be read; the text does not name it."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return "its path holds a character that no path can hold"


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for a writer; Windows has no such flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_file(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file")
