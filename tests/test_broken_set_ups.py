"""Set-ups that people break in their own ways: the text alone leads to what mends them."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
from support.config import HOW_TO, IMAP, SECRET
from support.leaks import everything_in
from support.mistakes import GOOD, PW, block

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import ConfigError, ConnectionFailed

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = "127.83.12.9"  # this machine, where nobody listens
VARIABLES = {
    "EXO_IMAP_USER": "inbox@contoso.example",
    "EXO_IMAP_TENANT_ID": "contoso.example",
    "EXO_IMAP_CLIENT_ID": "6731de76-14a6-49ae-97bc-6eba6914391e",
    "EXO_IMAP_CLIENT_SECRET": SECRET,
}


def told_by(path: Path) -> str:
    """The text of the one mistake of a configuration."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    (problem,) = caught.value.problems
    assert SECRET not in everything_in(caught.value)
    return str(problem)


def told_of(**variables: str) -> str:
    """The text of the one mistake in the environment."""
    with pytest.raises(ConfigError) as caught:
        InboxConfig.from_env(environ=VARIABLES | variables)
    (problem,) = caught.value.problems
    assert SECRET not in everything_in(caught.value)
    return str(problem)


# ---- ssl and port mixed up -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ssl", "port"), [("tls", "993"), ("true", "143"), ("true", None)], ids=str
)
def test_ssl_and_port_of_different_kinds_are_told_where_the_inbox_does_not_open(
    tmp_path: Path, ssl: str, port: str | None
) -> None:
    text = block({"server": NOWHERE, "ssl": ssl, "port": port})
    tmp_path.joinpath("cmsbs.properties").write_text(text)
    inbox = load_config(tmp_path, environ={}).default
    with pytest.raises(ConnectionFailed) as caught, inbox.open(token="opaque", timeout=5):
        pass
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        first, told, *_ = str(error).splitlines()
        assert "cannot be reached" in first
        assert told.startswith(f"  (warning) {tmp_path / 'cmsbs.properties'}:")
        assert f"{IMAP}port: does not go with ssl: 993 is for true, 143 for tls" in told
        assert told.endswith("Write 993, and ssl = true.")


def test_the_same_by_hand_and_in_variables() -> None:
    by_hand = InboxConfig(user="inbox@contoso.example", host=NOWHERE, tls="starttls")
    variables = {"EXO_IMAP_USER": "x@contoso.example", "EXO_IMAP_HOST": NOWHERE}
    in_variables = InboxConfig.from_env(environ={**variables, "EXO_IMAP_PORT": "143"})
    for inbox, name, tls in (
        (by_hand, "InboxConfig: port", "tls"),
        (in_variables, "EXO_IMAP_PORT", "EXO_IMAP_TLS"),
    ):
        with pytest.raises(ConnectionFailed) as caught, inbox.open(token="opaque", timeout=5):
            pass
        assert f"{name}: does not go with {tls}: 993 is for implicit" in str(caught.value)
        assert f"Write 993, and {tls} = implicit." in str(caught.value)


def test_an_inbox_that_nothing_is_wrong_with_adds_nothing_to_an_error() -> None:
    inbox = InboxConfig(user="inbox@contoso.example", host=NOWHERE)
    with pytest.raises(ConnectionFailed) as caught, inbox.open(token="opaque", timeout=5):
        pass
    assert "warning" not in str(caught.value)


# ---- files and folders -----------------------------------------------------------------------


def test_utf_16_without_a_mark_is_named(tmp_path: Path) -> None:
    tmp_path.joinpath("cmsbs.properties").write_bytes(HOW_TO.encode("utf-16-le"))
    told = told_by(tmp_path)
    assert "is in UTF-16 without a byte order mark" in told
    assert "Save the file in UTF-8" in told


def test_a_file_given_while_the_settings_are_in_conf_d(tmp_path: Path) -> None:
    conf = tmp_path / "cmsbs-conf"
    conf.joinpath("conf.d").mkdir(parents=True)
    conf.joinpath("cmsbs.properties").write_text("cmsbs.license = x\n")
    conf.joinpath("conf.d", "mail.properties").write_text(HOW_TO)
    assert load_config(conf, environ={}).warnings == ()
    told = told_by(conf / "cmsbs.properties")
    assert f"the other files of {conf}" in told
    assert f"Give the folder {conf}." in told


def test_a_windows_path_whose_backslashes_java_dropped(tmp_path: Path) -> None:
    line = f"{IMAP}oauth2.clientSecret$file = C:\\secrets\\bot.txt\n"
    tmp_path.joinpath("cmsbs.properties").write_text(block({PW: None}) + line)
    told = told_by(tmp_path)
    assert f"{tmp_path / 'cmsbs.properties'}:{len(GOOD)}:" in told
    assert "the path C:secretsbot.txt cannot be read" in told
    assert "single backslashes, which Java drops" in told
    assert "Double each backslash, or write / in its place." in told


# ---- variables -------------------------------------------------------------------------------


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_docker_keeps(quote: str) -> None:
    told = told_of(EXO_IMAP_CLIENT_SECRET=f"{quote}{SECRET}{quote}")
    assert told == (
        "environment: EXO_IMAP_CLIENT_SECRET: is enclosed in quotes, which are a part of the value"
        " here: docker --env-file, for one, keeps them. Write the value without quotes."
    )


def test_a_line_break_at_the_end_of_a_variable() -> None:
    told = told_of(EXO_IMAP_CLIENT_SECRET=f"{SECRET}\n")
    assert told.startswith("environment: EXO_IMAP_CLIENT_SECRET: ends in a line break")
    assert "echo -n" in told
