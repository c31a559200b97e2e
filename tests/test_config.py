"""From a cmsbs-conf folder to inboxes: keys, layers, inheritance, and what can be done with one."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TENANT = "b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
SECRET = "Abc8Q~defghijklmnopqrstuvwxyz012345.6789"
URI = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
HOW_TO = f"""\
cmsbs.mail.imap.server = outlook.office365.com
cmsbs.mail.imap.port = 993
cmsbs.mail.imap.ssl = true
cmsbs.mail.imap.user = inbox@contoso.example
cmsbs.mail.imap.authenticationMethod = oauth2
cmsbs.mail.imap.oauth2.accessTokenUri = {URI}
cmsbs.mail.imap.oauth2.clientId = {CLIENT}
cmsbs.mail.imap.oauth2.clientSecret = {SECRET}
cmsbs.mail.imap.oauth2.scope = https://outlook.office.com/.default
cmsbs.mail.imap.oauth2.grantType = client_credentials
cmsbs.mail.imap.oauth2.debug = true
"""
IMAP = "cmsbs.mail.imap."
SALES = "cmsbs.bouncelistener.sales."
WITH_SALES = f"""\
cmsbs.bounce.listeners = "sales"
{SALES}mail.imap.server = outlook.office365.com
{SALES}mail.imap.user = sales@contoso.example
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A cmsbs-conf folder with the how-to's block, filled in."""
    folder = tmp_path / "cmsbs-conf"
    folder.joinpath("conf.d").mkdir(parents=True)
    folder.joinpath("cmsbs.properties").write_text(HOW_TO, encoding="latin-1")
    return folder


def append(conf: Path, text: str) -> None:
    with conf.joinpath("cmsbs.properties").open("a", encoding="latin-1") as file:
        file.write(text)


def by_hand(**values: Any) -> InboxConfig:
    given: dict[str, Any] = {
        "user": "inbox@contoso.example",
        "token_uri": URI,
        "client_id": CLIENT,
        "client_secret": SECRET,
    }
    return InboxConfig(**given | values)


# ---- the how-to's block ----------------------------------------------------------------------


def test_the_how_to_block_with_its_values_is_all_that_is_needed(conf: Path) -> None:
    config = load_config(conf, environ={})
    assert dict(config) == {
        "default": InboxConfig(
            user="inbox@contoso.example",
            token_uri=URI,
            client_id=CLIENT,
            client_secret=SECRET,
            scope="https://outlook.office.com/.default",
            host="outlook.office365.com",
            port=993,
            tls="implicit",
            folder="INBOX",
            debug=True,
            name="default",
        )
    }
    assert config.default is config["default"]
    assert config.default.tenant_id == TENANT
    assert config.warnings == ()


def test_one_file_is_read_alone(conf: Path) -> None:
    conf.joinpath("conf.d", "10.properties").write_text(f"{IMAP}user = other@contoso.example\n")
    file = conf / "cmsbs.properties"
    assert load_config(file, environ={}).default.user == "inbox@contoso.example"
    assert load_config(str(conf), environ={}).default.user == "other@contoso.example"


def test_the_manuals_own_way_of_writing_it_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "cmsbs.properties"
    quoted = "\n".join(
        f'{key} = "{value}"'
        for key, _, value in (line.partition(" = ") for line in HOW_TO.splitlines())
    )
    file.write_text(f'{quoted}\n{IMAP}password = ""\n{IMAP}protocol = "imap"\n')
    config = load_config(file, environ={})
    assert config.default.port == 993
    assert config.default.client_secret == SECRET
    assert config.warnings == ()


def test_what_is_not_set_has_its_default(tmp_path: Path) -> None:
    file = tmp_path / "cmsbs.properties"
    optional = ("scope", "grantType", "debug")
    file.write_text(
        "".join(
            line
            for line in HOW_TO.splitlines(keepends=True)
            if not line.partition(" = ")[0].endswith(optional)
        )
        + f"{IMAP}folder.inbox =\n"
    )
    inbox = load_config(file, environ={}).default
    assert inbox.scope == "https://outlook.office365.com/.default"
    assert inbox.folder == "INBOX"
    assert inbox.debug is False


def test_ssl_tls_means_starttls_and_its_port_is_143_by_default(tmp_path: Path) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_text(HOW_TO.replace("ssl = true", "ssl = TLS").replace(f"{IMAP}port = 993\n", ""))
    config = load_config(file, environ={})
    assert (config.default.tls, config.default.port) == ("starttls", 143)
    assert config.warnings == ()


def test_other_hosts_are_accepted_and_a_loopback_host_is_no_cause_for_a_warning(
    conf: Path,
) -> None:
    append(
        conf,
        f"{IMAP}server = localhost\n{IMAP}port = 40143\n"
        f"{IMAP}oauth2.accessTokenUri = https://localhost:40443/{TENANT}/oauth2/v2.0/token\n",
    )
    config = load_config(conf, environ={})
    assert (config.default.host, config.default.port) == ("localhost", 40143)
    assert config.default.tenant_id == TENANT
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"INBOX"', "INBOX"),
        ('"Posteingang/Neu"', "Posteingang/Neu"),
        ('"a" and b', '"a" and b'),
        ('""x""', '"x"'),
        ('"', '"'),
        ("'a'", "'a'"),
        (r"Entw\u00fcrfe", "Entwürfe"),
    ],
)
def test_one_pair_of_quotes_around_the_whole_value_is_no_part_of_it(
    conf: Path, value: str, expected: str
) -> None:
    append(conf, f"{IMAP}folder.inbox = {value}\n")
    assert load_config(conf, environ={}).default.folder == expected


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


# ---- layers ----------------------------------------------------------------------------------


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


# ---- several inboxes -------------------------------------------------------------------------


def test_a_listener_inherits_everything_but_server_and_user(conf: Path) -> None:
    append(conf, WITH_SALES)
    config = load_config(conf, environ={})
    assert list(config) == ["default", "sales"]
    assert len(config) == 2
    expected = dataclasses.replace(config.default, name="sales", user="sales@contoso.example")
    assert config["sales"] == expected
    assert config.warnings == ()


def test_a_listener_has_its_own_application_at_the_irregular_keys(conf: Path) -> None:
    append(
        conf,
        f"{WITH_SALES}{SALES}mail.imap.port = 143\n{SALES}mail.imap.ssl = tls\n"
        f"{SALES}mail.imap.folder.inbox = Orders\n{SALES}oauth2.clientId = {TENANT[::-1]}\n"
        f"{SALES}oauth2.clientSecret = {SECRET[::-1]}\n{SALES}oauth2.debug = false\n"
        f"{SALES}authenticationMethod = oauth2\n{SALES}userquery = x\n{SALES}logfile = y\n"
        f"{SALES}mail.imap.password = z\n{SALES}processor = none of our business\n",
    )
    text = conf.joinpath("cmsbs.properties").read_text()
    conf.joinpath("cmsbs.properties").write_text(text.replace(TENANT[::-1], CLIENT[::-1]))
    with pytest.raises(ConfigError, match="is not a GUID"):
        load_config(conf, environ={})
    own = "0d1c2b3a-1111-2222-3333-444455556666"
    conf.joinpath("cmsbs.properties").write_text(text.replace(TENANT[::-1], own))
    config = load_config(conf, environ={})
    sales = config["sales"]
    assert (sales.port, sales.tls, sales.folder) == (143, "starttls", "Orders")
    assert (sales.client_id, sales.client_secret) == (own, SECRET[::-1])
    assert (sales.debug, config.default.debug) == (False, True)
    assert config.warnings == ()


def test_listeners_come_in_their_listed_order_and_their_names_may_hold_dots(conf: Path) -> None:
    listed = ["zeta", "alpha", "a.b"]
    append(conf, f"cmsbs.bounce.listeners = {', '.join([*listed, 'zeta'])}\n")
    for name in reversed(listed):
        prefix = f"cmsbs.bouncelistener.{name}.mail.imap."
        append(conf, f"{prefix}server = imap.contoso.example\n{prefix}user = {name}@x.example\n")
    config = load_config(conf, environ={})
    assert list(config) == ["default", *listed]
    assert config["a.b"].user == "a.b@x.example"


def test_an_inbox_that_is_not_oauth2_is_no_obstacle_to_the_others(conf: Path) -> None:
    append(conf, f"{WITH_SALES}{SALES}authenticationMethod = password\n")
    config = load_config(conf, environ={})
    assert list(config) == ["default"]
    (warning,) = config.warnings
    assert "not oauth2" in warning.message
    assert warning.line == 15
    assert "sales" not in config
    assert config.get("sales") is None
    with pytest.raises(KeyError, match=r"authenticationMethod: is not oauth2"):
        config["sales"]


def test_a_pop3_primary_inbox_leaves_its_oauth2_listeners(conf: Path) -> None:
    append(conf, f"{WITH_SALES}{IMAP}protocol = pop3\n{SALES}mail.imap.protocol = imap\n")
    config = load_config(conf, environ={})
    assert list(config) == ["sales"]
    with pytest.raises(KeyError, match=r"protocol: is not imap"):
        _ = config.default


def test_a_primary_inbox_may_hold_what_its_listeners_share(conf: Path) -> None:
    file = conf / "cmsbs.properties"
    shared = "".join(HOW_TO.splitlines(keepends=True)[4:])
    file.write_text(f"{shared}{WITH_SALES}{IMAP}ssl = true\n{IMAP}port = 993\n")
    config = load_config(conf, environ={})
    assert list(config) == ["sales"]
    assert ["only listeners" in problem.message for problem in config.warnings] == [True]


def test_an_unknown_inbox_is_answered_with_the_known_ones(conf: Path) -> None:
    with pytest.raises(KeyError, match=r"no inbox 'x', only default"):
        load_config(conf, environ={})["x"]


# ---- one inbox -------------------------------------------------------------------------------


def test_an_inbox_can_be_written_by_hand() -> None:
    inbox = by_hand()
    assert (inbox.host, inbox.port, inbox.tls) == ("outlook.office365.com", 993, "implicit")
    assert inbox.scope == "https://outlook.office365.com/.default"
    assert inbox.tenant_id == TENANT
    assert dataclasses.replace(inbox, folder="Orders").folder == "Orders"
    assert pickle.loads(pickle.dumps(inbox)) == copy.deepcopy(inbox) == inbox


def test_the_secret_is_in_no_repr_and_in_no_traceback(conf: Path) -> None:
    config = load_config(conf, environ={})
    assert SECRET not in repr(config) + str(config.default) + repr(config.settings)
    with pytest.raises(ConfigError, match="port: is not a number") as caught:
        by_hand(port=0)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [str(frame.locals) for frame in report.stack if frame.filename != __file__]
    assert frames
    assert SECRET not in "".join(frames)


def test_loading_a_configuration_loads_neither_requests_nor_the_imap_module(conf: Path) -> None:
    script = (
        "import json, sys; from exo_imap_oauth import load_config;"
        "load_config(sys.argv[1], environ={});"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(conf)], capture_output=True, check=True, text=True
    )
    loaded = set(json.loads(done.stdout))
    assert "exo_imap_oauth.config" in loaded
    assert not loaded & {
        "requests",
        "urllib3",
        "exo_imap_oauth.imap",
        "exo_imap_oauth.token_source",
    }
