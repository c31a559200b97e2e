"""A secret in a damaged configuration, wherever it stands, is in no message about it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import EXAMPLES

from exo_imap_oauth import load_config
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

IMAP = "cmsbs.mail.imap."
SALES = "cmsbs.bouncelistener.sales."
PW = f"{IMAP}oauth2.clientSecret"
# As Entra makes them, in base64, as hexadecimal digits, and one that begins like a path.
SECRETS = (
    "Abc8Q~defghijklmnopqrstuvwxyz012345.6789",
    "t0K+Zm9vYmFy/QUJDREVGRw9x/aGVsbG8gd29ybGQ=",
    "0123456789abcdef0123456789abcdef",
    "/r8Q~defghijklmnopqrstuvwxyz0123",
)
LONGEST_SHOWN = 11  # characters of a secret in a row
LINES = (
    ("cmsbs.directory.confd", "conf.d"),
    ("cmsbs.bounce.listeners", "sales, support"),
    ("cmsbs.home", "C:\\\\um"),
    ("my.password", "x"),
    (f"{IMAP}server", "outlook.office365.com"),
    (f"{IMAP}port", "993"),
    (f"{IMAP}ssl", "true"),
    (f"{IMAP}user", "inbox@contoso.example"),
    (f"{IMAP}password", '""'),
    (f"{IMAP}authenticationMethod", "oauth2"),
    (f"{IMAP}folder.inbox$file", "folder"),
    (
        f"{IMAP}oauth2.accessTokenUri",
        "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
    ),
    (f"{IMAP}oauth2.clientId", "6731de76-14a6-49ae-97bc-6eba6914391e"),
    (PW, "s"),
    (f"{IMAP}oauth2.scope", "https://outlook.office365.com/.default"),
    (f"{SALES}mail.imap.server", "outlook.office365.com"),
    (f"{SALES}mail.imap.user", "sales@contoso.example"),
    (f"{SALES}oauth2.clientSecret$file", "/run/secrets/sales"),
    (f"{SALES}oauth2.debug", "true"),
)


def shown_parts(secret: str, text: str) -> list[str]:
    length = LONGEST_SHOWN + 1
    parts = (secret[at : at + length] for at in range(len(secret) - LONGEST_SHOWN))
    return [part for part in parts if part in text]


def everything_shown(path: Path, environ: Mapping[str, str]) -> str:
    """All that a program or a person sees of a configuration, but the values of its inboxes."""
    try:
        config = load_config(path, environ=environ)
    except ConfigError as error:
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = [str(step.locals) for step in report.stack if step.filename != __file__]
        told = [str(error), repr(error), str(error.args), str(vars(error)), *report.format()]
        return "\n".join([*(line for line in told if __file__ not in line), *frames])
    with pytest.raises(KeyError) as missing:
        config["no such inbox"]
    told = [str(warning) for warning in config.warnings]
    return "\n".join([*told, repr(config.warnings), repr(config.settings), str(missing.value)])


def plain_lines() -> Iterator[str]:
    yield from (f"{key} = {value}" for key, value in LINES)


# ---- a backslash at the end of a line --------------------------------------------------------


def with_backslash(at: int, value: str | None = None) -> str:
    """The configuration with a backslash that joins the secret's line to that of another key."""
    lines = [f"{key} = {text}" for key, text in LINES if key != PW]
    key, text = LINES[at]
    lines[[name for name, _ in LINES if name != PW].index(key)] = (
        f"{key} = {text if value is None else value}\\\n{PW} = {SECRETS[0]}"
    )
    return "\n".join(lines)


@pytest.mark.parametrize("key", [key for key, _ in LINES if key != PW])
@pytest.mark.parametrize("indent", ["", "   "])
def test_a_line_that_runs_on_into_that_of_the_secret(tmp_path: Path, key: str, indent: str) -> None:
    text = with_backslash([name for name, _ in LINES].index(key)).replace(
        f"\n{PW}", f"\n{indent}{PW}"
    )
    tmp_path.joinpath("cmsbs.properties").write_text(text)
    assert shown_parts(SECRETS[0], everything_shown(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cmsbs.directory.confd", "C:\\\\um\\"),
        ("cmsbs.directory.confd", "/opt/um/"),
        (f"{SALES}oauth2.clientSecret$file", "/x"),
        (f"{IMAP}folder.inbox$file", "./x"),
        ("cmsbs.bounce.listeners", "a "),
        ("cmsbs.bounce.listeners", "a,"),
    ],
)
@pytest.mark.parametrize("following", [f"{PW} = ", f"{PW}:", f"{PW} ", f"{PW}\\=", "db.password="])
def test_a_path_or_a_list_that_runs_on_into_a_secret(
    tmp_path: Path, key: str, value: str, following: str
) -> None:
    text = "\n".join(f"{name} = {text}" for name, text in LINES if name not in (key, PW))
    tmp_path.joinpath("cmsbs.properties").write_text(
        f"{text}\n{key} = {value}\\\n{following}{SECRETS[0]}\n"
    )
    assert shown_parts(SECRETS[0], everything_shown(tmp_path, {})) == []


def test_a_list_that_runs_on_into_a_password_of_words(tmp_path: Path) -> None:
    text = "\n".join(plain_lines()).replace("sales, support", "sales\\\ndb.password = correcthorse")
    tmp_path.joinpath("cmsbs.properties").write_text(text)
    shown = everything_shown(tmp_path, {})
    assert "lists a name, which has no key of its own" in shown
    assert "correcthorse" not in shown


def test_a_secret_glued_to_a_key_of_a_configuration_that_loads(tmp_path: Path) -> None:
    lines = (
        f"{IMAP}server",
        f"{IMAP}port",
        f"{IMAP}ssl",
        f"{IMAP}user",
        f"{IMAP}auth",
        f"{IMAP}oa",
    )
    text = "\n".join(line for line in plain_lines() if line.startswith(lines))
    text = text.replace(f"{PW} = s", f"{PW} = s\n{IMAP}password{SECRETS[0]} = x")
    tmp_path.joinpath("cmsbs.properties").write_text(text)
    shown = everything_shown(tmp_path, {})
    assert f"'{IMAP}password...': Setting(" in shown
    assert shown_parts(SECRETS[0], shown) == []


# ---- anywhere --------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("key", [*(key for key, _ in LINES), f"{PW}$file", f"{IMAP}port$file"])
def test_a_secret_that_stands_in_the_place_of_another_value(
    tmp_path: Path, key: str, secret: str
) -> None:
    others = "\n".join(f"{name} = {text}" for name, text in LINES if name != key)
    tmp_path.joinpath("cmsbs.properties").write_text(f"{others}\n{key} = {secret}\n")
    shown = everything_shown(tmp_path, {})
    assert shown_parts(secret, shown) == []
    variable = key.replace(".", "__")
    tmp_path.joinpath("cmsbs.properties").write_text(others)
    assert shown_parts(secret, everything_shown(tmp_path, {variable: secret})) == []


@pytest.mark.parametrize("secret", [secret for secret in SECRETS if len(secret) <= 40])
def test_a_secret_that_stands_in_the_place_of_an_encoding(tmp_path: Path, secret: str) -> None:
    comment = f"# Pinuts File Encoding: {secret.replace('~', '').replace('/', '')}\n"
    text = "\n".join(f"{key} = {value}" for key, value in LINES)
    tmp_path.joinpath("cmsbs.properties").write_text(comment + text)
    shown = everything_shown(tmp_path, {})
    assert "is not in the encoding that it names" in shown
    assert shown_parts(secret.replace("~", "").replace("/", ""), shown) == []


DAMAGE = ("", "", "", "\\", "\\\\\\", " \\", '"', "'", "\u00a0", " #", "\\u12", "\t", "=", ":")
SEPARATORS = (" = ", " = ", " = ", "=", ":", " ", "\\=", "\\ = ", ' = "', "\u00a0=\u00a0", " = <")
ENDS = ("\n", "\n", "\n", "\n", "\r\n", "\r", " ", "", "\\\n", "\\\n   ", "\n\n")


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str]:
    """A configuration with its lines in any order, each of them damaged or not, and a secret."""
    secret = draw(st.sampled_from(SECRETS))
    text = ""
    for key, value in draw(st.permutations(LINES)):
        is_planted = key in (PW, "my.password", f"{IMAP}password") or draw(st.integers(0, 5)) == 0
        planted = draw(st.sampled_from(["{}", "{}", "x {}", "/run/{}", "<{}>", "./{}"]))
        value = planted.format(secret) if is_planted else value  # noqa: PLW2901 - as it is written
        separator, end = draw(st.sampled_from(SEPARATORS)), draw(st.sampled_from(ENDS))
        text += f"{key}{separator}{value}{draw(st.sampled_from(DAMAGE))}{end}"
    return text, secret


def test_no_message_about_a_damaged_configuration_shows_a_secret(tmp_path: Path) -> None:
    outcomes: set[bool] = set()

    @settings(
        max_examples=EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(damaged())
    def shows_nothing(case: tuple[str, str]) -> None:
        text, secret = case
        tmp_path.joinpath("cmsbs.properties").write_bytes(text.encode("utf-8"))
        shown = everything_shown(tmp_path, {})
        outcomes.add("cannot be used" in shown)
        assert shown_parts(secret, shown) == [], shown

    shows_nothing()
    assert True in outcomes


# ---- names and paths -------------------------------------------------------------------------

HOSTILE = "sa\u202eles\u200b\x1b[31m"


def test_names_and_paths_are_shown_as_one_printable_line(tmp_path: Path) -> None:
    folder = tmp_path / f"con\u202ef\x1b[31m\n{'x' * 200}"
    folder.joinpath("conf.d").mkdir(parents=True)
    folder.joinpath("conf.d", f"{HOSTILE}.properties").write_text(f"{IMAP}port = x\n")
    text = "\n".join(line for line in plain_lines() if "$file" not in line)
    text = text.replace("sales, support", f"sales, {HOSTILE}, x{HOSTILE}")
    folder.joinpath("cmsbs.properties").write_bytes(
        b"\xef\xbb\xbf" + f"{text}\ncmsbs.bouncelistener.{HOSTILE}.mail.imap.port = 993\n".encode()
    )
    with pytest.raises(ConfigError) as caught:
        load_config(folder, environ={})
    problems = (*caught.value.problems, *caught.value.warnings)
    for problem in problems:
        for part in (problem.key, problem.source, problem.message, problem.fix):
            assert part.isprintable()
            assert len(part) < 900
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    assert any("\\u202e" in problem.source for problem in problems)
    assert any("\\u202e" in problem.key for problem in problems)
    assert any("\\u202e" in problem.message + problem.fix for problem in problems)


@pytest.mark.parametrize(
    ("path", "is_shown"),
    [
        ("/run/secrets/imap_client_secret", True),
        ("/nowhere/secret", True),
        ("./secret.txt", True),
        ("../secrets/imap-2026", True),
        ("secrets/imap", True),
        ("C:\\\\um\\\\secret.txt", True),
        ("/secret", False),
        ("secret", False),
        ("/run/my secret", False),
        ("/run/x=y", False),
        ("/run/cmsbs.mail.imap.port", False),
        ("/run/" + "x" * 200, False),
    ],
)
def test_a_path_is_named_where_it_can_be_nothing_else(
    tmp_path: Path, path: str, is_shown: bool
) -> None:
    text = "\n".join(line for line in plain_lines() if PW not in line)
    tmp_path.joinpath("cmsbs.properties").write_text(f"{text}\n{PW}$file = {path}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, environ={})
    (problem,) = [p for p in caught.value.problems if p.key == f"{PW}$file"]
    named = f" {path}".replace("\\\\", "\\") if is_shown else ""
    assert problem.message == f"its file{named} cannot be read: " + problem.message.split(": ")[1]
