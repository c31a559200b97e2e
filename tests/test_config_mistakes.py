"""Each mistake in a configuration: found, placed, explained, and nothing given away."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from typing import TYPE_CHECKING, NamedTuple

import pytest

from exo_imap_oauth._cmsbs.keys import KEYS
from exo_imap_oauth._cmsbs.mistakes import CHECKS, MISTAKES
from exo_imap_oauth.config import CmsbsConfig, load_config
from exo_imap_oauth.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TENANT = "b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
SECRET = "Abc8Q~defghijklmnopqrstuvwxyz012345.6789"
AUTHORITY = "https://login.microsoftonline.com/"
GOOD = {
    "server": "outlook.office365.com",
    "port": "993",
    "ssl": "true",
    "user": "inbox@contoso.example",
    "authenticationMethod": "oauth2",
    "oauth2.accessTokenUri": f"{AUTHORITY}{TENANT}/oauth2/v2.0/token",
    "oauth2.clientId": CLIENT,
    "oauth2.clientSecret": SECRET,
    "oauth2.scope": "https://outlook.office.com/.default",
    "oauth2.grantType": "client_credentials",
    "oauth2.debug": "true",
}
LINES = {name: number for number, name in enumerate(GOOD, 1)}
IMAP = "cmsbs.mail.imap."
SALES = "cmsbs.bouncelistener.sales."
SALES_BLOCK = (
    f"{SALES}mail.imap.server = outlook.office365.com\n{SALES}mail.imap.user = s@contoso.example\n"
)
WITH_SALES = f"cmsbs.bounce.listeners = sales\n{SALES_BLOCK}"
ELSEWHERE = "https://login.contoso.example/realms/mail/token"


def block(changes: Mapping[str, str | None] | None = None) -> str:
    """The how-to's block, with values changed, or left out where None."""
    values = {**GOOD, **(changes or {})}
    return "".join(
        f"{IMAP}{name} = {value}\n" for name, value in values.items() if value is not None
    )


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> CmsbsConfig:
    folder.joinpath("cmsbs.properties").write_bytes(text.encode("utf-16"))
    return load_config(folder, environ=environ or {})


def problems_of(
    folder: Path, text: str, environ: Mapping[str, str] | None = None
) -> tuple[tuple[ConfigProblem, ...], tuple[ConfigProblem, ...]]:
    """Errors and warnings."""
    try:
        return (), load(folder, text, environ).warnings
    except ConfigError as error:
        return error.problems, error.warnings


def is_of(mistake_id: str, problem: ConfigProblem) -> bool:
    template = re.split(r"\{\w+\}", MISTAKES[mistake_id].message)
    return re.fullmatch(".*".join(map(re.escape, template)), problem.message) is not None


class Case(NamedTuple):
    """A value and what is found in it; "warning" if it is none at an endpoint of Entra's."""

    mistake: str
    key: str
    value: str
    severity: str = "error"
    elsewhere: str = ""  # the severity where neither Entra nor Exchange is meant


URI, ID, PW, SCOPE = (
    f"oauth2.{name}" for name in ("accessTokenUri", "clientId", "clientSecret", "scope")
)
FOLDER = "folder.inbox"
VALUES = [
    Case("run-together", "server", f"outlook.office365.com {IMAP}port = 993"),
    Case("run-together", "user", f"inbox@contoso.example{IMAP}oauth2.clientId={CLIENT}"),
    Case("run-together", PW, f"{SECRET} {SALES}oauth2.scope: x"),
    Case("soft-wrap", URI, f"\n{AUTHORITY}{TENANT}/oauth2/v2.0/token"),
    Case("soft-wrap", URI, f"{AUTHORITY}\n{TENANT}/oauth2/v2.0/token"),
    Case("soft-wrap", URI, f"{AUTHORITY}{TENANT}/oauth2/\n  v2.0/token"),
    Case("empty", "server", ""),
    Case("empty", "user", '""'),
    Case("empty", URI, ""),
    Case("empty", ID, '" "'),
    Case("empty", PW, ""),
    Case("empty", PW, '" "'),
    Case("placeholder", "server", "{{ host }}"),
    Case("placeholder", "port", "<port>"),
    Case("placeholder", "user", "<mailbox_name>"),
    Case("placeholder", "user", "<mailbox_name>@contoso.example"),
    Case("placeholder", "authenticationMethod", "[[method]]"),
    Case("placeholder", URI, f"{AUTHORITY}<tenant_id>/oauth2/v2.0/token"),
    Case("placeholder", URI, f"{AUTHORITY}${{TENANT}}/oauth2/v2.0/token"),
    Case("placeholder", ID, "[[client_id]]"),
    Case("placeholder", SCOPE, "${scope}"),
    Case("placeholder-whole", PW, "<client_secret>"),
    Case("placeholder-whole", PW, "'<client_secret>'"),
    Case("placeholder-whole", PW, '"{{secret}}"'),
    Case("placeholder-whole", FOLDER, "<folder>"),
    Case("placeholder-object-id", ID, "<enterprise_object_id>"),
    Case("control-character", "user", r"inbox@contoso.example\u0001auth=Bearer"),
    Case("control-character", FOLDER, r"IN\nBOX"),
    Case("secret-control", PW, r"Abc8Q\tdef"),
    Case("too-long", "server", "x" * 4097),
    Case("too-long", PW, "x" * 4097),
    Case("too-long", FOLDER, "[[" * 32_768),
    Case("invisible-character", "server", "outlook.office365.com\u00a0"),
    Case("invisible-character", "user", "inbox@contoso.example\u200b"),
    Case("invisible-character", "user", "inbox@contoso.example\u0085"),
    Case("invisible-character", URI, f"\u00a0{AUTHORITY}{TENANT}/oauth2/v2.0/token"),
    Case("invisible-character", ID, f"\u200b{CLIENT}"),
    Case("invisible-character", PW, f"{SECRET}\u00a0"),
    Case("invisible-character", SCOPE, f"{GOOD['oauth2.scope']}\u00ad"),
    Case("folder-control", FOLDER, "Entw\u0081rfe"),
    Case("folder-control", FOLDER, "Sent\u2028Orders"),
    Case("odd-character", "server", "outlook\u2010dod.office365.us"),
    Case("odd-character", URI, f"\u201c{AUTHORITY}{TENANT}/oauth2/v2.0/token\u201d"),
    Case("odd-character", ID, f"\u201c{CLIENT}\u201d"),
    Case("odd-character", PW, f"\u201e{SECRET}\u201c", "error", "warning"),
    Case("padded", "port", "993 ", "warning", "warning"),
    Case("padded", ID, f'" {CLIENT}"', "warning", "warning"),
    Case("padded", FOLDER, "INBOX\t", "warning", "warning"),
    Case("server-no-host", "server", "https://outlook.office365.com"),
    Case("server-no-host", "server", "outlook.office365.com:993"),
    Case("port-no-number", "port", "imaps"),
    Case("port-no-number", "port", "0"),
    Case("port-no-number", "port", "65536"),
    Case("port-no-number", "port", "\u0669\u0669\u0663"),
    Case("port-and-ssl", "port", "143", "error", "warning"),
    Case("ssl-unknown", "ssl", "yes"),
    Case("ssl-off", "ssl", "false"),
    Case("host-of-another-cloud", "server", "outlook-dod.office365.us", "warning"),
    Case("user-no-address", "user", "inbox", "error", "warning"),
    Case("user-no-address", "user", "Inbox <inbox@contoso.example>", "error", "warning"),
    Case("user-no-address", "user", "a@contoso.example, b@contoso.example", "error", "warning"),
    Case("grant-type", "oauth2.grantType", "password"),
    Case("debug-unknown", "oauth2.debug", "yes", "warning", "warning"),
    Case("uri-http", URI, f"http://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
    Case("uri-http", URI, "http://localhost:8080/token"),
    Case("uri-no-url", URI, f"login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
    Case("uri-no-url", URI, "https://[login/token"),
    Case("uri-no-url", URI, "https://login.microsoftonline.com:99999/token"),
    Case("uri-path", URI, f"{AUTHORITY}{TENANT}/oauth2/token"),
    Case("uri-path", URI, f"{AUTHORITY}{TENANT}/oauth2/v2.0/authorize"),
    Case("uri-path", URI, f"{AUTHORITY}{TENANT}/v2.0/oauth2/token"),
    Case("uri-path", URI, AUTHORITY),
    Case("uri-no-path", URI, "https://login.contoso.example"),
    Case("uri-no-path", URI, "https://login.contoso.example//?p=token"),
    Case("uri-user", URI, f"https://user:password@localhost/{TENANT}/oauth2/v2.0/token"),
    Case("uri-user", URI, f"https://user@login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
    Case("uri-user", URI, f"{AUTHORITY}{TENANT}/oauth2/v2.0/token#x"),
    Case("not-plain", URI, "https://login.contoso.example/t\u00f6ken"),
    Case("not-plain", SCOPE, "https://imap.contoso.example/m\u00e4il/.default"),
    Case("tenant-not-specific", URI, f"{AUTHORITY}common/oauth2/v2.0/token"),
    Case("tenant-not-specific", URI, f"{AUTHORITY}Organizations/oauth2/v2.0/token"),
    Case("tenant-not-specific", URI, f"{AUTHORITY}consumers/oauth2/v2.0/token"),
    Case("tenant-malformed", URI, f"{AUTHORITY}{TENANT[:-1]}/oauth2/v2.0/token"),
    Case("tenant-malformed", URI, f"{AUTHORITY}{TENANT}0/oauth2/v2.0/token"),
    Case("tenant-malformed", URI, f"{AUTHORITY}contoso/oauth2/v2.0/token"),
    Case("tenant-malformed", URI, f"{AUTHORITY}/oauth2/v2.0/token"),
    Case(
        "tenant-malformed",
        URI,
        f"{AUTHORITY}00000000-0000-0000-0000-000000000000/oauth2/v2.0/token",
    ),
    Case("tenant-malformed", URI, "https://localhost:8443/x/oauth2/v2.0/token"),
    Case("uri-host", URI, f"https://login.contoso.example/{TENANT}/oauth2/v2.0/token", "warning"),
    Case("client-id-quoted", ID, f'"\\"{CLIENT}\\""', "error", "warning"),
    Case("client-id-quoted", ID, f"'{CLIENT}'", "error", "warning"),
    Case("client-id-address", ID, "inbox@contoso.example", "error", "warning"),
    Case("client-id-no-guid", ID, CLIENT[1:], "error", "warning"),
    Case("client-id-no-guid", ID, SECRET, "error", "warning"),
    Case("client-id-no-guid", ID, "00000000-0000-0000-0000-000000000000", "error", "warning"),
    Case("client-id-is-tenant", ID, TENANT.upper()),
    Case("secret-id", PW, "0d1c2b3a-1111-2222-3333-444455556666", "error", "warning"),
    Case("secret-comment", PW, f"{SECRET} # of the mail bot", "error", "warning"),
    Case("secret-comment", PW, f'"{SECRET}" # of the mail bot', "error", "warning"),
    Case("secret-blanks", PW, f"{SECRET} ", "error", "warning"),
    Case("secret-blanks", PW, f'" {SECRET}"', "error", "warning"),
    Case("secret-blanks", PW, f"{SECRET[:9]} {SECRET[9:]}", "error", "warning"),
    Case("secret-quoted", PW, f"'{SECRET}'", "error", "warning"),
    Case("secret-quoted", PW, f'""{SECRET}""', "error", "warning"),
    Case("secret-backslash", PW, r"Abc8Q~d\efghijk", "warning", "warning"),
    Case("secret-backslash", PW, "Abc8Q~\\\n   d\\~fg", "warning", "warning"),
    Case("scope-graph", SCOPE, "https://graph.microsoft.com/.default", "error", "warning"),
    Case("scope-graph", SCOPE, "https://graph.microsoft.com/Mail.Read", "error", "warning"),
    Case(
        "scope-not-default",
        SCOPE,
        "https://outlook.office.com/IMAP.AccessAsApp",
        "error",
        "warning",
    ),
    Case(
        "scope-not-default",
        SCOPE,
        "offline_access https://outlook.office.com/.default",
    ),
    Case("scope-not-default", SCOPE, "https://outlook.office365.com", "error", "warning"),
    Case("scope-of-another-cloud", SCOPE, "https://partner.outlook.cn/.default", "warning"),
    Case("scope-resource", SCOPE, "https://management.azure.com/.default", "warning", "warning"),
]

NUMBERED = list(enumerate(VALUES, 1))


def name_of(value: object) -> str:
    return value.mistake if isinstance(value, Case) else str(value)


@pytest.mark.parametrize(("number", "case"), NUMBERED, ids=name_of)
def test_a_mistake_in_a_value_is_found_with_its_place(
    tmp_path: Path, number: int, case: Case
) -> None:
    assert number

    text = block({case.key: case.value})
    errors, warnings = problems_of(tmp_path, text)
    found = errors if case.severity == "error" else warnings
    (problem,) = [problem for problem in found if is_of(case.mistake, problem)]
    assert problem.key == IMAP + case.key
    assert problem.source == str(tmp_path / "cmsbs.properties")
    assert problem.line == LINES.get(case.key, len(LINES) + 1)
    assert f"cmsbs.properties:{problem.line}: {problem.key}: " in str(problem)
    assert problem.fix
    assert len(errors) == (case.severity == "error")


@pytest.mark.parametrize(
    ("number", "case"), [(n, c) for n, c in NUMBERED if c.elsewhere], ids=name_of
)
def test_what_can_work_with_other_servers_is_a_warning_there(
    tmp_path: Path, number: int, case: Case
) -> None:
    assert number

    changes = {"server": "imap.contoso.example", URI: ELSEWHERE, case.key: case.value}
    config = load(tmp_path, block(changes))
    assert [w for w in config.warnings if is_of(case.mistake, w)]
    assert case.elsewhere == "warning"


@pytest.mark.parametrize(
    ("mistake_id", "key", "value"),
    [
        ("not-plain", ID, "mail bot"),
        ("not-plain", ID, "m\u00fcller"),
        ("not-plain", ID, f"\u201c{CLIENT}\u201d"),
        ("not-plain", SCOPE, "offline_access https://outlook.office.com/.default"),
        ("invisible-character", ID, f"\u200b{CLIENT}"),
        ("invisible-character", PW, f"{SECRET}\u00a0"),
        ("invisible-character", "user", "inbox\u0085"),
        ("secret-control", PW, r"Abc8Q\tdef"),
    ],
)
def test_what_cannot_be_sent_is_an_error_with_other_servers_too(
    tmp_path: Path, mistake_id: str, key: str, value: str
) -> None:
    changes = {"server": "imap.contoso.example", URI: ELSEWHERE, key: value}
    (problem,), _ = problems_of(tmp_path, block(changes))
    assert is_of(mistake_id, problem)
    assert problem.line == LINES[key]


def test_a_gateway_with_the_path_of_entra_is_held_to_its_formats(tmp_path: Path) -> None:
    uri = f"https://gateway.contoso.example/{TENANT}/oauth2/v2.0/token"
    (problem,), (warning,) = problems_of(tmp_path, block({URI: uri, ID: "x"}))
    assert is_of("client-id-no-guid", problem)
    assert is_of("uri-host", warning)


def test_starttls_on_the_port_of_implicit_tls_is_found(tmp_path: Path) -> None:
    (problem,), _ = problems_of(tmp_path, block({"ssl": "tls"}))
    assert is_of("port-and-ssl", problem)
    (problem,), _ = problems_of(tmp_path, block({"port": None}))
    assert is_of("port-and-ssl", problem)
    assert (problem.key, problem.line) == (f"{IMAP}port", 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (URI, f"{AUTHORITY}contoso.onmicrosoft.com/oauth2/v2.0/token"),
        (URI, f"{AUTHORITY}{TENANT.upper()}/oauth2/v2.0/token?dc=ESTS-PUB-WEULR1"),
        (URI, f"https://login.windows.net/{TENANT}/oauth2/v2.0/token"),
        (URI, f"https://localhost:40443/{TENANT}/oauth2/v2.0/token"),
        (URI, f"https://127.0.0.1:40443/{TENANT}/oauth2/v2.0/token"),
        (ID, CLIENT.upper()),
        (PW, "a:[b]=c/d+e?f{g}h<i>j&k#l!m~n._-0"),
        (PW, "8Q~" + "x" * 37),
        (PW, r"Abc8Q~\=\:\#\\x"),
        (PW, '"Abc8Q~\\"x"'),
        (PW, "Abc8Q~\\\\\\\\\nother = \\x"),
        (SCOPE, "https://outlook.office365.com//.default"),
        (SCOPE, "00000002-0000-0ff1-ce00-000000000000/.default"),
        ("server", "LOCALHOST"),
        ("server", "::1"),
        ("user", "o'brien+x@sub.contoso.example".replace("'", "")),
        ("user", "müller@contoso.example"),
        ("ssl", "TRUE"),
        ("authenticationMethod", "OAuth2"),
        ("protocol", "imap"),
        ("password", "<none of our business>"),
        (FOLDER, "Kunden & Partner/2026"),
        (FOLDER, "Sent\u00a0Orders"),
        (FOLDER, "\u05d3\u05d5\u05d0\u05e8\u200f"),
        ("oauth2.debug", "False"),
    ],
)
def test_what_is_right_is_left_alone(tmp_path: Path, key: str, value: str) -> None:
    assert load(tmp_path, block({key: value})).warnings == ()


# ---- placeholders of the how-to --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "value", "hint"),
    [
        ("mailbox_name", "user", "<mailbox_name>", "Users"),
        ("tenant_id", URI, f"{AUTHORITY}<tenant_id>/oauth2/v2.0/token", "Directory (tenant) ID"),
        ("client_id", ID, "<client_id>", "Application (client) ID"),
        ("client_secret", PW, "<client_secret>", "Certificates & secrets"),
        ("enterprise_object_id", ID, "<enterprise_object_id>", "Enterprise applications"),
    ],
)
def test_a_placeholder_of_the_how_to_says_what_to_put_there_and_where_it_is_found(
    tmp_path: Path, name: str, key: str, value: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, block({key: value}))
    text = str(caught.value)
    assert f"cmsbs.properties:{LINES[key]}: {IMAP}{key}: " in text
    for part in (name, hint, "Entra admin center"):
        assert part in text


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


# ---- files and layers ------------------------------------------------------------------------


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


def test_a_malformed_file_is_one_problem_among_others(tmp_path: Path) -> None:
    text = f"cmsbs.home = C:\\users\n{block({'port': 'x', ID: None})}"
    malformed, port = problems_of(tmp_path, text)[0]
    assert (malformed.key, malformed.line) == ("", 1)
    assert "cmsbs.properties:1: A \\u that is not followed by four hex" in str(malformed)
    assert port.line == 3  # and clientId is not called missing in a file that was not read wholly


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    (problem,), _ = problems_of(tmp_path, block(), {"cmsbs__mail__imap__port": "x"})
    assert str(problem).startswith("environment: cmsbs__mail__imap__port: is not a number")


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


def test_every_mistake_in_a_value_is_tried_here() -> None:
    assert {check.id for check in CHECKS} == {case.mistake for case in VALUES}


# ---- nothing leaks ---------------------------------------------------------------------------


def assert_nothing_leaks(text: str, secret: str = SECRET) -> None:
    parts = [secret[start : start + 5] for start in range(len(secret) - 4)]
    assert [part for part in parts if part in text] == []


def everything_that_is_shown(folder: Path, text: str, environ: Mapping[str, str]) -> str:
    folder.joinpath("cmsbs.properties").write_bytes(text.encode("utf-16"))
    try:
        config = load_config(folder, environ=environ)
    except ConfigError as error:
        caught = error
    else:
        return f"{config.warnings!r} {config.settings!r}"  # a secret in user is shown as the user
    report = traceback.TracebackException.from_exception(caught, capture_locals=True)
    frames = [frame for frame in report.stack if "exo_imap_oauth" in frame.filename]
    assert frames
    assert caught.__context__ is None
    shown = [frame.locals for frame in frames]
    return f"{caught} {caught!r} {caught.problems!r} {caught.warnings!r} {shown}"


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


@pytest.mark.parametrize(("number", "case"), NUMBERED, ids=name_of)
def test_no_report_shows_the_secret(tmp_path: Path, number: int, case: Case) -> None:
    assert number

    text = block({case.key: case.value})
    environ = {"cmsbs__mail__imap__oauth2__clientSecret": SECRET, "cmsbs__mail__imap__port": "x"}
    assert_nothing_leaks(everything_that_is_shown(tmp_path, text, {}))
    assert_nothing_leaks(everything_that_is_shown(tmp_path, text, environ))


def test_the_content_of_a_secret_file_is_not_shown(tmp_path: Path) -> None:
    for content in (SECRET.encode(), b"\xff" + SECRET.encode(), f"{SECRET} # x".encode()):
        tmp_path.joinpath("secret").write_bytes(content)
        text = block({PW: None, "port": "x"}) + f"{IMAP}oauth2.clientSecret$file = secret\n"
        assert_nothing_leaks(everything_that_is_shown(tmp_path, text, {}))
