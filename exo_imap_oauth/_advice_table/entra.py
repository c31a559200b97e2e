"""What Entra's token endpoint says, in the order of matching."""

from __future__ import annotations

from typing import Final

from exo_imap_oauth._advice_table.row import (
    CODES_URL,
    ENTERPRISE_APP,
    ENTRA_DOCS,
    FLOW_URL,
    HEALTH_URL,
    IMAP_URL,
    REGISTRATION,
    Row,
)

_SECRET_URL: Final = ENTRA_DOCS + "how-to-add-credentials"
_KEY_URL: Final = ENTRA_DOCS + "certificate-credentials"
_CLOUD_URL: Final = ENTRA_DOCS + "authentication-national-cloud"
_FEDERATED_URL: Final = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
_POLICY_URL: Final = (
    "https://learn.microsoft.com/entra/identity/enterprise-apps/configure-app-management-policies"
)
_TENANT_URL: Final = "https://learn.microsoft.com/entra/fundamentals/how-to-find-tenant"

# Short fields share a line, so that a row is seen at a glance: hence no formatting at the end.
ENTRA: Final = (
    # -- credentials
    Row(
        id="secret-wrong", codes="7000215", page="secrets", url=_SECRET_URL,
        words=r"Invalid client secret (?:is |was )?provided|"
        r"client_secret does(?: not|n't) match the expected value for this client",
        cause="The client secret is not one of this application's: often the Secret ID was copied"
        " instead of the Value, or the secret was deleted or belongs to another application.",
        fix=f"Create a new client secret ({REGISTRATION}Certificates & secrets > New client"
        " secret). Copy its Value at once, since it is shown only then, and put it into the"
        " configuration.",
    ),
    Row(
        id="secret-expired", codes="7000222", page="secrets", url=_SECRET_URL,
        words=r"client secret keys(?: for app '?[^'\n]{1,100}?'?)? (?:are|have|has) expired",
        cause="The client secret is past the end date that was chosen when it was created.",
        fix=f"Create a new client secret ({REGISTRATION}Certificates & secrets > New client"
        " secret), copy its Value at once, put it into the configuration, and put its end date"
        " into a calendar.",
    ),
    Row(
        id="credential-missing", codes="7000216 7000218 7000219", url=FLOW_URL,
        words=r"must contain the following parameter: '?[^'\n]{0,30}client_(?:secret|assertion)\b|"
        r"'client_(?:secret|assertion)'[^.\n]{0,60} (?:is|are) (?:required|missing)\b",
        cause="The token request carried neither a client secret nor a signed assertion: the"
        " secret is empty in the configuration or was not read.",
        fix="Put the Value of the client secret into the configuration, or the path of the file"
        " that holds it, and make sure that the program may read that file.",
    ),
    Row(
        id="certificate-not-registered", codes="700027 1000502", page="secrets", url=_KEY_URL,
        words=r"used to sign the client assertion is(?: not|n't) registered on application|"
        r"certificate is(?: not|n't) within its specified validity",
        cause="Entra does not accept the certificate that signed the request for this application:"
        " it was never uploaded, was removed, has expired, or belongs to another application.",
        fix=f"Upload the public certificate ({REGISTRATION}Certificates & secrets > Certificates >"
        " Upload certificate) and compare its thumbprint with that of the file in use[,"
        " {thumbprint}].",
    ),
    Row(
        id="assertion-time", codes="700024", url=_KEY_URL,
        words=r"Client assertion is(?: not|n't) within its valid time range",
        cause="The signed assertion was too old, or not yet valid, when Entra read it: it was kept"
        " for too long, or the clock of this machine is wrong.",
        fix="Build a fresh assertion for each token request, and let a time service (NTP) set the"
        " clock. The commands show its state: the first on Windows, the second on Linux.",
        commands=("w32tm /query /status", "timedatectl status"),
    ),
    Row(
        id="assertion-invalid", codes="50027 50013 50048 700021 5002730", open_codes="50012",
        page="secrets", url=_KEY_URL,
        words=r"Assertion failed signature validation|"
        r"No certificate thumbprint specified in token header|"
        r"assertion (?:audience claim|application identifier) does(?: not|n't) match|"
        r"Subject (?:mismatches|must match)(?: the)? issuer claim|"
        r"Invalid JWT token\. Unsupported key for the signing algorithm",
        cause="Entra cannot accept the signed assertion: it is malformed, lacks the thumbprint of"
        " its certificate, was signed with a key other than the registered one, or names another"
        " application (iss, sub) or address (aud).",
        fix="Sign with the private key of the certificate that is registered"
        f" ({REGISTRATION}Certificates & secrets > Certificates). The header needs x5t#S256, and"
        " aud must be the address of the token endpoint, and iss and sub the client ID."
        " ClientCertificate does all of that.",
    ),
    Row(
        id="federated-credential-mismatch", codes="70021 700211 700212 700213 7002137 7002138",
        page="secrets", url=_FEDERATED_URL,
        words=r"No matching federated identity record found",
        cause="The application has no federated credential for this assertion: issuer, subject and"
        " audience must all match exactly, including upper and lower case.",
        fix="Compare iss, sub and aud of the assertion with those under"
        f" {REGISTRATION}Certificates & secrets > Federated credentials, and correct the one that"
        " differs.",
    ),
    Row(
        id="client-is-public", codes="700025", url=FLOW_URL,
        words=r"Client is public so neither",
        cause="The application is registered as a public client, such as a mobile or desktop"
        " program, and such a client has no secret and no certificate.",
        fix=f"Under {REGISTRATION}Authentication, set Allow public client flows to No, and remove"
        " the platform Mobile and desktop applications. If it is still called public, add the"
        " platform Web.",
    ),
    Row(
        id="credential-policy", page="secrets", url=_POLICY_URL,
        words=r"Credential(?: type| lifetime)\b[^.\n]{0,100} as per assigned policy|"
        r"\bCredential(?:TypeNotAllowed|InvalidLifetime)AsPerAppPolicy\b|"
        r"secrets? (?:is|are) blocked by (?:a )?tenant",
        cause="A policy of the tenant forbids client secrets for this application, or any that"
        " live as long as was asked for.",
        fix="Use a certificate or a federated credential in place of the secret, or create one that"
        " expires sooner. Who runs the tenant can exempt the application from the policy (app"
        " management policy).",
    ),
    # -- application and tenant
    Row(
        id="application-not-found", codes="700016 700011", page="overview", url=CODES_URL,
        words=r"Application with identifier '?[^'\n]{0,200}?'? was(?: not|n't) found in the"
        r" directory",
        cause="There is no application with this client ID in this tenant: a typing error, an"
        " Object ID or Secret ID in place of the client ID, or a client ID from another tenant.",
        fix=f"Copy both IDs into the configuration from the same page, {REGISTRATION}Overview:"
        " Application (client) ID and Directory (tenant) ID.",
    ),
    Row(
        id="enterprise-application-missing", codes="7000229", page="permissions", url=FLOW_URL,
        words=r"client application \S{1,100} is missing service principal in the tenant",
        cause="The application is registered, but it has no Enterprise application (service"
        " principal) in the tenant that was asked.",
        fix=f"Grant admin consent in that tenant, which creates it: {REGISTRATION}API"
        " permissions > Grant admin consent.",
    ),
    Row(
        id="application-disabled", codes="7000112", page="enterprise", url=CODES_URL,
        words=r"UnauthorizedClientApplicationDisabled|"
        r"AADSTS70001\W{1,4}(?:UnauthorizedClient\W{1,3})?The application is disabled",
        cause="The application is switched off in this tenant.",
        fix="First ask who switched it off, and why. Then switch it on again:"
        f" {ENTERPRISE_APP}Properties > Enabled for users to sign-in > Yes > Save.",
    ),
    Row(
        id="tenant-not-found", codes="90002", page="overview", url=_TENANT_URL,
        words=r"Tenant '?[^'\n]{0,300}?'? (?:was )?not found\. (?:Check to make sure|"
        r"This may happen if)",
        cause="There is no tenant with this ID or name in this cloud: a typing error, or the"
        " tenant belongs to another cloud (US Government, China).",
        fix=f"Copy the Directory (tenant) ID from {REGISTRATION}Overview into the address of the"
        " token endpoint. If the tenant is in another cloud, use that cloud's endpoint.",
    ),
    Row(
        id="tenant-malformed", codes="900023 900021", page="overview", url=_TENANT_URL,
        words=r"tenant identifier '?[^'\n]{0,300}?'? is(?: neither a valid DNS name|"
        r" not valid|n't valid)",
        cause="The tenant in the address of the token endpoint is neither an ID nor a domain:"
        " often a character is missing, or a placeholder was left in.",
        fix=f"Copy the Directory (tenant) ID from {REGISTRATION}Overview into the address of the"
        " token endpoint: 32 hexadecimal digits in five groups.",
    ),
    Row(
        id="tenant-not-specific", codes="9001023 50059 50128 90019 50194 90124 90130",
        page="overview", url=_TENANT_URL,
        words=r"No tenant-identifying information found|"
        r"is(?: not|n't) supported over the /common or /consumers endpoints",
        cause="The token endpoint names no particular tenant (/common, /consumers,"
        " /organizations), which an application without a user cannot use.",
        fix="Put the Directory (tenant) ID in its place:"
        " {authority}/<tenant_id>/oauth2/v2.0/token",
    ),
    Row(
        id="wrong-cloud", codes="90038 900382 900432 900439 90051 90043", url=_CLOUD_URL,
        words=r"belongs to the National Cloud '|USGClientNotSupportedOnPublicEndpoint",
        cause="The tenant is in a different Microsoft cloud from the token endpoint, or the token"
        " endpoint, the IMAP host and the scope are not all of the same cloud.",
        fix="Use the tenant's cloud for all three: login.microsoftonline.com (worldwide),"
        " login.microsoftonline.us (US Government) or login.partner.microsoftonline.cn (China),"
        " and the IMAP host and the scope of that cloud.",
    ),
    # -- scope, permission, and the request as such
    Row(
        id="scope-several-resources", codes="700022 28000", url=FLOW_URL,
        words=r"scope\b.{0,340}?\bcontains more than one resource",
        cause="The scope names more than one service, such as Graph and Outlook together.",
        fix="Ask for one of them only: {exchange_scope}",
    ),
    Row(
        id="scope-not-default", codes="1002012 28002 28003 90009 650053", open_codes="70011",
        url=FLOW_URL,
        words=r"must have a scope value with /\.default|InvalidResourcelessScope|"
        r"input parameter '?scope'?(?: '[^'\n]{0,300}')? is(?: not|n't) valid|"
        r"(?:following parameter:|required field) '?scope\b|"
        r"Application\b.{0,200}? is requesting a token for itself",
        cause="The scope[, {scope},] is not the address of a service followed by /.default. Scopes"
        " such as IMAP.AccessAsUser.All are for signed-in users.",
        fix="Use exactly {exchange_scope}",
    ),
    Row(
        id="resource-not-found", codes="500011 50001 500014 650052", url=FLOW_URL,
        words=r"resource principal named .{1,300} was(?: not|n't) found in the tenant named|"
        r"service principal for resource '?[^'\n]{1,300}?'? is disabled",
        cause="The tenant has no service with the name in the scope[, {scope}]: a typing error, or"
        " its subscription does not, or no longer does, include Exchange Online.",
        fix="Use exactly {exchange_scope} and check that the tenant has Exchange Online (Microsoft"
        " 365 admin center > Billing > Your products).",
    ),
    Row(
        id="permission-missing", codes="650057 650056 65005 65001 90094 501051",
        page="permissions", url=IMAP_URL,
        words=r"access to a resource which is(?: not|n't) listed in the requested permissions|"
        r"user or administrator has(?: not|n't) consented to use the application with ID|"
        r"\bApplication\W(?:(?!\buser\b).){0,200}? is(?: not|n't) assigned to a role\b",
        cause="The application has no permission of Office 365 Exchange Online, or an"
        " administrator has not consented to it. Exchange Online may be set to give tokens to"
        " assigned applications only (Assignment required), and such a permission assigns it.",
        fix=f"Add it: {REGISTRATION}API permissions > Add a permission > APIs my organization uses"
        " > Office 365 Exchange Online > Application permissions > IMAP.AccessAsApp > Add"
        " permissions. Then press Grant admin consent on the same page.",
    ),
    Row(
        id="conditional-access", codes="53003 530032 53000 53001 53002 50131", page="enterprise",
        url="https://learn.microsoft.com/entra/identity/conditional-access/workload-identity",
        words=r"Access (?:has been|was|is) blocked by Conditional Access policies",
        cause="A Conditional Access policy of the tenant blocks the application, often because"
        " of the network address it comes from.",
        fix="Look up the attempt under Entra admin center > Entra ID > Monitoring & health >"
        " Sign-in logs > Service principal sign-ins; the tab Conditional Access of its entry names"
        " the policy. Have that policy allow this address.",
    ),
    Row(
        id="user-flow", url=FLOW_URL,
        codes="50034 50126 50053 50055 50056 50057 50058 50020 50072 50074 50076 50079 50140"
        " 50144 50173 51004 54005 65004 70008 70043 700082 16000",
        open_codes="50105",
        words=r"Error validating credentials due to invalid username or password|"
        r"\bsigned[\x20-]in user\b.{0,200}? is(?: not|n't| blocked because)",
        cause="The request tried to sign in a person (by user name, password, second factor or"
        " refresh token), not an application.",
        fix="Use grant_type=client_credentials with the client ID and the client secret, and no"
        " user name or password.",
    ),
    Row(
        id="request-malformed", codes="9002313 9000411 900561 90056 70003",
        open_codes="900144 90014", url=FLOW_URL,
        words=r"Request is malformed or invalid|"
        r"endpoint only accepts [A-Z,\x20]{1,60} requests?\. Received an? [A-Z]{1,10} request",
        cause="The token request lacks a field, or one of its fields cannot be read: often a value"
        " is empty or has a stray character in it, a proxy changed the form, or a redirect made a"
        " GET of the POST.",
        fix="Compare client ID and scope with the Entra admin center, character by character; the"
        " secret is not shown again, so create a new one if in doubt. A request of your own code"
        " must be form-encoded and contain client_id, client_secret, scope and"
        " grant_type=client_credentials.",
    ),
    Row(
        id="token-uri-wrong", codes="50049", page="overview", url=FLOW_URL,
        cause="The server answers, but there is no token endpoint at this address[: {token_uri}].",
        fix="Correct the address of the token endpoint (token_uri, or oauth2.accessTokenUri in a"
        " cmsbs-conf): {authority}/<tenant_id>/oauth2/v2.0/token with the Directory (tenant) ID"
        f" from {REGISTRATION}Overview. Endpoints on the same page shows the whole address.",
    ),
    Row(
        id="token-loop", codes="50196", url=CODES_URL,
        words=r"A client loop has been detected",
        cause="The application asked for the same token too often within a short time: a new one"
        " for each connection, or after each failure.",
        fix="Keep one TokenSource for the life of the program: it reuses its token. Wait some"
        " minutes before the next attempt.",
    ),
    Row(
        id="entra-unavailable", codes="90033 90006 90012 90024 90090 90091 50033",
        url=HEALTH_URL, retryable=True,
        words=r"Microsoft Online Directory Service \(MSODS\) is(?:n't| not) available",
        cause="Entra itself has a temporary problem; nothing in the configuration is wrong.",
        fix="Try again later, with growing pauses. A token that is still valid goes on working.",
    ),
)  # fmt: skip
