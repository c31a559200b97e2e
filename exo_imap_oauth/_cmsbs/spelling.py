"""Whose key a key is, and which one was meant where it is not read."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._cmsbs.keys import (
    KEYS,
    LISTENER_PREFIX,
    NOT_OURS,
    PRIMARY,
    PRIMARY_PREFIX,
    accepted,
    cleaned,
    documented,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exo_imap_oauth._cmsbs.findings import Setting

_BY_FOLDED_NAME = {name.casefold(): name for name in KEYS}
# difflib takes half a millisecond a name. Nobody corrects more than these by hand.
_MOST_LOOKED_UP = 500
_LONGEST_LOOKED_UP = 60  # characters, twice the longest name
_CUTOFF, _STRICTER_CUTOFF = 0.6, 0.8


class _Label:
    """What follows a part of a listener's name: "a.b" is b under a."""

    __slots__ = ("below", "name")

    def __init__(self) -> None:
        self.below: dict[str, _Label] = {}
        self.name: str | None = None  # the name that ends here


class Owners:
    """Which inbox a key belongs to; the names of listeners may hold dots.

    A key is read once, however many listeners there are.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._root = _Label()
        for name in listed:
            label = self._root
            for part in name.split("."):
                label = label.below.setdefault(part, _Label())
            label.name = name

    def of(self, key: str) -> str:
        """The inbox: the primary one, the longest listed name that fits, or the first part."""
        if key.startswith(PRIMARY_PREFIX):
            return PRIMARY
        parts = key.removeprefix(LISTENER_PREFIX).split(".")
        owner = parts[0]
        label = self._root
        for part in parts[:-1]:
            if part not in label.below:
                break
            label = label.below[part]
            owner = label.name or owner
        return owner


def prefix_of(inbox: str) -> str:
    """What all keys of an inbox begin with."""
    return PRIMARY_PREFIX if inbox == PRIMARY else f"{LISTENER_PREFIX}{inbox}."


class Misspelt(NamedTuple):
    """A key under our prefixes that is not read, and the nearest one that is, or ""."""

    setting: Setting
    nearest: str


class Misspellings:
    """The keys that are not read. Each is reported once: as what is missing, or as unknown."""

    def __init__(self, settings: Mapping[str, Setting], owners: Owners) -> None:
        self._looked_up: dict[tuple[str, float], str] = {}
        self._left: dict[str, Misspelt] = {}
        self._key_of: dict[str, str] = {}  # by what was meant, the first one
        for key, setting in settings.items():
            misspelt = self._misspelt(key, setting, owners)
            if misspelt is not None:
                self._left[key] = misspelt
                self._key_of.setdefault(misspelt.nearest, key)

    def take(self, meant: Iterable[str]) -> Setting | None:
        """The setting that was meant for one of these keys; it is left out from then on."""
        for name in meant:
            key = self._key_of.pop(name, None)
            if key is not None:
                return self._left.pop(key).setting
        return None

    def left(self) -> list[Misspelt]:
        """All that was not taken."""
        return list(self._left.values())

    def _misspelt(self, key: str, setting: Setting, owners: Owners) -> Misspelt | None:
        plain = cleaned(key)
        if not plain.startswith((PRIMARY_PREFIX, LISTENER_PREFIX)):
            return None
        inbox = owners.of(plain)
        if _is_read(key, inbox) or key.endswith(NOT_OURS):
            return None
        rest = plain.removeprefix(prefix_of(inbox))
        is_ours = inbox == PRIMARY or rest.startswith(("mail.imap.", "oauth2."))
        rest = rest.removeprefix("mail.imap.").casefold()
        name = self._nearest(rest, _CUTOFF if is_ours else _STRICTER_CUTOFF)
        if name:
            return Misspelt(setting, documented(name, inbox))
        # A listener has many other keys, which are none of our business.
        return Misspelt(setting, "") if is_ours else None

    def _nearest(self, folded: str, cutoff: float) -> str:
        """The name that is most like this one, or ""."""
        if folded in _BY_FOLDED_NAME:
            return _BY_FOLDED_NAME[folded]
        spelling = (folded, cutoff)
        if spelling not in self._looked_up:
            if len(self._looked_up) >= _MOST_LOOKED_UP or len(folded) > _LONGEST_LOOKED_UP:
                return ""
            near = difflib.get_close_matches(folded, _BY_FOLDED_NAME, n=1, cutoff=cutoff)
            self._looked_up[spelling] = _BY_FOLDED_NAME[near[0]] if near else ""
        return self._looked_up[spelling]


_READ_OF_PRIMARY = frozenset(KEYS)
_READ_OF_LISTENERS = frozenset(
    key.removeprefix(prefix_of("x"))
    for name in KEYS
    for key in accepted(name, "x")
    if key.startswith(prefix_of("x"))
)


def _is_read(key: str, inbox: str) -> bool:
    prefix = prefix_of(inbox)
    read = _READ_OF_PRIMARY if inbox == PRIMARY else _READ_OF_LISTENERS
    return key.startswith(prefix) and key.removeprefix(prefix) in read
