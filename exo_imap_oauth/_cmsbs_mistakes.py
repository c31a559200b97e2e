"""Every mistake that is looked for in a configuration, in one table.

No message quotes a value: any value may be a secret that landed in the wrong place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, urlsplit

from exo_imap_oauth._cmsbs_keys import APP, KEYS, ODD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# entra: an error where the token endpoint is Entra's, elsewhere a warning;
# exchange: an error where the server is Exchange Online's, elsewhere a warning.
Severity = Literal["error", "warning", "entra", "exchange"]


@dataclass(frozen=True, slots=True)
class Checked:
    """One value, with what is needed to judge it."""

    value: str = field(repr=False)
    others: Mapping[str, str] = field(repr=False)  # all values of the inbox
    padded: bool = False  # blanks stood around it
    raw: str = field(default="", repr=False)  # as it stands in the file, escapes and all
    following: str = field(default="", repr=False)  # the line below


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is looked for, where, and what is said about it."""

    id: str
    severity: Severity
    keys: tuple[str, ...]
    message: str
    fix: str
    when: Callable[[Checked], object] = lambda _: False  # found elsewhere, in the structure


_URI, _ID, _SECRET = ("oauth2.accessTokenUri",), ("oauth2.clientId",), ("oauth2.clientSecret",)
_SCOPE, _FOLDER = ("oauth2.scope",), ("folder.inbox",)
_STRICT = tuple(name for name in KEYS if name not in _SECRET + _FOLDER)
_REQUIRED = tuple(key.name for key in KEYS.values() if key.default is None)

RUN_TOGETHER = re.compile(r"(cmsbs\.(?:mail\.imap|bouncelistener)\.[\w.$-]+)\s*[=:]")
PLACEHOLDER = re.compile(r"['\"]?(?:<[^<>@]*>|\[\[.*?\]\]|\{\{.*?\}\}|\$\{.*?\})['\"]?", re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_GUID = re.compile(r"(?!0{8}-)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DNS_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]{2,}", re.IGNORECASE)
_ADDRESS = re.compile(r"[^@\s<>\"',;:]+@[^@\s<>\"',;:]+")
_HOST = re.compile(r"[\w.-]+|[0-9a-f.:]+", re.IGNORECASE)
_TOKEN_URI = re.compile(r"https://[^/\s]+/([^/\s]*)/oauth2/v2\.0/token(?:\?\S*)?", re.IGNORECASE)
_NO_ESCAPE = re.compile(r'\\[^\\tnrfu\n=:#! "]')
_LOOPBACK = re.compile(r"localhost|127(?:\.\d+){3}|::1")
_ENTRA_HOST = re.compile(
    r"(?:login|login-us|sts)\.(?:partner\.)?"
    r"(?:microsoftonline\.(?:com|us|cn)|windows\.net|microsoft\.com|chinacloudapi\.cn)"
)
_EXCHANGE_HOST = re.compile(
    r"(?:outlook|partner|outlook-dod)\.(?:office|office365|outlook)\.(?:com|us|cn)"
)
_EXCHANGE_ID = "00000002-0000-0ff1-ce00-000000000000"
_GRAPH = re.compile(
    r"(?:https://)?(?:(?:dod-)?graph\.microsoft\.\w+|microsoftgraph\.chinacloudapi\.cn"
    r"|graph\.windows\.net|00000003-0000-0000-c000-000000000000)(?:/.*|)",
    re.IGNORECASE,
)


def _split(uri: str) -> SplitResult | None:
    """The parts of an absolute URL, or None."""
    try:
        parts = urlsplit(uri)
        usable = parts.hostname and parts.port != 0 and not re.search(r"\s", uri)
    except ValueError:
        return None
    return parts if usable and parts.scheme in ("http", "https") else None


def _host(uri: str) -> str:
    parts = _split(uri)
    return (parts and parts.hostname) or ""


def _tenant(uri: str) -> str | None:
    match = _TOKEN_URI.fullmatch(uri)
    return match[1].casefold() if match else None


def _malformed(tenant: str | None) -> bool:
    return tenant is not None and not (_GUID.fullmatch(tenant) or _DNS_NAME.fullmatch(tenant))


def _resource(scope: str) -> str:
    return scope.casefold().removesuffix("/.default").rstrip("/").removeprefix("https://")


def _quoted(value: str) -> bool:
    return value[:1] in ("'", '"') and value[-1:] == value[:1]


def _is_port(value: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", value) is not None and 0 < int(value) < 1 << 16


def is_error(severity: Severity, values: Mapping[str, str]) -> bool:
    """Whether a finding of this severity is an error in an inbox with these values."""
    if severity == "entra":  # a URI too damaged to tell was meant to be Entra's
        uri = values.get(*_URI, "")
        return not _host(uri) or bool(_ENTRA_HOST.fullmatch(_host(uri)) or _tenant(uri))
    if severity == "exchange":
        return bool(_EXCHANGE_HOST.fullmatch(values.get("server", "").casefold()))
    return severity == "error"


_BELONGS = "Put there {belongs}."
_NEW_SECRET = f"Copy the Value of a client secret ({APP} > Certificates & secrets)."
_CLIENT_ID = f"Copy the Application (client) ID from {APP} > Overview."
_TENANT_ID = f"Copy the Directory (tenant) ID from {APP} > Overview."
_USE_SCOPE = "Write https://outlook.office365.com/.default."
_OBJECT_ID = (
    "The enterprise_object_id (Entra admin center > Enterprise applications > your app > Overview"
    " > Object ID) belongs into New-ServicePrincipal, not here."
)

# Values are held against these in this order, up to the first error; without `when`, a mistake
# of the structure. Aligned by hand, as a table is read.
# fmt: off
MISTAKES: tuple[Mistake, ...] = (
    Mistake("run-together", "error", tuple(KEYS), "several settings run together on this line.",
            "Write each setting on a line of its own.", lambda c: RUN_TOGETHER.search(c.value)),
    Mistake("soft-wrap", "error", _URI, "the URI is cut in two by a line break.",
            "Write the whole URI on one line.",
            lambda c: not _tenant(c.value) and _tenant(c.value + c.following.strip())),
    Mistake("empty", "error", _REQUIRED, "is empty.", _BELONGS, lambda c: not c.value.strip()),
    Mistake("placeholder-object-id", "error", tuple(KEYS), "a placeholder is left in.",
            _BELONGS + " " + _OBJECT_ID, lambda c: "<enterprise_object_id>" in c.value),
    Mistake("placeholder", "error", _STRICT, "a placeholder is left in.", _BELONGS,
            lambda c: PLACEHOLDER.search(c.value)),
    Mistake("placeholder-whole", "error", _SECRET + _FOLDER, "a placeholder is left in.",
            _BELONGS, lambda c: PLACEHOLDER.fullmatch(c.value.strip())),
    Mistake("secret-control", "entra", _SECRET,
            r"holds a control character: Java makes them of \t, \n, \r, \f and \u.",
            "Double each backslash of the secret.", lambda c: _CONTROL.search(c.value)),
    Mistake("control-character", "error", (*_STRICT, *_FOLDER), "holds a control character.",
            "Write the value anew, without it.", lambda c: _CONTROL.search(c.value)),
    Mistake("odd-character", "entra", (*_STRICT, *_SECRET),
            "holds a typographic quote, a non-breaking blank or an invisible character, as a copy"
            " from a web page or a word processor does.",
            "Type the value, or paste it as plain text.", lambda c: ODD.search(c.value)),
    Mistake("padded", "warning", (*_STRICT, *_FOLDER),
            "has blanks around it, to Java a part of it; they are ignored here.",
            "Remove the blanks.", lambda c: c.padded),
    # -- the connection
    Mistake("server-no-host", "error", ("server",), "is no host name.",
            "Write the host name alone, such as outlook.office365.com.",
            lambda c: not _HOST.fullmatch(c.value)),
    Mistake("port-no-number", "error", ("port",), "is no number from 1 to 65535.",
            "Write 993.", lambda c: not _is_port(c.value)),
    Mistake("port-and-ssl", "exchange", ("port",),
            "does not go with ssl: 993 is for true, 143 (the default) for tls, which is STARTTLS.",
            "Write {key} = 993 and ssl = true.",
            lambda c: (c.value, c.others["ssl"]) in (("143", "true"), ("993", "tls"))),
    Mistake("ssl-unknown", "error", ("ssl",), "is neither true (TLS) nor tls (STARTTLS).",
            "Write true.", lambda c: c.value not in ("true", "tls", "false")),
    Mistake("ssl-off", "error", ("ssl",), "is false: anybody could read the access token.",
            "Write true, with port 993.", lambda c: c.value == "false"),
    Mistake("user-no-address", "exchange", ("user",), "is no plain mail address.", _BELONGS,
            lambda c: not _ADDRESS.fullmatch(c.value)),
    Mistake("grant-type", "error", ("oauth2.grantType",),
            "is not client_credentials; every other grant needs a person who signs in.",
            "Write client_credentials.", lambda c: c.value != "client_credentials"),
    Mistake("debug-unknown", "warning", ("oauth2.debug",), "is neither true nor false: it is off.",
            "Write true or false.", lambda c: c.value.casefold() not in ("true", "false")),
    # -- the token endpoint
    Mistake("uri-http", "error", _URI, "is http: the client secret would travel in the open.",
            "Write https.", lambda c: c.value.casefold().startswith("http://")),
    Mistake("uri-no-url", "error", _URI, "is no https URL.", _BELONGS,
            lambda c: _split(c.value) is None),
    Mistake("uri-path", "entra", _URI, "has another path than /<tenant_id>/oauth2/v2.0/token.",
            _BELONGS, lambda c: _tenant(c.value) is None),
    Mistake("tenant-not-specific", "error", _URI,
            "names common, organizations or consumers, where no application can sign in.",
            _TENANT_ID, lambda c: _tenant(c.value) in ("common", "organizations", "consumers")),
    Mistake("tenant-malformed", "error", _URI, "its tenant is no whole GUID and no DNS name.",
            _TENANT_ID, lambda c: _malformed(_tenant(c.value))),
    Mistake("uri-host", "warning", _URI, "its host is none of Microsoft's.",
            "Write login.microsoftonline.com, unless another host is meant.",
            lambda c: not any(p.fullmatch(_host(c.value)) for p in (_ENTRA_HOST, _LOOPBACK))),
    # -- the application
    Mistake("client-id-quoted", "entra", _ID, "has quotes inside its quotes.",
            "Write the ID alone.", lambda c: _quoted(c.value)),
    Mistake("client-id-address", "entra", _ID, "is a mail address.", _CLIENT_ID,
            lambda c: _ADDRESS.fullmatch(c.value)),
    Mistake("client-id-no-guid", "entra", _ID, "is no GUID.", _CLIENT_ID,
            lambda c: not _GUID.fullmatch(c.value)),
    Mistake("client-id-is-tenant", "entra", _ID, "is the tenant ID.", _CLIENT_ID,
            lambda c: c.value.casefold() == _tenant(c.others[_URI[0]])),
    Mistake("secret-id", "entra", _SECRET, "looks like a GUID: it is the Secret ID, not the Value.",
            _NEW_SECRET, lambda c: _GUID.fullmatch(c.value.strip())),
    Mistake("secret-comment", "entra", _SECRET, "ends in a comment, to Java a part of the value.",
            "Move the comment to a line of its own.", lambda c: re.search(r"\s[#!]", c.value)),
    Mistake("secret-blanks", "entra", _SECRET,
            "holds a blank, perhaps at its end; it would be sent too.",
            "Remove the blank.", lambda c: re.search(r"\s", c.value)),
    Mistake("secret-quoted", "entra", _SECRET, "has single quotes, or quotes inside its quotes.",
            "Remove them; double quotes around the whole value do no harm.",
            lambda c: _quoted(c.value)),
    Mistake("secret-backslash", "warning", _SECRET,
            "is written with single backslashes, which Java drops.",
            "Double each backslash that is part of the secret, remove the others.",
            lambda c: _NO_ESCAPE.search(c.raw.replace(r"\\", ""))),
    # -- the scope
    Mistake("scope-graph", "entra", _SCOPE, "is of Microsoft Graph, whose tokens IMAP refuses.",
            _USE_SCOPE, lambda c: _GRAPH.fullmatch(c.value)),
    Mistake("scope-not-default", "entra", _SCOPE, "is not one resource and /.default.",
            _USE_SCOPE, lambda c: not re.fullmatch(r"[^\s,;+]+/\.default", c.value.casefold())),
    Mistake("scope-resource", "warning", _SCOPE, "is not of Exchange Online.", _USE_SCOPE,
            lambda c: _resource(c.value) != _EXCHANGE_ID
            and not _EXCHANGE_HOST.fullmatch(_resource(c.value))),
    # -- what the inbox is
    Mistake("missing", "error", _REQUIRED, "is missing.", "Add it: {belongs}."),
    Mistake("missing-misspelt", "error", _REQUIRED,
            "is not a key that is read, and {key} is missing.", "Write {key}."),
    Mistake("not-oauth2", "warning", ("authenticationMethod",),
            "is not oauth2, so the inbox {inbox} is not read here.", "Write {key} = oauth2."),
    Mistake("not-imap", "warning", ("protocol",),
            "is not imap, so the inbox {inbox} is not read here.", "Write {key} = imap."),
    Mistake("only-shared", "warning", ("server", "user"),
            "the primary inbox has neither server nor user: only listeners are read.",
            "Nothing, if that is meant."),
    Mistake("listener-without-keys", "warning", ("cmsbs.bounce.listeners",),
            "lists {inbox}, which has no key of its own.", "Add its keys, or remove the name."),
    Mistake("listener-not-listed", "warning", (),
            "belongs to {inbox}, which is not listed and not read.", "Add {inbox} to {key}."),
    Mistake("listener-named-default", "error", ("cmsbs.bounce.listeners",),
            "lists default, the name of the primary inbox.", "Rename that listener."),
    Mistake("unknown-key", "warning", (), "is not a key that is read.", "{nearest}"),
    Mistake("misplaced-key", "warning", ("oauth2.*", "authenticationMethod"),
            "is read here, but Universal Messenger documents another key.", "Write {key}."),
    # -- files and layers
    Mistake("unreadable", "error", (), "cannot be read: {reason}.", "Check path and permissions."),
    Mistake("malformed-escape", "error", (),
            r"A \u that four hexadecimal digits do not follow is malformed to Java.",
            r"Double the backslash: C:\\users."),
    Mistake("encoding", "warning", (), "is not in the encoding {encoding}; read as Latin-1.",
            "Save the file in the encoding that its beginning names."),
    Mistake("conf-d", "error", ("cmsbs.directory.confd",),
            "the folder {path} cannot be read: {reason}.", "Name a folder."),
    Mistake("value-and-file", "error", ("*$file",),
            "is set in the same layer as that key without $file.", "Keep one of them."),
    Mistake("two-variables", "warning", (),
            "is set with dots and with __ in the environment; the one with dots is used.",
            "Keep one of them."),
    Mistake("value-file", "error", ("*$file",), "its file{path} cannot be read: {reason}.",
            "Check path and permissions; a relative path begins at {folder}."),
)
# fmt: on
BY_ID = {mistake.id: mistake for mistake in MISTAKES}
