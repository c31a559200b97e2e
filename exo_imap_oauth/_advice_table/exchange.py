"""What Exchange Online's IMAP service says, in the order of matching."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from exo_imap_oauth._advice_table.row import (
    CODES_URL,
    ENTERPRISE_APP,
    FLOW_URL,
    HEALTH_URL,
    IMAP_URL,
    IN_IMAP,
    REGISTRATION,
    Row,
)

_IMAP_RFC: Final = "https://www.rfc-editor.org/rfc/rfc3501"
_BAD_URL: Final = f"{_IMAP_RFC}#section-7.1.3"
_CAS_URL: Final = "https://learn.microsoft.com/powershell/module/exchange/set-casmailbox"
_FOLDER_URL: Final = (
    "https://learn.microsoft.com/powershell/module/exchange/get-mailboxfolderstatistics"
)

# A server's own words: not behind a response code, which Exchange would not give, and not a part
# of somebody's sentence.
_SAID: Final = r"(?:(?<!\]\x20)(?<!(?-i:[a-z])\x20)|(?<=\bno\x20))"
_AUTHENTICATE_FAILED: Final = _SAID + r"(?-i:AUTHENTICATE failed|authenticate failed)"
# Of other servers, "Login failed." is a common text.
_LOGIN_FAILED: Final = _SAID + r"(?-i:LOGIN failed|(?<=no\x20)login failed)"
# A command was sent when it was not allowed: which one, tells the text or the stage.
_INVALID_STATE: Final = r"Command received in Invalid state\b"
_NOT_IDLE: Final = r"(?!.*\b(?-i:IDLE)\b(?! (?:NAMESPACE|LITERAL)))"
_LOGIN_COMMAND: Final = r".*\b(?-i:AUTHENTICATE|LOGIN)\b"
_WRITING_COMMAND: Final = r".*\b(?-i:STORE|EXPUNGE|MOVE|EXAMINE|READ-ONLY)\b"
_COMMAND_ERROR: Final = r"\bCommand (?:Argument Error\.? (?!11\b)|Error\.? )"
_NUMBER: Final = r"\d{1,3}(?!\d|\x20*[A-Za-z])"  # at the end of a text, not within a sentence

_CONNECT: Final = "Connect-ExchangeOnline -Organization {tenant_id}{environment}"
_REGISTER: Final = "New-ServicePrincipal -AppId {client_id} -ObjectId {enterprise_object_id}"
_GRANT: Final = (
    "Add-MailboxPermission -Identity {mailbox} -User {enterprise_object_id}"
    " -AccessRights FullAccess"
)
_ENABLE_IMAP: Final = "Set-CASMailbox -Identity {mailbox} -ImapEnabled $true"
_IMAP_ENABLED: Final = "Get-CASMailbox -Identity {mailbox} | Format-List ImapEnabled"

# Short fields share a line, so that a row is seen at a glance: hence no formatting at the end.
EXCHANGE: Final = (
    # -- IMAP: what says why
    Row(
        id="session-expired", stages=IN_IMAP, retryable=True,
        url="https://learn.microsoft.com/entra/identity-platform/configurable-token-lifetimes",
        words=r"Session invalidated\W{1,5}AccessTokenExpired\b",
        cause="The access token expired while the connection was open, and Exchange then ends the"
        " connection.",
        fix="Connect again with a fresh token; TokenSource.get_token() returns one.",
    ),
    Row(
        id="throttled", codes="90055", url=CODES_URL, stages=("token", *IN_IMAP), retryable=True,
        words=r"Request is throttled\W{1,4}Suggested Backoff Time",
        vague=r"\b(?:NO|BAD) Request is throttled\b(?! by)",
        cause="The service asks the program to slow down: too many requests or connections in a"
        " short time.",
        fix="Wait as long as the answer says, then try again with fewer connections at once.",
    ),
    Row(
        id="imap-disabled", stages=IN_IMAP, url=_CAS_URL,
        words=r"\bError='?UserDisabled\b|\bAuthResult=27\b",
        cause="IMAP is switched off for the mailbox[ {mailbox}]: Exchange accepted the token and"
        " said so with its OK.",
        fix="Switch IMAP on for the mailbox. A change may take some time to take effect.",
        commands=(_CONNECT, _ENABLE_IMAP, _IMAP_ENABLED),
    ),
    Row(
        id="mailbox-moved", stages=IN_IMAP, url=IMAP_URL, retryable=True,
        words=r"\bWrongServerException\b",
        cause="Exchange sent the connection to a server that does not hold the mailbox. This"
        " happens now and then.",
        fix="Connect again after a pause; nothing in the set-up is wrong.",
    ),
    Row(
        id="basic-auth-disabled", stages=("authenticate",),
        url="https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/"
        "deprecation-of-basic-authentication-exchange-online",
        # Or the text names another mechanism than XOAUTH2.
        words=_LOGIN_FAILED + r"\.|\bNO Basic authentication is disabled|"
        r"\bLogon(?:Denied|Failed)-BasicAuthBlocked\b|"
        r"\b(?:AUTHENTICATE|AUTH:?|SASL|mechanism) '?(?:PLAIN|LOGIN)\b"
        r"(?:(?!XOAUTH2).){0,400}?\bAUTHENTICATE failed\b", vague=_LOGIN_FAILED,
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
        words=_AUTHENTICATE_FAILED + r"\.|\bAuthFailed:LogonDenied-None-OAuthLog",
        vague=_AUTHENTICATE_FAILED,
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
        # NO is said of a STORE in such a folder, BAD of an AUTHENTICATE too many.
        words=rf"\A{_NOT_IDLE}(?={_WRITING_COMMAND}).*{_INVALID_STATE}|"
        rf"\A{_NOT_IDLE}(?!{_LOGIN_COMMAND}).*\bNO\b\W{{1,4}}{_INVALID_STATE}",
        vague=rf"\A{_NOT_IDLE}(?!{_LOGIN_COMMAND}).*{_INVALID_STATE}|\bNO \[READ-ONLY\]",
        cause="The folder was opened for reading only, by EXAMINE or because the rights on the"
        " mailbox[ {mailbox}] are less than FullAccess, and the command would change it. Or the"
        " command is not allowed at this point, such as one that is sent during IDLE.",
        fix="Open the folder for writing, that is without readonly=True, and grant FullAccess."
        " During IDLE, send DONE and wait for its reply before the next command.",
        commands=(_CONNECT, "Get-MailboxPermission -Identity {mailbox}", _GRANT),
    ),
    Row(
        id="already-authenticated", url=IMAP_URL, stages=IN_IMAP,
        words=rf"\A{_NOT_IDLE}.*{_INVALID_STATE}",
        cause="The connection was signed in already: Exchange accepts AUTHENTICATE or LOGIN only"
        " once.",
        fix="Sign in once on each connection; to sign in again, open a new connection.",
    ),
    Row(
        id="mailbox-not-connected", url=IMAP_URL, stages=IN_IMAP,
        words=r"\bUser is authenticated but not connected\b(?! to\b)",
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
        vague=r"\bNO (?!Mailbox |Folder )[^\r\n]{1,200} doesn't exist\b(?!:)",
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
        words=r"Retrieval using the IMAP4 protocol failed for the following message|"
        r"server couldn't retrieve the following message",
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
        words=r"\[BADCHARSET \(US-ASCII\)\]|\bThe specified charset is not supported\b",
        cause="SEARCH named a charset, and Exchange searches in US-ASCII only.",
        fix="Leave CHARSET out, search for the part of the text that is US-ASCII, and compare the"
        " rest in the program.",
    ),
    Row(
        id="server-unavailable", stages=IN_IMAP, url=HEALTH_URL, retryable=True,
        words=rf"\bServer Unavailable\. {_NUMBER}|\b(?:NO|BAD|BYE) Server Unavailable\.? {_NUMBER}",
        vague=r"\b(?:NO|BAD|BYE) Server Unavailable\b",
        cause="Exchange could not serve the mailbox at that moment; nothing in the configuration"
        " is wrong.",
        fix="Connect again later, with growing pauses. If this continues, see whether the mailbox"
        " opens in Outlook on the web.",
    ),
    Row(
        id="command-rejected", stages=IN_IMAP, url=_BAD_URL,
        words=rf"{_COMMAND_ERROR}{_NUMBER}|\b(?:NO|BAD)\b\W{{1,4}}{_COMMAND_ERROR}\d{{1,3}}\b|"
        r"\bThe specified message set is invalid\b",
        cause="Exchange did not understand the command or one of its arguments; the token and the"
        " set-up are good.",
        fix="Look at the command that was sent: put names and addresses that contain spaces in"
        " quotes, use numbers that exist, and use only what CAPABILITY offers. Unchanged, the"
        " command fails again.",
    ),
    Row(
        id="connection-closed", stages=IN_IMAP, url=IMAP_URL, retryable=True,
        # Behind "Protocol error." it is POP's answer to a long line, which does not pass by itself.
        words=rf"(?<!Protocol\x20error\.\x20)\bConnection (?:is )?closed\. {_NUMBER}",
        vague=r"\bBYE\W{1,4}Connection (?:is )?closed\b|socket error: EOF|=> EOF|"
        r"EOF occurred in violation of protocol",
        cause="Exchange closed the connection, mostly after it had refused or throttled the"
        " command before.",
        fix="Read the server's last reply before this one: it holds the real reason. Then connect"
        " again.",
    ),
)  # fmt: skip

# Of SELECT, number 11 is about the folder, whose name is looked for then: nothing else is said.
REJECTED_LATER: Final = replace(
    next(row for row in EXCHANGE if row.id == "command-rejected"),
    words=rf"\bCommand Argument Error\.? {_NUMBER}",
    stages=("authenticate", "runtime"),
)
