"""What values look like: patterns, all linear in time, and questions about one value."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from exo_imap_oauth.errors import InsecureConnectionError

EXCHANGE_ID = "00000002-0000-0ff1-ce00-000000000000"

# A name that a separator follows, such as "outlook.office365.comcmsbs.mail.imap.port =". It can
# begin nowhere else than at its first character, or a long name would be read once a character.
_ASSIGNED = re.compile(r"(?<![\w.$-]) [\w.$-]++ (?=\s*+[=:])", re.VERBOSE)
_OUR_NAME = re.compile(r"cmsbs\.(?:mail\.imap|bouncelistener)\.[\w.$-]+")
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
NOT_PLAIN = re.compile(r"[^\x21-\x7e]")  # a blank, or not ASCII
GUID = re.compile(
    r"(?!0{8}-) [0-9a-f]{8} (?:-[0-9a-f]{4}){3} -[0-9a-f]{12}",
    re.VERBOSE | re.IGNORECASE,
)
_DNS_NAME = re.compile(
    r"""(?: [a-z0-9] (?:[a-z0-9-]*[a-z0-9])? \. )+  # contoso.onmicrosoft.
        [a-z0-9-]{2,}                               # com""",
    re.VERBOSE | re.IGNORECASE,
)
ADDRESS = re.compile(r"[^@\s<>\"',;:]+@[^@\s<>\"',;:]+")
HOST = re.compile(
    r"""[\w.-]+        # outlook.office365.com, 127.0.0.1
      | [0-9a-f.:]+    # ::1""",
    re.VERBOSE | re.IGNORECASE,
)
_TOKEN_URI = re.compile(
    r"""https://[^/\s]+/
        ([^/\s]*)                # the tenant
        /oauth2/v2\.0/token
        (?:\?\S*)?               # ?dc=ESTS-PUB-WEULR1""",
    re.VERBOSE | re.IGNORECASE,
)
SINGLE_BACKSLASH = re.compile(r'\\[^\\tnrfu\n=:#! "]')  # Abc8Q\~d, after \\ was taken out
_LOOPBACK = re.compile(r"localhost | 127(?:\.\d+){3} | ::1", re.VERBOSE)
_ENTRA_HOST = re.compile(
    r"""(?: login | login-us | sts )\.(?:partner\.)?  # login.partner.microsoftonline.cn
        (?: microsoftonline\.(?:com|us|cn)
          | windows\.net | microsoft\.com | chinacloudapi\.cn )""",
    re.VERBOSE,
)
_EXCHANGE_HOST = re.compile(
    r"""(?: outlook | partner | outlook-dod )\.       # outlook-dod.office365.us
        (?: office | office365 | outlook )\.(?:com|us|cn)""",
    re.VERBOSE,
)
GRAPH = re.compile(
    r"""(?:https://)?
        (?: (?:dod-)?graph\.microsoft\.\w+            # https://graph.microsoft.com/.default
          | microsoftgraph\.chinacloudapi\.cn
          | graph\.windows\.net
          | 00000003-0000-0000-c000-000000000000 )
        (?:/.*|)""",
    re.VERBOSE | re.IGNORECASE,
)
_DEFAULT_SCOPE = re.compile(r"[^\s,;+]+/\.default")  # https://outlook.office365.com/.default
_MAX_PORT = 65_535


def run_together(value: str) -> list[str]:
    """The keys of ours that are set inside a value, where several lines became one."""
    if "cmsbs." not in value:
        return []
    names = [_OUR_NAME.search(name) for name in _ASSIGNED.findall(value)]
    return [name[0] for name in names if name]


def url_parts(uri: str) -> SplitResult | None:
    """The parts of an absolute URL, or None."""
    if re.search(r"\s", uri):
        return None
    try:
        parts = urlsplit(uri)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable and parts.scheme in ("http", "https") else None


def url_host(uri: str) -> str:
    """The host of an absolute URL, or ""."""
    parts = url_parts(uri)
    return (parts.hostname or "") if parts else ""


def has_user_or_fragment(uri: str) -> bool:
    """Whether a URL holds what no token endpoint has: ``user:password@`` or ``#fragment``."""
    parts = url_parts(uri)
    if parts is None:
        return False
    return parts.username is not None or parts.password is not None or parts.fragment != ""


def has_empty_path(uri: str) -> bool:
    """Whether a URL ends at its host."""
    parts = url_parts(uri)
    return parts is not None and not parts.path.strip("/")


def tenant_of(uri: str) -> str | None:
    """The tenant that a token endpoint of Entra's form names, or None."""
    match = _TOKEN_URI.fullmatch(uri)
    return match[1].casefold() if match else None


def is_malformed_tenant(tenant: str | None) -> bool:
    """Whether there is a tenant and it is neither a GUID nor a DNS name."""
    return tenant is not None and not (GUID.fullmatch(tenant) or _DNS_NAME.fullmatch(tenant))


def is_entra_host(host: str) -> bool:
    """Whether it is a host of Microsoft Entra."""
    return _ENTRA_HOST.fullmatch(host) is not None


def is_loopback(host: str) -> bool:
    """Whether it is this machine."""
    return _LOOPBACK.fullmatch(host) is not None


def is_exchange_host(host: str) -> bool:
    """Whether it is a host of Exchange Online."""
    return _EXCHANGE_HOST.fullmatch(host.casefold()) is not None


def is_default_scope(scope: str) -> bool:
    """Whether it is one resource and ``/.default``."""
    return _DEFAULT_SCOPE.fullmatch(scope.casefold()) is not None


def is_exchange_scope(scope: str) -> bool:
    """Whether its resource is Exchange Online."""
    resource = scope.casefold().removesuffix("/.default").rstrip("/").removeprefix("https://")
    return resource == EXCHANGE_ID or is_exchange_host(resource)


def is_quoted(value: str) -> bool:
    """Whether quotes stand at both ends."""
    return value[:1] in ("'", '"') and value[-1:] == value[:1]


def is_port(value: str) -> bool:
    """Whether it is a number from 1 to 65535."""
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
