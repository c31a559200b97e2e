"""An inbox from environment variables, as a container is given them."""

from __future__ import annotations

import dataclasses
import os
import pickle
from typing import TYPE_CHECKING

import pytest
from support.leaks import everything_in

from exo_imap_oauth import Cloud, InboxConfig
from exo_imap_oauth._inbox.environment import FILES, OTHERS, VARIABLES
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exo_imap_oauth.errors import ConfigProblem
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
        monkeypatch.setenv(name.replace("EXO_IMAP_", "ORDERS_"), value)
    assert InboxConfig.from_env("ORDERS_") == load()


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
    assert "control character" in problem.message


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
    (problem,) = problems_of(dict.fromkeys(GOOD))
    assert (problem.key, problem.message) == ("EXO_IMAP_USER", "is missing.")
    assert "mailbox_name" in problem.fix


def test_a_misspelt_variable_explains_what_is_missing() -> None:
    inbox = load(dict.fromkeys(GOOD, None) | {"USER": GOOD["USER"], "CLIENT_SECRT": SECRET})
    with pytest.raises(ConfigError, match=r"Did you mean EXO_IMAP_CLIENT_SECRET\?") as caught:
        inbox.token_source()
    assert SECRET not in str(caught.value)


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
