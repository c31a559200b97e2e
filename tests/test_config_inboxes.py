"""Several inboxes in one configuration: what listeners inherit, and what is their own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from support.config import CLIENT, HOW_TO, IMAP, SALES, SECRET, TENANT, WITH_SALES, append

from exo_imap_oauth import load_config
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


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
