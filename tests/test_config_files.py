"""The files of a configuration: encodings, secrets in files of their own, what cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.config import HOW_TO, IMAP, SECRET, append
from support.mistakes import ID, PW, assert_nothing_leaks, block, is_of, problems_of

from exo_imap_oauth import load_config
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
if TYPE_CHECKING:
    from pathlib import Path


# ---- encodings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "latin-1"),
        ("", "utf-8-sig"),
        ("", "utf-16"),
        ("# Pinuts File Encoding: UTF-8\n", "utf-8"),
        ("\n  ! Pinuts file encoding: windows-1252\n", "cp1252"),
    ],
)
def test_the_encoding_is_that_of_the_byte_order_mark_or_the_comment(
    tmp_path: Path, head: str, encoding: str
) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_text(f"{head}{HOW_TO}{IMAP}folder.inbox = Entwürfe\n", encoding=encoding)
    config = load_config(file, environ={})
    assert config.default.folder == "Entwürfe"
    assert config.warnings == ()


@pytest.mark.parametrize("name", ["UTF-8", "klingon", "rot13", "hex"])
def test_a_file_that_is_not_in_its_declared_encoding_is_read_as_latin_1_with_a_warning(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_bytes(
        f"# Pinuts File Encoding: {name}\n{HOW_TO}{IMAP}folder.inbox = Entwürfe".encode("latin-1")
    )
    config = load_config(file, environ={})
    assert config.default.folder == "Entwürfe"
    (warning,) = config.warnings
    assert (name in warning.message) == (name != "klingon")  # which may be anything
    assert warning.source == str(file)


# ---- secrets in files ------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_a_secret_may_be_in_a_file_of_its_own(conf: Path, tmp_path: Path, end: str) -> None:
    tmp_path.joinpath("secret").write_bytes(f"\ufeff{SECRET}9{end}".encode())
    append(conf, f'{IMAP}oauth2.clientSecret$file = "{tmp_path / "secret"}"\n')
    conf.joinpath("cmsbs.properties").write_text(
        conf.joinpath("cmsbs.properties").read_text().replace(f"clientSecret = {SECRET}", "x = y")
    )
    read = load_config(conf, environ={}).default.client_secret
    assert callable(read)
    assert read() == f"{SECRET}9"


def test_only_the_last_newline_of_a_secret_file_is_removed(conf: Path, tmp_path: Path) -> None:
    append(conf, f"{IMAP}folder.inbox$file = ../folder\n")
    tmp_path.joinpath("folder").write_text('"Entwürfe"\n', encoding="utf-8")
    assert load_config(conf, environ={}).default.folder == '"Entwürfe"'


@pytest.mark.parametrize("value", ["/nowhere/secret", "secrets/imap", ".", "x\\u0000y"])
def test_a_secret_file_that_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, value: str
) -> None:
    (problem,), _ = problems_of(
        tmp_path, block({PW: None}) + f"{IMAP}oauth2.clientSecret$file = {value}\n"
    )
    assert is_of("value-file", problem)
    assert (problem.key, problem.line) == (f"{IMAP}oauth2.clientSecret$file", 11)
    if "/" in value:
        assert value in problem.message
    assert str(tmp_path) in problem.fix


def test_a_secret_file_that_is_no_text(tmp_path: Path) -> None:
    tmp_path.joinpath("secret").write_bytes(b"\xff\xfehidden\xff")
    (problem,), _ = problems_of(
        tmp_path, block({PW: None}) + f"{IMAP}oauth2.clientSecret$file = secret\n"
    )
    assert "not text" in problem.message


def test_a_secret_written_where_its_file_belongs_is_not_shown(tmp_path: Path) -> None:
    text = block({PW: None}) + f"{IMAP}oauth2.clientSecret$file = {SECRET}\n"
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of("value-file", problem)
    assert_nothing_leaks(str(problem))


# ---- what cannot be read ---------------------------------------------------------------------


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match="No such file") as caught:
            load_config(path, environ={})
        (problem,) = caught.value.problems
        assert is_of("unreadable", problem)
        assert problem.source.startswith(str(path))
        assert str(path) in str(caught.value)


def test_a_folder_among_the_files_of_conf_d_cannot_be_read(tmp_path: Path) -> None:
    tmp_path.joinpath("conf.d", "x.properties").mkdir(parents=True)
    (problem,), _ = problems_of(tmp_path, block())
    assert is_of("unreadable", problem)
    assert problem.source.endswith("x.properties")


def test_a_malformed_file_is_one_problem_among_others(tmp_path: Path) -> None:
    text = f"cmsbs.home = C:\\users\n{block({'port': 'x', ID: None})}"
    malformed, port = problems_of(tmp_path, text)[0]
    assert (malformed.key, malformed.line) == ("", 1)
    assert "cmsbs.properties:1: A \\u that is not followed by four hex" in str(malformed)
    assert port.line == 3  # and clientId is not called missing in a file that was not read wholly
