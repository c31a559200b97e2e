"""The mistakes that only this dialect knows, of values and of the structure, and the order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exo_imap_oauth import _files as files
from exo_imap_oauth import _inbox_rules as rules
from exo_imap_oauth._cmsbs import keys
from exo_imap_oauth._identifiers import tenant_of

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Written(rules.Checked):
    """One value, with what only a file knows of it."""

    run_together: bool = False  # other settings are in it
    raw: str = field(default="", repr=False)  # as it stands in the file, escapes and all
    following: str = field(default="", repr=False)  # the line below


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(rules.Mistake):
    """A mistake of a value in this dialect, how to see it, and the rule that it goes before."""

    when: Callable[[Written], object]
    before: str


_SINGLE_BACKSLASH = re.compile(r'\\[^\\tnrfu\n=:#! "]')  # Abc8Q\~d, after \\ was taken out


def _is_cut_in_two(uri: Written) -> bool:
    whole = uri.value + uri.following.strip()
    return not tenant_of(uri.value) and bool(tenant_of(whole))


# fmt: off
_CHECKS = (
    Check(id="run-together", before="too-long", severity="error",
          when=lambda c: c.run_together,
          message="several settings run together on this line.",
          fix="Write each setting on a line of its own."),
    Check(id="soft-wrap", before="empty", severity="error", fields=("token_uri",),
          when=_is_cut_in_two,
          message="the URI is cut in two by a line break.",
          fix="Write the whole URI on one line."),
    Check(id="secret-control", before="control-character", severity="error",
          fields=("client_secret",), when=lambda c: "\\" in c.raw and rules.CONTROL.search(c.value),
          message=r"holds a control character: Java makes them of \t, \n, \r, \f and \u.",
          fix="Double each backslash of the secret."),
    Check(id="grant-type", before="uri-http", severity="error", fields=("grant_type",),
          when=lambda c: c.value != "client_credentials",
          message="is not client_credentials; every other grant needs a person who signs in.",
          fix="Write client_credentials."),
    Check(id="secret-path", before="secret-blanks", severity="warning", fields=("client_secret",),
          when=lambda c: c.value.startswith("/") and files.shown_path(c.value),
          message="looks like the path of a file, not like a secret.",
          fix="Write $file behind the key; as a variable in single quotes, or a shell takes $file"
          " for a variable of its own."),
    Check(id="secret-comment", before="secret-blanks", severity="entra", fields=("client_secret",),
          when=lambda c: re.search(r"\s[#!]", c.value),
          message="ends in a comment, to Java a part of the value.",
          fix="Move the comment to a line of its own."),
    Check(id="secret-backslash", before="scope-graph", severity="warning",
          fields=("client_secret",),
          when=lambda c: _SINGLE_BACKSLASH.search(c.raw.replace(r"\\", "")),
          message="is written with single backslashes, which Java drops.",
          fix="Double each backslash that is part of the secret, remove the others."),
)
_STRUCTURE = (
    rules.Mistake(id="missing", severity="error", fields=rules.REQUIRED,
        message="is missing.", fix="Add it: {belongs}."),
    rules.Mistake(id="missing-misspelt", severity="error", fields=rules.REQUIRED,
        message="is not a key that is read, and {key} is missing.", fix="Write {key}."),
    rules.Mistake(id="not-oauth2", severity="warning", fields=("authenticationMethod",),
        message="is not oauth2, so the inbox {inbox} is not read here.",
        fix="Write {key} = oauth2."),
    rules.Mistake(id="not-imap", severity="warning", fields=("protocol",),
        message="is not imap, so the inbox {inbox} is not read here.", fix="Write {key} = imap."),
    rules.Mistake(id="only-shared", severity="warning", fields=("host", "user"),
        message="the primary inbox has neither server nor user: only listeners are read.",
        fix="Nothing, if that is what you want."),
    rules.Mistake(id="listener-without-keys", severity="warning", fields=(keys.LISTENERS,),
        message="lists {inbox}, which has no key of its own.",
        fix="Add its keys, or remove the name."),
    rules.Mistake(id="listener-not-listed", severity="warning",
        message="belongs to {inbox}, which is not listed and not read.",
        fix="Add {inbox} to {key}."),
    rules.Mistake(id="listener-named-default", severity="error", fields=(keys.LISTENERS,),
        message="lists default, the name of the primary inbox.", fix="Rename that listener."),
    rules.Mistake(id="unknown-key", severity="warning",
        message="is not a key that is read.", fix="{nearest}"),
    rules.Mistake(id="misplaced-key", severity="warning",
        fields=("oauth2.*", "authenticationMethod"),
        message="is read here, but Universal Messenger documents another key.", fix="Write {key}."),
    rules.Mistake(id="unreadable", severity="error",
        message="cannot be read: {reason}.", fix="Check path and permissions."),
    rules.Mistake(id="elsewhere", severity="error",
        message="cannot be read: {reason}.",
        fix="Give {folder}, where there is a cmsbs.properties."),
    rules.Mistake(id="file-alone", severity="error",
        message="settings are missing: a file was given, so the other files of {folder}, which have"
        " some, are not read.", fix="Give the folder {folder}."),
    rules.Mistake(id="utf-16", severity="error",
        message="is in UTF-16 without a byte order mark, so it cannot be read.",
        fix="Save the file in UTF-8, with a byte order mark or the comment"
        " # Pinuts File Encoding: UTF-8."),
    rules.Mistake(id="nul-bytes", severity="warning",
        message="holds NUL bytes, so it is damaged, or no text.", fix="Save the file as text."),
    rules.Mistake(id="encoding", severity="warning",
        message="is not in the encoding{encoding} that it names; read as Latin-1.",
        fix="Save the file in the encoding that its beginning names."),
    rules.Mistake(id="conf-d", severity="error", fields=(keys.CONF_D,),
        message="the folder{path} cannot be read: {reason}.",
        fix="Make it a folder, or name one that exists."),
    rules.Mistake(id="conf-d-locked", severity="error", fields=(keys.CONF_D,),
        message="the folder{path} cannot be read: {reason}.",
        fix="Allow the user that runs this program to list and to enter it."),
    rules.Mistake(id="backslashes", severity="error", fields=("*$file", keys.CONF_D),
        message="the path{path} cannot be read: it is written with single backslashes, which Java"
        " drops or makes control characters of.",
        fix="Double each backslash, or write / in its place."),
    rules.Mistake(id="path-ends", severity="error", fields=("*$file", keys.CONF_D),
        message=f"the path{{path}} cannot be read: {files.ODD_ENDS}.",
        fix=files.WITHOUT_ODD_ENDS),
    rules.Mistake(id="value-and-file", severity="error", fields=("*$file",),
        message="is set in the same layer as that key without $file.", fix="Keep one of them."),
    rules.Mistake(id="two-variables", severity="warning",
        message="is set with dots and with __ in the environment; the one with dots is used.",
        fix="Keep one of them."),
    rules.Mistake(id="value-file", severity="error", fields=("*$file",),
        message="its file{path} cannot be read: {reason}.",
        fix="Check path and permissions; a relative path begins at {folder}."),
    rules.Mistake(id="value-encoding", severity="error", fields=("*$file",),
        message="its file{path} cannot be read: {reason}.", fix=files.SAVE_IN_UTF_8),
)
# fmt: on


def _in_order() -> list[rules.Rule | Check]:
    """The rules of values, with this dialect's checks before those that they name."""
    ordered: list[rules.Rule | Check] = []
    for rule in rules.RULES:
        ordered += [check for check in _CHECKS if check.before == rule.id]
        ordered.append(rules.worded(rule, tls="ssl", implicit="true", starttls="tls"))
    return ordered


CHECKS = tuple(_in_order())
CHECKS_OF = {
    key.name: tuple(check for check in CHECKS if check.concerns(key.field))
    for key in keys.KEYS.values()
}
MISTAKES: dict[str, rules.Mistake] = {mistake.id: mistake for mistake in (*CHECKS, *_STRUCTURE)}
