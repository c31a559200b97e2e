"""The keys of an inbox in Universal Messenger's configuration: names, defaults, meaning."""

from __future__ import annotations

import re
from typing import NamedTuple

PRIMARY = "default"  # as Universal Messenger's log calls the primary inbox
PRIMARY_PREFIX = "cmsbs.mail.imap."
LISTENER_PREFIX = "cmsbs.bouncelistener."
LISTENERS = "cmsbs.bounce.listeners"
CONF_D = "cmsbs.directory.confd"
APP = "Entra admin center > App registrations > your app"


class Key(NamedTuple):
    """A key of an inbox, named without its prefix. Without a default it must be set."""

    name: str
    default: str | None
    meaning: str
    belongs: str = ""  # what to put there and where it is found
    inherited: bool = True


KEYS = {
    key.name: key
    for key in (
        Key("server", None, "Host name of the IMAP service.", "outlook.office365.com", False),
        Key("port", "143", "Its port: 993 for `ssl = true`, 143 for `ssl = tls`.", "993"),
        Key("ssl", None, "`true`: TLS from the start. `tls`: STARTTLS. `false`: refused.", "true"),
        Key(
            "user",
            None,
            "The address of the mailbox.",
            "the mailbox_name, the address of the mailbox to read (Entra admin center > Users > "
            "the mailbox > User principal name)",
            inherited=False,
        ),
        Key("protocol", "imap", "Anything else than `imap` is not read here.", "imap"),
        Key("authenticationMethod", "", "Only `oauth2` inboxes are read here.", "oauth2"),
        Key("folder.inbox", "INBOX", "The folder to read.", "INBOX"),
        Key(
            "oauth2.accessTokenUri",
            None,
            "The tenant's token endpoint.",
            "https://login.microsoftonline.com/<tenant_id>/oauth2/v2.0/token with the tenant_id, "
            f"the Directory (tenant) ID ({APP} > Overview)",
        ),
        Key(
            "oauth2.clientId",
            None,
            "The application's ID.",
            f"the client_id, the Application (client) ID ({APP} > Overview)",
        ),
        Key(
            "oauth2.clientSecret",
            None,
            "A client secret of the application. Better: `oauth2.clientSecret$file`.",
            f"the client_secret, the Value of a client secret ({APP} > Certificates & secrets; "
            "it is shown once, so make a new one if it is lost)",
        ),
        Key(
            "oauth2.scope",
            "https://outlook.office365.com/.default",
            "The resource to get a token for, and `/.default`.",
            "https://outlook.office365.com/.default",
        ),
        Key(
            "oauth2.grantType",
            "client_credentials",
            "Only this one needs no person.",
            "client_credentials",
        ),
        Key("oauth2.debug", "false", "`true` logs a summary at level INFO.", "true or false"),
    )
}
# Keys of the same prefixes that are Universal Messenger's alone.
NOT_OURS = ("password", "userquery", "logfile")


def documented(name: str, inbox: str) -> str:
    """The key that sets ``name`` for an inbox; a listener's OAuth keys lack ``mail.imap``."""
    if inbox == PRIMARY:
        return PRIMARY_PREFIX + name
    irregular = name == "authenticationMethod" or name.startswith("oauth2.")
    return f"{LISTENER_PREFIX}{inbox}.{'' if irregular else 'mail.imap.'}{name}"


def accepted(name: str, inbox: str) -> list[str]:
    """The keys that set ``name`` for an inbox: documented, misplaced, inherited."""
    keys = [documented(name, inbox)]
    if inbox != PRIMARY:
        keys.append(f"{LISTENER_PREFIX}{inbox}.mail.imap.{name}")
        if name in KEYS and KEYS[name].inherited:
            keys.append(documented(name, PRIMARY))
    return list(dict.fromkeys(keys))


# What copying from a browser or a word processor leaves behind: NBSP, soft hyphen, zero-width
# and typographic characters, and what becomes of them when UTF-8 is read as Latin-1.
ODD = re.compile("[\x80-\xa0\xad\u2000-\u201f\u2028-\u202f\u205f-\u2064\u3000\ufeff]")


def cleaned(key: str) -> str:
    """The key without odd characters and those that surround them in UTF-8 read as Latin-1."""
    return ODD.sub(
        "", re.sub(r"\u00c2(?=[\x80-\xbf])|\u00e2(?=[\x80-\x9f])|\u00ef\u00bb\u00bf", "", key)
    )


def shown(key: str) -> str:
    """As much of a key as can be shown: what a typing mistake glued to it may be a secret."""
    plain = re.match(r"[\w.$-]*", key, re.ASCII)
    text = plain[0][:100] if plain else ""
    text = re.sub(r"((?:secret|password)(?:\$file)?+).+", r"\1...", text, flags=re.IGNORECASE)
    return text if len(text) == len(key) or text.endswith("...") else f"{text}..."
