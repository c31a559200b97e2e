"""What a notebook shows of a configuration: each setting, where it was made, what it overrode."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from exo_imap_oauth import _files as files
from exo_imap_oauth import _html
from exo_imap_oauth._cmsbs import keys
from exo_imap_oauth._cmsbs.layers import unquoted
from exo_imap_oauth._inbox.check import InboxCheck
from exo_imap_oauth._text import HiddenText, quotable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exo_imap_oauth._cmsbs.findings import Setting
    from exo_imap_oauth.errors import ConfigProblem
    from exo_imap_oauth.inbox import InboxConfig

_HIDDEN = "(hidden)"
_SHORTEST_SECRET = 8  # characters; what is shorter stands in other words by chance
_MOST_OVERRIDDEN = 5  # shown of one setting
_MOST_OPEN = 3  # inboxes; of more, each is folded
_LOGIN = re.compile(r"//[^/\s]*@")  # of a URI: https://user:password@host
_JUDGED = ("user", "host", "port", "token_uri", "client_id", "scope", "debug")
_SSL = {"implicit": "true", "starttls": "tls"}  # an inbox's tls, as Universal Messenger writes it


def config_html(
    inboxes: Mapping[str, InboxConfig],
    absent: Mapping[str, ConfigProblem],
    settings: Mapping[str, Setting],
    warnings: Iterable[ConfigProblem],
) -> str:
    """The inboxes of a configuration, without a secret, even one in a wrong place."""
    is_open = " open" if len(inboxes) <= _MOST_OPEN else ""
    parts = [_html.warnings_html(warnings)]
    read: set[str] = set()
    for name, inbox in inboxes.items():
        found = _found(inbox, settings, read)
        secrets = _secrets(inbox, found.values())
        rows = _html.rows_table(_rows(inbox, found, secrets))
        title = _html.escaped(quotable(f"{name}: {inbox.user}", secrets))
        parts.append(f"<details{is_open}><summary>{title}</summary>{rows}</details>")
    parts += [
        f"<details><summary>{_html.escaped(name)}: not read here</summary>"
        f"{_html.warnings_html([problem])}</details>"
        for name, problem in absent.items()
    ]
    others = {
        setting.key: _html.escaped(_place(setting))
        for key, setting in settings.items()
        if key not in read
    }
    if others:
        table = _html.rows_table(others.items())
        parts.append(f"<details><summary>Other settings</summary>{table}</details>")
    count = f"{len(inboxes)} inbox{'' if len(inboxes) == 1 else 'es'}"
    return _html.panel("Configuration", "".join(parts), badge=count)


def _found(
    inbox: InboxConfig, settings: Mapping[str, Setting], read: set[str]
) -> dict[str, Setting]:
    """The setting of each key that an inbox has one of; ``read`` takes all that could serve."""
    found: dict[str, Setting] = {}
    for name in keys.KEYS:
        made = [key for key in keys.accepted(name, inbox.name) if key in settings]
        read.update(made)
        if made:
            found[name] = settings[made[0]]
    return found


def _secrets(inbox: InboxConfig, settings: Iterable[Setting]) -> set[str]:
    """Every value of an inbox that is or may be a secret, the overridden ones too."""
    values = [inbox.client_secret]
    for last in settings:
        values += (each.value for each in _latest(last) if not each.names_file)
    return {
        unquoted(value)
        for value in values
        if isinstance(value, HiddenText) and len(value) >= _SHORTEST_SECRET
    }


def _latest(setting: Setting) -> list[Setting]:
    """A setting and those that it overrides, as many as are shown and one more."""
    chain = [setting]
    while setting.overrode is not None and len(chain) < _MOST_OVERRIDDEN + 2:
        setting = setting.overrode
        chain.append(setting)
    return chain


def _rows(
    inbox: InboxConfig, found: Mapping[str, Setting], secrets: set[str]
) -> Iterator[tuple[str, str]]:
    """A name and its HTML for each key of an inbox."""
    for key in keys.KEYS.values():
        setting = found.get(key.name)
        value = quotable(_value(inbox, key, setting), secrets)
        origin = _origin(key.field, setting, secrets)
        lines = (f"<small>{_html.escaped(line)}</small>" for line in origin)
        yield key.name, _html.escaped(value) + "".join(lines)


def _value(inbox: InboxConfig, key: keys.Key, setting: Setting | None) -> str:
    """What an inbox has of a key."""
    if key.field == "client_secret":
        return _credential(inbox, setting)
    if key.field == "tls":
        return _SSL.get(inbox.tls, inbox.tls)
    if hasattr(inbox, key.field):
        value = getattr(inbox, key.field)
        return str(value).lower() if isinstance(value, bool) else str(value)
    return key.belongs if key.default in (None, "") else str(key.default)  # it takes one value


def _credential(inbox: InboxConfig, setting: Setting | None) -> str:
    if inbox.certificate is not None:
        return _html.certificate_text(inbox.certificate, time.time())
    if inbox.assertion is not None:
        return _html.ASSERTION
    if setting is not None and setting.names_file:
        return f"(hidden), read from{files.shown_path(unquoted(setting.value)) or ' a file'}"
    return _HIDDEN


def _origin(field: str, setting: Setting | None, secrets: set[str]) -> list[str]:
    """Where a setting was made, and what it overrode there."""
    if setting is None:
        return ["by default"]
    lines = [f"{quotable(setting.key, secrets)} in {_place(setting)}"]
    _, *earlier = _latest(setting)
    for each in earlier[:_MOST_OVERRIDDEN]:
        lines += [f"overrides {_overridden(field, each, secrets)} in {_place(each)}"]
    if len(earlier) > _MOST_OVERRIDDEN:
        lines += ["and earlier ones"]
    return lines


def _overridden(field: str, setting: Setting, secrets: set[str]) -> str:
    """A value that load_config did not check: it may be a secret in the wrong place."""
    value = unquoted(setting.value)
    if setting.names_file:
        return f"the file{files.shown_path(value)}"
    if isinstance(setting.value, HiddenText) or files.looks_random(value) or _LOGIN.search(value):
        return _HIDDEN
    if field in _JUDGED and _is_odd(field, value):
        return _HIDDEN
    return quotable(value, secrets) or "nothing"


def _is_odd(field: str, value: str) -> bool:
    """Whether there is anything to say against the value of a field."""
    check = InboxCheck()
    check.texts({field: value})
    return bool(check.errors or check.warnings)


def _place(setting: Setting) -> str:
    return f"{setting.source}:{setting.line}" if setting.line else setting.source
