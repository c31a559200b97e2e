"""An inbox from environment variables, as a container is given them."""

from __future__ import annotations

import dataclasses
import os
import pickle
from typing import TYPE_CHECKING

import pytest
from support.leaks import everything_in

from exo_imap_oauth import Cloud, InboxConfig, check_setup
from exo_imap_oauth._inbox.environment import FILES, OTHERS, VARIABLES
from exo_imap_oauth.errors import ConfigError
from exo_imap_oauth.listener import InboxListener

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exo_imap_oauth.errors import ConfigProblem
    from exo_imap_oauth.mail import Mail
    from exo_imap_oauth.testing import ReadyExchange

TENANT = "b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
SECRET = "Abc8Q~defghijklmnopqrstuvwxyz012345.6789"
GOOD = {
    "USER": "inbox@contoso.example",
    "TENANT_ID": TENANT,
    "CLIENT_ID": CLIENT,
    "CLIENT_SECRET": SECRET,
}


def handle(_: InboxConfig, __: Mail) -> None:
    raise AssertionError


def environ(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    values = {**GOOD, **(changes or {})}
    return {f"EXO_IMAP_{name}": value for name, value in values.items() if value is not None}


def load(changes: Mapping[str, str | None] | None = None) -> InboxConfig:
    return InboxConfig.from_env(environ=environ(changes))


def problems_of(changes: Mapping[str, str | None]) -> tuple[ConfigProblem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(changes)
    assert SECRET not in everything_in(caught.value)
    assert {problem.source for problem in caught.value.problems} == {"environment"}
    return caught.value.problems


def test_four_variables_are_enough() -> None:
    inbox = load()
    assert inbox == InboxConfig.for_tenant(
        TENANT, user="inbox@contoso.example", client_id=CLIENT, client_secret=SECRET
    )
    assert inbox.warnings == ()
    assert SECRET not in repr(inbox)


def test_every_field_has_a_variable() -> None:
    uri = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    values: dict[str, str | None] = {
        "TENANT_ID": None,
        "TOKEN_URI": uri,
        "SCOPE": "https://outlook.office.com/.default",
        "HOST": "outlook.office.com",
        "PORT": "143",
        "TLS": "StartTLS",
        "FOLDER": "Orders",
        "DEBUG": "True",
        "NAME": "orders",
    }
    inbox = load(values)
    assert inbox.warnings == ()
    assert dataclasses.asdict(inbox) == {
        "user": "inbox@contoso.example",
        "token_uri": uri,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "certificate": None,
        "assertion": None,
        "scope": "https://outlook.office.com/.default",
        "host": "outlook.office.com",
        "port": 143,
        "tls": "starttls",
        "folder": "Orders",
        "debug": True,
        "name": "orders",
    }
    assert repr(inbox).count("hidden") == 0
    fields = {field.name for field in dataclasses.fields(InboxConfig)}
    assert {*VARIABLES.values(), *FILES.values()} == fields


def test_the_process_has_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ().items():
        monkeypatch.setenv(name, value)
    assert InboxConfig.from_env() == load()


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("EXO_IMAP_", "default"),
        ("SALES_", "sales"),
        ("EXO_IMAP_SALES_", "sales"),
        ("Sales_EU_", "sales_eu"),
        ("", "default"),
    ],
)
def test_an_inbox_is_named_after_its_prefix(prefix: str, name: str) -> None:
    values = {prefix + name.removeprefix("EXO_IMAP_"): text for name, text in environ().items()}
    inbox = InboxConfig.from_env(prefix, environ=values)
    assert inbox == dataclasses.replace(load(), name=name)
    assert InboxConfig.from_env(prefix, environ=values | {f"{prefix}NAME": ""}) == inbox
    other = InboxConfig.from_env(prefix, environ=values | {f"{prefix}NAME": "Orders"})
    assert other.name == "Orders"


@pytest.mark.parametrize("is_set", [True, False])
def test_a_prefix_without_its_underscore_is_the_one_mistake(is_set: bool) -> None:
    values = {f"SALES_{name}": text for name, text in GOOD.items() if is_set}
    with pytest.raises(ConfigError) as caught:
        InboxConfig.from_env("SALES", environ=values)
    (problem,) = caught.value.problems
    assert str(problem) == (
        "environment: SALES: is a prefix without its underscore, and no variable that is read"
        ' begins so. Write from_env("SALES_"), which reads SALES_USER.'
    )
    assert caught.value.warnings == ()
    glued = {f"SALES{name}": text for name, text in GOOD.items()}
    assert InboxConfig.from_env("SALES", environ=glued).user == GOOD["USER"]


@pytest.mark.parametrize("cloud", Cloud)
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_a_cloud_is_named(cloud: Cloud, spelling: type[str]) -> None:
    inbox = load({"CLOUD": spelling(cloud.name)})
    assert (inbox.host, inbox.scope) == (cloud.imap_host, cloud.scope)
    assert inbox.warnings == ()
    (problem,) = problems_of({"CLOUD": "mars"})
    assert problem.key == "EXO_IMAP_CLOUD"
    assert "worldwide, us_government, us_dod, china" in problem.message


def test_a_variable_that_is_empty_is_as_good_as_unset_where_there_is_a_default() -> None:
    empty: dict[str, str | None] = dict.fromkeys(
        ("SCOPE", "PORT", "FOLDER", "DEBUG", "NAME", "CLOUD"), " "
    )
    assert load(empty) == load()


# ---- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("name", ["USER", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"])
def test_a_container_secret_is_read_from_its_file(tmp_path: Path, name: str, end: str) -> None:
    file = tmp_path / "value"
    file.write_bytes((GOOD[name] + end).encode())
    inbox = load({name: None, f"{name}_FILE": str(file)})
    if callable(inbox.client_secret):  # it may be replaced
        inbox = dataclasses.replace(inbox, client_secret=inbox.client_secret())
    assert inbox == load()


def test_only_one_line_end_is_no_part_of_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text(f"{SECRET}\n\n")
    (problem,) = problems_of({"CLIENT_SECRET": None, "CLIENT_SECRET_FILE": str(file)})
    assert problem.key == "EXO_IMAP_CLIENT_SECRET_FILE"
    assert problem.message.startswith("ends in a line break")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["USER", "CLIENT_SECRET"])
def test_a_file_of_powershell_5_is_named_as_utf_16(
    tmp_path: Path, name: str, encoding: str
) -> None:
    file = tmp_path / "value"
    file.write_bytes(f"{GOOD[name]}\r\n".encode(encoding))
    (problem,) = problems_of({name: None, f"{name}_FILE": str(file)})
    assert problem.key == f"EXO_IMAP_{name}_FILE"
    assert "it is not text in UTF-8, but in UTF-16, as PowerShell 5 writes" in problem.message
    assert problem.fix == "Save the file in UTF-8, in PowerShell with Set-Content -Encoding UTF8."


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{SECRET}\r".encode(), ""),
        (f"\ufeff{SECRET}\r\n".encode(), ""),
        (f"{SECRET}\r\r".encode(), "ends in a line break"),
        (f"{SECRET}\n\n".encode(), "ends in a line break"),
        (f"{SECRET}\rsecond".encode(), "a control character, such as a line break"),
        (f"{SECRET}\0".encode(), "a control character"),
        (b"\0" * 40, "a control character"),
        (f'"{SECRET}"\n'.encode(), "is enclosed in quotes"),
        (f"{SECRET}\xe4".encode("latin-1"), "it is not text in UTF-8."),
        (b"", "is empty"),
    ],
)
def test_other_files_that_editors_and_shells_leave(
    tmp_path: Path, content: bytes, told: str
) -> None:
    file = tmp_path / "value"
    file.write_bytes(content)
    variables: dict[str, str | None] = {"CLIENT_SECRET": None, "CLIENT_SECRET_FILE": str(file)}
    if not told:
        read = load(variables).client_secret
        assert callable(read)
        assert read() == SECRET
        return
    (problem,) = problems_of(variables)
    assert problem.key == "EXO_IMAP_CLIENT_SECRET_FILE"
    assert told in problem.message


def test_a_path_is_taken_without_the_blanks_around_it_and_with_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text(SECRET)
    inbox = load({"CLIENT_SECRET": None, "CLIENT_SECRET_FILE": f" {file}\n"})
    assert callable(inbox.client_secret)
    assert inbox.client_secret() == SECRET
    (warning,) = inbox.warnings
    assert warning.key == "EXO_IMAP_CLIENT_SECRET_FILE"
    assert warning.message == "has spaces or line breaks around it; they are ignored here."


@pytest.mark.parametrize("name", ["USER_FILE", "CLIENT_SECRET_FILE", *FILES])
def test_an_empty_path_is_no_path(name: str) -> None:
    instead_of = "USER" if name == "USER_FILE" else "CLIENT_SECRET"
    (problem,) = problems_of({instead_of: None, name: " "})
    assert (problem.key, problem.message) == (f"EXO_IMAP_{name}", "is empty.")


def test_a_value_and_its_file_contradict_each_other(tmp_path: Path) -> None:
    (problem,) = problems_of({"CLIENT_SECRET_FILE": str(tmp_path)})
    assert problem.key == "EXO_IMAP_CLIENT_SECRET_FILE"
    assert problem.message == "is set beside EXO_IMAP_CLIENT_SECRET."


def test_a_file_that_is_missing_is_named_and_its_value_is_not_called_missing() -> None:
    path = "/run/secrets/no_such_secret"
    (problem,) = problems_of({"CLIENT_SECRET": None, "CLIENT_SECRET_FILE": path})
    assert problem.key == "EXO_IMAP_CLIENT_SECRET_FILE"
    assert problem.message == f"its file {path} cannot be read: No such file or directory."


@pytest.mark.parametrize("value", [SECRET, f"/{SECRET}", f"/run/{SECRET}", f"x={SECRET}"])
def test_a_secret_where_its_file_belongs_is_not_shown(value: str) -> None:
    (problem,) = problems_of({"CLIENT_SECRET": None, "CLIENT_SECRET_FILE": value})
    assert problem.message == "its file cannot be read: No such file or directory."


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (problem,) = problems_of({"USER": None, "USER_FILE": str(tmp_path / "pipe")})
    assert "not a file" in problem.message


def test_an_assertion_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    inbox = load({"CLIENT_SECRET": None, "ASSERTION_FILE": str(file)})
    assert inbox.assertion
    assert inbox.assertion() == "first"
    file.write_text("second")
    assert pickle.loads(pickle.dumps(inbox)).assertion() == "second"
    assert inbox == load({"CLIENT_SECRET": None, "ASSERTION_FILE": str(file)})
    (problem,) = problems_of({"CLIENT_SECRET": None, "ASSERTION_FILE": str(tmp_path / "no")})
    assert problem.key == "EXO_IMAP_ASSERTION_FILE"
    (problem,) = problems_of({"ASSERTION_FILE": str(file)})
    assert "is given beside EXO_IMAP_CLIENT_SECRET" in problem.message


def test_the_password_of_no_certificate_is_a_mistake() -> None:
    (problem,) = problems_of({"CERTIFICATE_PASSWORD": "x"})
    assert problem.key == "EXO_IMAP_CERTIFICATE_PASSWORD"
    assert "without EXO_IMAP_CERTIFICATE_FILE" in problem.message


# ---- mistakes --------------------------------------------------------------------------------


def test_nothing_at_all_says_what_is_missing() -> None:
    problems = problems_of(dict.fromkeys(GOOD))
    assert [problem.key for problem in problems] == [f"EXO_IMAP_{name}" for name in GOOD]
    user, tenant, client, secret = problems
    assert {user.message, tenant.message, client.message} == {"is missing."}
    assert "mailbox_name" in user.fix
    assert "Directory (tenant) ID" in tenant.fix
    assert "Application (client) ID" in client.fix
    assert secret.message == (
        "is missing, and so are EXO_IMAP_CLIENT_SECRET_FILE, EXO_IMAP_CERTIFICATE_FILE and"
        " EXO_IMAP_ASSERTION_FILE: nothing proves who asks."
    )


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("USER",), ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")),
        (("USER", "TENANT_ID"), ("CLIENT_ID", "CLIENT_SECRET")),
        (("USER", "TENANT_ID", "CLIENT_ID"), ("CLIENT_SECRET",)),
    ],
)
def test_what_only_a_token_could_do_without_is_missing_where_there_is_none(
    given: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    values = {f"SALES_{name}": GOOD[name] for name in given}
    inbox = InboxConfig.from_env("SALES_", environ=values)
    assert inbox.open(token="opaque")
    for opened in (inbox.token_source, inbox.open, lambda: InboxListener(inbox, handle)):
        with pytest.raises(ConfigError) as caught:
            opened()
        problems = caught.value.problems
        assert [problem.key for problem in problems] == [f"SALES_{name}" for name in missing]
        assert {problem.source for problem in problems} == {"environment"}
        assert "SALES_CERTIFICATE_FILE" in problems[-1].message
        assert "open(token=...)" in problems[-1].fix
    (config, *_) = check_setup(inbox).checks
    assert config.status == "failed"
    assert all(f"environment: SALES_{name}: is missing" in config.detail for name in missing)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"USER": None}, ["USER"]),
        ({"USER": None, "CLIENT_SECRET": None}, ["USER", "CLIENT_SECRET"]),
        ({"PORT": "x", "CLIENT_SECRET": None}, ["CLIENT_SECRET", "PORT"]),
        ({"PORT": "x", "TENANT_ID": None, "CLIENT_ID": None, "CLIENT_SECRET": None}, ["PORT"]),
        ({"PORT": "x", "CLIENT_ID": None}, ["CLIENT_ID", "PORT"]),
    ],
)
def test_what_is_missing_is_told_with_all_else(
    changes: dict[str, str | None], missing: list[str]
) -> None:
    assert [p.key for p in problems_of(changes)] == [f"EXO_IMAP_{name}" for name in missing]


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("name", [*VARIABLES, "TENANT_ID", "CLOUD"])
def test_quotes_around_a_value_are_named(tmp_path: Path, name: str, quote: str) -> None:
    changes: dict[str, str | None] = {"TENANT_ID": None} if name == "TOKEN_URI" else {}
    changes[name] = f" {quote}{GOOD.get(name, 'x')}{quote}\n"
    (problem,) = problems_of(changes)
    assert problem.key == f"EXO_IMAP_{name}"
    assert "quotes, which are a part of the value here" in problem.message
    assert problem.fix == "Write the value without quotes."
    file = tmp_path / "value"
    file.write_text(str(changes.pop(name)))
    (problem,) = problems_of({**changes, name: None, f"{name}_FILE": str(file)})
    assert problem.key == f"EXO_IMAP_{name}_FILE"
    assert "quotes" in problem.message


def test_the_default_of_what_is_quoted_is_not_held_against_the_others() -> None:
    problems = problems_of({"TLS": "starttls", "PORT": "'143'"})
    assert [problem.key for problem in problems] == ["EXO_IMAP_PORT"]


@pytest.mark.parametrize("name", ["USER_FILE", "CLIENT_SECRET_FILE", *FILES])
def test_quotes_around_a_path_are_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / "value"
    file.write_text("value")
    instead_of = "USER" if name == "USER_FILE" else "CLIENT_SECRET"
    (problem,) = problems_of({instead_of: None, name: f'"{file}"'})
    assert problem.key == f"EXO_IMAP_{name}"
    assert "quotes" in problem.message


@pytest.mark.parametrize("name", ["CLIENT_SECRET_FILE", "CERTIFICATE_FILE", "USER_FILE"])
@pytest.mark.parametrize("path", ["/run/secrets/imap'", '"/run/secrets/imap', '/run/secrets/imap"'])
def test_a_quote_at_the_end_of_a_path_is_shown(name: str, path: str) -> None:
    problem = problems_of({"CLIENT_SECRET": None, name.removesuffix("_FILE"): None, name: path})[0]
    assert problem.key == f"EXO_IMAP_{name}"
    assert problem.message == (
        f"its file {path!r} cannot be read: quotes or line breaks at its ends are read as parts of"
        " it."
    )
    assert problem.fix == "Write it without them."


def test_a_certificate_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    (problem,) = problems_of({"CLIENT_SECRET": None, "CERTIFICATE_FILE": str(path)})
    assert problem.message.count("cannot be read") == 1
    assert "No such file" in problem.message


def test_a_misspelt_variable_explains_what_is_missing() -> None:
    inbox = load(dict.fromkeys(GOOD, None) | {"USER": GOOD["USER"], "CLIENT_SECRT": SECRET})
    with pytest.raises(ConfigError, match=r"Did you mean EXO_IMAP_CLIENT_SECRET\?") as caught:
        inbox.token_source()
    assert "EXO_IMAP_CLIENT_SECRET: is missing" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("changes", [{"TLS": "starttls"}, {"PORT": "143"}])
def test_a_port_is_held_against_the_kind_of_tls_that_is_not_set(changes: dict[str, str]) -> None:
    (problem,) = problems_of(changes)
    assert problem.key == "EXO_IMAP_PORT"
    assert "does not go with EXO_IMAP_TLS" in problem.message
    assert problem.fix == "Write 993, and EXO_IMAP_TLS = implicit."


def test_a_secret_needs_an_application_and_a_tenant() -> None:
    keys = [p.key for p in problems_of({"TENANT_ID": None, "CLIENT_ID": None})]
    assert keys == ["EXO_IMAP_TENANT_ID", "EXO_IMAP_CLIENT_ID"]


def test_all_mistakes_are_told_at_once_each_with_its_variable() -> None:
    changes = {
        "USER": "<mailbox_name>",
        "TENANT_ID": "common",
        "CLIENT_ID": "x",
        "CLIENT_SECRET": f"{SECRET} ",
        "PORT": "imaps",
        "TLS": "none",
        "CLOUD": "mars",
    }
    keys = {problem.key for problem in problems_of(changes)}
    assert keys == {f"EXO_IMAP_{name}" for name in changes}


def test_a_tenant_and_an_endpoint_contradict_each_other() -> None:
    uri = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    (problem,) = problems_of({"TOKEN_URI": uri})
    assert problem.key == "EXO_IMAP_TENANT_ID"
    assert problem.message == "is set beside EXO_IMAP_TOKEN_URI."


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CLIENTID", "CLIENT_ID"),
        ("CLIENT_SECRT", "CLIENT_SECRET"),
        ("USERNAME", "USER"),
        ("Port", "PORT"),
        ("SECRET_FILE", "CLIENT_SECRET_FILE"),
        ("XYZ\u202eQ", ""),
    ],
)
def test_an_unknown_variable_is_a_warning_with_the_nearest_one(name: str, nearest: str) -> None:
    (warning,) = load({name: SECRET}).warnings
    assert warning.key == f"EXO_IMAP_{name}".replace("\u202e", r"\u202e")
    assert warning.fix == (
        f"Did you mean EXO_IMAP_{nearest}?" if nearest else "Remove it, or correct it."
    )


def test_other_variables_are_none_of_our_business() -> None:
    values = environ() | {"EXO_OTHER": "<x>", "PATH": "/bin", "exo_imap_user": "x"}
    assert InboxConfig.from_env(environ=values).warnings == ()


def test_what_may_be_read_from_a_file_is_known(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("")
    for name in (*VARIABLES, *OTHERS):
        if name not in (*GOOD, "TOKEN_URI", "HOST", "TLS", "CERTIFICATE_PASSWORD"):
            assert load({f"{name}_FILE": str(file)}) == load()


# ---- all together ----------------------------------------------------------------------------


def test_an_inbox_of_variables_opens(exchange: ReadyExchange, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(exchange.secret.value + "\n")
    inbox = load(
        {
            "USER": exchange.mailbox,
            "TENANT_ID": None,
            "TOKEN_URI": exchange.token_uri(),
            "CLIENT_ID": exchange.app.client_id,
            "CLIENT_SECRET": None,
            "CLIENT_SECRET_FILE": str(file),
            "HOST": exchange.host,
            "PORT": str(exchange.port),
        }
    )
    with inbox.open(ssl_context=exchange.ssl_context, readonly=True) as imap:
        assert imap.search(None, "ALL") == ("OK", [b"1 2 3"])
