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

__all__ = ["BUNDLE", "PAGES", "PROXY", "TABLE", "Row", "Stage"]

_IMAP_RFC: Final = "https://www.rfc-editor.org/rfc/rfc3501"
_BAD_URL: Final = f"{_IMAP_RFC}#section-7.1.3"
_CAS_URL: Final = "https://learn.microsoft.com/powershell/module/exchange/set-casmailbox"
_FOLDER_URL: Final = (
    "https://learn.microsoft.com/powershell/module/exchange/get-mailboxfolderstatistics"
)
_NETWORK_URL: Final = (
    "https://learn.microsoft.com/microsoft-365/enterprise/urls-and-ip-address-ranges"
)

_TLS_URL: Final = "https://docs.python.org/3/library/ssl.html#verifying-certificates"

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
        cause="The access token expired while the connection was open, and Exchange then ends the"
        " connection.",
        fix="Connect again with a fresh token; TokenSource.get_token() returns one.",
    ),
    Row(
        id="throttled", codes="90055", url=CODES_URL, stages=("token", *IN_IMAP), retryable=True,
        wording=r"Request is throttled\. Suggested Backoff Time",
        cause="The service asks the program to slow down: too many requests or connections in a"
        " short time.",
        fix="Wait as long as the answer says, then try again with fewer connections at once.",
    ),
    Row(
        id="imap-disabled", stages=IN_IMAP, url=_CAS_URL,
        wording=r'\bError="?UserDisabled\b|\bAuthResult=27\b',
        cause="IMAP is switched off for the mailbox[ {mailbox}]: Exchange accepted the token and"
        " said so with its OK.",
        fix="Switch IMAP on for the mailbox. A change may take some time to take effect.",
        commands=(_CONNECT, _ENABLE_IMAP, _IMAP_ENABLED),
    ),
    Row(
        id="mailbox-moved", stages=IN_IMAP, url=IMAP_URL, retryable=True,
        wording=r"Error=\"?Microsoft\.Exchange\.Data\.Storage\.WrongServerException\b",
        cause="Exchange sent the connection to a server that does not hold the mailbox. This"
        " happens now and then.",
        fix="Connect again after a pause; nothing in the set-up is wrong.",
    ),
    Row(
        id="basic-auth-disabled", stages=("authenticate",),
        url="https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/"
        "deprecation-of-basic-authentication-exchange-online",
        wording=_REPLY + r"LOGIN failed\.|NO Basic authentication is disabled|"
        r"(?:LogonDenied|LogonFailed)-BasicAuthBlocked", vague=_REPLY + r"LOGIN failed",
        cause="The program signed in with a user name and password, which Exchange Online no"
        " longer accepts, although it still advertises AUTH=PLAIN.",
        fix="Sign in with AUTHENTICATE XOAUTH2 and an access token: authenticationMethod ="
        " oauth2 in the configuration.",
    ),
    # -- IMAP: the token and the mailbox
    Row(
        id="role-missing", page="permissions", url=IMAP_URL,
        cause="The access token lacks the role IMAP.AccessAsApp[ (its roles: {roles})]: the"
        " permission was not added, or nobody granted admin consent. Entra issues a token all the"
        " same.",
        fix=f"{REGISTRATION}API permissions: add the application permission IMAP.AccessAsApp of"
        " Office 365 Exchange Online and press Grant admin consent. Then get a new token, for"
        " example by restarting the program.",
    ),
    Row(
        id="audience-wrong", url=IMAP_URL,
        cause="The access token was issued for a service other than Exchange Online[: {aud}].",
        fix="Use the scope {exchange_scope}, not that of Microsoft Graph, and get a new token.",
    ),
    Row(
        id="object-id-mismatch", page="enterprise", url=IMAP_URL,
        cause="The Object ID that was given[, {enterprise_object_id},] is not the oid of the"
        " token[, {oid}]. Probably it is that of the App registration, not of the Enterprise"
        " application, and Exchange was given the wrong one too.",
        fix=f"Take the Object ID from {ENTERPRISE_APP}Overview[; it must be {{oid}}]. Remove the"
        " wrong entry from Exchange first, then register the right one and give it the mailbox.",
        commands=(
            _CONNECT,
            "Remove-ServicePrincipal -Identity {enterprise_object_id}",
            "New-ServicePrincipal -AppId {client_id} -ObjectId {oid}",
            "Add-MailboxPermission -Identity {mailbox} -User {oid} -AccessRights FullAccess",
        ),
    ),
    Row(
        id="clock-skew", url=FLOW_URL,
        cause="The clock of this machine differs from the server's, so tokens seem to have expired"
        " or not to be valid yet.",
        fix="Let a time service (NTP) set the clock. The commands show its state: the first on"
        " Windows, the second on Linux.",
        commands=("w32tm /query /status", "timedatectl status"),
    ),
    Row(
        id="authenticate-refused", page="enterprise", url=IMAP_URL, stages=("authenticate",),
        wording=_REPLY + r"AUTHENTICATE failed\.|AuthFailed:LogonDenied-None-OAuthLog",
        vague=_REPLY + r"AUTHENTICATE failed",
        cause="Exchange refused the token, and it gives this one answer whatever the reason. If"
        " the token itself is good, there is no such mailbox[ as {mailbox}], or the application is"
        " registered in Exchange with the wrong Object ID, most often that of the App"
        " registration, or not at all.",
        fix="Check the address of the mailbox first[, {mailbox}]. Then compare the ObjectId that"
        f" Get-ServicePrincipal shows with the Object ID from {ENTERPRISE_APP}Overview[; it must"
        " be {oid}, the oid of the token]. If it differs, remove that entry with"
        " Remove-ServicePrincipal. If it differs or there is none, register the right one and give"
        " it the mailbox. A change may take some time to take effect.",
        commands=(
            _CONNECT,
            "Get-Mailbox -Identity {mailbox}",
            "Get-ServicePrincipal -Identity {client_id} | Format-List 'AppId', 'ObjectId'",
            "Remove-ServicePrincipal -Identity {client_id}  # only if another ObjectId is shown",
            _REGISTER,
            _GRANT,
        ),
    ),
    Row(  # before already-authenticated, since in a selected folder the same text means this
        id="folder-readonly", stages=("post_auth", "runtime"), url=f"{_IMAP_RFC}#section-6.3.2",
        vague=r"\A(?![\s\S]*\b(?:AUTHENTICATE|LOGIN)\b)[\s\S]*Command received in Invalid state\.|"
        r"\bNO \[READ-ONLY\]",
        cause="The folder was opened for reading only, by EXAMINE or because the rights on the"
        " mailbox[ {mailbox}] are less than FullAccess, and the command would change it. Or the"
        " command is not allowed at this point, such as one that is sent during IDLE.",
        fix="Open the folder for writing, that is without readonly=True, and grant FullAccess."
        " During IDLE, send DONE and wait for its reply before the next command.",
        commands=(_CONNECT, "Get-MailboxPermission -Identity {mailbox}", _GRANT),
    ),
    Row(
        id="already-authenticated", url=IMAP_URL, stages=IN_IMAP,
        wording=r"Command received in Invalid state\.",
        cause="The connection was signed in already: Exchange accepts AUTHENTICATE or LOGIN only"
        " once.",
        fix="Sign in once on each connection; to sign in again, open a new connection.",
    ),
    Row(
        id="mailbox-not-connected", url=IMAP_URL, stages=IN_IMAP,
        wording=r"User is authenticated but not connected",
        cause="The token is good, but the mailbox does not open: FullAccess was not granted to"
        " the service principal, IMAP is off for the mailbox, or its name is wrong.",
        fix="Check the address of the mailbox first[, {mailbox}]. Then grant FullAccess on it and"
        " switch IMAP on for it. A change may take some time to take effect. Less often the cause"
        " is too many connections at once, or an outage.",
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
        cause="The mailbox[ {mailbox}] has no folder of this name. Folders are named in the"
        " language of the mailbox, such as Gesendete Elemente for Sent Items; only INBOX is the"
        " same in all.",
        fix="Write the folder as imap.list() shows it, with its parents and their separator: the"
        " setting folder, or folder.inbox in a cmsbs-conf. INBOX always exists.",
        commands=(
            _CONNECT,
            "Get-MailboxFolderStatistics -Identity {mailbox} | Format-Table FolderPath",
        ),
    ),
    # -- IMAP: a command, the connection
    Row(
        id="message-unavailable", stages=("runtime",), url=f"{_IMAP_RFC}#section-7.4.2",
        retryable=True,
        wording=r"Retrieval using the IMAP4 protocol failed for the following\s{1,4}message",
        cause="Exchange lists the message, but does not hand it out over IMAP: it answers without"
        " it, or sends a stand-in that says so, since it cannot turn the message into MIME at the"
        " moment, or at all. The message is in its folder and can be read in Outlook.",
        fix="Try again later; often it works after half an hour. If it does not, open the message"
        " in Outlook, and forward it to the mailbox, move it to another folder, or mark it as read"
        " there.",
    ),
    Row(
        id="charset-unsupported", stages=("post_auth", "runtime"),
        url=f"{_IMAP_RFC}#section-6.4.4",
        wording=r"\[BADCHARSET \(US-ASCII\)\] The specified charset is not supported\.",
        cause="SEARCH named a charset, and Exchange searches in US-ASCII only.",
        fix="Leave CHARSET out, search for the part of the text that is US-ASCII, and compare the"
        " rest in the program.",
    ),
    Row(
        id="server-unavailable", stages=IN_IMAP, url=HEALTH_URL, retryable=True,
        wording=r"Server Unavailable\. \d{1,3}(?!\d| *[A-Za-z])",
        cause="Exchange could not serve the mailbox at that moment; nothing in the configuration"
        " is wrong.",
        fix="Connect again later, with growing pauses. If this continues, see whether the mailbox"
        " opens in Outlook on the web.",
    ),
    Row(
        id="command-rejected", stages=IN_IMAP, url=_BAD_URL,
        # Argument Error. 11 has many readings: FETCH and STORE of well-formed numbers get it, and
        # APPEND of a message that Exchange does not take. Nothing is said of it.
        wording=r"\bBAD Command (?:Argument Error\. (?!11\b)|Error\. )\d{1,3}(?!\d| *[A-Za-z])|"
        r"\bThe specified message set is invalid\.",
        cause="Exchange did not understand the command or one of its arguments; the token and the"
        " set-up are good.",
        fix="Look at the command that was sent: put names and addresses that contain spaces in"
        " quotes, use numbers that exist, and use only what CAPABILITY offers. Unchanged, the"
        " command fails again.",
    ),
    Row(
        id="connection-closed", stages=IN_IMAP, url=IMAP_URL, retryable=True,
        # Behind "Protocol error." it is POP's answer to a long line, which does not pass by itself.
        wording=r"(?<!Protocol error\. )\bConnection (?:is )?closed\. \d{1,3}(?!\d| *[A-Za-z])",
        vague=r"socket error: EOF|=> EOF|EOF occurred in violation of protocol",
        cause="Exchange closed the connection, mostly after it had refused or throttled the"
        " command before.",
        fix="Read the server's last reply before this one: it holds the real reason. Then connect"
        " again.",
    ),
    Row(
        id="certificate-untrusted", stages=("token", *IN_IMAP),
        url=_TLS_URL,
        wording=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|"
        r"(?:Hostname|IP address) mismatch, certificate is not valid for",
        cause="The certificate of the server[ {server}] cannot be verified: it is for another host,"
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

# ---- in place of a row, where more is known than its id tells --------------------------------

BUNDLE: Final = Row(
    id="certificate-untrusted",
    url=_TLS_URL,
    cause="{bundle_variable} names {bundle}, which cannot be read as a file of CA certificates:"
    " it does not exist, this user may not read it, or it holds no certificate in PEM form. So the"
    " CAs that it should hold are not trusted.",
    fix="Correct the path in {bundle_variable}, or unset the variable. A relative path begins at"
    " the working directory of the program.",
)

_PROXY: Final = "The proxy[ {proxy}][, which {proxy_variable} names,]"
PROXY: Final = {
    "": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL, retryable=True,
        cause=f"{_PROXY} gave no usable answer: its address is wrong, it does not run, or it cannot"
        " reach the token endpoint[ {token_uri}].",
        fix="Check the address of the proxy[ in {proxy_variable}], and ask whoever runs it whether"
        " it can reach the host[ {server}]. Where this machine needs no proxy, name the host in"
        " NO_PROXY.",
    ),
    "403": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL,
        cause=f"{_PROXY} does not allow the connection to the token endpoint[ {{token_uri}}].",
        fix="Ask whoever runs the proxy to allow the host[ {server}].",
    ),
    "407": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL,
        cause=f"{_PROXY} wants a user and a password: none are given, or it does not accept them.",
        fix="Write both into the URL of the proxy[ in {proxy_variable}], percent-encoded[:"
        " http://user:password@{proxy}]. A proxy that accepts only NTLM, Kerberos or Digest needs"
        " a helper beside the program, such as px or cntlm.",
    ),
    "malformed": Row(
        id="token-endpoint-unreachable", url=_NETWORK_URL,
        cause="The value[ of {proxy_variable}] is not the URL of an HTTP proxy.",
        fix="Write it as http://proxy.example:8080, or with a user and a password, percent-encoded,"
        " as http://user:password@proxy.example:8080. SOCKS is not supported.",
    ),
}  # fmt: skip
