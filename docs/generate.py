# ruff: noqa: E501 - the page's lines are as long as its sentences
"""Make the pages, and the tables in pages, that say what the code says.

    python docs/generate.py

tests/test_generated_pages.py fails where a page is out of date.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._advice_table import TABLE
from exo_imap_oauth._cmsbs.keys import KEYS, documented
from exo_imap_oauth._cmsbs.mistakes import CHECKS, MISTAKES
from exo_imap_oauth._inbox_rules import BELONGS
from exo_imap_oauth.advice import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth._advice_table import Row
    from exo_imap_oauth._inbox_rules import Mistake

DOCS = Path(__file__).parent
TROUBLESHOOT = DOCS / "how-to" / "troubleshoot.md"
SET_UP = TROUBLESHOOT.with_name("set-up.md")
CONFIGURATION = DOCS / "reference" / "configuration.md"
EXAMPLES = DOCS.parent / "tests" / "data" / "advice-examples.json"  # one for each id
COMMAND = "python docs/generate.py"
CHECKED = "<!-- run by tests/test_troubleshoot_page.py -->"

# ---- how-to/troubleshoot.md, from the table of advice ----------------------------------------

INTRODUCTION = """\
Run `check_setup` first: it tries every step of the set-up, names the one that is missing, and prints the commands that fix it, with your own IDs in them. The errors of this library say the same, and `error.advice.id` is the heading of an entry on this page.

```python
from exo_imap_oauth import check_setup, load_config

print(check_setup(load_config("cmsbs-conf").default))
```

[Check a set-up](check-up.md) explains the report. If all you have is a line from the log of this or another program, look it up here or pass it to `exo_imap_oauth.advice.advise(text)`."""

VALUES = """\
## How to read an entry

The commands are for [Exchange Online PowerShell](set-up.md#{powershell}), where an Exchange Administrator signs in; its module is installed once with `Install-Module ExchangeOnlineManagement`. Commands that are not for PowerShell are for the shell of the server that runs your program. All of them use the values of an example company, Contoso. Put your own in their place:

| value | in the examples | where yours is |
|---|---|---|
| tenant ID | `{tenant_id}` | App registrations → the application → Overview → Directory (tenant) ID |
| client ID | `{client_id}` | the same page → Application (client) ID |
| Object ID of the Enterprise application | `{enterprise_object_id}` | Enterprise apps → the application → Overview → Object ID |
| Object ID of the App registration | `44444444-4444-4444-8444-444444444444` | not needed; it is easily mistaken for the one above |
| mailbox | `{mailbox}` | its address |"""

CONTOSO = {
    "tenant_id": "11111111-1111-4111-8111-111111111111",
    "client_id": "22222222-2222-4222-8222-222222222222",
    "enterprise_object_id": "33333333-3333-4333-8333-333333333333",
    "mailbox": "inbox@contoso.com",
}
# Values of a single entry.
_ENDPOINT = f"https://login.microsoftonline.com/{CONTOSO['tenant_id']}/oauth2"
KNOWN = {
    "token-uri-wrong": {"token_uri": f"{_ENDPOINT}/token/v2.0"},
    "token-endpoint-unreachable": {"token_uri": f"{_ENDPOINT}/v2.0/token"},
    "scope-not-default": {"scope": "https://outlook.office365.com/IMAP.AccessAsUser.All"},
    "resource-not-found": {"scope": "https://outlook.ofice365.com/.default"},
    "imap-unreachable": {"host": "outlook.office365.com"},
    "wrong-port": {"host": "outlook.office365.com", "port": "995"},
    "certificate-untrusted": {"host": "outlook.office365.com"},
}
# What check_setup says where no server's message tells.
SAID_BY_CHECK_SETUP = {
    "token-uri-wrong": "login.microsoftonline.com gave an answer that is not a token: HTTP 404",
    "clock-skew": "this machine's clock is 17 min behind",
}
# How entries with one and the same message differ.
TOLD_BY = {
    "folder-readonly": "Servers that follow RFC 5530 say `NO [READ-ONLY]`.",
    "already-authenticated": "In reply to another command than AUTHENTICATE or LOGIN, [folder-readonly](#folder-readonly) is meant.",
    "role-missing": "Only the token distinguishes it from the other refusals: its claim `roles` lacks `IMAP.AccessAsApp`. Check `role` fails.",
    "audience-wrong": "Only the token distinguishes it from the other refusals: its claim `aud` is not Exchange Online. Check `audience` fails.",
    "object-id-mismatch": "Only the token distinguishes it from the other refusals: its claim `oid` is not the Object ID that you passed to `check_setup` as `enterprise_object_id`. Check `object-id` fails.",
    "assertion-invalid": "`AADSTS700023` with a text about the audience of the assertion is the same problem; with one about the scope, [scope-not-default](#scope-not-default) is meant.",
    "user-flow": "`AADSTS50105` counts where its text names a signed-in user; where it names an application, [permission-missing](#permission-missing) is meant.",
    "certificate-untrusted": "Where a variable such as `SSL_CERT_FILE` names a file that cannot be read, the error names both, and its fix is to correct the path.",
    "token-endpoint-unreachable": "This one comes while the program asks for a token. Check `token-endpoint` fails. Where a proxy is set, the error names it, and cause and fix are about the proxy.",
    "imap-unreachable": "This one comes while the program connects to the IMAP server. Check `imap-endpoint` fails. Where the server answers in plain text in place of TLS (`WRONG_VERSION_NUMBER`), or falls silent in the middle of a session, cause and fix say so.",
    "wrong-port": "The error tells the greeting of the service that answers, and is not retryable. Check `imap-endpoint` fails. Check `mechanism` has the same advice, in other words, for a server that speaks IMAP and does not offer `AUTH=XOAUTH2`.",
    "credential-policy": "It is said when the secret is created, in the Entra admin center, by Microsoft Graph or by Azure CLI.",
}

# What is seen, what it is in most cases, and the entry.
SYMPTOMS = (
    (
        "`BAD User is authenticated but not connected.`",
        "The application may sign in, but not open this mailbox: the mailbox permission was forgotten, or IMAP is off",
        "mailbox-not-connected",
    ),
    (
        "`NO AUTHENTICATE failed.`",
        "There is no such mailbox, or the application is registered in Exchange with the wrong Object ID, or not at all",
        "authenticate-refused",
    ),
    (
        "`NO AUTHENTICATE failed.`, and check `role` fails",
        "The permission `IMAP.AccessAsApp` or the admin consent is missing",
        "role-missing",
    ),
    (
        "`AADSTS7000215: Invalid client secret provided.`",
        "The Secret ID was copied instead of the Value",
        "secret-wrong",
    ),
    (
        "`AADSTS7000222`, or it worked for months and no longer does",
        "The client secret has expired",
        "secret-expired",
    ),
    (
        "`AADSTS700016: Application with identifier … was not found`",
        "The client ID is wrong, or belongs to another tenant",
        "application-not-found",
    ),
    ("`AADSTS90002: Tenant … not found`", "The tenant ID is wrong", "tenant-not-found"),
    (
        "`AADSTS1002012`, `AADSTS70011`",
        "The scope does not end in `/.default`",
        "scope-not-default",
    ),
    (
        "`AADSTS65001`, `AADSTS650057`",
        "The permission or the admin consent is missing",
        "permission-missing",
    ),
    ("`AADSTS53003`", "A Conditional Access policy blocks this server", "conditional-access"),
    (
        "HTTP 404 from the token endpoint",
        "The address of the token endpoint is wrong",
        "token-uri-wrong",
    ),
    (
        "`CERTIFICATE_VERIFY_FAILED`",
        "A proxy inspects TLS, or the host name is wrong",
        "certificate-untrusted",
    ),
    (
        "`REQUESTS_CA_BUNDLE names the CA bundle …, which cannot be read`",
        "The path in that variable is wrong",
        "certificate-untrusted",
    ),
    (
        "`cannot be reached: ConnectionRefusedError`, `no answer within …`, `gaierror: Name or service not known`, for the token",
        "Port 443 is closed, or HTTPS_PROXY is not set",
        "token-endpoint-unreachable",
    ),
    (
        "`cannot be reached through the proxy …`, `Tunnel connection failed: 407`",
        "The address of the proxy is wrong, it wants a password, or it does not allow the host",
        "token-endpoint-unreachable",
    ),
    ("The same, for the IMAP server", "Port 993 is closed", "imap-unreachable"),
    (
        "`WRONG_VERSION_NUMBER`, `wrong version number`",
        "The server answers in plain text where TLS should begin",
        "imap-unreachable",
    ),
    (
        "`+OK The Microsoft Exchange POP3 service is ready.`, `220 … Microsoft ESMTP MAIL Service ready`",
        "The port is that of POP or SMTP",
        "wrong-port",
    ),
    (
        "`Credential type not allowed as per assigned policy`",
        "The tenant forbids client secrets: use a certificate",
        "credential-policy",
    ),
    (
        "It works for about an hour, then `Session invalidated - AccessTokenExpired`",
        "The token of the connection has expired; connect again",
        "session-expired",
    ),
    (
        "`Request is throttled. Suggested Backoff Time: …`",
        "Too many requests; wait as long as it says",
        "throttled",
    ),
    (
        "`* BYE Connection closed. 14`, `* BYE Connection is closed. 13`",
        "Another refusal came before it and says why",
        "connection-closed",
    ),
    (
        "`OK FETCH completed.` without the message, or a mail `Retrieval using the IMAP4 protocol failed …` from Microsoft Exchange Server",
        "Exchange lists a message and does not hand it out",
        "message-unavailable",
    ),
    (
        "`NO Command received in Invalid state.` for a STORE",
        "The folder was opened for reading only",
        "folder-readonly",
    ),
    ("`NO LOGIN failed.`", "User name and password are no longer accepted", "basic-auth-disabled"),
    (
        "`NO Rechnungen doesn't exist.`, `NO [NONEXISTENT] Mailbox does not exist.`",
        "The folder has another name",
        "folder-not-found",
    ),
    (
        "One mailbox opens, and another does not",
        "The application has no permission on the other one",
        "mailbox-not-connected",
    ),
)

# The stages, each with what it means and its entries.
STAGES = (
    (
        "Configuration",
        "A value in the configuration is wrong. This library finds most of these mistakes before it sends anything: a `ConfigError` names file, line and fix, and [Configuration](../reference/configuration.md#mistakes) lists them all. Below are Entra's answers to them.",
        "token-uri-wrong tenant-not-found tenant-malformed tenant-not-specific wrong-cloud scope-not-default scope-several-resources resource-not-found credential-missing request-malformed user-flow",
    ),
    (
        "Token request",
        "Entra refuses the token: error `TokenRequestRejected`, check `token`. Exchange has not been asked yet.",
        "secret-wrong secret-expired credential-policy client-is-public application-not-found enterprise-application-missing application-disabled permission-missing conditional-access certificate-not-registered assertion-time assertion-invalid federated-credential-mismatch clock-skew token-loop entra-unavailable",
    ),
    (
        "Connection",
        "A server cannot be reached, or its certificate is not trusted: error `TokenEndpointUnavailable` and check `token-endpoint`, or error `ConnectionFailed` and check `imap-endpoint`.",
        "certificate-untrusted token-endpoint-unreachable imap-unreachable wrong-port",
    ),
    (
        "Login",
        "Entra has issued a token, and Exchange refuses it: error `AuthenticationRefused`, check `authenticate`. Exchange gives one answer, whatever the reason; the errors and `check_setup` look into the token to find out more.",
        "authenticate-refused object-id-mismatch role-missing audience-wrong basic-auth-disabled already-authenticated",
    ),
    (
        "Mailbox",
        "The login succeeded, and the mailbox or its folder does not open: error `MailboxNotConnected` or another `ImapError`, check `mailbox`.",
        "mailbox-not-connected imap-disabled folder-not-found mailbox-moved server-unavailable",
    ),
    (
        "Later in the session",
        "The mailbox was open. Most of these pass by themselves: connect again, after the pause that the error asks for.",
        "session-expired throttled connection-closed message-unavailable folder-readonly charset-unsupported command-rejected",
    ),
)

# The step of the set-up to repeat.
STEPS = {
    "application-not-found": 2, "tenant-not-found": 2, "tenant-malformed": 2, "tenant-not-specific": 2,
    "permission-missing": 3, "audience-wrong": 8, "role-missing": 4, "enterprise-application-missing": 4,
    "secret-wrong": 5, "secret-expired": 5, "credential-missing": 5, "credential-policy": 5, "object-id-mismatch": 6,
    "authenticate-refused": 7, "mailbox-not-connected": 7, "imap-disabled": 7,
    "token-uri-wrong": 8, "scope-not-default": 8, "scope-several-resources": 8, "resource-not-found": 8,
    "token-endpoint-unreachable": 8, "imap-unreachable": 8,
    "wrong-port": 8,
}  # fmt: skip

# Pages of ours that say more.
_CERTIFICATES = "[certificates and federated identities](certificate.md)"
_PROXIES = "[proxies](proxies.md)"
_RELIABILITY = "[reliability](../explanation/reliability.md)"
GUIDES = {
    "certificate-not-registered": _CERTIFICATES,
    "credential-policy": _CERTIFICATES,
    "assertion-time": _CERTIFICATES,
    "assertion-invalid": _CERTIFICATES,
    "federated-credential-mismatch": _CERTIFICATES,
    "token-loop": "[what a program shares](../explanation/processes.md)",
    "certificate-untrusted": _PROXIES,
    "token-endpoint-unreachable": _PROXIES,
    "throttled": _RELIABILITY,
    "session-expired": _RELIABILITY,
    "entra-unavailable": _RELIABILITY,
    "server-unavailable": _RELIABILITY,
}

# What the pages are called that the advice links to, by the end of their addresses.
TITLES = {
    "authentication-national-cloud": "Microsoft: national clouds",
    "certificate-credentials": "Microsoft: certificate credentials",
    "configure-app-management-policies": "Microsoft: app management policies",
    "configurable-token-lifetimes": "Microsoft: token lifetimes",
    "deprecation-of-basic-authentication-exchange-online": "Microsoft: the end of basic authentication",
    "get-mailboxfolderstatistics": "Microsoft: Get-MailboxFolderStatistics",
    "how-to-add-credentials": "Microsoft: credentials of an application",
    "how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth": "Microsoft: OAuth for IMAP",
    "how-to-find-tenant": "Microsoft: how to find the tenant ID",
    "reference-error-codes": "Microsoft: error codes of Entra",
    "rfc3501#section-6.3.2": "RFC 3501: the command EXAMINE",
    "rfc3501#section-6.4.4": "RFC 3501: the command SEARCH",
    "rfc3501#section-7.4.2": "RFC 3501: the response FETCH",
    "rfc3501#section-7.1.3": "RFC 3501: the reply BAD",
    "set-casmailbox": "Microsoft: Set-CASMailbox",
    "ssl.html#verifying-certificates": "Python: verifying certificates",
    "status.cloud.microsoft": "Microsoft: service status",
    "urls-and-ip-address-ranges": "Microsoft: URLs and address ranges",
    "v2-oauth2-client-creds-grant-flow": "Microsoft: the client credentials grant",
    "workload-identity": "Microsoft: Conditional Access for applications",
    "workload-identity-federation": "Microsoft: workload identity federation",
}


def troubleshooting_page() -> str:
    """The whole page."""
    examples = {example["id"]: example for example in json.loads(EXAMPLES.read_text("utf-8"))}
    rows = {row.id: row for row in TABLE}
    steps = _steps()
    parts = [
        f"<!-- Made from exo_imap_oauth/_advice_table by: {COMMAND} -->",
        "# Troubleshoot",
        INTRODUCTION,
        "## What you see, and what it is",
        _table(
            "| what you see | what it is, most often |",
            [(seen, f"[{it_is}](#{id_})") for seen, it_is, id_ in SYMPTOMS],
        ),
        VALUES.format(powershell=steps[7], **CONTOSO),
    ]
    for title, meaning, ids in STAGES:
        parts += (f"## {title}", meaning)
        for advice_id in ids.split():
            parts += _entry(rows[advice_id], examples[advice_id], steps)
    return "\n\n".join(parts) + "\n"


def _steps() -> dict[int, str]:
    """The anchor of each step of the page on the set-up."""
    headings = re.findall(r"^## ((\d)\. .+)$", SET_UP.read_text("utf-8"), re.MULTILINE)
    return {
        int(number): re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title, number in headings
    }


def _entry(row: Row, example: dict[str, Any], steps: dict[int, str]) -> Iterator[str]:
    advice = explain(row.id, **CONTOSO | example["known"] | KNOWN.get(row.id, {}))
    yield f"### {row.id}"
    seen = example["message"] or SAID_BY_CHECK_SETUP[row.id]
    yield f"{CHECKED}\n\n```text\n{textwrap.fill(seen, 84)}\n```"
    if codes := f"{row.codes} {row.open_codes}".split():
        yield "Codes: " + ", ".join(f"AADSTS{code}" for code in codes)
    if row.id in TOLD_BY:
        yield TOLD_BY[row.id]
    yield f"**Cause.** {_markdown(advice.cause)}"
    yield f"**Fix.** {_markdown(advice.fix)}"
    if advice.commands:
        language = "powershell" if re.match(r"[A-Z]\w+-[A-Z]", advice.commands[0]) else "sh"
        yield f"```{language}\n" + "\n".join(advice.commands) + "\n```"
    if row.retryable:
        yield "It may pass by itself: the same call can succeed later."
    links = [f"[{TITLES[advice.url.rpartition('/')[2]]}]({advice.url})"]
    if row.id in GUIDES:
        links.insert(0, GUIDES[row.id])
    if row.id in STEPS:
        number = STEPS[row.id]
        links.insert(0, f"[step {number} of the set-up](set-up.md#{steps[number]})")
    yield "More: " + ", ".join(links)


def _markdown(text: str) -> str:
    text = text.partition(" Page: ")[0].replace("<tenant_id>", CONTOSO["tenant_id"])
    return text.replace("<", "\\<").replace(" > ", " → ")


# ---- reference/configuration.md, its tables of keys and of mistakes --------------------------

NAMES = {key.field: key.name for key in KEYS.values()}
SEVERITIES = {
    "error": "error",
    "warning": "warning",
    "entra": "error at Entra",
    "exchange": "error at Exchange",
}


def configuration_page() -> str:
    """The page as it is, with its tables made again."""
    page = CONFIGURATION.read_text("utf-8")
    for name, text in (("keys", _keys_table()), ("mistakes", _mistakes_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"
    return page


def _keys_table() -> str:
    rows: list[tuple[str, ...]] = []
    for key in KEYS.values():
        default = (
            "required" if key.default is None else f"`{key.default}`" if key.default else "none"
        )
        listener = documented(key.name, "<name>").removeprefix("cmsbs.bouncelistener.<name>.")
        inherited = "yes" if key.inherited else "no"
        rows.append((f"`{key.name}`", f"`{listener}`", default, inherited, key.meaning))
    head = "| `cmsbs.mail.imap.` | `cmsbs.bouncelistener.<name>.` | default | inherited | meaning |"
    return _table(head, rows)


def _mistakes_table() -> str:
    rows: list[tuple[str, ...]] = [
        (
            SEVERITIES[mistake.severity],
            _keys_of(mistake),
            shown(mistake.message),
            shown(mistake.fix.replace("{belongs}", _belongs(mistake))),
        )
        for mistake in MISTAKES.values()
    ]
    return _table("| | keys | what is wrong | what to do |", rows)


def _belongs(mistake: Mistake) -> str:
    if mistake.fields in (("host",), ("scope",)):  # in the worldwide cloud
        return BELONGS[mistake.fields[0]]
    return "the value that belongs there"


def _keys_of(mistake: Mistake) -> str:
    if mistake.fields:
        return ", ".join(f"`{NAMES.get(name, name)}`" for name in mistake.fields)
    if mistake not in CHECKS:
        return "any"
    missing = [f"`{name}`" for field, name in NAMES.items() if not mistake.concerns(field)]
    return "all but " + ", ".join(missing) if missing else "all"


def shown(template: str) -> str:
    """Markdown that shows the text as it is, and what is filled in in italics."""
    text = re.sub(r"([<>_*\\])", r"\\\1", template)
    return re.sub(r"\s?\{(\w+)\}", r" *\1*", text).strip()


def _table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = [head, re.sub(r"[^|]+", "---", head)]
    lines += ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join(lines)


PAGES = {TROUBLESHOOT: troubleshooting_page, CONFIGURATION: configuration_page}

if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(make(), "utf-8")
