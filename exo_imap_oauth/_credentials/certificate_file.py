"""The file of a certificate, which somebody replaces when the certificate is renewed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from exo_imap_oauth._credentials.certificate import KeyPair, load
from exo_imap_oauth._text import one_line

if TYPE_CHECKING:
    from os import PathLike

_logger = logging.getLogger(__name__)


class _State(NamedTuple):
    """What tells a new content without reading it: a time stamp alone may stay the same."""

    device: int
    inode: int
    size: int
    modified: int  # ns
    changed: int  # ns; the system's own, which nobody can set back


class _Read(NamedTuple):
    """What was read last; threads see both or neither."""

    state: _State | None
    pair: KeyPair


class CertificateFile:
    """A file with a key and a certificate, read again when it has changed.

    While the new content cannot be used, as in a file that is half written, what was read before
    serves on, and one warning says why.

    Args:
        path: The file. A link, such as Kubernetes swaps, is followed each time.
        password: The passphrase of the key.
        container: How both are stored.
        last: What was read of it.
    """

    __slots__ = ("_container", "_is_warned", "_last", "_password", "_path")

    def __init__(
        self,
        path: str | PathLike[str],
        password: str | bytes | None,
        container: Literal["PEM", "PFX"],
        last: _Read,
    ) -> None:
        self._path = Path(path).absolute()  # whatever folder the program goes to
        self._password = password
        self._container: Literal["PEM", "PFX"] = container
        self._last = last
        self._is_warned = False

    @property
    def pair(self) -> KeyPair:
        """What was read last."""
        return self._last.pair

    def look_again(self) -> None:
        """Read the file, if it has changed since it was read."""
        state = _state_of(self._path)  # before it is read: what comes later is a change
        if state is not None and state == self._last.state:
            self._is_warned = False
            return
        loaded = load(self._path, self._password, self._container)
        if isinstance(loaded, KeyPair):
            self._last, self._is_warned = _Read(state, loaded), False
            _logger.debug("read the new certificate %s", loaded.thumbprint)
        elif not self._is_warned:
            self._is_warned = True
            _logger.warning(
                "the new content of a certificate's file cannot be used, so the certificate %s"
                " serves on: %s",
                self.pair.thumbprint,
                one_line(str(loaded)),
            )


def read(
    given: str | PathLike[str] | bytes,
    password: str | bytes | None,
    container: Literal["PEM", "PFX"],
) -> tuple[KeyPair, CertificateFile | None] | Exception:
    """A key and its certificate, and their file if there is one; or the error of :func:`load`."""
    state = _state_of(given)
    pair = load(given, password, container)
    if isinstance(pair, Exception):
        return pair
    if isinstance(given, bytes):
        return pair, None
    return pair, CertificateFile(given, password, container, _Read(state, pair))


def usable(
    found: tuple[KeyPair, CertificateFile | None] | Exception,
) -> tuple[KeyPair, CertificateFile | None]:
    """What was read; or the error is raised, where no frame holds the passphrase any more."""
    if isinstance(found, Exception):
        raise found
    return found


def _state_of(path: str | PathLike[str] | bytes) -> _State | None:
    """What can be told of a file without reading it; None if nothing can."""
    if isinstance(path, bytes):  # the content itself
        return None
    try:
        found = Path(path).stat()
    except (OSError, TypeError, ValueError):
        return None
    return _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
