"""The keys of an inbox in Universal Messenger's configuration: names, defaults, meaning."""

from __future__ import annotations

import re
from typing import NamedTuple

from exo_imap_oauth._files import looks_random
from exo_imap_oauth._inbox_rules import BELONGS, ODD
from exo_imap_oauth._text import one_line

PRIMARY = "default"  # as Universal Messenger's log calls the primary inbox
PRIMARY_PREFIX = "cmsbs.mail.imap."
LISTENER_PREFIX = "cmsbs.bouncelistener."
LISTENERS = "cmsbs.bounce.listeners"
CONF_D = "cmsbs.directory.confd"


class Key(NamedTuple):
    """A key of an inbox, named without its prefix. Without a default it must be set."""

    name: str
    field: str  # that of an InboxConfig, where there is one
    default: str | None
    meaning: str
    belongs: str  # what to put there and where it is found
    inherited: bool = True


# fmt: off
_KEYS = (
    Key("server", "host", None, "Host name of the IMAP service.", BELONGS["host"],
        inherited=False),
    Key("port", "port", "143", "Its port: 993 for `ssl = true`, 143 for `ssl = tls`.",
        BELONGS["port"]),
    Key("ssl", "tls", None, "`true`: TLS from the start. `tls`: STARTTLS. `false`: refused.",
        "true"),
    Key("user", "user", None, "The address of the mailbox.", BELONGS["user"], inherited=False),
    Key("protocol", "protocol", "imap", "Anything other than `imap` is not read here.", "imap"),
    Key("authenticationMethod", "authenticationMethod", "", "Only `oauth2` inboxes are read here.",
        "oauth2"),
    Key("folder.inbox", "folder", "INBOX", "The folder to read.", BELONGS["folder"]),
    Key("oauth2.accessTokenUri", "token_uri", None, "The tenant's token endpoint.",
        BELONGS["token_uri"]),
    Key("oauth2.clientId", "client_id", None, "The application's ID.", BELONGS["client_id"]),
    Key("oauth2.clientSecret", "client_secret", None,
        "A client secret of the application. Better: `oauth2.clientSecret$file`.",
        BELONGS["client_secret"]),
    Key("oauth2.scope", "scope", "https://outlook.office365.com/.default",
        "The resource to get a token for, and `/.default`.", BELONGS["scope"]),
    Key("oauth2.grantType", "grant_type", "client_credentials", "Only this one needs no person.",
        "client_credentials"),
    Key("oauth2.debug", "debug", "false", "`true` logs a summary at level INFO.", "true or false"),
)
# fmt: on
KEYS = {key.name: key for key in _KEYS}
# Keys of the same prefixes that are Universal Messenger's alone.
NOT_OURS = ("password", "userquery", "logfile")


def prefix_of(inbox: str) -> str:
    """What all keys of an inbox begin with."""
    return PRIMARY_PREFIX if inbox == PRIMARY else f"{LISTENER_PREFIX}{inbox}."


def documented(name: str, inbox: str) -> str:
    """The key that sets ``name`` for an inbox; a listener's OAuth keys lack ``mail.imap``."""
    irregular = name == "authenticationMethod" or name.startswith("oauth2.")
    between = "" if irregular or inbox == PRIMARY else "mail.imap."
    return f"{prefix_of(inbox)}{between}{name}"


def accepted(name: str, inbox: str) -> list[str]:
    """The keys that set ``name`` for an inbox: documented, misplaced, inherited."""
    keys = [documented(name, inbox)]
    if inbox != PRIMARY:
        keys.append(f"{prefix_of(inbox)}mail.imap.{name}")
        if KEYS[name].inherited:
            keys.append(documented(name, PRIMARY))
    return list(dict.fromkeys(keys))


# A name that a separator follows, such as "outlook.office365.comcmsbs.mail.imap.port =". It can
# begin nowhere else than at its first character, or a long name would be read once a character.
_ASSIGNED = re.compile(r"(?<![\w.$-])[\w.$-]++(?=\s*+[=:])")
_OUR_NAME = re.compile(r"cmsbs\.(?:mail\.imap|bouncelistener)\.[\w.$-]+")


def keys_set_in(value: str) -> list[str]:
    """The keys of ours that are set inside a value, where several lines became one."""
    if "cmsbs." not in value:
        return []
    names = [_OUR_NAME.search(name) for name in _ASSIGNED.findall(value)]
    return [name[0] for name in names if name]


# What stands around odd characters where UTF-8 was read as Latin-1: a no-break blank became
# \xc2\xa0, a zero-width blank \xe2\x80\x8b, a byte order mark \xef\xbb\xbf.
_MISREAD = re.compile(r"\xc2(?=[\x80-\xbf])|\xe2(?=[\x80-\x9f])|\xef\xbb\xbf")
_LONGEST_SHOWN = 100
_GLUED = re.compile(r"(?i)((?:secret|password)(?:\$file)?+).+")  # clientSecret$file.Abc8Q~


def cleaned(key: str) -> str:
    """The key without odd characters and those that surround them in UTF-8 read as Latin-1."""
    return key if key.isascii() else ODD.sub("", _MISREAD.sub("", key))


def shown(key: str) -> str:
    """As much of a key as can be shown: what a typing mistake glued to it may be a secret."""
    start = re.match(r"[\w.$-]*", key[:_LONGEST_SHOWN], re.ASCII)
    text = _GLUED.sub(r"\1", start[0] if start else "")
    return key if text == key else f"{text}..."


_LONGEST_NAME = 60
_SETTING = re.compile(r"(?i)[=:]|cmsbs\.|secret|password")
HIDDEN_NAME = "a name"


def holds_setting(listing: str) -> bool:
    """Whether a list of names holds a setting too, whose parts would pass for names.

    So it does where two lines became one.
    """
    return _SETTING.search(listing) is not None


def shown_name(name: str) -> str:
    """The name of a listener, where it is one."""
    is_name = len(name) <= _LONGEST_NAME and not re.search("[=:]", name) and not looks_random(name)
    return one_line(name) if is_name else HIDDEN_NAME
