"""A cmsbs-conf folder with the how-to's block, and the inbox that it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_imap_oauth import InboxConfig

if TYPE_CHECKING:
    from pathlib import Path


TENANT = "b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
SECRET = "Abc8Q~defghijklmnopqrstuvwxyz012345.6789"
URI = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
HOW_TO = f"""\
cmsbs.mail.imap.server = outlook.office365.com
cmsbs.mail.imap.port = 993
cmsbs.mail.imap.ssl = true
cmsbs.mail.imap.user = inbox@contoso.example
cmsbs.mail.imap.authenticationMethod = oauth2
cmsbs.mail.imap.oauth2.accessTokenUri = {URI}
cmsbs.mail.imap.oauth2.clientId = {CLIENT}
cmsbs.mail.imap.oauth2.clientSecret = {SECRET}
cmsbs.mail.imap.oauth2.scope = https://outlook.office.com/.default
cmsbs.mail.imap.oauth2.grantType = client_credentials
cmsbs.mail.imap.oauth2.debug = true
"""
IMAP = "cmsbs.mail.imap."
SALES = "cmsbs.bouncelistener.sales."
WITH_SALES = f"""\
cmsbs.bounce.listeners = "sales"
{SALES}mail.imap.server = outlook.office365.com
{SALES}mail.imap.user = sales@contoso.example
"""


def append(conf: Path, text: str) -> None:
    with conf.joinpath("cmsbs.properties").open("a", encoding="latin-1") as file:
        file.write(text)


def by_hand(**values: Any) -> InboxConfig:
    given: dict[str, Any] = {
        "user": "inbox@contoso.example",
        "token_uri": URI,
        "client_id": CLIENT,
        "client_secret": SECRET,
    }
    return InboxConfig(**given | values)
