"""Files and folders, read so that nothing hangs and nothing fills the memory."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE = 1_048_576  # bytes; a configuration has some hundred kilobytes at most
MAX_VALUE_FILE = 65_536  # bytes; a secret is shorter


class UnreadableError(Exception):
    """A file or folder that cannot be used; ``str()`` says why and does not name it.

    Attributes:
        is_missing: Whether there is nothing of that name.
    """

    def __init__(self, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(reason)
        self.is_missing = is_missing


def is_folder(path: Path) -> bool:
    """Whether it is known to be a folder; reading it tells why it is not."""
    try:
        return path.is_dir()
    except OSError:  # a parent that may not be searched, a name too long
        return False


def file_names(folder: Path) -> list[str]:
    """The names in a folder, in byte order.

    Raises:
        UnreadableError: They cannot be listed.
    """
    try:
        return sorted((entry.name for entry in folder.iterdir()), key=os.fsencode)
    except (OSError, ValueError) as error:
        raise _unreadable(error) from None


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        limit: How many bytes it may have.

    Raises:
        UnreadableError: It cannot be read, is larger, or is something else than a file.
    """
    try:
        _require_regular(path.stat().st_mode)  # to open a device may already have an effect
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _unreadable(error) from None
    try:
        _require_regular(os.fstat(descriptor).st_mode)  # it may have been replaced since
        data = _read(descriptor, limit + 1)
    except OSError as error:
        raise _unreadable(error) from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise UnreadableError(f"it is larger than {limit:,} bytes")
    return data


def read_value(path: Path) -> str:
    """The text of a file that holds one value, without one line end at its end.

    Raises:
        UnreadableError: As for :func:`read_file`, or it is not UTF-8.
    """
    data = read_file(path, MAX_VALUE_FILE)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("it is not text in UTF-8") from None
    for line_end in ("\r\n", "\n", "\r"):
        if text.endswith(line_end):
            return text.removesuffix(line_end)
    return text


# Without O_NONBLOCK, opening a FIFO waits for a writer; Windows has no such flag and needs
# O_BINARY in its place.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise UnreadableError("it is a device, a pipe or a socket, not a file")


def _read(descriptor: int, most: int) -> bytes:
    data = bytearray()
    while len(data) < most:
        chunk = os.read(descriptor, most - len(data))
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _unreadable(error: OSError | ValueError) -> UnreadableError:
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        return UnreadableError(reason, is_missing=isinstance(error, FileNotFoundError))
    return UnreadableError("its path holds a character that no path can hold")
