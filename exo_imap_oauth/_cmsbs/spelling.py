"""Whose key a key is, and which one was meant where it is not read."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._cmsbs import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exo_imap_oauth._cmsbs.findings import Setting

_BY_FOLDED_NAME = {name.casefold(): name for name in keys.KEYS}
# difflib takes half a millisecond a name. Nobody corrects more than these by hand.
_MOST_LOOKED_UP = 500
_LONGEST_LOOKED_UP = 60  # characters, twice the longest name
_CUTOFF, _STRICTER_CUTOFF = 0.6, 0.8


class Owners:
    """Which inbox a key belongs to; the names of listeners may hold dots."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._listed = frozenset(listed)
        # Names of k lengths have k * k / 2 characters, so in a file of any size these are few.
        self._lengths = sorted({len(name) for name in self._listed}, reverse=True)

    def of(self, key: str) -> str:
        """The inbox: the primary one, the longest listed name that fits, or the first part."""
        if key.startswith(keys.PRIMARY_PREFIX):
            return keys.PRIMARY
        rest = key.removeprefix(keys.LISTENER_PREFIX)
        for length in self._lengths:
            if rest[length : length + 1] == "." and rest[:length] in self._listed:
                return rest[:length]
        return rest.partition(".")[0]


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
        plain = keys.cleaned(key)
        if not plain.startswith((keys.PRIMARY_PREFIX, keys.LISTENER_PREFIX)):
            return None
        inbox = owners.of(plain)
        rest = plain.removeprefix(keys.prefix_of(inbox))
        name = rest.removeprefix("mail.imap.")
        is_read = name in keys.KEYS and key in keys.accepted(name, inbox)
        if is_read or key.endswith(keys.NOT_OURS):
            return None
        is_ours = inbox == keys.PRIMARY or rest.startswith(("mail.imap.", "oauth2."))
        nearest = self._nearest(name.casefold(), _CUTOFF if is_ours else _STRICTER_CUTOFF)
        if nearest:
            return Misspelt(setting, keys.documented(nearest, inbox))
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
