"""The fields of an inbox held against the rules, written by hand or in variables."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from exo_imap_oauth._inbox_rules import (
    BELONGS,
    BLANKS,
    RULES,
    TENANT_BELONGS,
    Checked,
    Rule,
    cloud_in,
    in_cloud,
    is_error,
    worded,
)
from exo_imap_oauth._text import HiddenText
from exo_imap_oauth.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exo_imap_oauth.clouds import Cloud

CREDENTIALS = ("client_secret", "certificate", "assertion")
_UNSET = {"host": "", "token_uri": "", "tls": ""}  # what the rules ask of other fields


_OPTIONAL = ("token_uri", "client_id", *CREDENTIALS)
_MUST_BE = {
    "user": "a str",
    "token_uri": "a str or None",
    "client_id": "a str or None",
    "client_secret": "a str, a function that returns one, or None",
    "certificate": "a ClientCertificate or None",
    "assertion": "a function that returns a str, or None",
    "scope": "a str",
    "host": "a str",
    "port": "an int",
    "tls": "a str",
    "folder": "a str",
    "debug": "a bool",
    "name": "a str",
}
_TO_GIVE = BELONGS | {
    "certificate": "what ClientCertificate.from_pem(path) or from_pfx(path) returns",
    "assertion": "a function",
    "debug": "True or False",
    "name": "a name for the inbox",
}


@lru_cache(maxsize=32)
def _rules(tls: str) -> tuple[Rule, ...]:
    """The rules, with what the kind of TLS is called."""
    return tuple(worded(rule, tls=tls, implicit="implicit", starttls="starttls") for rule in RULES)


def _fits(field: str, value: object) -> bool:
    """Whether a value is what its field must be."""
    if value is None:
        return field in _OPTIONAL
    if field == "port":
        return isinstance(value, int) and not isinstance(value, bool)
    if field == "debug":
        return isinstance(value, bool)
    if field == "certificate":
        # Its class is not loaded for this. People give a path in its place, or a file's text.
        return hasattr(value, "thumbprint")
    if field in ("client_secret", "assertion") and callable(value):
        return True
    return isinstance(value, str) and field != "assertion"


class Notation(NamedTuple):
    """How an inbox is written.

    Attributes:
        source: Where: ``InboxConfig`` or ``environment``.
        names: What fields are called there, if not as here.
        belongs: What to put into fields, if not what the rules say.
        instead: What can stand there in place of a client secret.
    """

    source: str
    names: Mapping[str, str]
    belongs: Mapping[str, str]
    instead: tuple[str, ...]

    def name(self, field: str) -> str:
        """What a field is called, or a name that is none, as it is."""
        return self.names.get(field, field)


_NONE: Mapping[str, str] = MappingProxyType({})
BY_HAND = Notation("InboxConfig", _NONE, _NONE, ("certificate", "assertion"))


class InboxCheck:
    """What is wrong with the fields of one inbox, in the words of where it is written."""

    def __init__(self, notation: Notation = BY_HAND) -> None:
        self.errors: list[ConfigProblem] = []
        self.warnings: list[ConfigProblem] = []
        self.notation = notation
        self._belongs = BELONGS | dict(notation.belongs)

    def add(self, field: str, message: str, fix: str, *, fatal: bool = True) -> None:
        """Note a problem of a field, or of a name that is none."""
        name, source = self.notation.name(field), self.notation.source
        problem = ConfigProblem(name, source, 0, message, fix)
        (self.errors if fatal else self.warnings).append(problem)

    def error(self) -> ConfigError:
        """One error for all :attr:`errors`, in the order of the fields."""
        message = f"{self.notation.source} cannot be used; mistakes found: {len(self.errors)}"
        order = {self.notation.name(field): at for at, field in enumerate(_MUST_BE)}
        problems = sorted(self.errors, key=lambda problem: order.get(problem.key, -1))
        return ConfigError(message, problems=problems, warnings=self.warnings)

    # ---- what is looked at

    def values(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Look at the values of all fields; they come back without the blanks around them."""
        fitting: dict[str, Any] = {}
        for field, value in values.items():
            if _fits(field, value):
                fitting[field] = value
                continue
            found = f"is of type {type(value).__name__}; it must be {_MUST_BE[field]}."
            self.add(field, found, f"Give it {_TO_GIVE[field]}.")
        self.identity(values)
        texts = {
            field: _text(value) for field, value in fitting.items() if _is_judged(field, value)
        }
        plain = self.texts(texts)
        if plain.get("folder") == "":  # a file or a variable that says nothing means INBOX
            self.add("folder", "is empty.", f"Enter {BELONGS['folder']}.")
        return fitting | {f: text for f, text in plain.items() if isinstance(fitting[f], str)}

    def identity(self, values: Mapping[str, object], *, needed: bool = False) -> None:
        """Look at whether there is all that an application asks for its tokens with.

        Without any credential an inbox can be opened with a token, unless they are ``needed``.
        """
        credentials = [field for field in CREDENTIALS if values.get(field) is not None]
        for field in credentials[1:]:
            first = self.notation.name(credentials[0])
            message = f"is given beside {first}: an application proves its identity with one."
            self.add(field, message, "Keep one of them.")
        if not credentials and not needed:
            return
        for field in ("token_uri", "client_id"):
            if values.get(field) is None:
                self.missing(field, values)
        if not credentials:
            *others, last = self.notation.instead
            self.add(
                "client_secret",
                f"is missing, and so are {', '.join(others)} and {last}: nothing proves who asks.",
                "Add one of them, or open the inbox with open(token=...).",
            )

    def missing(self, field: str, values: Mapping[str, object] = _NONE) -> None:
        """Note that a field has no value; the others tell of which cloud it should be."""
        self.add(field, "is missing.", f"Add it: {self._belonging(field, values)}.")

    def _belonging(self, field: str, values: Mapping[str, object]) -> str:
        return in_cloud(self._belongs.get(field, ""), cloud_in(values))

    def texts(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Hold each text against the rules, up to the first error.

        Returns:
            The texts without the blanks around them.
        """
        plain = {field: _without_blanks(field, text) for field, text in texts.items()}
        others = _UNSET | plain
        for field, text in plain.items():
            checked = Checked(text, others, padded=text != texts[field])
            for rule in _rules(self.notation.name("tls")):
                if not rule.concerns(field) or not rule.when(checked):
                    continue
                fatal = is_error(rule.severity, others)
                fix = rule.fix.format(belongs=self._belonging(field, others))
                self.add(field, rule.message, fix, fatal=fatal)
                if fatal:
                    break
        return plain


def remember(
    inbox: object, warnings: Iterable[ConfigProblem], notation: Notation = BY_HAND
) -> None:
    """Let an inbox, which is frozen, hold what was found in it, and how it is written."""
    object.__setattr__(inbox, "_warnings", tuple(warnings))
    object.__setattr__(inbox, "_notation", notation)


def _is_judged(field: str, value: object) -> bool:
    return field != "name" and isinstance(value, str | int)


def _text(value: str | int) -> str:
    """A value as the rules know it; a bool is an int too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(min(max(value, -1), 99_999))  # Python writes no int of 5,000 digits
    return value


def _without_blanks(field: str, text: str) -> str:
    # Whoever has blanks in a secret is told so; what they are worth is not known here.
    return HiddenText(text) if field == "client_secret" else text.strip(BLANKS)


def tenant_uri(cloud: Cloud, tenant_id: str) -> str:
    """The token endpoint of a tenant, to be held against the rules in place of the tenant."""
    if not isinstance(tenant_id, str) or not tenant_id:
        return ""
    tenant = tenant_id.strip(BLANKS)
    is_padded = tenant != tenant_id
    if re.search(r"[/?#@:\\\s]", tenant):
        tenant = "-"  # it would end the first part of the path; this is no tenant either
    uri = f"{cloud.authority}/{tenant}/oauth2/v2.0/token"
    return f" {uri}" if is_padded else uri


def with_tenant(error: ConfigError, cloud: Cloud) -> ConfigError:
    """The error of an inbox whose token endpoint was given by its tenant."""
    return ConfigError(
        str(error.args[0]),
        problems=[_of_tenant(problem, cloud) for problem in error.problems],
        warnings=[_of_tenant(problem, cloud) for problem in error.warnings],
    )


def _of_tenant(problem: ConfigProblem, cloud: Cloud) -> ConfigProblem:
    if problem.key != "token_uri":
        return problem
    fix = problem.fix.replace(in_cloud(BELONGS["token_uri"], cloud), TENANT_BELONGS)
    return replace(problem, key="tenant_id", fix=fix)
