"""Each mistake in structure: found, placed, explained; and no report shows a secret."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
from support.config import CLIENT, SECRET, TENANT
from support.mistakes import (
    AUTHORITY,
    GOOD,
    ID,
    IMAP,
    LINES,
    PW,
    SALES,
    SALES_BLOCK,
    SCOPE,
    URI,
    WITH_SALES,
    assert_nothing_leaks,
    block,
    everything_that_is_shown,
    is_of,
    load,
    problems_of,
)

from exo_imap_oauth._cmsbs.keys import KEYS
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


# ---- structure -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [name for name, key in KEYS.items() if key.default is None])
def test_a_missing_key_is_named_where_it_ought_to_be(tmp_path: Path, key: str) -> None:
    (problem,), _ = problems_of(tmp_path, block({key: None}))
    assert is_of("missing", problem)
    assert problem.key == IMAP + key
    assert problem.line == 1
    assert KEYS[key].belongs in problem.fix


def test_a_misspelt_key_is_named_with_the_one_that_is_missing(tmp_path: Path) -> None:
    text = block({ID: None}) + f"{IMAP}oauth2.clientid = {CLIENT}\n"
    (problem,), warnings = problems_of(tmp_path, text)
    assert is_of("missing-misspelt", problem)
    assert (problem.key, problem.line) == (f"{IMAP}oauth2.clientid", 11)
    assert f"{IMAP}oauth2.clientId" in problem.fix
    assert warnings == ()


@pytest.mark.parametrize("mark", ["\u00a0", "\u200b", "\u00c2\u00a0", "\u00e2\u0080\u008b"])
def test_an_invisible_character_in_a_key_is_named(tmp_path: Path, mark: str) -> None:
    text = f"{block({ID: None})}{IMAP}oauth2.clientId{mark} = {CLIENT}\n"
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of("missing-misspelt", problem)
    assert problem.line == 11
    assert problem.fix == f"Write {IMAP}oauth2.clientId."


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        (f"{IMAP}usr", f"{IMAP}user"),
        (f"{IMAP}oauth2.Debug", f"{IMAP}oauth2.debug"),
        (f"{IMAP}clientId", f"{IMAP}oauth2.clientId"),
        ("\ufeff" + f"{IMAP}port", f"{IMAP}port"),
        (f"{SALES}mail.imap.folder", f"{SALES}mail.imap.folder.inbox"),
        (f"{SALES}user", f"{SALES}mail.imap.user"),
        (f"{SALES}oauth2.client_id", f"{SALES}oauth2.clientId"),
        (f"{IMAP}nothing.like.it", ""),
    ],
)
def test_an_unknown_key_is_a_warning_with_the_nearest_one(
    tmp_path: Path, key: str, nearest: str
) -> None:
    (warning,) = load(tmp_path, f"{block()}{WITH_SALES}{key} = x\n").warnings
    assert is_of("unknown-key", warning)
    assert warning.line == 15
    assert warning.fix == (f"Did you mean {nearest}?" if nearest else "Remove it, or correct it.")


@pytest.mark.parametrize(
    "key",
    [
        "cmsbs.mail.smtp.server",
        "cmsbs.mail.imapx.user",
        "cmsbs.license",
        "cmsbs.bounce.listener",
        f"{SALES}filter",
        f"{SALES}userquery",
        f"{SALES}mail.imap.logfile",
        f"{IMAP}password",
        f"{IMAP}password$file",
        "user",
    ],
)
def test_keys_that_are_none_of_our_business_are_never_a_warning(tmp_path: Path, key: str) -> None:
    assert load(tmp_path, f"{block()}{WITH_SALES}{key} = <x>\n").warnings == ()


def test_a_misplaced_key_is_read_and_the_documented_one_is_named(tmp_path: Path) -> None:
    own = "0d1c2b3a-1111-2222-3333-444455556666"
    text = f"{block()}{WITH_SALES}{SALES}mail.imap.oauth2.clientId = {own}\n"
    config = load(tmp_path, text)
    assert config["sales"].client_id == own
    (warning,) = config.warnings
    assert is_of("misplaced-key", warning)
    assert warning.fix == f"Write {SALES}oauth2.clientId."
    config = load(tmp_path, f"{text}{SALES}oauth2.clientId = {CLIENT}\n")
    assert config["sales"].client_id == CLIENT
    assert config.warnings == (warning,)


def test_a_listed_listener_without_keys_and_one_that_is_not_listed(tmp_path: Path) -> None:
    config = load(tmp_path, f"{block()}cmsbs.bounce.listeners = sals\n{SALES_BLOCK}")
    assert list(config) == ["default"]
    empty, unlisted = config.warnings
    assert is_of("listener-without-keys", empty)
    assert (empty.key, empty.line) == ("cmsbs.bounce.listeners", 12)
    assert is_of("listener-not-listed", unlisted)
    assert unlisted.line == 13


def test_a_listener_cannot_be_called_default(tmp_path: Path) -> None:
    text = f"{block()}cmsbs.bounce.listeners = default\ncmsbs.bouncelistener.default.x = 1\n"
    (problem,), _ = problems_of(tmp_path, text)
    assert is_of("listener-named-default", problem)


def test_where_no_inbox_is_left_all_of_its_mistakes_are_reported(tmp_path: Path) -> None:
    text = block(
        {
            "authenticationMethod": "password",
            "protocol": "pop3",
            "port": "imaps",
            "oauth2.grantType": "password",
            ID: None,
        }
    )
    problems, _ = problems_of(tmp_path, text)
    assert [(problem.key.removeprefix(IMAP), problem.line) for problem in problems] == [
        (ID, 1),
        ("port", 2),
        ("authenticationMethod", 5),
        ("oauth2.grantType", 9),
        ("protocol", 11),
    ]


def test_an_empty_file_says_what_is_missing(tmp_path: Path) -> None:
    problems, _ = problems_of(tmp_path, "")
    assert {problem.key.removeprefix(IMAP) for problem in problems} == {
        "authenticationMethod",
        *(name for name, key in KEYS.items() if key.default is None),
    }
    assert {problem.source for problem in problems} == {str(tmp_path / "cmsbs.properties")}


def test_what_listeners_inherit_is_missing_once(tmp_path: Path) -> None:
    (problem,), _ = problems_of(tmp_path, block({ID: None}) + WITH_SALES)
    assert problem.key == f"{IMAP}{ID}"
    (problem,), _ = problems_of(tmp_path, block({PW: "<client_secret>"}) + WITH_SALES)
    assert problem.line == LINES[PW]


def test_a_listener_needs_its_own_server_and_user(tmp_path: Path) -> None:
    text = f"{block()}cmsbs.bounce.listeners = sales\n{SALES}mail.imap.port = 993\n"
    problems, _ = problems_of(tmp_path, text)
    assert [(problem.key, problem.line) for problem in problems] == [
        (f"{SALES}mail.imap.server", 13),
        (f"{SALES}mail.imap.user", 13),
    ]


def test_the_block_on_one_line_is_one_mistake(tmp_path: Path) -> None:
    (problem,), _ = problems_of(tmp_path, block().replace("\n", " "))
    assert is_of("run-together", problem)
    assert problem.line == 1


# ---- all together ----------------------------------------------------------------------------


def test_twenty_mistakes_are_one_error_with_twenty_problems_in_the_order_of_files(
    tmp_path: Path,
) -> None:
    names = "a b c d e f g"
    main = f"cmsbs.bounce.listeners = {names}\n" + block(
        {
            "server": "https://outlook.office365.com",
            "port": "imaps",
            "ssl": "false",
            "user": "<mailbox_name>",
            URI: f"{AUTHORITY}common/oauth2/v2.0/token",
            ID: "inbox@contoso.example",
            PW: "0d1c2b3a-1111-2222-3333-444455556666",
            SCOPE: "https://graph.microsoft.com/.default",
            "oauth2.grantType": "password",
        }
    )
    listeners: dict[str, dict[str, str]] = {
        "a": {URI: f"http{GOOD[URI][5:]}", ID: '""x""', PW: f"{SECRET} # x"},
        "b": {URI: AUTHORITY, ID: "x", PW: f"{SECRET} "},
        "c": {URI: f"{AUTHORITY}{TENANT[1:]}/oauth2/v2.0/token", PW: "", SCOPE: "imap"},
        "d": {ID: "\u201cx\u201d"},
        "e": {PW: f"'{SECRET}'"},
    }
    tmp_path.joinpath("conf.d").mkdir()
    for name in names.split():
        prefix = f"cmsbs.bouncelistener.{name}."
        text = f"{prefix}mail.imap.server = outlook.office365.com\n"
        text += f"{prefix}mail.imap.user = x@contoso.example\n{prefix}mail.imap.port = 993\n"
        text += f"{prefix}mail.imap.ssl = true\n{prefix}oauth2.grantType = client_credentials\n"
        for key, value in listeners.get(name, {}).items():
            text += f"{prefix}{key} = {value}\n"
        tmp_path.joinpath("conf.d", f"{name}.properties").write_bytes(text.encode("utf-16"))
    problems, _ = problems_of(tmp_path, main)
    assert len(problems) == 20
    assert len({(problem.source, problem.line) for problem in problems}) == 20
    assert len({problem.message for problem in problems}) == 20
    places = [(problem.source, problem.line) for problem in problems]
    sources = [str(tmp_path / "cmsbs.properties")]
    sources += [str(tmp_path / "conf.d" / f"{name}.properties") for name in "abcde"]
    assert places == sorted(places, key=lambda place: (sources.index(place[0]), place[1]))


def test_the_error_reads_well_and_survives_copies(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, block({"port": "x", ID: None}) + f"{IMAP}something = 1\n")
    error = caught.value
    file = tmp_path / "cmsbs.properties"
    assert str(error).splitlines() == [
        f"{tmp_path} cannot be used; mistakes found: 2",
        f"  {file}:1: {IMAP}{ID}: is missing. Add it: {KEYS[ID].belongs}.",
        f"  {file}:2: {IMAP}port: is not a number from 1 to 65535. Write 993.",
        (
            f"  (warning) {file}:11: {IMAP}something: is not a key that is read. "
            "Remove it, or correct it."
        ),
    ]
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(twin) == str(error)
        assert (twin.problems, twin.warnings) == (error.problems, error.warnings)


# ---- nothing leaks ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(KEYS))
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        '"{}',
        "{} ",
        "<{}>",
        "{}\u00a0",
        "\\u12{}",
        "x\n{}",
        "\\\n{}",
        "{} cmsbs.mail.imap.port=1",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path: Path, name: str, form: str) -> None:
    text = block({name: form.format(SECRET)})
    assert_nothing_leaks(everything_that_is_shown(tmp_path, text, {}))


@pytest.mark.parametrize("glue", ["", "\u00a0", "\u00a0=\u00a0", ".", "-", "\u200b", "$file"])
@pytest.mark.parametrize("name", [PW, "password"])
def test_a_secret_glued_to_its_key_is_not_shown(tmp_path: Path, name: str, glue: str) -> None:
    text = f"{block({PW: None})}{IMAP}{name}{glue}{SECRET}\n"
    environ = {f"{IMAP}{name}{glue}{SECRET}": SECRET}
    assert_nothing_leaks(everything_that_is_shown(tmp_path, text, {}))
    assert_nothing_leaks(everything_that_is_shown(tmp_path, text, environ))


def test_the_content_of_a_secret_file_is_not_shown(tmp_path: Path) -> None:
    for content in (SECRET.encode(), b"\xff" + SECRET.encode(), f"{SECRET} # x".encode()):
        tmp_path.joinpath("secret").write_bytes(content)
        text = block({PW: None, "port": "x"}) + f"{IMAP}oauth2.clientSecret$file = secret\n"
        assert_nothing_leaks(everything_that_is_shown(tmp_path, text, {}))
