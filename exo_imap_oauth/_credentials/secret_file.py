"""A credential in a file that somebody else replaces now and then."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from typing_extensions import override

from exo_imap_oauth._files import read_value, reason

if TYPE_CHECKING:
    from pathlib import Path


class SecretFile:
    """A callable that reads a client secret or an assertion from its file, again each time.

    It goes where a ``client_secret`` or an ``assertion`` goes. What another program puts into the
    file, as container platforms do, is thus used from the next token request on. Files of one
    path are equal. ``repr()`` tells nothing: what was given for a path may be the secret itself.

    Args:
        path: The file: text in UTF-8; one line end at its end is no part of the secret.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # whatever folder the program goes to

    def __call__(self) -> str:
        """The text as it is now.

        Raises:
            OSError: The file cannot be read; the text says which and why.
        """
        try:
            return read_value(self._path)
        except (OSError, ValueError) as error:
            why = f"{self._path} cannot be read: {reason(error)}"
        raise OSError(why)

    @property
    def fingerprint(self) -> bytes:
        """A digest of the path, which no digest of a secret equals."""
        return sha256(b"\0file\0" + os.fsencode(self._path)).digest()

    @override
    def __eq__(self, other: object) -> bool:
        return self._path == other._path if isinstance(other, SecretFile) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(self._path)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
