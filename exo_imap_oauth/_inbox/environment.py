"""An inbox from environment variables: their names, their files, what is wrong with them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import _files as files
from exo_imap_oauth._credentials.secret_file import SecretFile
from exo_imap_oauth._inbox.check import InboxCheck, Notation, tenant_uri
from exo_imap_oauth._inbox_rules import BLANKS, PADDED, REQUIRED, TENANT_BELONGS, is_quoted
from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import HiddenText, one_line
from exo_imap_oauth.clouds import Cloud

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_imap_oauth.errors import ConfigError

_PREFIX = "EXO_IMAP_"  # the one that names no inbox
_FILE = "_FILE"
_CLOUDS = {cloud.name.casefold(): cloud for cloud in Cloud}
_ONE_CASE = ("tls", "debug")
_LONGEST_LOOKED_UP = 60  # characters, twice the longest name
_QUOTED = (
    "is enclosed in quotes, which are a part of the value here: docker --env-file, for one, keeps"
    " them."
)

_TEXTS = ("user", "token_uri", "client_id", "client_secret", "scope")
_SETTINGS = ("host", "port", "tls", "folder", "debug", "name")
VARIABLES = {field.upper(): field for field in (*_TEXTS, *_SETTINGS)}
"""The variables that hold the value of a field, by their names without the prefix."""

OTHERS = ("TENANT_ID", "CLOUD", "CERTIFICATE_PASSWORD")
"""The variables that stand for several fields, or for a part of one."""

FILES = {"CERTIFICATE_FILE": "certificate", "ASSERTION_FILE": "assertion"}
"""The variables that name a file of which there is no form without ``_FILE``."""

_INSTEAD_OF_A_SECRET = ("CLIENT_SECRET_FILE", *FILES)


def read_environment(
    prefix: str, environ: Mapping[str, str]
) -> ConfigError | tuple[dict[str, Any], InboxCheck]:
    """The fields of an inbox and what was found in them, or why there can be none."""
    reader = _Reader(prefix, environ)
    if reader.lacks_underscore():
        return reader.check.error()
    values = reader.read()
    if reader.check.errors:
        return reader.check.error()
    return values, reader.check


class _Reader:
    """The variables under a prefix, and what is found to be wrong with them."""

    def __init__(self, prefix: str, environ: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._variables = {
            name.removeprefix(prefix): value
            for name, value in environ.items()
            if name.startswith(prefix)
        }
        tenant = {} if self._is_set("TOKEN_URI") else {"TENANT_ID": "token_uri"}
        fields = VARIABLES | FILES | tenant
        self._is_tenant_given = bool(tenant)
        self._set_fields = {fields[name] for name in fields if self._is_set(name)}
        names = {field: self._as_set(name) for name, field in fields.items()}
        belongs = {"token_uri": TENANT_BELONGS} if tenant else {}
        instead = tuple(prefix + name for name in _INSTEAD_OF_A_SECRET)
        self.check = InboxCheck(Notation("environment", names, belongs, instead))

    def lacks_underscore(self) -> bool:
        """Note it where a prefix lacks the underscore between it and the names of variables."""
        if not self._prefix or self._prefix.endswith("_") or self._set_fields:
            return False
        prefix = f"{self._prefix}_"
        self.check.add(
            one_line(self._prefix),
            "is a prefix without its underscore, and no variable that is read begins so.",
            f'Write from_env("{one_line(prefix)}"), which reads {one_line(prefix)}USER.',
        )
        return True

    def read(self) -> dict[str, Any]:
        """The fields that are set; usable only where no error was found."""
        self._find_unknown()
        texts = self._texts()
        name = texts.pop("name", "").strip(BLANKS) or _inbox_of(self._prefix)
        values: dict[str, Any] = {**self.check.texts(texts), **self._credentials(), "name": name}
        self._find_missing(values)
        values["debug"] = values.get("debug") == "true"
        if "port" in values and not self.check.errors:
            values["port"] = int(values["port"])
        return values

    # ---- fields

    def _texts(self) -> dict[str, str]:
        """The fields that are texts, and what stands for them."""
        cloud = self._cloud()
        texts = {"host": cloud.imap_host, "scope": cloud.scope, "port": "993", "tls": "implicit"}
        texts |= self._endpoint(cloud)
        for name, field in VARIABLES.items():
            text = self._text(name)
            # What is empty is as good as unset where there is a default.
            if text is not None and (text.strip(BLANKS) or field in REQUIRED):
                texts[field] = text.casefold() if field in _ONE_CASE else text
            elif text is None and self._is_set(name):  # what it is to be is not its default
                texts.pop(field, None)
        return texts

    def _endpoint(self, cloud: Cloud) -> dict[str, str]:
        """The token endpoint, if it is given by its tenant."""
        tenant = self._text("TENANT_ID")
        if tenant is None:
            return {}
        if self._is_tenant_given:
            return {"token_uri": tenant_uri(cloud, tenant)}
        self._contradict("TENANT_ID", "TOKEN_URI")
        return {}

    def _cloud(self) -> Cloud:
        name = (self._text("CLOUD") or "").strip(BLANKS)
        cloud = _CLOUDS.get(name.casefold() or "worldwide")
        if cloud is None:
            names = ", ".join(_CLOUDS)
            self._add("CLOUD", f"is none of {names}.", "Write one of them, or leave it out.")
        return cloud or Cloud.WORLDWIDE

    def _credentials(self) -> dict[str, object]:
        """The credentials that are no texts."""
        found: dict[str, object] = {}
        password = self._text("CERTIFICATE_PASSWORD")
        if "CERTIFICATE_FILE" in self._variables:
            found["certificate"] = self._certificate(password)
        elif password is not None:
            why = f"is set without {self._prefix}CERTIFICATE_FILE."
            self._add("CERTIFICATE_PASSWORD", why, "Add that, or remove this.")
        if "ASSERTION_FILE" in self._variables and self._content("ASSERTION_FILE") is not None:
            found["assertion"] = SecretFile(self._path("ASSERTION_FILE"))
        if "CLIENT_SECRET_FILE" in self._variables:  # its text is checked; it may be replaced
            found["client_secret"] = SecretFile(self._path("CLIENT_SECRET_FILE"))
        return found

    def _find_missing(self, values: dict[str, Any]) -> None:
        """Note what is missing, in the same error as all else.

        Where nothing else is wrong, the inbox may be one to be opened with a token.
        """
        if "user" not in self._set_fields:
            self.check.missing("user")
        is_meant = not self._set_fields.isdisjoint(("token_uri", "client_id"))
        needed = "user" not in self._set_fields or (is_meant and bool(self.check.errors))
        unusable = {field: "" for field in self._set_fields if values.get(field) is None}
        self.check.identity(values | unusable, needed=needed)

    def _certificate(self, password: str | None) -> object:
        with no_fork:
            from exo_imap_oauth.credentials import ClientCertificate  # noqa: PLC0415 - loaded on use

        path = self._path("CERTIFICATE_FILE")
        if not self._is_usable_path("CERTIFICATE_FILE"):
            return None
        is_pfx = path.suffix.casefold() in (".pfx", ".p12")
        read = ClientCertificate.from_pfx if is_pfx else ClientCertificate.from_pem
        try:
            return read(path, password=password or None)
        except OSError as error:
            self._unreadable("CERTIFICATE_FILE", error)
        except ImportError as error:
            why = f"cannot be used: {error}."
            self._add("CERTIFICATE_FILE", why, "Install that extra.")
        except ValueError as error:
            why = f"cannot be used: {one_line(str(error)).rstrip('.')}."
            fix = "Check the file and its password."
            if is_quoted(password or ""):
                fix = f"Write {self._as_set('CERTIFICATE_PASSWORD')} without quotes."
            self._add("CERTIFICATE_FILE", why, fix)
        return None

    # ---- variables

    def _is_set(self, name: str) -> bool:
        return name in self._variables or name + _FILE in self._variables

    def _as_set(self, name: str) -> str:
        """The variable, or the one that names its file."""
        is_file = name + _FILE in self._variables
        return self._prefix + name + (_FILE if is_file else "")

    def _text(self, name: str) -> str | None:
        """The value of a variable, or of the file that the one with ``_FILE`` names."""
        if name + _FILE not in self._variables:
            text = self._variables.get(name)
            return None if text is None else self._unquoted(name, HiddenText(text))
        if name in self._variables:
            self._contradict(name + _FILE, name)
            return None
        return self._content(name + _FILE)

    def _content(self, name: str) -> str | None:
        if not self._is_usable_path(name):
            return None
        try:
            return self._unquoted(name, HiddenText(files.read_value(self._path(name))))
        except (OSError, ValueError) as error:
            self._unreadable(name, error)
            return None

    def _unquoted(self, name: str, text: str) -> str | None:
        """The text, unless it is enclosed in quotes."""
        # A passphrase may be; whether this one is shows where it is used.
        if name.startswith("CERTIFICATE_PASSWORD") or not is_quoted(text):
            return text
        self._add(name, _QUOTED, "Write the value without quotes.")
        return None

    def _path(self, name: str) -> Path:
        return Path(self._variables[name].strip(BLANKS))

    def _is_usable_path(self, name: str) -> bool:
        """Whether a variable can name a file."""
        given = self._variables[name]
        path = given.strip(BLANKS)
        if not path:
            self._add(name, "is empty.", "Write the path of the file.")
            return False
        if path != given:
            self._add(name, PADDED, "Remove them.", fatal=False)
        return self._unquoted(name, path) is not None

    def _find_unknown(self) -> None:
        known = {*VARIABLES, *OTHERS}
        known |= {name + _FILE for name in known} | FILES.keys()
        for name in self._variables:
            if name in known:
                continue
            meant = name[:_LONGEST_LOOKED_UP].upper()
            near = [each for each in sorted(known) if each.endswith(f"_{meant}")]
            near += difflib.get_close_matches(meant, known, n=1)
            fix = f"Did you mean {self._prefix}{near[0]}?" if near else "Remove it, or correct it."
            self._add(name, "is not a variable that is read.", fix, fatal=False)

    def _contradict(self, name: str, other: str) -> None:
        self._add(name, f"is set beside {self._prefix}{other}.", "Keep one of them.")

    def _unreadable(self, name: str, error: OSError | ValueError) -> None:
        path = files.shown_path(str(self._path(name)))
        reason = files.reason(error)
        fix = files.SAVE_IN_UTF_8 if files.is_of_encoding(error) else "Check path and permissions."
        if files.has_odd_ends(str(self._path(name))):
            reason, fix = files.ODD_ENDS, files.WITHOUT_ODD_ENDS
        verb = ":" if "cannot be read" in reason else " cannot be read:"  # as of a certificate
        self._add(name, f"its file{path}{verb} {reason}.", fix)

    def _add(self, name: str, message: str, fix: str, *, fatal: bool = True) -> None:
        self.check.add(one_line(self._prefix + name), message, fix, fatal=fatal)


def _inbox_of(prefix: str) -> str:
    """The inbox that a prefix names: ``sales`` for ``SALES_``."""
    return prefix.removeprefix(_PREFIX).strip("_").casefold() or "default"
