"""What is known of the messages of Entra and Exchange: one table, in the order of matching.

Where a text names several things, the row that comes first counts: what says why precedes what
follows from it.
"""

from __future__ import annotations

from typing import Final

from exo_imap_oauth._advice_table.entra import ENTRA
from exo_imap_oauth._advice_table.row import (
    CODES_URL,
    ENTERPRISE_APP,
    FLOW_URL,
    HEALTH_URL,
    IMAP_URL,
    IN_IMAP,
    PAGES,
    REGISTRATION,
    Row,
    Stage,
)

__all__ = ["PAGES", "TABLE", "Row", "Stage"]

_BAD_URL: Final = "https://www.rfc-editor.org/rfc/rfc3501#section-7.1.3"
_CAS_URL: Final = "https://learn.microsoft.com/powershell/module/exchange/set-casmailbox"
_FOLDER_URL: Final = (
    "https://learn.microsoft.com/powershell/module/exchange/get-mailboxfolderstatistics"
)
_NETWORK_URL: Final = (
    "https://learn.microsoft.com/microsoft-365/enterprise/urls-and-ip-address-ranges"
)

_CONNECT: Final = "Connect-ExchangeOnline -Organization {tenant_id}{environment}"
_REGISTER: Final = "New-ServicePrincipal -AppId {client_id} -ObjectId {enterprise_object_id}"
_GRANT: Final = (
    "Add-MailboxPermission -Identity {mailbox} -User {enterprise_object_id}"
    " -AccessRights FullAccess"
)
_ENABLE_IMAP: Final = "Set-CASMailbox -Identity {mailbox} -ImapEnabled $true"
_IMAP_ENABLED: Final = "Get-CASMailbox -Identity {mailbox} | Format-List ImapEnabled"
_REPLY: Final = r"(?:^|\b(?:NO|BAD|BYE) |[:>] ?|['\"])"  # where a server's own words begin

_UNREACHABLE: Final = (
    r"Connection refused|actively refused it|Name or service not known|nodename nor servname|"
    r"[Nn]ame resolution|NameResolutionError|getaddrinfo failed|No address associated with|"
    r"Name does not resolve|No such host is known|(?:Network|Host) is (?:unreachable|down)|"
    r"unreachable (?:network|host)|No route to host|Connection (?:reset by peer|aborted|timed out)|"
    r"forcibly closed|(?:Connect|Read)Timeout|Read timed out|operation timed out|"
    r"(?:^|[Ee]rror: |Error\(['\"]|timeout: )timed out|Failed to establish a new connection|"
    r"Remote end closed connection|(?:connect|Cannot connect) to proxy|Tunnel connection failed|"
    r"EOF occurred in violation of protocol"
)

# Short fields share a line, so that a row is seen at a glance: hence no formatting at the end.
TABLE: Final = (
    *ENTRA,
    # -- IMAP: what says why
    Row(
        id="session-expired", stages=IN_IMAP, retryable=True,
        url="https://learn.microsoft.com/entra/identity-platform/configurable-token-lifetimes",
        wording=r"Session invalidated - AccessTokenExpired",
        cause="The access token expired while the connection was open; Exchange ends it then.",
        fix="Connect again with a fresh token; TokenSource.get_token() has one.",
    ),
    Row(
        id="throttled", codes="90055", url=CODES_URL, stages=("token", *IN_IMAP), retryable=True,
        wording=r"Request is throttled\. Suggested Backoff Time",
        cause="The service asks to slow down: too many requests or connections in a short time.",
        fix="Wait as long as the answer says before trying again, with fewer connections at once.",
    ),
    Row(
        id="imap-disabled", stages=IN_IMAP, url=_CAS_URL,
        wording=r'\bError="?UserDisabled\b|\bAuthResult=27\b',
        cause="IMAP is switched off for the mailbox[ {mailbox}]: Exchange accepted the token and"
        " said so with its OK.",
        fix="Switch IMAP on for the mailbox. What was just set up may need some time to work.",
        commands=(_CONNECT, _ENABLE_IMAP, _IMAP_ENABLED),
    ),
    Row(
        id="mailbox-moved", stages=IN_IMAP, url=IMAP_URL, retryable=True,
        wording=r"Error=\"?Microsoft\.Exchange\.Data\.Storage\.WrongServerException\b",
        cause="Exchange sent the connection to a server that does not hold the mailbox, as it does"
        " now and then while a mailbox is moved between servers.",
        fix="Connect again after a pause; nothing in the set-up is wrong.",
    ),
    Row(
        id="basic-auth-disabled", stages=("authenticate",),
        url="https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/"
        "deprecation-of-basic-authentication-exchange-online",
        wording=_REPLY + r"LOGIN failed\.|NO Basic authentication is disabled|"
        r"(?:LogonDenied|LogonFailed)-BasicAuthBlocked", vague=_REPLY + r"LOGIN failed",
        cause="The program signed in with user name and password, which Exchange Online no longer"
        " takes, though it still advertises AUTH=PLAIN.",
        fix="Sign in with AUTHENTICATE XOAUTH2 and an access token: authenticationMethod ="
        " oauth2 in the configuration.",
    ),
    # -- IMAP: the token and the mailbox
    Row(
        id="role-missing", page="permissions", url=IMAP_URL,
        cause="The access token lacks the role IMAP.AccessAsApp[ (its roles: {roles})]: the"
        " permission was not added, or nobody granted admin consent. Entra issues tokens even so.",
        fix=f"{REGISTRATION}API permissions: add the application permission IMAP.AccessAsApp of"
        " Office 365 Exchange Online and press Grant admin consent, then get a new token.",
    ),
    Row(
        id="audience-wrong", url=IMAP_URL,
        cause="The access token was issued for another service than Exchange Online[: {aud}].",
        fix="Use the scope {exchange_scope} and get a new token; not the one of Graph.",
    ),
    Row(
        id="object-id-mismatch", page="enterprise", url=IMAP_URL,
        cause="The object ID that was given[, {enterprise_object_id},] is not the oid of the"
        " token[, {oid}]. Probably it is the Object ID of the App registration, not of the"
        " enterprise application, and Exchange was told the wrong one.",
        fix=f"Take Object ID from {ENTERPRISE_APP}Overview[; it must be {{oid}}]. Remove the wrong"
        " entry from Exchange first, then register the right one.",
        commands=(
            _CONNECT,
            "Remove-ServicePrincipal -Identity {enterprise_object_id}",
            "New-ServicePrincipal -AppId {client_id} -ObjectId {oid}",
            "Add-MailboxPermission -Identity {mailbox} -User {oid} -AccessRights FullAccess",
        ),
    ),
    Row(
        id="clock-skew", url=FLOW_URL,
        cause="The clock of this machine differs from the server's, so tokens seem to be expired,"
        " or not yet valid.",
        fix="Set the clock by a time service (NTP).",
        commands=("w32tm /query /status", "timedatectl status"),
    ),
    Row(
        id="authenticate-refused", page="enterprise", url=IMAP_URL, stages=("authenticate",),
        wording=_REPLY + r"AUTHENTICATE failed\.|AuthFailed:LogonDenied-None-OAuthLog",
        vague=_REPLY + r"AUTHENTICATE failed",
        cause="Exchange refused the token, with its one answer for every reason. Where the token"
        " itself is good, there is no such mailbox[ as {mailbox}], or Exchange does not know the"
        " application by its right object ID: most often it was told that of the App registration.",
        fix="Check the address of the mailbox first[, {mailbox}]. Then compare the ObjectId that"
        f" Get-ServicePrincipal shows with the Object ID from {ENTERPRISE_APP}Overview[; it must be"
        " {oid}, the oid of the token]. If it differs, remove that entry with"
        " Remove-ServicePrincipal; if it differs or there is none, register the right one and give"
        " it the mailbox. What was just set up may need some time to work.",
        commands=(
            _CONNECT,
            "Get-Mailbox -Identity {mailbox}",
            "Get-ServicePrincipal -Identity {client_id} | Format-List 'AppId', 'ObjectId'",
            "Remove-ServicePrincipal -Identity {client_id}  # only if another ObjectId is shown",
            _REGISTER,
            _GRANT,
        ),
    ),
    Row(
        id="already-authenticated", url=IMAP_URL, stages=IN_IMAP,
        wording=r"Command received in Invalid state\.",
        cause="The connection was signed in already: Exchange takes AUTHENTICATE or LOGIN once.",
        fix="Sign in once for each connection; open a new connection to sign in again.",
    ),
    Row(
        id="mailbox-not-connected", url=IMAP_URL, stages=IN_IMAP,
        wording=r"User is authenticated but not connected",
        cause="The token is good, but the mailbox does not open: FullAccess was not granted to"
        " the service principal, IMAP is off for the mailbox, or its name is wrong.",
        fix="Check the address of the mailbox first[, {mailbox}]. Then grant FullAccess on it and"
        " switch IMAP on for it. What was just set up may need some time. Rarer: too many"
        " connections at once, or an outage.",
        commands=(
            _CONNECT,
            _GRANT,
            "Get-MailboxPermission -Identity {mailbox}",
            _ENABLE_IMAP,
            _IMAP_ENABLED,
        ),
    ),
    Row(
        id="folder-not-found", stages=("post_auth", "runtime"), url=_FOLDER_URL,
        vague=r"\bNO (?!Mailbox |Folder )[^\n]{1,200} doesn't exist\.(?=\W|$)",
        cause="The mailbox[ {mailbox}] has no folder of this name. Names of folders are in the"
        " language of the mailbox, such as Posteingang/Rechnungen, and only INBOX is the same in"
        " all.",
        fix="Write the folder as imap.list() names it, with its parents and their separator: the"
        " setting folder, folder.inbox in a cmsbs-conf. INBOX is always there.",
        commands=(
            _CONNECT,
            "Get-MailboxFolderStatistics -Identity {mailbox} | Format-Table FolderPath",
        ),
    ),
    # -- IMAP: a command, the connection
    Row(
        id="server-unavailable", stages=IN_IMAP, url=HEALTH_URL, retryable=True,
        wording=r"Server Unavailable\. \d{1,3}(?!\d| *[A-Za-z])",
        cause="Exchange could not serve the mailbox for the moment; nothing in the configuration is"
        " wrong.",
        fix="Connect again later with growing pauses. If it stays so, see whether the mailbox opens"
        " in Outlook on the web.",
    ),
    Row(
        id="command-rejected", stages=IN_IMAP, url=_BAD_URL,
        # Argument Error. 11 has many readings: FETCH and STORE of well-formed numbers get it, and
        # APPEND of a message that Exchange does not take. Nothing is said of it.
        wording=r"\bBAD Command (?:Argument Error\. (?!11\b)|Error\. )\d{1,3}(?!\d| *[A-Za-z])",
        cause="Exchange did not understand the command or one of its arguments; the token and the"
        " set-up are good.",
        fix="Look at the command that was sent: quote names and addresses that hold blanks, give"
        " existing numbers, and use only what CAPABILITY offers. The same command fails again.",
    ),
    Row(
        id="connection-closed", stages=IN_IMAP, url=IMAP_URL, retryable=True,
        wording=r"\bConnection closed\. \d{1,3}(?!\d| *[A-Za-z])",
        vague=r"socket error: EOF|=> EOF|EOF occurred in violation of protocol",
        cause="Exchange closed the connection, mostly after refusing or slowing down the command"
        " before.",
        fix="Read the server's last reply before this one: it holds the true reason. Then connect"
        " again.",
    ),
    Row(
        id="certificate-untrusted", stages=("token", *IN_IMAP),
        url="https://docs.python.org/3/library/ssl.html#verifying-certificates",
        wording=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|"
        r"(?:Hostname|IP address) mismatch, certificate is not valid for",
        cause="The certificate of the server[ {server}] cannot be verified: it is another host's,"
        " has expired by the clock of this machine, or comes from an authority that is not trusted"
        " here, such as that of a proxy which inspects TLS.",
        fix="Compare the host name and look at the certificate. Where a proxy of your own"
        " organization issues it, add its CA to the system's store or name it in SSL_CERT_FILE;"
        " do not switch verification off.",
        commands=("openssl s_client -connect {server} -showcerts",),
    ),
    Row(
        id="token-endpoint-unreachable", vague=_UNREACHABLE, url=_NETWORK_URL, retryable=True,
        cause="No usable answer from the token endpoint[ {token_uri}]: no network, a firewall or"
        " proxy in between, a wrong host name, or an outage.",
        fix="Allow outgoing HTTPS (port 443) to it from this machine; where a proxy is required,"
        " name it in the environment variable HTTPS_PROXY.",
    ),
    Row(
        id="imap-unreachable", vague=_UNREACHABLE, stages=("authenticate",), url=_NETWORK_URL,
        retryable=True,
        cause="No connection to the server[ {server}]: no network, a firewall in between, or a"
        " wrong host name or port.",
        fix="Allow outgoing TCP to it from this machine: port 993, or 143 with STARTTLS.",
        commands=("openssl s_client -connect {server}",),
    ),
)  # fmt: skip
