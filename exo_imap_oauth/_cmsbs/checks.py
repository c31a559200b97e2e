"""The table of mistakes that a value can hold."""

from __future__ import annotations

import re

from exo_imap_oauth import _inbox_rules as values
from exo_imap_oauth._cmsbs.keys import (
    APP,
    CLIENT_ID,
    CLIENT_SECRET,
    DEBUG,
    FOLDER,
    GRANT_TYPE,
    KEYS,
    MAX_VALUE,
    ODD,
    PORT,
    SCOPE,
    SERVER,
    SSL,
    TOKEN_URI,
    USER,
)
from exo_imap_oauth._cmsbs.mistakes import REQUIRED, Check

_ALL = tuple(KEYS)
_STRICT = tuple(name for name in KEYS if name not in (CLIENT_SECRET, FOLDER))
_ENTER = "Enter {belongs}."
_NEW_SECRET = f"Copy the Value of a client secret ({APP} > Certificates & secrets)."
_COPY_CLIENT_ID = f"Copy the Application (client) ID from {APP} > Overview."
_COPY_TENANT_ID = f"Copy the Directory (tenant) ID from {APP} > Overview."
_USE_SCOPE = "Write https://outlook.office365.com/.default."
_OBJECT_ID = (
    "The enterprise_object_id (Entra admin center > Enterprise applications > your app > Overview"
    " > Object ID) belongs in New-ServicePrincipal, not here."
)

RUN_TOGETHER = Check(  # reported for keys too that nobody reads
    id="run-together",
    severity="error",
    keys=_ALL,
    message="several settings run together on this line.",
    fix="Write each setting on a line of its own.",
    when=lambda c: c.run_together,
)
# A value is held against these in this order, up to the first error. What InboxConfig.open()
# and token_source() refuse must be an error here, whatever the other side is.
CHECKS = (
    RUN_TOGETHER,
    Check(
        id="too-long",
        severity="error",
        keys=_ALL,
        message=f"is longer than {MAX_VALUE:,} characters.",
        fix=_ENTER,
        when=lambda c: len(c.value) > MAX_VALUE,
    ),
    Check(
        id="soft-wrap",
        severity="error",
        keys=(TOKEN_URI,),
        message="the URI is cut in two by a line break.",
        fix="Write the whole URI on one line.",
        when=lambda c: (
            not values.tenant_of(c.value) and values.tenant_of(c.value + c.following.strip())
        ),
    ),
    Check(
        id="empty",
        severity="error",
        keys=REQUIRED,
        message="is empty.",
        fix=_ENTER,
        when=lambda c: not c.value.strip(),
    ),
    Check(
        id="placeholder-object-id",
        severity="error",
        keys=_ALL,
        message="a placeholder is left in.",
        fix=f"{_ENTER} {_OBJECT_ID}",
        when=lambda c: "<enterprise_object_id>" in c.value,
    ),
    Check(
        id="placeholder",
        severity="error",
        keys=_STRICT,
        message="a placeholder is left in.",
        fix=_ENTER,
        when=lambda c: values.PLACEHOLDER.search(c.value),
    ),
    Check(
        id="placeholder-whole",
        severity="error",
        keys=(CLIENT_SECRET, FOLDER),
        message="a placeholder is left in.",
        fix=_ENTER,
        when=lambda c: values.PLACEHOLDER.fullmatch(c.value.strip()),
    ),
    Check(
        id="secret-control",
        severity="error",
        keys=(CLIENT_SECRET,),
        message=r"holds a control character: Java makes them of \t, \n, \r, \f and \u.",
        fix="Double each backslash of the secret.",
        when=lambda c: values.CONTROL.search(c.value),
    ),
    Check(
        id="control-character",
        severity="error",
        keys=(*_STRICT, FOLDER),
        message="holds a control character.",
        fix="Write the value again without it.",
        when=lambda c: values.CONTROL.search(c.value),
    ),
    Check(
        id="invisible-character",
        severity="error",
        keys=_ALL,
        message="holds a no-break blank or another invisible character, as a copy from a web page"
        " or a word processor does.",
        fix="Type the value, or paste it as plain text.",
        when=lambda c: not c.value.isprintable(),
    ),
    Check(
        id="odd-character",
        severity="entra",
        keys=(*_STRICT, CLIENT_SECRET),
        message="holds a typographic quote or dash, as a copy from a web page or a word processor"
        " does.",
        fix="Type the value, or paste it as plain text.",
        when=lambda c: ODD.search(c.value),
    ),
    Check(
        id="padded",
        severity="warning",
        keys=(*_STRICT, FOLDER),
        message="has blanks around it, to Java a part of it; they are ignored here.",
        fix="Remove the blanks.",
        when=lambda c: c.padded,
    ),
    # ---- the connection
    Check(
        id="server-no-host",
        severity="error",
        keys=(SERVER,),
        message="is not a host name.",
        fix="Write the host name alone, such as outlook.office365.com.",
        when=lambda c: not values.HOST.fullmatch(c.value),
    ),
    Check(
        id="port-no-number",
        severity="error",
        keys=(PORT,),
        message="is not a number from 1 to 65535.",
        fix="Write 993.",
        when=lambda c: not values.is_port(c.value),
    ),
    Check(
        id="port-and-ssl",
        severity="exchange",
        keys=(PORT,),
        message="does not go with ssl: 993 is for true, 143 (the default) for tls, which is"
        " STARTTLS.",
        fix="Write {key} = 993 and ssl = true.",
        when=lambda c: (c.value, c.others[SSL]) in (("143", "true"), ("993", "tls")),
    ),
    Check(
        id="ssl-unknown",
        severity="error",
        keys=(SSL,),
        message="is neither true (TLS) nor tls (STARTTLS).",
        fix="Write true.",
        when=lambda c: c.value not in ("true", "tls", "false"),
    ),
    Check(
        id="ssl-off",
        severity="error",
        keys=(SSL,),
        message="is false: anybody could read the access token.",
        fix="Write true, with port 993.",
        when=lambda c: c.value == "false",
    ),
    Check(
        id="user-no-address",
        severity="exchange",
        keys=(USER,),
        message="is not a plain mail address.",
        fix=_ENTER,
        when=lambda c: not values.ADDRESS.fullmatch(c.value),
    ),
    Check(
        id="grant-type",
        severity="error",
        keys=(GRANT_TYPE,),
        message="is not client_credentials; every other grant needs a person who signs in.",
        fix="Write client_credentials.",
        when=lambda c: c.value != "client_credentials",
    ),
    Check(
        id="debug-unknown",
        severity="warning",
        keys=(DEBUG,),
        message="is neither true nor false: it is off.",
        fix="Write true or false.",
        when=lambda c: c.value not in ("true", "false"),
    ),
    # ---- the token endpoint
    Check(
        id="uri-http",
        severity="error",
        keys=(TOKEN_URI,),
        message="is http: the client secret would travel in the open.",
        fix="Write https.",
        when=lambda c: c.value.casefold().startswith("http://"),
    ),
    Check(
        id="uri-no-url",
        severity="error",
        keys=(TOKEN_URI,),
        message="is not an https URL.",
        fix=_ENTER,
        when=lambda c: values.url_parts(c.value) is None,
    ),
    Check(
        id="uri-user",
        severity="error",
        keys=(TOKEN_URI,),
        message="holds a user, a password or a fragment (#), which a token endpoint does not have.",
        fix=_ENTER,
        when=lambda c: values.has_user_or_fragment(c.value),
    ),
    Check(
        id="uri-path",
        severity="entra",
        keys=(TOKEN_URI,),
        message="has another path than /<tenant_id>/oauth2/v2.0/token.",
        fix=_ENTER,
        when=lambda c: values.tenant_of(c.value) is None,
    ),
    Check(
        id="uri-no-path",
        severity="error",
        keys=(TOKEN_URI,),
        message="ends at the host: a token endpoint has a path.",
        fix=_ENTER,
        when=lambda c: values.has_empty_path(c.value),
    ),
    Check(
        id="tenant-not-specific",
        severity="error",
        keys=(TOKEN_URI,),
        message="names common, organizations or consumers, where no application can sign in.",
        fix=_COPY_TENANT_ID,
        when=lambda c: values.tenant_of(c.value) in ("common", "organizations", "consumers"),
    ),
    Check(
        id="tenant-malformed",
        severity="error",
        keys=(TOKEN_URI,),
        message="its tenant is neither a complete GUID nor a DNS name.",
        fix=_COPY_TENANT_ID,
        when=lambda c: values.is_malformed_tenant(values.tenant_of(c.value)),
    ),
    Check(
        id="uri-host",
        severity="warning",
        keys=(TOKEN_URI,),
        message="its host is not one of Microsoft's.",
        fix="Write login.microsoftonline.com, unless another host is meant.",
        when=lambda c: (
            not (
                values.is_entra_host(values.url_host(c.value))
                or values.is_loopback(values.url_host(c.value))
            )
        ),
    ),
    # ---- the application
    Check(
        id="client-id-quoted",
        severity="entra",
        keys=(CLIENT_ID,),
        message="has quotes inside its quotes.",
        fix="Write the ID alone.",
        when=lambda c: values.is_quoted(c.value),
    ),
    Check(
        id="client-id-address",
        severity="entra",
        keys=(CLIENT_ID,),
        message="is a mail address.",
        fix=_COPY_CLIENT_ID,
        when=lambda c: values.ADDRESS.fullmatch(c.value),
    ),
    Check(
        id="client-id-no-guid",
        severity="entra",
        keys=(CLIENT_ID,),
        message="is not a GUID.",
        fix=_COPY_CLIENT_ID,
        when=lambda c: not values.GUID.fullmatch(c.value),
    ),
    Check(
        id="client-id-is-tenant",
        severity="entra",
        keys=(CLIENT_ID,),
        message="is the tenant ID.",
        fix=_COPY_CLIENT_ID,
        when=lambda c: c.value.casefold() == values.tenant_of(c.others[TOKEN_URI]),
    ),
    Check(
        id="secret-id",
        severity="entra",
        keys=(CLIENT_SECRET,),
        message="looks like a GUID: it is the Secret ID, not the Value.",
        fix=_NEW_SECRET,
        when=lambda c: values.GUID.fullmatch(c.value.strip()),
    ),
    Check(
        id="secret-comment",
        severity="entra",
        keys=(CLIENT_SECRET,),
        message="ends in a comment, to Java a part of the value.",
        fix="Move the comment to a line of its own.",
        when=lambda c: re.search(r"\s[#!]", c.value),
    ),
    Check(
        id="secret-blanks",
        severity="entra",
        keys=(CLIENT_SECRET,),
        message="holds a blank, perhaps at its end; it would be sent too.",
        fix="Remove the blank.",
        when=lambda c: re.search(r"\s", c.value),
    ),
    Check(
        id="secret-quoted",
        severity="entra",
        keys=(CLIENT_SECRET,),
        message="has single quotes, or quotes inside its quotes.",
        fix="Remove them; double quotes around the whole value do no harm.",
        when=lambda c: values.is_quoted(c.value),
    ),
    Check(
        id="secret-backslash",
        severity="warning",
        keys=(CLIENT_SECRET,),
        message="is written with single backslashes, which Java drops.",
        fix="Double each backslash that is part of the secret, remove the others.",
        when=lambda c: values.SINGLE_BACKSLASH.search(c.raw.replace(r"\\", "")),
    ),
    # ---- the scope
    Check(
        id="scope-graph",
        severity="entra",
        keys=(SCOPE,),
        message="is a scope of Microsoft Graph, whose tokens IMAP refuses.",
        fix=_USE_SCOPE,
        when=lambda c: values.GRAPH.fullmatch(c.value),
    ),
    Check(
        id="scope-not-default",
        severity="entra",
        keys=(SCOPE,),
        message="is not one resource and /.default.",
        fix=_USE_SCOPE,
        when=lambda c: not values.is_default_scope(c.value),
    ),
    Check(
        id="scope-resource",
        severity="warning",
        keys=(SCOPE,),
        message="is not a scope of Exchange Online.",
        fix=_USE_SCOPE,
        when=lambda c: not values.is_exchange_scope(c.value),
    ),
    # ---- what is sent to the token endpoint, whoever's it is
    Check(
        id="not-plain",
        severity="error",
        keys=(TOKEN_URI, CLIENT_ID, SCOPE),
        message="holds a blank or a character outside ASCII, which a token request cannot hold.",
        fix=_ENTER,
        when=lambda c: values.NOT_PLAIN.search(c.value),
    ),
)
CHECKS_OF: dict[str, tuple[Check, ...]] = {
    name: tuple(check for check in CHECKS if name in check.keys) for name in KEYS
}
