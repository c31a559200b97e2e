"""The Microsoft clouds: which Entra authority, IMAP host and scope belong together.

Everything that is known about Microsoft's hosts, resources and audiences is kept here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from enum import Enum
from urllib.parse import urlsplit

EXCHANGE_ID = "00000002-0000-0ff1-ce00-000000000000"
"""The application ID of Office 365 Exchange Online, the same in all tenants."""

_GRAPH_ID = "00000003-0000-0000-c000-000000000000"
# The patterns are compiled on use, since this module is loaded with every token source.
_ENTRA_HOST = (
    r"(?:login|login-us|sts)\.(?:partner\.)?"  # login.partner.microsoftonline.cn
    r"(?:microsoftonline\.(?:com|us|cn)|windows\.net|microsoft\.com|chinacloudapi\.cn)"
)
_DOD_HOSTS = ("outlook-dod.office365.us", "webmail.apps.mil")
_EXCHANGE_HOST = r"(?:outlook|partner)\.(?:office|office365|outlook)\.(?:com|us|cn)"
_GRAPH_HOST = r"(?:dod-)?graph\.microsoft\.\w+|microsoftgraph\.chinacloudapi\.cn"
_OLDER_US_LOGIN = "login-us.microsoftonline.com"  # for tenants of either cloud
_OLDER_GRAPH_HOST = "graph.windows.net"
# Microsoft names it for consent to multi-tenant applications, so it is not known to be wrong.
_CONSENT_HOST = "ps.outlook.com"


class Cloud(Enum):
    """A Microsoft cloud.

    ``US_GOVERNMENT`` is GCC High; a tenant of GCC is in the worldwide cloud. ``US_DOD`` has the
    same token endpoints as GCC High and hosts of its own.

    Microsoft documents the authorities, the hosts and the portals. The scope strings outside the
    worldwide cloud follow its pattern; for app-only IMAP they are not documented, and nobody is
    known to have shown them there. ``TokenSource(scope=...)`` overrides them.

    Attributes:
        authority: Base URL of the Entra endpoints, without a trailing slash.
        imap_host: Host name of the Exchange Online IMAP service.
        scope: The scope of the client-credentials request: the Exchange resource and
            ``/.default``.
        portal: Base URL of the portal with the app registrations.
    """

    authority: str
    imap_host: str
    scope: str
    portal: str

    WORLDWIDE = (
        "https://login.microsoftonline.com", "outlook.office365.com", "https://entra.microsoft.com"
    )  # fmt: skip
    US_GOVERNMENT = (
        "https://login.microsoftonline.us", "outlook.office365.us", "https://portal.azure.us"
    )  # fmt: skip
    US_DOD = ("https://login.microsoftonline.us", _DOD_HOSTS[0], "https://portal.azure.us")
    CHINA = (
        "https://login.partner.microsoftonline.cn", "partner.outlook.cn", "https://portal.azure.cn"
    )  # fmt: skip

    def __init__(self, authority: str, imap_host: str, portal: str) -> None:
        self.authority = authority
        self.imap_host = imap_host
        self.scope = f"https://{imap_host}/.default"
        self.portal = portal


_BY_DOMAIN = {
    "com": (Cloud.WORLDWIDE,),
    "net": (Cloud.WORLDWIDE,),  # login.windows.net
    "us": (Cloud.US_GOVERNMENT, Cloud.US_DOD),
    "cn": (Cloud.CHINA,),
}


def clouds_of(address: str) -> tuple[Cloud, ...]:
    """The clouds that an address of Entra or Exchange Online, a host or URL, may be of."""
    host = _host_in(address)
    if host in _DOD_HOSTS:
        return (Cloud.US_DOD,)
    if is_entra_host(host) and host != _OLDER_US_LOGIN:
        return _BY_DOMAIN[host.rpartition(".")[2]]
    return _BY_DOMAIN[host.rpartition(".")[2]][:1] if is_exchange_host(host) else ()


def cloud_of_host(host: str) -> Cloud | None:
    """The first cloud that a host of Entra or Exchange Online may be of, or None."""
    return next(iter(clouds_of(host)), None)


def cloud_of(*addresses: str) -> Cloud:
    """The one cloud that all addresses may be of; those that contradict earlier ones are left out.

    It is the worldwide one where nothing tells.
    """
    clouds = tuple(Cloud)
    for address in addresses:
        clouds = tuple(cloud for cloud in clouds_of(address) if cloud in clouds) or clouds
    return clouds[0]


def differing_clouds(one: str, other: str) -> tuple[Cloud, Cloud] | None:
    """The clouds of two addresses, hosts or URLs, if they are known to be different ones."""
    ones, others = clouds_of(one), clouds_of(other)
    if not ones or not others or {*ones} & {*others}:
        return None
    return ones[0], others[0]


def _host_in(address: str) -> str:
    with suppress(ValueError):  # no host at all
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    return ""


def is_entra_host(host: str) -> bool:
    """Whether it is a host of Microsoft Entra."""
    return re.fullmatch(_ENTRA_HOST, host.casefold()) is not None


def is_exchange_host(host: str) -> bool:
    """Whether it is a host of Exchange Online."""
    host = host.casefold()
    return host in _DOD_HOSTS or re.fullmatch(_EXCHANGE_HOST, host) is not None


def is_exchange_audience(audience: str) -> bool:
    """Whether a token with this ``aud``, or for this resource, may be one for Exchange Online."""
    resource = audience.casefold().rstrip("/").removeprefix("https://")
    return resource in (EXCHANGE_ID, _CONSENT_HOST) or is_exchange_host(resource)


def is_graph_scope(scope: str) -> bool:
    """Whether it is a scope of Microsoft Graph, whose tokens IMAP refuses."""
    resource = scope.casefold().removeprefix("https://").partition("/")[0]
    if resource in (_GRAPH_ID, _OLDER_GRAPH_HOST):
        return True
    return re.fullmatch(_GRAPH_HOST, resource) is not None
