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
_GRAPH_HOST = re.compile(r"(?:dod-)?graph\.microsoft\.\w+|microsoftgraph\.chinacloudapi\.cn")
_OLDER_US_LOGIN = "login-us.microsoftonline.com"  # for tenants of either cloud
_OLDER_GRAPH_HOST = "graph.windows.net"
# Microsoft names it for consent to multi-tenant applications, so it is not known to be wrong.
_CONSENT_HOST = "ps.outlook.com"


class Cloud(Enum):
    """A Microsoft cloud.

    The scope strings outside the worldwide cloud follow its pattern and are not documented
    by Microsoft for app-only IMAP; ``TokenSource(scope=...)`` overrides them.

    Attributes:
        authority: Base URL of the Entra endpoints, without a trailing slash.
        imap_host: Host name of the Exchange Online IMAP service.
        scope: The scope of the client-credentials request: the Exchange resource and
            ``/.default``.
    """

    authority: str
    imap_host: str
    scope: str

    WORLDWIDE = ("https://login.microsoftonline.com", "outlook.office365.com")
    US_GOVERNMENT = ("https://login.microsoftonline.us", "outlook.office365.us")
    CHINA = ("https://login.partner.microsoftonline.cn", "partner.outlook.cn")

    def __init__(self, authority: str, imap_host: str) -> None:
        self.authority = authority
        self.imap_host = imap_host
        self.scope = f"https://{imap_host}/.default"


def cloud_of_host(host: str) -> Cloud | None:
    """The cloud of a host of Entra or Exchange Online, or None where it is not known."""
    if not (is_entra_host(host) or is_exchange_host(host)) or host.casefold() == _OLDER_US_LOGIN:
        return None
    return {"us": Cloud.US_GOVERNMENT, "cn": Cloud.CHINA}.get(
        host.casefold().rpartition(".")[2], Cloud.WORLDWIDE
    )


def differing_clouds(one: str, other: str) -> tuple[Cloud, Cloud] | None:
    """The clouds of two addresses, hosts or URLs, if they are known to be different ones."""
    clouds = cloud_of_host(_host_in(one)), cloud_of_host(_host_in(other))
    if clouds[0] is None or clouds[1] is None or clouds[0] is clouds[1]:
        return None
    return clouds[0], clouds[1]


def _host_in(address: str) -> str:
    with suppress(ValueError):  # no host at all
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    return ""


def is_entra_host(host: str) -> bool:
    """Whether it is a host of Microsoft Entra."""
    return _ENTRA_HOST.fullmatch(host.casefold()) is not None


def is_exchange_host(host: str) -> bool:
    """Whether it is a host of Exchange Online."""
    return _EXCHANGE_HOST.fullmatch(host.casefold()) is not None


def is_exchange_audience(audience: str) -> bool:
    """Whether a token with this ``aud``, or for this resource, may be one for Exchange Online."""
    resource = audience.casefold().rstrip("/").removeprefix("https://")
    return resource in (EXCHANGE_ID, _CONSENT_HOST) or is_exchange_host(resource)


def is_graph_scope(scope: str) -> bool:
    """Whether it is a scope of Microsoft Graph, whose tokens IMAP refuses."""
    resource = scope.casefold().removeprefix("https://").partition("/")[0]
    if resource in (_GRAPH_ID, _OLDER_GRAPH_HOST):
        return True
    return _GRAPH_HOST.fullmatch(resource) is not None
