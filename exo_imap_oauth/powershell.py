"""PowerShell: quoting of values, and the script that sets up Exchange Online."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from exo_imap_oauth._arguments import require_cloud, require_text, wrong_kind
from exo_imap_oauth._identifiers import is_address, is_id, problem_of_tenant
from exo_imap_oauth._text import is_guid as is_guid  # noqa: PLC0414 - exported
from exo_imap_oauth.clouds import EXCHANGE_ID, Cloud

if TYPE_CHECKING:
    from collections.abc import Generator

# Each of these ends a single-quoted string, and two in a row stand for one: ' and its
# typographic forms, see about_Quoting_Rules and the language specification, section 2.3.5.2.
_SINGLE_QUOTES: Final = re.compile("(['\u2018\u2019\u201a\u201b])")
_PAGE: Final = "reference/api/powershell"

# What Microsoft's page "Connect to Exchange Online PowerShell" gives.
_ENVIRONMENTS: Final = {
    Cloud.WORLDWIDE: "",
    Cloud.US_GOVERNMENT: " -ExchangeEnvironmentName O365USGovGCCHigh",
    Cloud.US_DOD: " -ExchangeEnvironmentName O365USGovDoD",
    Cloud.CHINA: " -ExchangeEnvironmentName O365China",
}

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
    require_text("value", value, _PAGE)
    for character in value:
        if not character.isprintable():
            raise ValueError(f"the value holds U+{ord(character):04X}, which is not printable")
    return "'" + _SINGLE_QUOTES.sub(r"\1\1", value) + "'"


def environment_option(cloud: Cloud) -> str:
    """The option of ``Connect-ExchangeOnline`` for a cloud, with a blank before it, or ""."""
    require_cloud(cloud, Cloud)
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
        cloud: The cloud of the tenant. :attr:`Cloud.US_GOVERNMENT` is GCC High.

    Returns:
        The script.

    Raises:
        TypeError: If ``mailboxes`` is one string, or another argument is of a wrong kind.
        ValueError: If a value cannot be what it is said to be, or cannot be quoted.
    """
    require_cloud(cloud, Cloud)
    ids = {
        "tenant_id": tenant_id,
        "client_id": client_id,
        "enterprise_object_id": enterprise_object_id,
    }
    for name, value in ids.items():
        require_text(name, value, _PAGE)
    addresses = _addresses(mailboxes)
    if display_name is not None:
        require_text("display_name", display_name, _PAGE)
    problems = [
        *_problems_of_ids(**ids),
        *_problems_of_mailboxes(addresses),
    ]
    if display_name is not None and not display_name.strip():
        problems.append("display_name is empty")
    if problems:
        raise ValueError("; ".join(problems))
    return _SCRIPT.format(
        tenant_id=quote(tenant_id),
        environment=environment_option(cloud),
        client_id=quote(client_id),
        enterprise_object_id=quote(enterprise_object_id),
        naming="" if display_name is None else f" -DisplayName {quote(display_name)}",
        mailboxes=", ".join(map(quote, addresses)),
    )


def _addresses(mailboxes: Iterable[str]) -> list[str]:
    """The mailboxes, each once."""
    if isinstance(mailboxes, str | bytes) or not isinstance(mailboxes, Iterable):
        raise wrong_kind("mailboxes", mailboxes, "a list of addresses", page=_PAGE)
    addresses = list(mailboxes)
    for at, address in enumerate(addresses):
        require_text(f"mailboxes[{at}]", address, _PAGE)
    return list(dict.fromkeys(addresses))


def _problems_of_ids(tenant_id: str, client_id: str, enterprise_object_id: str) -> Generator[str]:
    if problem := problem_of_tenant(tenant_id):
        yield f"tenant_id {tenant_id!r} {problem}"
    if not is_id(client_id) or client_id.lower() == EXCHANGE_ID:
        yield f"client_id {client_id!r} is not the ID of an application of yours"
    if not is_guid(enterprise_object_id):
        yield f"enterprise_object_id {enterprise_object_id!r} is not an ID"
    if client_id.lower() == enterprise_object_id.lower():
        yield "client_id and enterprise_object_id are the same, which they never are in Entra"


def _problems_of_mailboxes(addresses: list[str]) -> Generator[str]:
    if not addresses:
        yield "mailboxes is empty"
    for address in addresses:
        if not is_address(address):
            yield f"{address!r} is not a mailbox address"
