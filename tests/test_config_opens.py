"""What load_config accepts, token_source() and open() accept."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.config import CLIENT, SECRET, TENANT, URI
from support.examples import EXAMPLES

from exo_imap_oauth import load_config
from exo_imap_oauth._cmsbs.keys import KEYS
from exo_imap_oauth.errors import ConfigError
from exo_imap_oauth.testing import ready_exchange
from exo_imap_oauth.testing._cmsbs import write_cmsbs_conf

if TYPE_CHECKING:
    from pathlib import Path

AT_MICROSOFT = {
    "server": "outlook.office365.com",
    "port": "993",
    "ssl": "true",
    "user": "inbox@contoso.example",
    "protocol": "imap",
    "authenticationMethod": "oauth2",
    "folder.inbox": "INBOX",
    "oauth2.accessTokenUri": URI,
    "oauth2.clientId": CLIENT,
    "oauth2.clientSecret": SECRET,
    "oauth2.scope": "https://outlook.office365.com/.default",
    "oauth2.grantType": "client_credentials",
    "oauth2.debug": "false",
}
ELSEWHERE = {
    **AT_MICROSOFT,
    "server": "imap.contoso.example",
    "user": "inbox",
    "oauth2.accessTokenUri": "https://login.contoso.example/realms/mail/token",
    "oauth2.clientId": "mail-bot",
    "oauth2.scope": "imap",
}
# Pieces that change what a value means, characters that are refused somewhere, and any other.
blanks_and_quotes = [
    "\u00a0",
    "\u200b",
    "\u00ad",
    "\u0085",
    "\u2028",
    "\t",
    " ",
    "\u201c",
    '"',
    "'",
]
of_urls = ["user:password@", "@", "#", "#x", "?", "/", "//", ":", ":0", "[", "]", "%", f"{TENANT}/"]
urls = ["https://", "HTTPS://", "https://h", "https://h/", "https://h/t"]
others = ["", "x", "\\", "\u00e4", "\U0001f600"]
pieces = st.sampled_from([*blanks_and_quotes, *of_urls, *urls, *others])
characters = st.characters(exclude_categories=[]).filter(
    lambda c: unicodedata.category(c) != "Cs" or c < "\udc00"  # a pair would be one character
)
texts = st.lists(pieces | characters, max_size=3).map("".join)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, str]:
    """One that works, with one to three values replaced or with something put into them."""
    values = dict(draw(st.sampled_from([AT_MICROSOFT, ELSEWHERE])))
    for name in draw(st.lists(st.sampled_from(list(KEYS)), min_size=1, max_size=3)):
        text, old = draw(texts), values[name]
        cut = draw(st.integers(0, len(old)))
        values[name] = draw(st.sampled_from([text, old[:cut] + text, old[:cut] + text + old[cut:]]))
    return values


def test_a_folder_with_a_no_break_blank_in_its_name_opens(tmp_path: Path) -> None:
    name = "Sent\u00a0Orders"
    with ready_exchange() as exchange:
        conf = exchange.write_config(tmp_path)
        with load_config(conf, environ={}).default.open(ssl_context=exchange.ssl_context) as imap:
            imap.create("Sent&AKA-Orders")  # modified UTF-7
            imap.append("Sent&AKA-Orders", "", "", b"Subject: order\r\n\r\n")
        with conf.joinpath("cmsbs.properties").open("a", encoding="latin-1") as file:
            file.write(f"cmsbs.mail.imap.folder.inbox = {name}\n")
        config = load_config(conf, environ={})
        assert (config.default.folder, config.warnings) == (name, ())
        with config.default.open(ssl_context=exchange.ssl_context) as imap:
            assert imap.response("EXISTS") == ("EXISTS", [b"1"])


def test_whatever_is_accepted_can_be_opened(tmp_path: Path) -> None:
    accepted = refused = 0

    @settings(max_examples=EXAMPLES)
    @given(configurations())
    def opens(values: dict[str, str]) -> None:
        nonlocal accepted, refused
        try:
            config = load_config(write_cmsbs_conf(tmp_path, values), environ={})
        except ConfigError:
            refused += 1
            return
        accepted += 1
        for inbox in config.values():
            inbox.token_source()
            inbox.open()

    opens()
    assert accepted > EXAMPLES / 20
    assert refused > EXAMPLES / 20


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("folder.inbox", "Sent\u2028Orders"),
        ("folder.inbox", "Sent\u0085Orders"),
        ("oauth2.accessTokenUri", "https://user:password@login.contoso.example/token"),
        ("oauth2.accessTokenUri", "https://user@login.contoso.example/token"),
        ("oauth2.accessTokenUri", "https://login.contoso.example/token#x"),
        ("oauth2.accessTokenUri", "https://login.contoso.example/t\u00f6ken"),
        ("oauth2.accessTokenUri", "https://l\u00f6gin.contoso.example/token"),
        ("oauth2.accessTokenUri", "https://login.contoso.example"),
        ("oauth2.accessTokenUri", "https://login.contoso.example/"),
        ("oauth2.clientId", "mail bot"),
        ("oauth2.clientId", "m\u00e4il-bot"),
        ("oauth2.clientSecret", "Abc8Q~\u00a0def"),
        ("oauth2.clientSecret", "Abc8Q~\tdef"),
        ("oauth2.scope", "imap offline_access"),
        ("user", "inbox\u0085"),
    ],
)
def test_what_open_refuses_is_found_with_its_line(tmp_path: Path, key: str, value: str) -> None:
    values = {**ELSEWHERE, key: value}
    with pytest.raises(ConfigError) as caught:
        load_config(write_cmsbs_conf(tmp_path, values), environ={})
    (problem,) = caught.value.problems
    assert problem.key == f"cmsbs.mail.imap.{key}"
    assert problem.line == list(values).index(key) + 1
