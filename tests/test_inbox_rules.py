"""Each mistake in a value: found, placed, explained, and nothing wrong with what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.config import CLIENT, SECRET, TENANT
from support.mistakes import (
    AUTHORITY,
    ELSEWHERE,
    FOLDER,
    GOOD,
    ID,
    IMAP,
    LINES,
    PW,
    SALES,
    SCOPE,
    URI,
    assert_nothing_leaks,
    block,
    everything_that_is_shown,
    is_of,
    load,
    problems_of,
)

from exo_imap_oauth._cmsbs.mistakes import CHECKS
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Case(NamedTuple):
    """A value and what is found in it; "warning" if it is none at an endpoint of Entra's."""

    mistake: str
    key: str
    value: str
    severity: str = "error"
    elsewhere: str = ""  # the severity where neither Entra nor Exchange is meant


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
    Case("secret-control", PW, r"Abc8Q\ndef"),
    Case("secret-line-break", PW, rf"{SECRET}\n"),
    Case("secret-line-break", PW, rf'"{SECRET}\r\n"'),
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
    Case("server-no-host", "server", "-"),
    Case("server-no-host", "server", ".."),
    Case("server-host", "server", "outlook.com", "warning"),
    Case("server-host", "server", "imap-mail.outlook.com", "warning"),
    Case("server-host", "server", "outlook.live.com", "warning"),
    Case("server-host", "server", "smtp.office365.com", "warning"),
    Case("server-host", "server", "imap.gmail.com", "warning"),
    Case("server-host", "server", "login.microsoftonline.com", "warning"),
    Case("server-host", "server", "graph.microsoft.com", "warning"),
    Case("server-host", "server", "imap.fabrikam.example", "warning"),
    Case("server-host", "server", "10.0.0.5", "warning"),
    Case("user-no-address", "user", "a..b@contoso.example", "error"),
    Case("user-no-address", "user", "inbox@contoso", "error"),
    Case("user-no-address", "user", f"{'a' * 250}@b.example", "error"),
    Case(
        "tenant-not-specific",
        URI,
        f"{AUTHORITY}9188040D-6C67-4C5B-B112-36A304B66DAD/oauth2/v2.0/token",
    ),
    Case("client-id-exchange", ID, "00000002-0000-0ff1-ce00-000000000000", "error", "warning"),
    Case("secret-token", PW, f"eyJ{'x' * 40}.eyJ{'y' * 40}.{'z' * 40}", "error", "warning"),
    Case("secret-thumbprint", PW, "0F" * 20, "error", "warning"),
    Case("secret-thumbprint", PW, "0f:" * 31 + "0f", "error", "warning"),
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
    Case("secret-path", PW, "/run/secrets/imap", "warning", "warning"),
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
        (SCOPE, "https://ps.outlook.com/.default"),
        ("server", "LOCALHOST"),
        ("server", "::1"),
        ("user", "o'brien+x@sub.contoso.example"),
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


@pytest.mark.parametrize(
    ("name", "key", "value", "hint"),
    [
        ("mailbox_name", "user", "<mailbox_name>", "Users"),
        ("tenant_id", URI, f"{AUTHORITY}<tenant_id>/oauth2/v2.0/token", "Directory (tenant) ID"),
        ("client_id", ID, "<client_id>", "Application (client) ID"),
        ("client_secret", PW, "<client_secret>", "Certificates & secrets"),
        ("enterprise_object_id", ID, "<enterprise_object_id>", "Enterprise apps"),
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


def test_every_mistake_in_a_value_is_tried_here() -> None:
    assert {check.id for check in CHECKS} == {case.mistake for case in VALUES}


@pytest.mark.parametrize(("number", "case"), NUMBERED, ids=name_of)
def test_no_report_shows_the_secret(tmp_path: Path, number: int, case: Case) -> None:
    assert number

    text = block({case.key: case.value})
    environ = {"cmsbs__mail__imap__oauth2__clientSecret": SECRET, "cmsbs__mail__imap__port": "x"}
    assert_nothing_leaks(everything_that_is_shown(tmp_path, text, {}))
    assert_nothing_leaks(everything_that_is_shown(tmp_path, text, environ))
