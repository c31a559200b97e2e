"""From a cmsbs-conf folder to inboxes: the how-to's block, and what becomes of its values."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from support.config import CLIENT, HOW_TO, IMAP, SECRET, TENANT, URI, append, by_hand
from support.leaks import TESTS

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


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


# ---- what it does not do ---------------------------------------------------------------------


def test_the_secret_is_in_no_repr_and_in_no_traceback(conf: Path) -> None:
    config = load_config(conf, environ={})
    assert SECRET not in repr(config) + str(config.default) + repr(config.settings)
    with pytest.raises(ConfigError, match="port: is not a number") as caught:
        by_hand(port=0)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [str(frame.locals) for frame in report.stack if TESTS not in frame.filename]
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
