"""Values that hold a secret or a token show it to nobody who only looks: pytest, rich, pprint."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
import pprint
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from exo_imap_oauth import AccessToken, InboxConfig
from exo_imap_oauth._text import HiddenText
from exo_imap_oauth.config import Setting
from exo_imap_oauth.properties import Property, parse

if TYPE_CHECKING:
    from pathlib import Path

# Two of each, so that a comparison fails; every one holds one of these texts.
SECRETS = ("SENTINEL-Abc8Q~first-0123456789", "SENTINEL-Abc8Q~other-0123456789")
PW = "cmsbs.mail.imap.oauth2.clientSecret"


def token(text: str) -> AccessToken:
    return AccessToken(text, expires_on=1_800_003_600, refresh_on=1_800_003_300, obtained_on=1.0)


def inbox(text: str) -> InboxConfig:
    return InboxConfig.for_tenant(
        "contoso.example",
        user="inbox@contoso.example",
        client_id="6731de76-14a6-49ae-97bc-6eba6914391e",
        client_secret=text,
    )


def setting(text: str) -> Setting:
    return Setting(PW, text, "cmsbs.properties", 8, raw=f"{PW} = {text}", following=f"x = {text}")


def run_together(text: str) -> Setting:
    value = f"inbox@contoso.example {PW} = {text}"
    return Setting("cmsbs.mail.imap.user", value, "cmsbs.properties", 4)


def entry(text: str) -> Property:
    return parse(f"{PW} = {text}")[0]


def joined_entry(text: str) -> Property:
    return parse(f"some.folder = C:\\\\um\\\n{PW} = {text}")[0]


MAKERS = (token, inbox, setting, run_together, entry, joined_entry)
COMPARISONS = """
import pytest
import test_hidden_values as values

LEFT, RIGHT = values.SECRETS

@pytest.mark.parametrize("make", values.MAKERS)
@pytest.mark.parametrize("wrap", [
    lambda value: value,
    lambda value: [value],
    lambda value: (value, 1),
    lambda value: {"key": value},
    lambda value: {value},
    lambda value: {"key": [{"key": value}]},
])
def test_compared(make, wrap):
    left, right = wrap(make(LEFT)), wrap(make(RIGHT))
    assert left == right

@pytest.mark.parametrize("make", values.MAKERS)
def test_compared_with_something_else(make):
    left = make(LEFT)
    assert left == 1

def test_taken_apart():
    secret, text = values.inbox(LEFT).client_secret, values.token(LEFT).token
    key, value, source, line = values.entry(LEFT)
    fields = values.dataclasses.asdict(values.inbox(LEFT))
    written = values.setting(LEFT).value
    raw = values.setting(LEFT).raw
    assert not fields
"""


@pytest.mark.parametrize(
    "options",
    [
        ["-vv", "-l"],  # all that the others show, and more
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (["--showlocals"], ["-q", "--tb=short"], [])
        ),
    ],
)
def test_a_failing_comparison_shows_neither_secret_nor_token(
    tmp_path: Path, options: list[str]
) -> None:
    tests = tmp_path / "test_comparisons.py"
    tests.write_text(COMPARISONS)
    paths = [path for path in sys.path if path]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(tests)],
        env={"PYTHONPATH": ":".join(paths), "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    cases = 6 * len(MAKERS) + len(MAKERS) + 1
    assert f"{cases} failed" in run.stdout
    assert "(hidden)" in run.stdout or "-l" not in options
    shown = [line for line in run.stdout.splitlines() if "SENTINEL" in line or "Abc8Q" in line]
    assert shown == []


@pytest.mark.parametrize("make", MAKERS)
def test_whoever_looks_at_a_value_or_its_parts_sees_no_secret(make: object) -> None:
    assert callable(make)
    value = make(SECRETS[0])
    # Of slots, some have no value yet.
    parts = [getattr(value, name, None) for name in dir(value) if not name.startswith("__")]
    seen = [repr(value), str(value), f"{value}", pprint.pformat(value), pprint.pformat([value])]
    seen += [repr(part) for part in parts]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.asdict(value)
        seen += [repr(fields), pprint.pformat(fields, width=20)]
    if isinstance(value, AccessToken):
        seen.append(value._repr_html_())
    assert [text for text in seen if "SENTINEL" in text] == []


@pytest.mark.parametrize("make", MAKERS)
def test_rich_shows_no_secret(make: object) -> None:
    rich = pytest.importorskip("rich")
    console_of = pytest.importorskip("rich.console").Console
    assert callable(make)
    value = make(SECRETS[0])
    out = io.StringIO()
    console = console_of(file=out, width=200)
    console.print(value, [value], {"key": value})
    rich.inspect(value, console=console, private=True, value=True)
    console.print(pytest.importorskip("rich.pretty").Pretty(value, expand_all=True))
    assert type(value).__name__ in out.getvalue()
    assert "SENTINEL" not in out.getvalue()


@pytest.mark.parametrize("make", [inbox, setting, run_together, entry, joined_entry])
def test_values_are_equal_by_what_they_hold(make: object) -> None:
    assert callable(make)
    first, same, other = make(SECRETS[0]), make(SECRETS[0]), make(SECRETS[1])
    assert first == same
    assert hash(first) == hash(same)
    assert first != other
    assert first != SECRETS[0]
    for twin in (copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert twin == first
        assert "SENTINEL" not in repr([getattr(twin, name) for name in dir(twin) if name[0] != "_"])


def test_a_hidden_text_is_a_string_in_every_other_respect() -> None:
    text = HiddenText("secret")
    assert text == "secret"
    assert {text, "secret"} == {"secret"}
    assert f"{text} {text!s}" == "secret secret"
    assert json.dumps(text) == '"secret"'
    assert text.encode() == b"secret"
    for twin in (copy.copy(text), copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert (twin, repr(twin)) == ("secret", "(hidden)")


def test_a_value_that_speaks_of_no_secret_is_shown() -> None:
    (port,) = parse("cmsbs.mail.imap.port = 993")
    assert repr(port.value) == "'993'"
    assert repr(Setting("cmsbs.mail.imap.port", "993", "x", 1).value) == "'993'"


def test_replace_and_fields_work_as_for_any_dataclass() -> None:
    changed = dataclasses.replace(inbox(SECRETS[0]), folder="Orders", client_secret=SECRETS[1])
    assert changed == dataclasses.replace(inbox(SECRETS[1]), folder="Orders")
    assert InboxConfig(**dataclasses.asdict(changed)) == changed
    names = [field.name for field in dataclasses.fields(AccessToken)]
    assert names == ["token", "expires_on", "refresh_on", "obtained_on"]
    assert dataclasses.asdict(token("a"))["token"] == "a"
