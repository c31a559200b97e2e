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

    from exo_imap_oauth.errors import ConfigProblem


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


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_one_mistake_and_nothing_is_called_missing(
    tmp_path: Path, encoding: str
) -> None:
    tmp_path.joinpath("cmsbs.properties").write_bytes(
        f"# Grüße aus „Köln“ ────\r\n{HOW_TO}".encode(encoding)
    )
    (problem,) = errors_of(tmp_path)
    assert is_of("utf-16", problem)
    assert problem.source == str(tmp_path / "cmsbs.properties")


def test_a_file_with_nul_bytes_is_read_with_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_bytes(f"# \0\0\n{HOW_TO}".encode())
    (warning,) = load_config(file, environ={}).warnings
    assert is_of("nul-bytes", warning)
    file.write_bytes(b"\0" * 1_000)  # as a full disk leaves it
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ={})
    assert caught.value.warnings == (warning,)


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


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("/nowhere/secret\\n", "/nowhere/secret\n"),
        ("/nowhere/secret\\r\\n", "/nowhere/secret\r\n"),
        ("'/nowhere/secret'", "'/nowhere/secret'"),
        ('/nowhere/secret"', '/nowhere/secret"'),
        ('"/nowhere/secret', '"/nowhere/secret'),
    ],
)
@pytest.mark.parametrize("place", ["file", "environment"])
@pytest.mark.parametrize("key", [f"{IMAP}oauth2.clientSecret$file", "cmsbs.directory.confd"])
def test_quotes_and_line_breaks_at_the_ends_of_a_path_are_shown(
    tmp_path: Path, written: str, read: str, place: str, key: str
) -> None:
    text = block({PW: None}) if key.endswith("$file") else block({})
    environ = {}
    if place == "file":
        text += f"{key} = {written}\n"
    else:
        environ = {key.replace(".", "__"): read}
    tmp_path.joinpath("cmsbs.properties").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, environ=environ)
    (problem,) = caught.value.problems
    assert is_of("path-ends", problem)
    assert f"the path {read!r} cannot be read" in problem.message


def test_a_secret_with_a_quote_at_its_end_is_not_shown_where_its_file_belongs(
    tmp_path: Path,
) -> None:
    text = block({PW: None}) + f"{IMAP}oauth2.clientSecret$file = '{SECRET}'\n"
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of("path-ends", problem)
    assert_nothing_leaks(str(problem))


def test_what_is_not_set_is_named_as_a_variable_where_variables_are_set(tmp_path: Path) -> None:
    tmp_path.joinpath("cmsbs.properties").write_text("")
    names = {"server": "outlook.office365.com", "ssl": "true", "authenticationMethod": "oauth2"}
    environ = {f"cmsbs__mail__imap__{name}": value for name, value in names.items()}
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, environ=environ)
    told = {problem.key for problem in caught.value.problems}
    assert {"cmsbs__mail__imap__port", "cmsbs__mail__imap__oauth2__clientId"} <= told
    assert all(key.startswith("cmsbs__mail__imap__") for key in told)


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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_secret_file_of_powershell_5_is_named_as_utf_16(tmp_path: Path, encoding: str) -> None:
    tmp_path.joinpath("secret").write_bytes(f"{SECRET}\r\n".encode(encoding))
    text = block({PW: None}) + f"{IMAP}oauth2.clientSecret$file = secret\n"
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of("value-encoding", problem)
    assert "in UTF-16, as PowerShell 5 writes" in problem.message
    assert problem.fix == "Save the file in UTF-8, in PowerShell with Set-Content -Encoding UTF8."


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (f"{SECRET}\n\n", "secret-line-break"),
        (f"{SECRET}\rsecond", "control-character"),
        (f'"{SECRET}"', "secret-quoted"),
    ],
)
def test_the_content_of_a_secret_file_is_no_value_of_java(
    tmp_path: Path, content: str, mistake: str
) -> None:
    text = block({PW: None}) + f"{IMAP}oauth2.clientSecret$file = .\\secret\n"
    tmp_path.joinpath(".secret").write_bytes(content.encode())
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of(mistake, problem)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (r"C:\secrets\bot.txt", " C:secretsbot.txt"),
        (r"C:\temp\new.txt", " C:?emp?ew.txt"),
        (r'"D:\in\secret"', " D:insecret"),
        (r"\\server\share\bot.txt", r" \serversharebot.txt"),
        (r"secrets\imap", " secretsimap"),
        (rf"C:\{SECRET}", ""),
        (rf"{SECRET[:20]}\{SECRET[20:]}", ""),
    ],
)
def test_a_path_whose_backslashes_java_drops_is_shown_as_it_was_read(
    tmp_path: Path, written: str, shown: str
) -> None:
    for key in (f"{IMAP}oauth2.clientSecret$file", "cmsbs.directory.confd"):
        changes = {PW: None} if key.startswith(IMAP) else {}
        problem = problems_of(tmp_path, f"{block(changes)}{key} = {written}\n")[0][0]
        assert is_of("backslashes", problem)
        assert (problem.key, problem.line) == (key, 12 - len(changes))
        assert problem.message.startswith(f"the path{shown} cannot be read: ")
        assert_nothing_leaks(str(problem))


@pytest.mark.parametrize("written", [r"C:\\um\\secret", r"C\:/um/secret", "C:/um/secret"])
def test_a_path_that_java_reads_as_it_is_meant_is_just_not_there(
    tmp_path: Path, written: str
) -> None:
    text = f"{block({PW: None})}{IMAP}oauth2.clientSecret$file = {written}\n"
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of("value-file", problem)
    variable = {"cmsbs__mail__imap__oauth2__clientSecret$file": r"C:\um\secret"}
    (problem,), _ = problems_of(tmp_path, block({PW: None}), variable)
    assert is_of("value-file", problem)


# ---- a path that is nearly right -------------------------------------------------------------


def place(tmp_path: Path, given: str) -> Path:
    """``program/cmsbs-conf`` and folders around it; a path among them."""
    program = tmp_path / "program"
    for folder in ("cmsbs-conf/conf.d", "bin", "etc/um"):
        program.joinpath(folder).mkdir(parents=True)
    program.joinpath("cmsbs-conf", "cmsbs.properties").write_text(HOW_TO)
    return program / given


@pytest.mark.parametrize(
    "given",
    [
        "",
        "cmsbs-conf/conf.d",
        "cmsbs-conf/cmsbs.propertis",
        "cmsbs-conf/cmsbs-conf",
        "cmsbs-conf/conf.d/cmsbs.properties",
        "bin",
        "bin/cmsbs-conf",
        "cmbs-conf",
        "cmsbs.properties",
    ],
)
def test_the_folder_that_was_meant_is_named(tmp_path: Path, given: str) -> None:
    path = place(tmp_path, given)
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    (problem,) = caught.value.problems
    assert is_of("elsewhere", problem)
    folder = tmp_path / "program" / "cmsbs-conf"
    assert problem.fix == f"Give {folder}, where there is a cmsbs.properties."
    assert load_config(folder, environ={}).default.name == "default"


def test_a_relative_path_is_named_with_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, mistake in (("bin", "elsewhere"), ("etc/um", "unreadable")):
        path = place(tmp_path / folder, folder)
        monkeypatch.chdir(path)
        with pytest.raises(ConfigError) as caught:
            load_config(environ={})
        (problem,) = caught.value.problems
        assert is_of(mistake, problem)
        assert problem.source == str(path / "cmsbs-conf")


@pytest.mark.parametrize("given", ["cmsbs.properties", "conf.d/1.properties"])
@pytest.mark.parametrize("missing", [PW, "authenticationMethod", "server"])
def test_a_file_that_was_given_alone_and_lacks_what_another_one_sets(
    tmp_path: Path, given: str, missing: str
) -> None:
    rest = block({missing: None}).splitlines(keepends=True)
    lacking = "".join(line for line in block().splitlines(keepends=True) if line not in rest)
    tmp_path.joinpath("conf.d").mkdir()
    for name in ("cmsbs.properties", "conf.d/1.properties"):
        tmp_path.joinpath(name).write_text("".join(rest) if name == given else lacking)
    (problem,) = errors_of(tmp_path / given)
    assert is_of("file-alone", problem)
    assert (problem.source, problem.fix) == (
        str(tmp_path / given),
        f"Give the folder {tmp_path}.",
    )
    assert load_config(tmp_path, environ={}).warnings == ()


def test_what_no_other_file_sets_is_missing(tmp_path: Path) -> None:
    tmp_path.joinpath("conf.d").mkdir()
    tmp_path.joinpath("cmsbs.properties").write_text(block({PW: None}))
    tmp_path.joinpath("conf.d", "1.properties").write_text(f"{IMAP}user = x@contoso.example\n")
    (problem,) = errors_of(tmp_path / "cmsbs.properties")
    assert is_of("missing", problem)


def errors_of(path: Path) -> tuple[ConfigProblem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    return caught.value.problems


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
