"""PowerShell: quoting of values, and the script that sets up Exchange Online."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from exo_imap_oauth._text import is_guid as is_guid  # noqa: PLC0414 - exported
from exo_imap_oauth.clouds import Cloud

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

# Each of these ends a single-quoted string, and two in a row stand for one: ' and its
# typographic forms, see about_Quoting_Rules and the language specification, section 2.3.5.2.
_SINGLE_QUOTES: Final = re.compile("(['\u2018\u2019\u201a\u201b])")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"  # RFC 5322 section 3.2.3
_ADDRESS: Final = re.compile(rf"(?=.{{3,254}}\Z){_ATOM}(?:\.{_ATOM})*@{_DOMAIN.pattern}")

# What Microsoft's page "Connect to Exchange Online PowerShell" gives for Microsoft 365 operated by
# 21Vianet and for GCC High; for DoD, which has the same Entra authority, it is O365USGovDoD.
_ENVIRONMENTS: Final = {
    Cloud.WORLDWIDE: "",
    Cloud.US_GOVERNMENT: " -ExchangeEnvironmentName O365USGovGCCHigh",
    Cloud.CHINA: " -ExchangeEnvironmentName O365China",
}
_DOD_HINT: Final = "\n    # The line above is for GCC High. For DoD write O365USGovDoD."

_SCRIPT: Final = """\
# Lets one application read mailboxes of Exchange Online over IMAP. Running it again is harmless.
& {{
    $ErrorActionPreference = 'Stop'
    $appId = {client_id}
    $objectId = {enterprise_object_id}
    $mailboxes = @({mailboxes})
    if (-not (Get-Module -ListAvailable -Name ExchangeOnlineManagement)) {{
        Install-Module -Name ExchangeOnlineManagement -Scope CurrentUser
    }}
    Connect-ExchangeOnline -Organization {tenant_id}{environment}

    $principal = Get-ServicePrincipal -Identity $appId -ErrorAction SilentlyContinue
    if (-not $principal) {{
        New-ServicePrincipal -AppId $appId -ObjectId $objectId{naming}
    }} elseif ($principal.ObjectId -and $principal.ObjectId -ne $objectId) {{
        throw 'Exchange knows the application by another Object ID. See Remove-ServicePrincipal.'
    }}
    foreach ($mailbox in $mailboxes) {{
        $granted = Get-MailboxPermission -Identity $mailbox -User $objectId `
            -ErrorAction SilentlyContinue |
            Where-Object {{ $_.AccessRights -match 'FullAccess' -and -not $_.Deny }}
        if (-not $granted) {{
            Add-MailboxPermission -Identity $mailbox -User $objectId -AccessRights FullAccess
        }}
        Set-CASMailbox -Identity $mailbox -ImapEnabled $true
    }}

    Get-ServicePrincipal -Identity $appId | Format-List 'DisplayName', 'AppId', 'ObjectId'
    foreach ($mailbox in $mailboxes) {{
        Get-MailboxPermission -Identity $mailbox | Format-List 'Identity', 'User', 'AccessRights'
        Get-CASMailbox -Identity $mailbox | Format-List 'Name', 'ImapEnabled'
    }}
}}
"""


def quote(value: str) -> str:
    """A value as one PowerShell string literal, in single quotes: nothing is expanded.

    The typographic single quotes, U+2018 to U+201B, end such a literal too, so they are doubled
    like ``'``; the double ones, U+201C to U+201E, mean nothing in it.

    Args:
        value: Any text on one line.

    Returns:
        The literal, its quotes included.

    Raises:
        ValueError: If the value holds a control character, a line break of any kind or an
            invisible character: nobody could see what the command does.
    """
    for character in value:
        if not character.isprintable():
            raise ValueError(f"the value holds U+{ord(character):04X}, which is not printable")
    return "'" + _SINGLE_QUOTES.sub(r"\1\1", value) + "'"


def environment_option(cloud: Cloud) -> str:
    """The option of ``Connect-ExchangeOnline`` for a cloud, with a blank before it, or ""."""
    return _ENVIRONMENTS[cloud]


def exchange_setup_script(
    *,
    tenant_id: str,
    client_id: str,
    enterprise_object_id: str,
    mailboxes: Iterable[str],
    display_name: str | None = None,
    cloud: Cloud = Cloud.WORLDWIDE,
) -> str:
    """The PowerShell script with which an administrator sets up Exchange Online.

    It is one block to paste. It skips what has been done before, and ends by showing the result.

    Args:
        tenant_id: Directory (tenant) ID or primary ``.onmicrosoft.com`` domain; Microsoft
            documents both for ``Connect-ExchangeOnline -Organization``.
        client_id: Application (client) ID.
        enterprise_object_id: Object ID of the Enterprise application, not of the App registration.
        mailboxes: Addresses of the mailboxes, at least one.
        display_name: A name for the service principal within Exchange.
        cloud: The cloud of the tenant. :attr:`Cloud.US_GOVERNMENT` is GCC High; the script says
            what a DoD tenant writes instead.

    Returns:
        The script.

    Raises:
        TypeError: If ``mailboxes`` is one string, or ``cloud`` is not a Cloud.
        ValueError: If a value cannot be what it is said to be, or cannot be quoted.
    """
    if isinstance(mailboxes, str | bytes):
        raise TypeError("mailboxes is one string; give a list of addresses")
    if not isinstance(cloud, Cloud):
        raise TypeError(f"cloud must be a Cloud, not {type(cloud).__name__}")
    addresses = list(dict.fromkeys(mailboxes))
    problems = [
        *_problems_of_ids(tenant_id, client_id, enterprise_object_id),
        *_problems_of_mailboxes(addresses),
    ]
    if display_name is not None and not display_name.strip():
        problems.append("display_name is empty")
    if problems:
        raise ValueError("; ".join(problems))
    return _SCRIPT.format(
        tenant_id=quote(tenant_id),
        environment=environment_option(cloud) + (_DOD_HINT if cloud is Cloud.US_GOVERNMENT else ""),
        client_id=quote(client_id),
        enterprise_object_id=quote(enterprise_object_id),
        naming="" if display_name is None else f" -DisplayName {quote(display_name)}",
        mailboxes=", ".join(map(quote, addresses)),
    )


def _problems_of_ids(tenant_id: str, client_id: str, enterprise_object_id: str) -> Generator[str]:
    if not (is_guid(tenant_id) or _DOMAIN.fullmatch(tenant_id)):
        yield f"tenant_id {tenant_id!r} is neither an ID nor a domain"
    if not is_guid(client_id):
        yield f"client_id {client_id!r} is not an ID"
    if not is_guid(enterprise_object_id):
        yield f"enterprise_object_id {enterprise_object_id!r} is not an ID"
    if client_id.lower() == enterprise_object_id.lower():
        yield "client_id and enterprise_object_id are the same, which they never are in Entra"


def _problems_of_mailboxes(addresses: list[str]) -> Generator[str]:
    if not addresses:
        yield "mailboxes is empty"
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            yield f"{address!r} is not a mailbox address"
