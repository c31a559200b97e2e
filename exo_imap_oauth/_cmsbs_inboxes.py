"""Which inboxes there are, what each inherits, and what is wrong with them."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from exo_imap_oauth._cmsbs_keys import (
    KEYS,
    LISTENER_PREFIX,
    LISTENERS,
    NOT_OURS,
    PRIMARY,
    PRIMARY_PREFIX,
    accepted,
    cleaned,
    documented,
)
from exo_imap_oauth._cmsbs_layers import Findings, Layers, Setting, unquoted
from exo_imap_oauth._cmsbs_mistakes import (
    MISTAKES,
    PLACEHOLDER,
    RUN_TOGETHER,
    Checked,
    is_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth.errors import ConfigProblem

_SECRET = "oauth2.clientSecret"
_ONE_CASE = ("ssl", "protocol", "authenticationMethod", "oauth2.grantType", "oauth2.debug")
_BLANKS = " \t\f\r\n"


class _Draft:
    """An inbox as it is written."""

    def __init__(self, name: str, here: Setting) -> None:
        self.name = name
        self.here = here  # where to point for what is not set
        self.found: dict[str, Setting] = {}
        self.checked: dict[str, Checked] = {}
        self.values = {key.name: key.default or "" for key in KEYS.values()}

    def at(self, name: str) -> Setting:
        """Where a key is set, or where it ought to be."""
        unset = Setting(documented(name, self.name), "", self.here.source, self.here.line)
        return self.found.get(name, unset)


def read_inboxes(
    layers: Layers, findings: Findings
) -> tuple[dict[str, dict[str, str]], dict[str, ConfigProblem]]:
    """The values of each inbox that is read here, and why the others are not."""
    swallowed: set[str] = set()
    for setting in layers.settings.values():
        if names := RUN_TOGETHER.findall(setting.value):
            findings.add("run-together", setting)
            swallowed.update(names)
    listeners = _listeners(layers, findings)
    misspelt = dict(_unknown_keys(layers, listeners))
    drafts = [_draft(name, layers, findings) for name in (PRIMARY, *listeners)]
    absent: dict[str, ConfigProblem] = {}
    if listeners and not {"server", "user"} & drafts[0].found.keys():
        absent[PRIMARY] = findings.add("only-shared", drafts[0].at("user"))
        del drafts[0]
    reasons = {draft.name: _why_absent(draft, swallowed, findings) for draft in drafts}
    ours = [draft for draft in drafts if not reasons[draft.name]]
    for draft in drafts:
        for mistake_id, name in reasons[draft.name]:
            absent[draft.name] = findings.add(
                mistake_id,
                draft.at(name),
                not ours,
                inbox=draft.name,
                key=documented(name, draft.name),
            )
    for draft in ours or drafts:
        _find_missing(draft, findings, swallowed, misspelt)
        _find_mistakes(draft, findings)
    for setting, nearest in misspelt.values():
        fix = f"Did you mean {nearest}?" if nearest else "Remove it, or correct it."
        findings.add("unknown-key", setting, nearest=fix)
    return {draft.name: draft.values for draft in ours}, absent


def _listeners(layers: Layers, findings: Findings) -> list[str]:
    """The names of the listeners that are listed and have keys."""
    listing = layers.settings.get(LISTENERS)
    value = (listing and layers.value(listing)) or ""
    listed = list(dict.fromkeys(filter(None, re.split(r"[\s,;]+", value))))
    with_keys: dict[str, Setting] = {}
    for key, setting in layers.settings.items():
        if key.startswith(LISTENER_PREFIX):
            with_keys.setdefault(_owner(key, listed), setting)
    for name in listed:
        if listing and name == PRIMARY:
            findings.add("listener-named-default", listing)
        elif listing and name not in with_keys:
            findings.add("listener-without-keys", listing, inbox=name)
    for name, setting in with_keys.items():
        if name not in listed:
            findings.add("listener-not-listed", setting, inbox=name, key=LISTENERS)
    return [name for name in listed if name in with_keys and name != PRIMARY]


def _owner(key: str, listed: list[str]) -> str:
    """The inbox that a key belongs to; the names of listeners may hold dots."""
    if key.startswith(PRIMARY_PREFIX):
        return PRIMARY
    rest = key.removeprefix(LISTENER_PREFIX)
    return next((name for name in listed if rest.startswith(f"{name}.")), rest.partition(".")[0])


def _unknown_keys(layers: Layers, listed: list[str]) -> Iterator[tuple[str, tuple[Setting, str]]]:
    """Each key under our prefixes that is not read, and the nearest one that is, or ""."""
    names = {name.casefold(): name for name in KEYS}
    for key, setting in layers.settings.items():
        plain = cleaned(key)
        if not plain.startswith((PRIMARY_PREFIX, LISTENER_PREFIX)):
            continue
        inbox = _owner(plain, listed)
        if any(key in accepted(name, inbox) for name in KEYS) or key.endswith(NOT_OURS):
            continue
        prefix = PRIMARY_PREFIX if inbox == PRIMARY else f"{LISTENER_PREFIX}{inbox}."
        rest = plain.removeprefix(prefix)
        ours = inbox == PRIMARY or rest.startswith(("mail.imap.", "oauth2."))
        rest = rest.removeprefix("mail.imap.").casefold()
        near = difflib.get_close_matches(rest, names, 1, 0.6 if ours else 0.8)
        if near or ours:  # a listener has many other keys, which are none of our business
            yield key, (setting, documented(names[near[0]], inbox) if near else "")


def _draft(inbox: str, layers: Layers, findings: Findings) -> _Draft:
    prefix = PRIMARY_PREFIX if inbox == PRIMARY else f"{LISTENER_PREFIX}{inbox}."
    own = (setting for key, setting in layers.settings.items() if key.startswith(prefix))
    draft = _Draft(inbox, next(own, Setting("", "", findings.sources[0], 0)))
    for name in KEYS:
        for key in accepted(name, inbox):
            setting = layers.settings.get(key)
            if setting is None:
                continue
            if key.startswith(LISTENER_PREFIX) and key != documented(name, inbox):
                findings.add("misplaced-key", setting, key=documented(name, inbox))
            if name not in draft.found:
                draft.found[name] = setting
                _read_value(draft, name, layers)
    return draft


def _read_value(draft: _Draft, name: str, layers: Layers) -> None:
    setting = draft.found[name]
    text = layers.value(setting)
    if text is None:
        return
    value = text if name == _SECRET else text.strip(_BLANKS)
    padded = value != unquoted(text)
    value = value or KEYS[name].default or ""
    value = value.casefold() if name in _ONE_CASE else value
    draft.values[name] = value
    draft.checked[name] = Checked(value, draft.values, padded, setting.raw, setting.following)


def _why_absent(draft: _Draft, known: set[str], findings: Findings) -> list[tuple[str, str]]:
    """The mistakes, and their keys, that make it an inbox of another kind than ours."""
    wanted = {"authenticationMethod": ("not-oauth2", "oauth2"), "protocol": ("not-imap", "imap")}
    return [
        (mistake_id, name)
        for name, (mistake_id, value) in wanted.items()
        if draft.values[name] != value
        and not PLACEHOLDER.search(draft.values[name])
        and not RUN_TOGETHER.search(draft.values[name])
        and (name in draft.found or not findings.incomplete)
        and not known.intersection(accepted(name, draft.name))
    ]


def _find_missing(
    draft: _Draft, findings: Findings, known: set[str], misspelt: dict[str, tuple[Setting, str]]
) -> None:
    """Report what must be set and is not; ``known`` are keys about which enough was said."""
    for key in KEYS.values():
        names = accepted(key.name, draft.name)
        if key.default is not None or key.name in draft.found or known.intersection(names):
            continue
        near = next((name for name, (_, nearest) in misspelt.items() if nearest in names), None)
        if near is not None:
            findings.add("missing-misspelt", misspelt.pop(near)[0], key=names[0])
        elif not findings.incomplete:
            findings.add("missing", draft.at(key.name), belongs=key.belongs)
        known.add(names[-1])  # listeners that inherit it need not say so again


def _find_mistakes(draft: _Draft, findings: Findings) -> None:
    for key in KEYS.values():
        checked = draft.checked.get(key.name)
        if checked is None:
            if key.default is None or key.name in draft.found:
                continue
            checked = Checked(key.default, draft.values)
        details = {"key": documented(key.name, draft.name), "belongs": key.belongs}
        for mistake in MISTAKES:
            if key.name in mistake.keys and mistake.when(checked):
                is_fatal = is_error(mistake.severity, draft.values)
                findings.add(mistake.id, draft.at(key.name), is_fatal, **details)
                if is_fatal:
                    break
