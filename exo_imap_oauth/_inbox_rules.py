"""What can be wrong with a value of an inbox: patterns, questions, and the table of rules.

Every pattern is linear in time. No message quotes a value: any value may be a secret that
landed in the wrong place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, urlsplit

from exo_imap_oauth._identifiers import (
    is_address,
    is_id,
    is_tenant,
    is_tenant_of_many,
    tenant_of,
)
from exo_imap_oauth._text import holds_control
from exo_imap_oauth.clouds import (
    EXCHANGE_ID,
    Cloud,
    cloud_of,
    differing_clouds,
    is_entra_host,
    is_exchange_audience,
    is_exchange_host,
    is_graph_scope,
)
from exo_imap_oauth.errors import InsecureConnectionError

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
        fields: The fields of an inbox where it is looked for; none means any.
        but: The fields where it is not looked for.
        message: What is wrong, with names in braces for what is filled in: ``belongs``, and what
            is written for TLS: ``tls``, ``implicit``, ``starttls``.
        fix: What to do about it, likewise.
    """

    id: str
    severity: Severity
    fields: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    message: str
    fix: str

    def concerns(self, name: str) -> bool:
        """Whether it is looked for in a field."""
        return name in self.fields if self.fields else name not in self.but


@dataclass(frozen=True, slots=True)
class Checked:
    """One value, with what is needed to judge it."""

    value: str = field(repr=False)
    others: Mapping[str, str] = field(repr=False)  # all values of the inbox, by field
    padded: bool = False  # blanks stood around it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Mistake):
    """A mistake of a value, and how to see it."""

    when: Callable[[Checked], object]


# ---- questions

BLANKS = " \t\f\r\n"  # those that are removed around a value
MAX_VALUE = 4_096  # characters of a value that are looked at; none that works is longer
# What one placeholder begins with cannot stand in it: "[[[[[[" would be read once a bracket.
PLACEHOLDER = re.compile(
    r"""['"]?
        (?: <[^<>@]*>         # <tenant_id>, but not <inbox@contoso.example>
          | \[\[[^\[\]]*\]\]  # [[tenant_id]]
          | \{\{[^{}]*\}\}    # {{ tenant_id }}
          | \$\{[^{}]*\}      # ${TENANT_ID}
        )
        ['"]?""",
    re.VERBOSE,
)
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# What copying from a browser or a word processor leaves behind: no-break and other blanks,
# soft hyphens, zero widths, dashes, quotes; and control characters from other encodings.
ODD = re.compile(r"[\x80-\xa0\xad\u2000-\u201f\u2028-\u202f\u205f-\u2064\u3000\ufeff]")
_NOT_PLAIN = re.compile(r"[^\x21-\x7e]")  # a blank, or not ASCII
# outlook.office365.com, localhost, 127.0.0.1, ::1, but not "-" and ".."
_HOST = re.compile(r"(?i)(?!-)\w[\w-]*(?:\.\w[\w-]*)*\.?|[0-9a-f.:]*:[0-9a-f.:]*")
_JWT = re.compile(r"eyJ[\w-]{10,}\.[\w-]+\.[\w-]*")
_THUMBPRINT = re.compile(r"(?i)(?:[0-9a-f]{2}:?){20}(?:(?:[0-9a-f]{2}:?){12})?")  # SHA-1, SHA-256
_LOOPBACK = re.compile(r"localhost|127(?:\.\d+){3}|::1")
_DEFAULT_SCOPE = re.compile(r"(?i)[^\s,;+]+/\.default")  # https://outlook.office365.com/.default
_MAX_PORT = 65_535
PADDED = "has spaces or line breaks around it; they are ignored here."


def is_error(severity: Severity, values: Mapping[str, str]) -> bool:
    """Whether a finding of this severity is an error in an inbox with these values."""
    if severity == "entra":
        host = _host_of(values["token_uri"])
        # A URI too damaged to tell was meant to be Entra's.
        return not host or is_entra_host(host) or tenant_of(values["token_uri"]) is not None
    if severity == "exchange":
        return is_exchange_host(values["host"])
    return severity == "error"


def _url(uri: str) -> SplitResult:
    """The parts of an absolute URL; those of an empty text if it is none."""
    try:
        parts = urlsplit(uri)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    return urlsplit(uri if is_usable and not re.search(r"\s", uri) else "")


def _host_of(uri: str) -> str:
    return _url(uri).hostname or ""


def _has_malformed_tenant(uri: str) -> bool:
    tenant = tenant_of(uri)
    return tenant is not None and not (is_tenant(tenant) or is_tenant_of_many(tenant))


def _is_familiar_host(uri: str) -> bool:
    host = _host_of(uri)
    return is_entra_host(host) or _LOOPBACK.fullmatch(host) is not None


def _is_mail_host(host: str) -> bool:
    return is_exchange_host(host) or _LOOPBACK.fullmatch(host.casefold()) is not None


def _is_scope_of_another_cloud(scope: str, others: Mapping[str, str]) -> bool:
    uri, host = others["token_uri"], others["host"]
    if differing_clouds(uri, host):  # which is told of the host
        return differing_clouds(scope, uri) is not None
    return any(differing_clouds(scope, other) for other in (uri, host))


def cloud_in(values: Mapping[str, object]) -> Cloud:
    """The Microsoft cloud that an inbox with these values is of; worldwide if nothing tells."""
    return cloud_of(*(str(values.get(name) or "") for name in ("token_uri", "host", "scope")))


def in_cloud(belongs: str, cloud: Cloud) -> str:
    """What belongs into a field, in a cloud."""
    here = Cloud.WORLDWIDE
    return belongs.replace(here.authority, cloud.authority).replace(here.imap_host, cloud.imap_host)


def is_quoted(value: str) -> bool:
    """Whether a pair of quotes encloses the whole of a value."""
    plain = value.strip(BLANKS)
    return len(plain) > 1 and plain[0] in ("'", '"') and plain[-1] == plain[0]


def _is_port(value: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", value) is not None and 0 < int(value) <= _MAX_PORT


def check_tls(tls: str, inbox: str) -> None:
    """Check how TLS begins on the connection of an inbox.

    Raises:
        InsecureConnectionError: Not at all.
        ValueError: It is not one of the ways there are.
    """
    if tls == "none":
        raise InsecureConnectionError(
            f'The inbox {inbox} would send its access token without TLS. Use tls="implicit" with'
            " port 993; in a cmsbs-conf that is ssl = true."
        )
    if tls not in ("implicit", "starttls"):
        raise ValueError(f"tls is neither 'implicit', 'starttls' nor 'none', but {tls!r}")


# ---- the table

_APP = "Entra admin center > App registrations > your app"
BELONGS = {  # what to put into a field, and where it is found; see in_cloud()
    "host": Cloud.WORLDWIDE.imap_host,
    "port": "993",
    "user": "the mailbox_name, the address of the mailbox to read (Entra admin center > Users > "
    "the mailbox > User principal name)",
    "folder": "INBOX",
    "token_uri": f"{Cloud.WORLDWIDE.authority}/<tenant_id>/oauth2/v2.0/token with the "
    f"tenant_id, the Directory (tenant) ID ({_APP} > Overview)",
    "client_id": f"the client_id, the Application (client) ID ({_APP} > Overview)",
    "client_secret": f"the client_secret, the Value of a client secret ({_APP} > Certificates & "
    "secrets; it is shown once, so make a new one if it is lost)",
    "scope": Cloud.WORLDWIDE.scope,
    "tls": "implicit, or starttls",
    "debug": "true or false",
}
TENANT_BELONGS = f"the tenant_id, the Directory (tenant) ID ({_APP} > Overview)"
REQUIRED = ("host", "tls", "user", "token_uri", "client_id", "client_secret")
_ENTER = "Enter {belongs}."
_TYPE_IT = "Type the value, or paste it as plain text."
_NEW_SECRET = f"Copy the Value of a client secret ({_APP} > Certificates & secrets)."
_COPY_CLIENT_ID = f"Copy the Application (client) ID from {_APP} > Overview."
_COPY_TENANT_ID = f"Copy the Directory (tenant) ID from {_APP} > Overview."
_WRITE = "Write {belongs}."
_ONE_CLOUD = "Write {belongs}, or take host, scope and token endpoint from another cloud."
_OBJECT_ID = (
    "The enterprise_object_id (Entra ID > Enterprise apps > the application > Overview"
    " > Object ID) belongs in New-ServicePrincipal, not here."
)

# A value is held against these in this order, up to the first error. What InboxConfig.open()
# and token_source() refuse must be an error here, whatever the other side is. Values are those of
# an InboxConfig as texts: a port in digits, debug as true or false.
# fmt: off
RULES = (
    Rule(id="too-long", severity="error",
         when=lambda c: len(c.value) > MAX_VALUE,
         message=f"is longer than {MAX_VALUE:,} characters.", fix=_ENTER),
    Rule(id="empty", severity="error", fields=REQUIRED,
         when=lambda c: not c.value.strip(),
         message="is empty.", fix=_ENTER),
    Rule(id="placeholder-object-id", severity="error",
         when=lambda c: "<enterprise_object_id>" in c.value,
         message="a placeholder is left in.", fix=f"{_ENTER} {_OBJECT_ID}"),
    Rule(id="placeholder", severity="error", but=("client_secret", "folder"),
         when=lambda c: PLACEHOLDER.search(c.value),
         message="a placeholder is left in.", fix=_ENTER),
    Rule(id="placeholder-whole", severity="error", fields=("client_secret", "folder"),
         when=lambda c: PLACEHOLDER.fullmatch(c.value.strip()),
         message="a placeholder is left in.", fix=_ENTER),
    Rule(id="secret-line-break", severity="error", fields=("client_secret",),
         when=lambda c: c.value != (text := c.value.rstrip("\r\n")) and not CONTROL.search(text),
         message="ends in a line break, which would be sent too.",
         fix=r"Remove it: echo -n writes none; in a .properties file, \n or \r at the end is one."),
    Rule(id="control-character", severity="error",
         when=lambda c: CONTROL.search(c.value),
         message="holds a control character, such as a line break.",
         fix="Write the value again without it."),
    Rule(id="folder-control", severity="error", fields=("folder",),
         when=lambda c: holds_control(c.value),
         message="holds a control character or a line separator, which no IMAP command can hold.",
         fix="Write the name again without it."),
    Rule(id="invisible-character", severity="error", but=("folder",),
         when=lambda c: not c.value.isprintable(),
         message="contains a no-break space or another invisible character, as a copy from a web"
         " page or a word processor does.", fix=_TYPE_IT),
    Rule(id="odd-character", severity="entra", but=("folder",),
         when=lambda c: ODD.search(c.value),
         message="holds a typographic quote or dash, as a copy from a web page or a word processor"
         " does.", fix=_TYPE_IT),
    Rule(id="padded", severity="warning", but=("client_secret",),
         when=lambda c: c.padded,
         message=PADDED, fix="Remove them."),
    # -- the connection
    Rule(id="server-no-host", severity="error", fields=("host",),
         when=lambda c: not _HOST.fullmatch(c.value),
         message="is not a host name.",
         fix="Write the host name alone, such as {belongs}."),
    Rule(id="server-host", severity="warning", fields=("host",),
         when=lambda c: not _is_mail_host(c.value) and is_error("entra", c.others),
         message="is not a host where Exchange Online serves IMAP.",
         fix="Write {belongs}, unless a proxy or another server is meant."),
    Rule(id="port-no-number", severity="error", fields=("port",),
         when=lambda c: not _is_port(c.value),
         message="is not a number from 1 to 65535.", fix="Write 993."),
    Rule(id="port-and-ssl", severity="exchange", fields=("port",),
         when=lambda c: (c.value, c.others["tls"]) in (("143", "implicit"), ("993", "starttls")),
         message="does not go with {tls}: 993 is for {implicit}, 143 for {starttls}, which is"
         " STARTTLS.", fix="Write 993, and {tls} = {implicit}."),
    Rule(id="ssl-unknown", severity="error", fields=("tls",),
         when=lambda c: c.value not in ("implicit", "starttls", "none"),
         message="is neither {implicit} (TLS) nor {starttls} (STARTTLS).",
         fix="Write {implicit}."),
    Rule(id="ssl-off", severity="error", fields=("tls",),
         when=lambda c: c.value == "none",
         message="turns TLS off: anybody could read the access token.",
         fix="Write {implicit}, with port 993."),
    Rule(id="host-of-another-cloud", severity="warning", fields=("host",),
         when=lambda c: differing_clouds(c.value, c.others["token_uri"]),
         message="is a host of another Microsoft cloud than that of the token endpoint.",
         fix=_ONE_CLOUD),
    Rule(id="user-no-address", severity="exchange", fields=("user",),
         when=lambda c: not is_address(c.value),
         message="is not a plain mail address.", fix=_ENTER),
    # -- the token endpoint
    Rule(id="uri-http", severity="error", fields=("token_uri",),
         when=lambda c: c.value.casefold().startswith("http://"),
         message="is http: the client secret would travel in the open.", fix="Write https."),
    Rule(id="uri-no-url", severity="error", fields=("token_uri",),
         when=lambda c: not _host_of(c.value),
         message="is not an https URL.", fix=_ENTER),
    Rule(id="uri-user", severity="error", fields=("token_uri",),
         when=lambda c: "@" in _url(c.value).netloc or _url(c.value).fragment,
         message="holds a user, a password or a fragment (#), which a token endpoint does not"
         " have.", fix=_ENTER),
    Rule(id="uri-path", severity="entra", fields=("token_uri",),
         when=lambda c: tenant_of(c.value) is None,
         message="has a path other than /<tenant_id>/oauth2/v2.0/token.", fix=_ENTER),
    Rule(id="uri-no-path", severity="error", fields=("token_uri",),
         when=lambda c: not _url(c.value).path.strip("/"),
         message="ends at the host: a token endpoint has a path.", fix=_ENTER),
    Rule(id="tenant-not-specific", severity="error", fields=("token_uri",),
         when=lambda c: is_tenant_of_many(tenant_of(c.value) or ""),
         message="names common, organizations or consumers, where no application can sign in.",
         fix=_COPY_TENANT_ID),
    Rule(id="tenant-malformed", severity="error", fields=("token_uri",),
         when=lambda c: _has_malformed_tenant(c.value),
         message="its tenant is neither a complete GUID nor a DNS name.", fix=_COPY_TENANT_ID),
    Rule(id="uri-host", severity="warning", fields=("token_uri",),
         when=lambda c: not _is_familiar_host(c.value),
         message="its host is not one of Microsoft's.",
         fix="Enter {belongs}, unless another host is meant."),
    # -- the application
    Rule(id="client-id-quoted", severity="entra", fields=("client_id",),
         when=lambda c: is_quoted(c.value),
         message="is enclosed in quotes.", fix="Write the ID alone."),
    Rule(id="client-id-address", severity="entra", fields=("client_id",),
         when=lambda c: is_address(c.value),
         message="is a mail address.", fix=_COPY_CLIENT_ID),
    Rule(id="client-id-no-guid", severity="entra", fields=("client_id",),
         when=lambda c: not is_id(c.value),
         message="is not a GUID.", fix=_COPY_CLIENT_ID),
    Rule(id="client-id-is-tenant", severity="entra", fields=("client_id",),
         when=lambda c: c.value.casefold() == tenant_of(c.others["token_uri"]),
         message="is the tenant ID.", fix=_COPY_CLIENT_ID),
    Rule(id="client-id-exchange", severity="entra", fields=("client_id",),
         when=lambda c: c.value.casefold() == EXCHANGE_ID,
         message="is the ID of Office 365 Exchange Online itself.", fix=_COPY_CLIENT_ID),
    Rule(id="secret-id", severity="entra", fields=("client_secret",),
         when=lambda c: is_id(c.value.strip()),
         message="looks like a GUID: it is the Secret ID, not the Value.", fix=_NEW_SECRET),
    Rule(id="secret-token", severity="entra", fields=("client_secret",),
         when=lambda c: _JWT.match(c.value.strip()),
         message="is a token or an assertion (a JWT), not a client secret.",
         fix=f"{_NEW_SECRET} A token goes to open(token=...)."),
    Rule(id="secret-thumbprint", severity="entra", fields=("client_secret",),
         when=lambda c: _THUMBPRINT.fullmatch(c.value.strip()),
         message="looks like the thumbprint of a certificate.",
         fix=f"{_NEW_SECRET} For a certificate, give the file with its key, not its thumbprint."),
    Rule(id="secret-blanks", severity="entra", fields=("client_secret",),
         when=lambda c: re.search(r"\s", c.value),
         message="contains a space, perhaps at its end; it would be sent too.",
         fix="Remove the space."),
    Rule(id="secret-quoted", severity="entra", fields=("client_secret",),
         when=lambda c: is_quoted(c.value),
         message="is enclosed in quotes, which would be sent too.", fix="Remove the quotes."),
    # -- the scope
    Rule(id="scope-graph", severity="entra", fields=("scope",),
         when=lambda c: is_graph_scope(c.value),
         message="is a scope of Microsoft Graph, whose tokens IMAP refuses.", fix=_WRITE),
    Rule(id="scope-not-default", severity="entra", fields=("scope",),
         when=lambda c: not _DEFAULT_SCOPE.fullmatch(c.value),
         message="is not one resource and /.default.", fix=_WRITE),
    Rule(id="scope-of-another-cloud", severity="warning", fields=("scope",),
         when=lambda c: _is_scope_of_another_cloud(c.value, c.others),
         message="is for another Microsoft cloud than that of the token endpoint or of the host.",
         fix=_ONE_CLOUD),
    Rule(id="scope-resource", severity="warning", fields=("scope",),
         when=lambda c: not is_exchange_audience(c.value.casefold().removesuffix("/.default")),
         message="is not a scope of Exchange Online.", fix=_WRITE),
    # -- the log
    Rule(id="debug-unknown", severity="warning", fields=("debug",),
         when=lambda c: c.value not in ("true", "false"),
         message="is neither true nor false: it is off.", fix="Write true or false."),
    # -- what is sent to the token endpoint, whoever's it is
    Rule(id="not-plain", severity="error", fields=("token_uri", "client_id", "scope"),
         when=lambda c: _NOT_PLAIN.search(c.value),
         message="contains a space or a character outside ASCII, which a token request cannot"
         " hold.",
         fix=_ENTER),
)
# fmt: on


def worded(rule: Rule, *, tls: str, implicit: str, starttls: str) -> Rule:
    """The rule in the words of a notation: how the field and its values are written there."""
    words = {"{tls}": tls, "{implicit}": implicit, "{starttls}": starttls}
    message, fix = rule.message, rule.fix
    for placeholder, word in words.items():
        message, fix = message.replace(placeholder, word), fix.replace(placeholder, word)
    return replace(rule, message=message, fix=fix)
