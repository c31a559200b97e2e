"""The layers of a configuration: which value wins, and what it overrode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.config import IMAP, SECRET, append
from support.mistakes import block, is_of, problems_of

from exo_imap_oauth import load_config

if TYPE_CHECKING:
    from pathlib import Path
if TYPE_CHECKING:
    from pathlib import Path


def test_the_last_layer_wins_and_each_value_knows_what_it_overrode(conf: Path) -> None:
    confd = conf / "conf.d"
    key = f"{IMAP}user"
    for name, user in {
        "B.properties": "upper@contoso.example",
        "a.properties": "lower@contoso.example",
        "10.properties": "ten@contoso.example",
        "9.properties": "nine@contoso.example",
        "ä.properties": "umlaut@contoso.example",
        "zz.properties.bak": "backup@contoso.example",
        ".hidden.properties": "hidden@contoso.example",
    }.items():
        confd.joinpath(name).write_text(f"# {name}\n{key} = {user}\n")
    config = load_config(conf, environ={"cmsbs__mail__imap__user": "env@contoso.example"})
    assert config.default.user == "env@contoso.example"
    chain: list[tuple[str, int]] = []
    setting = config.settings[key]
    assert (setting.key, setting.source, setting.line) == (
        "cmsbs__mail__imap__user",
        "environment",
        0,
    )
    while setting.overrode is not None:
        setting = setting.overrode
        chain.append((setting.source.removeprefix(str(conf)), setting.line))
    assert chain == [
        ("/conf.d/ä.properties", 2),
        ("/conf.d/a.properties", 2),
        ("/conf.d/B.properties", 2),
        ("/conf.d/9.properties", 2),
        ("/conf.d/10.properties", 2),
        ("/cmsbs.properties", 4),
    ]


def test_the_last_of_two_lines_with_one_key_wins(conf: Path) -> None:
    append(conf, f"{IMAP}user = last@contoso.example\n")
    config = load_config(conf, environ={})
    assert config.default.user == "last@contoso.example"
    overrode = config.settings[f"{IMAP}user"].overrode
    assert overrode is not None
    assert overrode.line == 4


@pytest.mark.parametrize("relative", [True, False])
def test_another_folder_may_stand_in_for_conf_d(conf: Path, *, relative: bool) -> None:
    other = conf / "local"
    other.mkdir()
    other.joinpath("x.properties").write_text(f"{IMAP}user = local@contoso.example\n")
    conf.joinpath("conf.d", "x.properties").write_text(f"{IMAP}user = never@contoso.example\n")
    append(conf, f'cmsbs.directory.confd = "{"local" if relative else other}"\n')
    assert load_config(conf, environ={}).default.user == "local@contoso.example"
    environ = {"cmsbs__directory__confd": "conf.d"}
    assert load_config(conf, environ=environ).default.user == "never@contoso.example"


def test_no_conf_d_is_no_mistake(conf: Path) -> None:
    conf.joinpath("conf.d").rmdir()
    assert load_config(conf, environ={}).warnings == ()


def test_the_environment_is_that_of_the_process_unless_given(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("cmsbs.mail.imap.user", '"env@contoso.example"')
    assert load_config(conf).default.user == "env@contoso.example"
    assert load_config(conf, environ={}).default.user == "inbox@contoso.example"


def test_a_variable_with_dots_wins_over_one_with_underscores(conf: Path) -> None:
    environ = {
        "cmsbs.mail.imap.user": "dots@contoso.example",
        "cmsbs__mail__imap__user": "underscores@contoso.example",
        "PATH": "/bin",
        "cmsbs__other": "1",
    }
    config = load_config(conf, environ=environ)
    assert config.default.user == "dots@contoso.example"
    assert [problem.key for problem in config.warnings] == ["cmsbs.mail.imap.user"]


def test_a_secret_file_in_a_later_layer_wins_and_one_that_lost_is_not_read(conf: Path) -> None:
    conf.joinpath("secret").write_text(SECRET[::-1])
    variable = "cmsbs__mail__imap__oauth2__clientSecret$file"
    config = load_config(conf, environ={variable: "secret"})
    read = config.default.client_secret
    assert callable(read)
    assert read() == SECRET[::-1]
    conf.joinpath("conf.d", "1.properties").write_text(
        f"{IMAP}oauth2.clientSecret$file = /nowhere\n"
    )
    assert load_config(conf, environ={variable: "secret"}).default.client_secret == read


# ---- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
def test_conf_d_that_is_a_file_or_missing_though_named(tmp_path: Path, *, named: bool) -> None:
    tmp_path.joinpath("conf.d").write_text("")
    (problem,), _ = problems_of(
        tmp_path, block() + ("cmsbs.directory.confd = conf.d\n" if named else "")
    )
    assert is_of("conf-d", problem)
    assert str(tmp_path / "conf.d") in str(problem)
    assert problem.line == (12 if named else 0)
    tmp_path.joinpath("conf.d").unlink()
    errors, _ = problems_of(tmp_path, block() + "cmsbs.directory.confd = gone\n")
    assert is_of("conf-d", errors[0])


def test_a_key_and_its_file_in_one_layer_contradict_each_other(tmp_path: Path) -> None:
    tmp_path.joinpath("secret").write_text(SECRET)
    text = block() + f"{IMAP}oauth2.clientSecret$file = secret\n"
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of("value-and-file", problem)
    assert (problem.key, problem.line) == (f"{IMAP}oauth2.clientSecret$file", 12)
    variable = "cmsbs__mail__imap__oauth2__clientSecret"
    environ = {variable: SECRET, f"{variable}$file": "secret"}
    (problem,), _ = problems_of(tmp_path, block(), environ)
    assert (problem.source, problem.line) == ("environment", 0)


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    (problem,), _ = problems_of(tmp_path, block(), {"cmsbs__mail__imap__port": "x"})
    assert str(problem).startswith("environment: cmsbs__mail__imap__port: is not a number")
