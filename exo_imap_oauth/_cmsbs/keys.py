"""The keys of an inbox in Universal Messenger's configuration: names, defaults, meaning."""

from __future__ import annotations

import re
from typing import NamedTuple

PRIMARY = "default"  # as Universal Messenger's log calls the primary inbox
PRIMARY_PREFIX = "cmsbs.mail.imap."
LISTENER_PREFIX = "cmsbs.bouncelistener."
LISTENERS = "cmsbs.bounce.listeners"
CONF_D = "cmsbs.directory.confd"
MAX_VALUE = 4_096  # characters of a value that are looked at; none that works is longer

SERVER, PORT, SSL, USER = "server", "port", "ssl", "user"
PROTOCOL, METHOD, FOLDER = "protocol", "authenticationMethod", "folder.inbox"
TOKEN_URI, CLIENT_ID = "oauth2.accessTokenUri", "oauth2.clientId"
CLIENT_SECRET, SCOPE = "oauth2.clientSecret", "oauth2.scope"
GRANT_TYPE, DEBUG = "oauth2.grantType", "oauth2.debug"

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
        Key(SERVER, None, "Host name of the IMAP service.", "outlook.office365.com", False),
        Key(PORT, "143", "Its port: 993 for `ssl = true`, 143 for `ssl = tls`.", "993"),
        Key(SSL, None, "`true`: TLS from the start. `tls`: STARTTLS. `false`: refused.", "true"),
        Key(
            USER,
            None,
            "The address of the mailbox.",
            "the mailbox_name, the address of the mailbox to read (Entra admin center > Users > "
            "the mailbox > User principal name)",
            inherited=False,
        ),
        Key(PROTOCOL, "imap", "Anything other than `imap` is not read here.", "imap"),
        Key(METHOD, "", "Only `oauth2` inboxes are read here.", "oauth2"),
        Key(FOLDER, "INBOX", "The folder to read.", "INBOX"),
        Key(
            TOKEN_URI,
            None,
            "The tenant's token endpoint.",
            "https://login.microsoftonline.com/<tenant_id>/oauth2/v2.0/token with the tenant_id, "
            f"the Directory (tenant) ID ({APP} > Overview)",
        ),
        Key(
            CLIENT_ID,
            None,
            "The application's ID.",
            f"the client_id, the Application (client) ID ({APP} > Overview)",
        ),
        Key(
            CLIENT_SECRET,
            None,
            "A client secret of the application. Better: `oauth2.clientSecret$file`.",
            f"the client_secret, the Value of a client secret ({APP} > Certificates & secrets; "
            "it is shown once, so make a new one if it is lost)",
        ),
        Key(
            SCOPE,
            "https://outlook.office365.com/.default",
            "The resource to get a token for, and `/.default`.",
            "https://outlook.office365.com/.default",
        ),
        Key(
            GRANT_TYPE,
            "client_credentials",
            "Only this one needs no person.",
            "client_credentials",
        ),
        Key(DEBUG, "false", "`true` logs a summary at level INFO.", "true or false"),
    )
}
# Keys of the same prefixes that are Universal Messenger's alone.
NOT_OURS = ("password", "userquery", "logfile")


def documented(name: str, inbox: str) -> str:
    """The key that sets ``name`` for an inbox; a listener's OAuth keys lack ``mail.imap``."""
    if inbox == PRIMARY:
        return PRIMARY_PREFIX + name
    irregular = name == METHOD or name.startswith("oauth2.")
    return f"{LISTENER_PREFIX}{inbox}.{'' if irregular else 'mail.imap.'}{name}"


def accepted(name: str, inbox: str) -> list[str]:
    """The keys that set ``name`` for an inbox: documented, misplaced, inherited."""
    keys = [documented(name, inbox)]
    if inbox != PRIMARY:
        keys.append(f"{LISTENER_PREFIX}{inbox}.mail.imap.{name}")
        if name in KEYS and KEYS[name].inherited:
            keys.append(documented(name, PRIMARY))
    return list(dict.fromkeys(keys))


# What copying from a browser or a word processor leaves behind.
ODD = re.compile(
    r"""[\x80-\xa0]     # no-break blank and, from other encodings, control characters
      | \xad            # soft hyphen
      | [\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000]  # blanks, zero widths, directions
      | [\u2010-\u201f] # dashes and quotes
      | \ufeff          # byte order mark
    """,
    re.VERBOSE,
)
# What stands around them where UTF-8 was read as Latin-1: a no-break blank became \xc2\xa0.
_MISREAD = re.compile(
    r"""\xc2(?=[\x80-\xbf])
      | \xe2(?=[\x80-\x9f])   # a zero-width blank became \xe2\x80\x8b
      | \xef\xbb\xbf          # a byte order mark
    """,
    re.VERBOSE,
)
_GLUED = re.compile(
    r"((?:secret|password)(?:\$file)?+).+",  # clientSecretAbc8Q~, clientSecret$file.Abc8Q~
    re.IGNORECASE,
)
_LONGEST_SHOWN = 100


def cleaned(key: str) -> str:
    """The key without odd characters and those that surround them in UTF-8 read as Latin-1."""
    return key if key.isascii() else ODD.sub("", _MISREAD.sub("", key))


def shown(key: str) -> str:
    """As much of a key as can be shown: what a typing mistake glued to it may be a secret."""
    start = plain_start(key)
    text = without_glued_secret(start)
    return key if text == key else f"{text}..."


def plain_start(key: str) -> str:
    """The letters, digits, dots, hyphens and dollars that a key begins with, up to a length."""
    start = re.match(r"[\w.$-]*", key[:_LONGEST_SHOWN], re.ASCII)
    return start[0] if start else ""


def without_glued_secret(text: str) -> str:
    """The text up to the word secret or password."""
    return _GLUED.sub(r"\1", text)
