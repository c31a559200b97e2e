"""Which inboxes there are, what each inherits, and what is wrong with them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._cmsbs import keys
from exo_imap_oauth._cmsbs.findings import Findings, Setting
from exo_imap_oauth._cmsbs.keys import KEYS, PRIMARY
from exo_imap_oauth._cmsbs.layers import Layers, unquoted
from exo_imap_oauth._cmsbs.mistakes import CHECKS_OF, Written
from exo_imap_oauth._cmsbs.spelling import Misspellings, Owners
from exo_imap_oauth._inbox_rules import (
    BLANKS,
    MAX_VALUE,
    PLACEHOLDER,
    cloud_in,
    in_cloud,
    is_error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_imap_oauth._credentials.secret_file import SecretFile
    from exo_imap_oauth.errors import ConfigProblem

_SECRET = "oauth2.clientSecret"
_ONE_CASE = ("ssl", "protocol", "authenticationMethod", "oauth2.grantType", "oauth2.debug")
# What ssl says in the words of an InboxConfig, which are no words of this dialect.
_TLS = {
    "true": "implicit",
    "tls": "starttls",
    "false": "none",
    "implicit": "unknown",
    "starttls": "unknown",
    "none": "unknown",
}
_NOT_READ_HERE = {
    "authenticationMethod": ("not-oauth2", "oauth2"),
    "protocol": ("not-imap", "imap"),
}


class Read(NamedTuple):
    """What is read of an inbox."""

    values: dict[str, str]  # by field
    secret_file: SecretFile | None  # where the secret is not written out
    warnings: list[ConfigProblem]  # of its values


def read_inboxes(
    layers: Layers, findings: Findings, *, with_secrets: bool
) -> tuple[dict[str, Read], dict[str, ConfigProblem]]:
    """The inboxes that are read here, by name, and why the others are not.

    Client secrets are not looked at unless they are needed: ``with_secrets``.
    """
    names = [name for name in KEYS if with_secrets or name != _SECRET]
    reader = _Reader(layers, findings, names)
    drafts = reader.draft_all()
    ours, absent = reader.sort_out(drafts)
    reader.judge(ours or drafts)
    return {
        draft.name: Read(draft.values, layers.secret_file(draft.at(_SECRET)), draft.warnings)
        for draft in ours
    }, absent


class _Draft:
    """An inbox as it is written."""

    def __init__(self, name: str, here: Setting) -> None:
        self.name = name
        self._here = here  # where to point for what is not set
        self.found: dict[str, Setting] = {}
        self.warnings: list[ConfigProblem] = []
        self.values = {key.field: key.default or "" for key in KEYS.values()}
        self.checked = {
            key.name: Written(key.default, self.values)
            for key in KEYS.values()
            if key.default is not None
        }

    def at(self, name: str) -> Setting:
        """Where a key is set, or where it ought to be."""
        key = keys.documented(name, self.name)
        if "__" in self._here.key:  # a variable; a shell takes no names with dots
            key = key.replace(".", "__")
        unset = Setting(key, "", self._here.source, self._here.line)
        return self.found.get(name, unset)


class _Reader:
    """The three passes, and what they share."""

    def __init__(self, layers: Layers, findings: Findings, names: list[str]) -> None:
        self._names = names  # of the keys that are read
        self._layers = layers
        self._settings = layers.settings
        self._findings = findings
        self._read: dict[str, Written | None] = {}  # by key: listeners inherit many values
        self._run_together: set[str] = set()  # the keys of such lines
        self._explained: set[str] = set()  # keys about which enough was said
        listing = layers.value(keys.LISTENERS) if keys.LISTENERS in self._settings else None
        self._listed = _names_in(listing or "")
        self._owners = Owners(self._listed)
        self._misspellings = Misspellings(self._settings, self._owners)

    # ---- first pass

    def draft_all(self) -> list[_Draft]:
        """The primary inbox and each listener that is listed and has keys."""
        for key, setting in self._settings.items():
            if names := keys.keys_set_in(setting.value):
                self._findings.add("run-together", setting)
                self._run_together.add(key)
                self._explained.update(names)
        first_settings = self._first_settings()
        self._check_listing(first_settings)
        nowhere = Setting("", "", self._findings.sources[0], 0)
        first_settings.setdefault(PRIMARY, nowhere)
        names = [PRIMARY, *(name for name in self._listed if name != PRIMARY)]
        return [self._draft(name, first_settings[name]) for name in names if name in first_settings]

    def _first_settings(self) -> dict[str, Setting]:
        """The first setting of each inbox that has one, listed or not."""
        first: dict[str, Setting] = {}
        for key, setting in self._settings.items():
            if key.startswith((keys.PRIMARY_PREFIX, keys.LISTENER_PREFIX)):
                first.setdefault(self._owners.of(key), setting)
        return first

    def _check_listing(self, first_settings: Mapping[str, Setting]) -> None:
        listing = self._settings.get(keys.LISTENERS)
        if listing is not None:
            are_names = not keys.holds_setting(listing.value)
            for name in self._listed:
                if name == PRIMARY:
                    self._findings.add("listener-named-default", listing)
                elif name not in first_settings:
                    shown = keys.shown_name(name) if are_names else keys.HIDDEN_NAME
                    self._findings.add("listener-without-keys", listing, inbox=shown)
        listed = {PRIMARY, *self._listed}
        for name, setting in first_settings.items():
            if name not in listed:
                shown = keys.shown_name(name)
                self._findings.add("listener-not-listed", setting, inbox=shown, key=keys.LISTENERS)

    def _draft(self, inbox: str, here: Setting) -> _Draft:
        draft = _Draft(inbox, here)
        for name in self._names:
            right_key, *other_keys = keys.accepted(name, inbox)
            for key in (right_key, *other_keys):
                setting = self._settings.get(key)
                if setting is None:
                    continue
                if key.startswith(keys.LISTENER_PREFIX) and key != right_key:
                    self._findings.add("misplaced-key", setting, key=right_key)
                if name not in draft.found:
                    draft.found[name] = setting
                    self._take(draft, name, key)
        return draft

    def _take(self, draft: _Draft, name: str, key: str) -> None:
        """Take the value of ``key`` for ``name``, unless its file is unreadable."""
        if key not in self._read:
            self._read[key] = self._written(name, key)
        read = self._read[key]
        if read is None:
            draft.checked.pop(name, None)
        else:
            draft.values[KEYS[name].field] = read.value
            draft.checked[name] = replace(read, others=draft.values)

    def _written(self, name: str, key: str) -> Written | None:
        text = self._layers.value(key)
        if text is None:
            return None
        setting = self._settings[key]
        value = text if name == _SECRET else text.strip(BLANKS)
        padded = value != unquoted(text)
        value = value[: MAX_VALUE + 1] or KEYS[name].default or ""
        value = value.casefold() if name in _ONE_CASE else value
        return Written(
            _TLS.get(value, value) if name == "ssl" else value,
            others={},
            padded=padded,
            run_together=key in self._run_together,
            raw="" if setting.names_file else setting.raw,
            following=setting.following,
        )

    # ---- second pass

    def sort_out(self, drafts: list[_Draft]) -> tuple[list[_Draft], dict[str, ConfigProblem]]:
        """The inboxes that are read here, and why the others are not.

        A primary inbox that only holds what its listeners share is taken from ``drafts``.
        """
        absent: dict[str, ConfigProblem] = {}
        primary = drafts[0]
        if len(drafts) > 1 and "server" not in primary.found and "user" not in primary.found:
            absent[PRIMARY] = self._findings.add("only-shared", primary.at("user"))
            del drafts[0]
        others = {draft.name: self._names_that_exclude(draft) for draft in drafts}
        ours = [draft for draft in drafts if not others[draft.name]]
        for draft in drafts:
            for name in others[draft.name]:
                mistake_id, _ = _NOT_READ_HERE[name]
                absent[draft.name] = self._findings.add(
                    mistake_id,
                    draft.at(name),
                    severity="warning" if ours else "error",
                    inbox=draft.name,
                    key=keys.documented(name, draft.name),
                )
        return ours, absent

    def _names_that_exclude(self, draft: _Draft) -> list[str]:
        """The keys that make it an inbox of another kind than ours."""
        names: list[str] = []
        for name, (_, wanted) in _NOT_READ_HERE.items():
            if draft.values[name] != wanted and self._is_meant_so(draft, name):
                names.append(name)
        return names

    def _is_meant_so(self, draft: _Draft, name: str) -> bool:
        """Whether a value is a decision and not a mistake of its own."""
        checked = draft.checked.get(name)
        if checked is not None and (checked.run_together or PLACEHOLDER.search(checked.value)):
            return False
        names = keys.accepted(name, draft.name)
        if name not in draft.found and self._may_be_elsewhere(names):
            return False
        return self._explained.isdisjoint(names)

    def _may_be_elsewhere(self, names: list[str]) -> bool:
        """Whether what is not set may be set where nobody looked, as an error then says."""
        if self._findings.incomplete:
            return True
        if self._layers.left_out.isdisjoint(names):
            return False
        here = Setting("", "", self._findings.sources[0], 0)
        self._findings.add("file-alone", here, folder=str(self._layers.whole_folder))
        return True

    # ---- third pass

    def judge(self, drafts: list[_Draft]) -> None:
        """Report what is missing, what is wrong and what nobody reads."""
        for draft in drafts:
            self._find_missing(draft)
            self._find_mistakes(draft)
        for misspelt in self._misspellings.left():
            fix = "Remove it, or correct it."
            if misspelt.nearest:
                fix = f"Did you mean {misspelt.nearest}?"
            self._findings.add("unknown-key", misspelt.setting, nearest=fix)

    def _find_missing(self, draft: _Draft) -> None:
        for key in map(KEYS.__getitem__, self._names):
            names = keys.accepted(key.name, draft.name)
            if key.default is not None or key.name in draft.found:
                continue
            if not self._explained.isdisjoint(names):
                continue
            misspelt = self._misspellings.take(names)
            if misspelt is not None:
                self._findings.add("missing-misspelt", misspelt, key=names[0])
            elif not self._may_be_elsewhere(names):
                belongs = in_cloud(key.belongs, cloud_in(draft.values))
                self._findings.add("missing", draft.at(key.name), belongs=belongs)
            self._explained.add(names[-1])  # listeners that inherit it need not say so again

    def _find_mistakes(self, draft: _Draft) -> None:
        """Hold each value against the table, up to the first error."""
        for name in self._names:
            written = draft.checked.get(name)
            for check in CHECKS_OF[name]:
                if written is None or not check.when(written):
                    continue
                fatal = is_error(check.severity, draft.values)
                problem = self._findings.add(
                    check.id,
                    draft.at(name),
                    severity="error" if fatal else "warning",
                    key=keys.documented(name, draft.name),
                    belongs=in_cloud(KEYS[name].belongs, cloud_in(draft.values)),
                )
                if fatal:
                    break
                draft.warnings.append(problem)


def _names_in(listing: str) -> list[str]:
    """The names in a list, each once: ``"sales, support"``."""
    names = re.split(r"[\s,;]+", listing)
    return list(dict.fromkeys(name for name in names if name))
