"""What a notebook shows of a configuration: each setting, where it was made, what it overrode."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from exo_imap_oauth import _files as files
from exo_imap_oauth import _html
from exo_imap_oauth._cmsbs import keys
from exo_imap_oauth._cmsbs.layers import unquoted
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
_SSL = {"implicit": "true", "starttls": "tls"}  # an inbox's tls, as Universal Messenger writes it


def config_html(
    inboxes: Mapping[str, InboxConfig],
    absent: Mapping[str, ConfigProblem],
    settings: Mapping[str, Setting],
    warnings: Iterable[ConfigProblem],
) -> str:
    """The inboxes of a configuration, without a secret, even one in a wrong place."""
    secrets = [*_secrets(inboxes.values(), settings.values())]
    is_open = " open" if len(inboxes) <= _MOST_OPEN else ""
    parts = [_html.warnings_html(warnings)]
    read: set[str] = set()
    for name, inbox in inboxes.items():
        rows = _html.rows_table(_rows(inbox, settings, secrets, read))
        title = _html.escaped(f"{name}: {inbox.user}")
        parts.append(f"<details{is_open}><summary>{title}</summary>{rows}</details>")
    parts += [
        f"<details><summary>{_html.escaped(name)}: not read here</summary>"
        f"{_html.warnings_html([problem])}</details>"
        for name, problem in absent.items()
    ]
    others = {
        quotable(setting.key, secrets): _html.escaped(_place(setting))
        for key, setting in settings.items()
        if key not in read
    }
    if others:
        table = _html.rows_table(others.items())
        parts.append(f"<details><summary>Other settings</summary>{table}</details>")
    count = f"{len(inboxes)} inbox{'' if len(inboxes) == 1 else 'es'}"
    return _html.panel("Configuration", "".join(parts), badge=count)


def _secrets(inboxes: Iterable[InboxConfig], settings: Iterable[Setting]) -> Iterator[str]:
    """Every value that is or may be a secret, the overridden ones too."""
    values = [inbox.client_secret for inbox in inboxes]
    for last in settings:
        values += (each.value for each in _with_overridden(last) if not each.names_file)
    for value in values:
        if isinstance(value, HiddenText) and len(value) >= _SHORTEST_SECRET:
            yield unquoted(value)


def _with_overridden(setting: Setting | None) -> Iterator[Setting]:
    while setting is not None:
        yield setting
        setting = setting.overrode


def _rows(
    inbox: InboxConfig, settings: Mapping[str, Setting], secrets: list[str], read: set[str]
) -> Iterator[tuple[str, str]]:
    """A name and its HTML for each key of an inbox; ``read`` takes the keys it has them from."""
    for key in keys.KEYS.values():
        names = keys.accepted(key.name, inbox.name)
        made = [name for name in names if name in settings]
        read.update(made)
        setting = settings[made[0]] if made else None
        value = quotable(_value(inbox, key, setting), secrets)
        lines = (f"<small>{_html.escaped(line)}</small>" for line in _origin(setting, secrets))
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


def _origin(setting: Setting | None, secrets: list[str]) -> list[str]:
    """Where a setting was made, and what it overrode there."""
    if setting is None:
        return ["by default"]
    earlier = [*itertools.islice(_with_overridden(setting.overrode), _MOST_OVERRIDDEN + 1)]
    lines = [f"{quotable(setting.key, secrets)} in {_place(setting)}"]
    lines += (
        f"overrides {_overridden(each, secrets)} in {_place(each)}"
        for each in earlier[:_MOST_OVERRIDDEN]
    )
    if len(earlier) > _MOST_OVERRIDDEN:
        lines.append("and earlier ones")
    return lines


def _overridden(setting: Setting, secrets: list[str]) -> str:
    """A value that nobody checked, so it may be anything, such as a secret in the wrong place."""
    value = unquoted(setting.value)
    if setting.names_file:
        return f"the file{files.shown_path(value)}"
    if isinstance(setting.value, HiddenText) or files.looks_random(value):
        return _HIDDEN
    return quotable(value, secrets) or "nothing"


def _place(setting: Setting) -> str:
    return f"{setting.source}:{setting.line}" if setting.line else setting.source
