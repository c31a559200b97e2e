"""The Microsoft clouds: which Entra authority, IMAP host and scope belong together."""

from __future__ import annotations

from enum import Enum


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
