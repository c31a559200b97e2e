"""What is known of the messages of Entra and Exchange: one table, in the order of matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["token", "authenticate", "post_auth", "runtime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One id of advice.

    ``cause``, ``fix`` and ``commands`` hold fields such as ``{mailbox}`` for the known values.

    Attributes:
        id: The id.
        codes: AADSTS numbers, separated by blanks; they count at any stage.
        wording: A pattern that no foreign text matches; it counts at its stages and at none given.
        vague: A pattern that counts only where one of the stages is given.
        stages: What may be under way when such a message comes.
        cause: The likely cause.
        fix: What to do.
        commands: Commands to paste.
        page: The page of the Entra admin center, a key of :data:`PAGES`.
        url: Microsoft's page on the subject.
    """

    id: str
    codes: str = ""
    wording: str = ""
    vague: str = ""
    stages: tuple[Stage, ...] = ("token",)
    cause: str
    fix: str
    commands: tuple[str, ...] = ()
    page: str = ""
    url: str


_APP: Final = "https://entra.microsoft.com/#view/Microsoft_AAD_RegisteredApps/ApplicationMenuBlade"
_ENTERPRISE: Final = "https://entra.microsoft.com/#view/Microsoft_AAD_IAM/ManagedAppMenuBlade"
PAGES: Final = {
    "overview": _APP + "/~/Overview/appId/{client_id}",
    "secrets": _APP + "/~/Credentials/appId/{client_id}",
    "permissions": _APP + "/~/CallAnAPI/appId/{client_id}",
    "enterprise": _ENTERPRISE + "/~/Properties/objectId/{enterprise_object_id}/appId/{client_id}",
}

_ENTRA: Final = "https://learn.microsoft.com/entra/identity-platform/"
_CODES_URL: Final = _ENTRA + "reference-error-codes"
_FLOW_URL: Final = _ENTRA + "v2-oauth2-client-creds-grant-flow"
_SECRET_URL: Final = _ENTRA + "how-to-add-credentials"
_KEY_URL: Final = _ENTRA + "certificate-credentials"
_CLOUD_URL: Final = _ENTRA + "authentication-national-cloud"
_TENANT_URL: Final = "https://learn.microsoft.com/entra/fundamentals/how-to-find-tenant"
_IMAP_URL: Final = (
    "https://learn.microsoft.com/exchange/client-developer/legacy-protocols/"
    "how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth"
)
_NETWORK_URL: Final = (
    "https://learn.microsoft.com/microsoft-365/enterprise/urls-and-ip-address-ranges"
)

_CONNECT: Final = "Connect-ExchangeOnline -Organization {tenant_id}"
_REGISTER: Final = "New-ServicePrincipal -AppId {client_id} -ObjectId {enterprise_object_id}"
_GRANT: Final = (
    "Add-MailboxPermission -Identity {mailbox} -User {enterprise_object_id}"
    " -AccessRights FullAccess"
)
_REGISTRATION: Final = "Entra admin center > Entra ID > App registrations > the application > "
_ENTERPRISE_APP: Final = "Entra admin center > Entra ID > Enterprise apps > the application > "
_SCOPE: Final = "https://outlook.office365.com/.default"
_IN_IMAP: Final[tuple[Stage, ...]] = ("authenticate", "post_auth", "runtime")
_REPLY: Final = r"(?:^|\b(?:NO|BAD|BYE) |[:>] ?|['\"])"  # where a server's own words begin

_UNREACHABLE: Final = (
    r"Connection refused|actively refused it|Name or service not known|nodename nor servname|"
    r"[Nn]ame resolution|NameResolutionError|getaddrinfo failed|No address associated with|"
    r"Name does not resolve|No such host is known|(?:Network|Host) is (?:unreachable|down)|"
    r"unreachable (?:network|host)|No route to host|Connection (?:reset by peer|aborted|timed out)|"
    r"forcibly closed|(?:Connect|Read)Timeout|Read timed out|operation timed out|"
    r"(?:^|[Ee]rror: |Error\(['\"]|timeout: )timed out|Failed to establish a new connection|"
    r"Remote end closed connection|(?:connect|Cannot connect) to proxy|Tunnel connection failed"
)

# Short fields share a line, so that a row is seen at a glance: hence no formatting at the end.
TABLE: Final = (
    # -- the token endpoint: credentials
    Row(
        id="secret-wrong", codes="7000215", page="secrets", url=_SECRET_URL,
        wording=r"Invalid client secret (?:is )?provided|"
        r"client_secret does not match the expected value for this client",
        cause="The client secret is not one of this application: often the Secret ID was copied"
        " instead of the Value, or the secret was deleted or belongs to another application.",
        fix=f"Create a new client secret ({_REGISTRATION}Certificates & secrets > New client"
        " secret), copy the column Value at once, it is shown only then, and put it into the"
        " configuration.",
    ),
    Row(
        id="secret-expired", codes="7000222", page="secrets", url=_SECRET_URL,
        wording=r"provided client secret keys(?: for app '[^'\n]{1,100}')? are expired",
        cause="The client secret is past the end date that was chosen when it was created.",
        fix=f"Create a new client secret ({_REGISTRATION}Certificates & secrets > New client"
        " secret), put its Value into the configuration, note its end date in a calendar.",
    ),
    Row(
        id="credential-missing", codes="7000216 7000218", url=_FLOW_URL,
        wording=r"'client_assertion'(?:, 'client_secret' or 'request' is required|"
        r" or 'client_secret'\.)",
        cause="The token request carried neither a client secret nor a signed assertion: the"
        " secret is empty in the configuration or was not read.",
        fix="Put the Value of the client secret into the configuration, or the path of the file"
        " that holds it, and make sure the program may read it.",
    ),
    Row(
        id="certificate-not-registered", codes="700027", page="secrets", url=_KEY_URL,
        wording=r"used to sign the client assertion is not registered on application",
        cause="Entra does not accept the certificate that signed the request for this"
        " application: it was never uploaded, was removed, has expired, or is another one's.",
        fix=f"Upload the public certificate ({_REGISTRATION}Certificates & secrets >"
        " Certificates) and compare its thumbprint with that of the file in use.",
    ),
    Row(
        id="assertion-time", codes="700024", url=_KEY_URL,
        wording=r"Client assertion is not within its valid time range",
        cause="The signed assertion was too old, or not yet valid, when Entra read it: it was"
        " kept for too long, or the clock of this machine is wrong.",
        fix="Build a fresh assertion for each token request and set the clock by time service.",
        commands=("w32tm /query /status", "timedatectl status"),
    ),
    # -- the token endpoint: application and tenant
    Row(
        id="application-not-found", codes="700016 700011", page="overview", url=_CODES_URL,
        wording=r"Application with identifier '[^'\n]{0,200}' was not found in the directory",
        cause="There is no application with this client ID in this tenant: a typing error, an"
        " object ID or secret ID in place of the client ID, or the ID of another tenant.",
        fix=f"Copy both from one page, {_REGISTRATION}Overview: Application (client) ID and"
        " Directory (tenant) ID.",
    ),
    Row(
        id="enterprise-application-missing", codes="7000229", page="permissions", url=_FLOW_URL,
        wording=r"client application \S{1,100} is missing service principal in the tenant",
        cause="The application is registered, but has no enterprise application (service"
        " principal) in the tenant that was asked.",
        fix=f"Grant admin consent in that tenant, which creates it: {_REGISTRATION}API"
        " permissions > Grant admin consent.",
    ),
    Row(
        id="application-disabled", codes="7000112", page="enterprise", url=_CODES_URL,
        wording=r"UnauthorizedClientApplicationDisabled|"
        r"AADSTS70001: (?:UnauthorizedClient - )?The application is disabled",
        cause="The application is switched off in this tenant.",
        fix=f"Switch it on again: {_ENTERPRISE_APP}Properties > Enabled for users to sign-in >"
        " Yes. Ask first who switched it off, and why.",
    ),
    Row(
        id="tenant-not-found", codes="90002", page="overview", url=_TENANT_URL,
        wording=r"Tenant '[^'\n]{0,300}' not found\. (?:Check to make sure|This may happen if)",
        cause="This cloud knows no tenant of this ID or name: a typing error, or the tenant"
        " belongs to another cloud (US Government, China).",
        fix=f"Copy Directory (tenant) ID from {_REGISTRATION}Overview into the address of the"
        " token endpoint; for another cloud use that cloud's endpoint.",
    ),
    Row(
        id="tenant-malformed", codes="900023 900021", page="overview", url=_TENANT_URL,
        wording=r"[Tt]enant identifier '[^'\n]{0,300}' is n(?:either a valid DNS name|ot valid)",
        cause="The tenant in the address of the token endpoint is neither an ID nor a domain:"
        " often a character is missing, or a placeholder is still in place.",
        fix=f"Copy Directory (tenant) ID from {_REGISTRATION}Overview into the address of the"
        " token endpoint: 32 hexadecimal digits in five groups.",
    ),
    Row(
        id="tenant-not-specific", codes="9001023 50059 50128 90019 50194 90124 90130",
        page="overview", url=_TENANT_URL,
        wording=r"No tenant-identifying information found|"
        r"(?:isn't|is not) supported over the /common or /consumers endpoints",
        cause="The token endpoint names no tenant of its own (/common, /consumers,"
        " /organizations), which an application without a user cannot use.",
        fix="Put the Directory (tenant) ID in its place:"
        " https://login.microsoftonline.com/<tenant_id>/oauth2/v2.0/token",
    ),
    Row(
        id="wrong-cloud", codes="90038 900382 900432 900439 90051 90043", url=_CLOUD_URL,
        wording=r"belongs to the National Cloud '|USGClientNotSupportedOnPublicEndpoint",
        cause="The tenant lives in another Microsoft cloud than the token endpoint.",
        fix="Use that cloud's endpoint: login.microsoftonline.com (worldwide),"
        " login.microsoftonline.us (US Government), login.partner.microsoftonline.cn (China),"
        " and its IMAP host and scope.",
    ),
    # -- the token endpoint: scope and permission
    Row(
        id="scope-several-resources", codes="700022 28000", url=_FLOW_URL,
        wording=r"scope'?(?: '[^'\n]{0,300}')? is(?: not|n't) valid because it contains more than"
        r" one resource",
        cause="The scope names more than one service, such as Graph and Outlook together.",
        fix=f"Ask for one alone: {_SCOPE}",
    ),
    Row(
        id="scope-not-default", codes="1002012 28002 700023", url=_FLOW_URL,
        wording=r"AADSTS70011(?!\d)|error_codes\W{1,9}70011\b|"
        r"must have a scope value with /\.default suffixed|"
        r"AADSTS900144: The request body must contain the following parameter: 'scope'",
        cause="The scope ({scope}) is not a service's address followed by /.default. Scopes like"
        " IMAP.AccessAsUser.All are for signed-in users.",
        fix=f"Use exactly {_SCOPE}",
    ),
    Row(
        id="resource-not-found", codes="500011 50001 500014 650052", url=_FLOW_URL,
        wording=r"resource principal named .{1,300} (?:was not|wasn't) found in the tenant named|"
        r"service principal for resource '[^'\n]{1,300}' is disabled",
        cause="The tenant has no such service as the scope ({scope}) names: a typing error, or"
        " Exchange Online is not, or no longer, part of the subscription.",
        fix=f"Use exactly {_SCOPE} and check that the tenant has Exchange Online.",
    ),
    Row(
        id="permission-missing", codes="650057 650056 65005 65001 90094 501051",
        page="permissions", url=_IMAP_URL,
        wording=r"access to a resource which (?:isn't|is not) listed in the requested permissions|"
        r"user or administrator has not consented to use the application with ID",
        cause="The application has no permission of Office 365 Exchange Online, or an"
        " administrator has not consented to it.",
        fix=f"{_REGISTRATION}API permissions > Add a permission > APIs my organization uses >"
        " Office 365 Exchange Online > Application permissions > IMAP.AccessAsApp, then Grant"
        " admin consent.",
    ),
    Row(
        id="conditional-access", codes="53003 530032 53000 53001 53002 50131", page="enterprise",
        url="https://learn.microsoft.com/entra/identity/conditional-access/workload-identity",
        wording=r"Access has been blocked by Conditional Access policies",
        cause="A Conditional Access policy of the tenant blocks the application, often because"
        " of the network address it comes from.",
        fix="Look the attempt up under Entra admin center > Entra ID > Monitoring & health >"
        " Sign-in logs > Service principal sign-ins; have the policy allow this address.",
    ),
    Row(
        id="user-flow", url=_FLOW_URL,
        codes="50034 50126 50053 50055 50056 50057 50058 50020 50072 50074 50076 50079 50105 50140"
        " 50144 50173 51004 54005 65004 70008 70043 700082 16000",
        wording=r"Error validating credentials due to invalid username or password",
        cause="The request signed in a person (user name, password, second factor or refresh"
        " token), not an application.",
        fix="Use grant_type=client_credentials with client ID and secret; no password, no user.",
    ),
    Row(
        id="token-loop", codes="50196", url=_CODES_URL,
        wording=r"A client loop has been detected",
        cause="The application asked for the same token too often within a short time: a new one"
        " for each connection, or after each failure.",
        fix="Keep one TokenSource for the life of the program, it reuses its token; wait some"
        " minutes before the next attempt.",
    ),
    Row(
        id="throttled", codes="90055", url=_CODES_URL, stages=("token", *_IN_IMAP),
        wording=r"Request is throttled\. Suggested Backoff Time",
        cause="The service asks to slow down: too many requests or connections in a short time.",
        fix="Wait as long as the answer says before trying again, with fewer connections at once.",
    ),
    Row(
        id="entra-unavailable", codes="90033 90006 90012 90024 90090 90091 50033",
        url="https://status.cloud.microsoft",
        wording=r"Microsoft Online Directory Service \(MSODS\) is(?:n't| not) available",
        cause="Entra itself has a temporary problem; nothing in the configuration is wrong.",
        fix="Try again later with growing pauses; a token that is still valid goes on working.",
    ),
    # -- IMAP: the token and the mailbox
    Row(
        id="role-missing", page="permissions", url=_IMAP_URL,
        cause="The access token lacks the role IMAP.AccessAsApp (its roles: {roles}): the"
        " permission was not added, or nobody granted admin consent. Entra issues tokens even so.",
        fix=f"{_REGISTRATION}API permissions: add the application permission IMAP.AccessAsApp of"
        " Office 365 Exchange Online and press Grant admin consent, then get a new token.",
    ),
    Row(
        id="audience-wrong", url=_IMAP_URL,
        cause="The access token was issued for {aud}, not to Exchange Online.",
        fix=f"Use the scope {_SCOPE} and get a new token; not the one of Graph.",
    ),
    Row(
        id="object-id-mismatch", page="enterprise", url=_IMAP_URL,
        cause="The object ID that was given, {enterprise_object_id}, is not the one in the token,"
        " {oid}: probably it is the Object ID of the App registration, not of the enterprise"
        " application, and Exchange was told the wrong one.",
        fix=f"Take Object ID from {_ENTERPRISE_APP}Overview, remove the wrong entry from"
        " Exchange and register the right one.",
        commands=(
            _CONNECT,
            "Remove-ServicePrincipal -Identity {enterprise_object_id}",
            "New-ServicePrincipal -AppId {client_id} -ObjectId {oid}",
            "Add-MailboxPermission -Identity {mailbox} -User {oid} -AccessRights FullAccess",
        ),
    ),
    Row(
        id="clock-skew", url=_FLOW_URL,
        cause="The clock of this machine differs from the server's, so tokens seem to be expired,"
        " or not yet valid.",
        fix="Set the clock by a time service (NTP).",
        commands=("w32tm /query /status", "timedatectl status"),
    ),
    Row(
        id="authenticate-refused", url=_IMAP_URL, stages=("authenticate",),
        wording=_REPLY + r"AUTHENTICATE failed\.", vague=_REPLY + r"AUTHENTICATE failed",
        cause="Exchange refused the token, with its one answer for every reason. Where the token"
        " itself is good: the service principal is not registered in Exchange, it is with the"
        " wrong object ID, or there is no such mailbox.",
        fix=f"Register the service principal with the Object ID from {_ENTERPRISE_APP}Overview"
        " and give it the mailbox. What was just set up may need some time to work.",
        commands=(_CONNECT, "Get-ServicePrincipal -Identity {client_id}", _REGISTER, _GRANT),
    ),
    Row(
        id="basic-auth-disabled", stages=("authenticate",),
        url="https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/"
        "deprecation-of-basic-authentication-exchange-online",
        wording=_REPLY + r"LOGIN failed\.", vague=_REPLY + r"LOGIN failed",
        cause="The program signed in with user name and password, which Exchange Online no longer"
        " takes, though it still advertises AUTH=PLAIN.",
        fix="Sign in with AUTHENTICATE XOAUTH2 and an access token: authenticationMethod ="
        " oauth2 in the configuration.",
    ),
    Row(
        id="already-authenticated", url=_IMAP_URL, stages=_IN_IMAP,
        wording=r"Command received in Invalid state\.",
        cause="The connection was signed in already: Exchange takes AUTHENTICATE or LOGIN once.",
        fix="Sign in once for each connection; open a new connection to sign in again.",
    ),
    Row(
        id="mailbox-not-connected", url=_IMAP_URL, stages=_IN_IMAP,
        wording=r"User is authenticated but not connected",
        cause="The token is good, but the mailbox does not open: FullAccess was not granted to"
        " the service principal, IMAP is off for the mailbox, or its name is wrong.",
        fix="Grant FullAccess on {mailbox}, switch IMAP on for it and check its name. What was"
        " just set up may need some time. Rarer: too many connections at once, or an outage.",
        commands=(
            _CONNECT,
            _GRANT,
            "Get-MailboxPermission -Identity {mailbox}",
            "Set-CASMailbox -Identity {mailbox} -ImapEnabled $true",
            "Get-CASMailbox -Identity {mailbox} | Format-List ImapEnabled",
        ),
    ),
    # -- IMAP: the connection
    Row(
        id="session-expired", stages=_IN_IMAP, url=_ENTRA + "configurable-token-lifetimes",
        wording=r"Session invalidated - AccessTokenExpired",
        cause="The access token expired while the connection was open; Exchange ends it then.",
        fix="Connect again with a fresh token; TokenSource.get_token() has one.",
    ),
    Row(
        id="connection-closed", stages=_IN_IMAP, url=_IMAP_URL,
        wording=r"\bConnection closed\. \d{1,3}(?!\d| *[A-Za-z])",
        vague=r"socket error: EOF|=> EOF",
        cause="Exchange closed the connection, mostly after refusing or slowing down the command"
        " before.",
        fix="Read the server's last reply before this one: it holds the true reason. Then connect"
        " again.",
    ),
    Row(
        id="certificate-untrusted", stages=("token", *_IN_IMAP),
        url="https://docs.python.org/3/library/ssl.html#verifying-certificates",
        wording=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|"
        r"(?:Hostname|IP address) mismatch, certificate is not valid for",
        cause="The certificate of {server} cannot be verified: it is another host's, has expired"
        " by the clock of this machine, or comes from an authority that is not trusted here, such"
        " as that of a proxy which inspects TLS.",
        fix="Compare the host name and look at the certificate. Where a proxy of your own"
        " organization issues it, add its CA to the system's store or name it in SSL_CERT_FILE;"
        " do not switch verification off.",
        commands=("openssl s_client -connect {server} -showcerts",),
    ),
    Row(
        id="token-endpoint-unreachable", vague=_UNREACHABLE, url=_NETWORK_URL,
        cause="No usable answer from {token_uri}: no network, a firewall or proxy in between, a"
        " wrong host name, or an outage.",
        fix="Allow outgoing HTTPS (port 443) to it from this machine; where a proxy is required,"
        " name it in the environment variable HTTPS_PROXY.",
    ),
    Row(
        id="imap-unreachable", vague=_UNREACHABLE, stages=("authenticate",), url=_NETWORK_URL,
        cause="No connection to {server}: no network, a firewall in between, or a wrong host name"
        " or port.",
        fix="Allow outgoing TCP to it from this machine: port 993, or 143 with STARTTLS.",
        commands=("openssl s_client -connect {server}",),
    ),
)  # fmt: skip
