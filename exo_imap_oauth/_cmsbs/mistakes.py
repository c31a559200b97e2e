"""What a mistake is, of a value or of the structure, and the texts of the latter.

No message quotes a value: any value may be a secret that landed in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from exo_imap_oauth._cmsbs.keys import (
    CONF_D,
    KEYS,
    LISTENERS,
    METHOD,
    PROTOCOL,
    SERVER,
    TOKEN_URI,
    USER,
)
from exo_imap_oauth._inbox_rules import is_entra_host, is_exchange_host, tenant_of, url_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# entra: an error where the token endpoint is Entra's, elsewhere a warning;
# exchange: an error where the server is Exchange Online's, elsewhere a warning.
Severity = Literal["error", "warning", "entra", "exchange"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """What can be wrong, and what is said about it.

    Attributes:
        id: Its name in this package.
        severity: Whether it can work all the same.
        keys: The keys where it is looked for, or those that it is about; none means any.
        message: What is wrong, with names in braces for what is filled in.
        fix: What to do about it, likewise.
    """

    id: str
    severity: Severity
    keys: tuple[str, ...] = ()
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Checked:
    """One value, with what is needed to judge it."""

    value: str = field(repr=False)
    others: Mapping[str, str] = field(repr=False)  # all values of the inbox
    padded: bool = False  # blanks stood around it
    run_together: bool = False  # other settings are in it
    raw: str = field(default="", repr=False)  # as it stands in the file, escapes and all
    following: str = field(default="", repr=False)  # the line below


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Mistake):
    """A mistake of a value, and how to see it."""

    when: Callable[[Checked], object]


def is_error(severity: Severity, values: Mapping[str, str]) -> bool:
    """Whether a finding of this severity is an error in an inbox with these values."""
    if severity == "entra":
        uri = values.get(TOKEN_URI, "")
        host = url_host(uri)
        # A URI too damaged to tell was meant to be Entra's.
        return not host or is_entra_host(host) or bool(tenant_of(uri))
    if severity == "exchange":
        return is_exchange_host(values.get(SERVER, ""))
    return severity == "error"


REQUIRED = tuple(key.name for key in KEYS.values() if key.default is None)

_STRUCTURE = (
    Mistake(
        id="missing",
        severity="error",
        keys=REQUIRED,
        message="is missing.",
        fix="Add it: {belongs}.",
    ),
    Mistake(
        id="missing-misspelt",
        severity="error",
        keys=REQUIRED,
        message="is not a key that is read, and {key} is missing.",
        fix="Write {key}.",
    ),
    Mistake(
        id="not-oauth2",
        severity="warning",
        keys=(METHOD,),
        message="is not oauth2, so the inbox {inbox} is not read here.",
        fix="Write {key} = oauth2.",
    ),
    Mistake(
        id="not-imap",
        severity="warning",
        keys=(PROTOCOL,),
        message="is not imap, so the inbox {inbox} is not read here.",
        fix="Write {key} = imap.",
    ),
    Mistake(
        id="only-shared",
        severity="warning",
        keys=(SERVER, USER),
        message="the primary inbox has neither server nor user: only listeners are read.",
        fix="Nothing, if that is what you want.",
    ),
    Mistake(
        id="listener-without-keys",
        severity="warning",
        keys=(LISTENERS,),
        message="lists {inbox}, which has no key of its own.",
        fix="Add its keys, or remove the name.",
    ),
    Mistake(
        id="listener-not-listed",
        severity="warning",
        message="belongs to {inbox}, which is not listed and not read.",
        fix="Add {inbox} to {key}.",
    ),
    Mistake(
        id="listener-named-default",
        severity="error",
        keys=(LISTENERS,),
        message="lists default, the name of the primary inbox.",
        fix="Rename that listener.",
    ),
    Mistake(
        id="unknown-key",
        severity="warning",
        message="is not a key that is read.",
        fix="{nearest}",
    ),
    Mistake(
        id="misplaced-key",
        severity="warning",
        keys=("oauth2.*", METHOD),
        message="is read here, but Universal Messenger documents another key.",
        fix="Write {key}.",
    ),
    Mistake(
        id="unreadable",
        severity="error",
        message="cannot be read: {reason}.",
        fix="Check path and permissions.",
    ),
    Mistake(
        id="encoding",
        severity="warning",
        message="is not in the encoding {encoding}; read as Latin-1.",
        fix="Save the file in the encoding that its beginning names.",
    ),
    Mistake(
        id="conf-d",
        severity="error",
        keys=(CONF_D,),
        message="the folder {path} cannot be read: {reason}.",
        fix="Name a folder.",
    ),
    Mistake(
        id="value-and-file",
        severity="error",
        keys=("*$file",),
        message="is set in the same layer as that key without $file.",
        fix="Keep one of them.",
    ),
    Mistake(
        id="two-variables",
        severity="warning",
        message="is set with dots and with __ in the environment; the one with dots is used.",
        fix="Keep one of them.",
    ),
    Mistake(
        id="value-file",
        severity="error",
        keys=("*$file",),
        message="its file{path} cannot be read: {reason}.",
        fix="Check path and permissions; a relative path begins at {folder}.",
    ),
)
TEXTS = {mistake.id: mistake for mistake in _STRUCTURE}
