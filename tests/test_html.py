"""What notebooks show of a configuration, an inbox, a source of tokens and a token."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.certificates import certificate_of, key_pem, pem_of, rsa_key
from support.config import CLIENT, SECRET, TENANT, WITH_SALES, append, by_hand
from support.html_page import Page
from support.token_endpoint import TokenEndpoint, token

from exo_imap_oauth import AccessToken, ClientCertificate, TokenSource, load_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exo_imap_oauth.config import CmsbsConfig

OTHER_SECRET = "Zzz8Q~mnopqrstuvwxyz012345.6789abcdefghij"


def shown(value: CmsbsConfig | TokenSource | AccessToken | Any) -> str:
    """The text of a value in a notebook, once its page is found to be sound."""
    html: str = value._repr_html_()
    assert SECRET not in html
    assert OTHER_SECRET not in html
    return Page(html).text


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{payload}.c2lnbmF0dXJlIG9mIGEgdG9rZW4gMTIzNDU2Nzg5"


# ---- a configuration -------------------------------------------------------------------------


def test_each_setting_stands_with_its_value_and_place_and_with_what_it_overrides(
    conf: Path,
) -> None:
    (conf / "conf.d" / "10-team.properties").write_text(
        'cmsbs.mail.imap.folder.inbox = "Archive"\ncmsbs.mail.imap.port = 143\n'
    )
    (conf / "conf.d" / "20-team.properties").write_text("cmsbs.mail.imap.port = 993\n")
    environ = {"cmsbs__mail__imap__folder__inbox": "Orders"}
    text = shown(load_config(conf, environ=environ))
    port, first = conf / "conf.d/20-team.properties", conf / "conf.d/10-team.properties"
    assert (
        f"port993cmsbs.mail.imap.port in {port}:1"
        f"overrides 143 in {first}:2overrides 993 in {conf}/cmsbs.properties:2"
    ) in text
    assert (
        "folder.inboxOrderscmsbs__mail__imap__folder__inbox in environment"
        f"overrides Archive in {first}:1"
    ) in text
    assert "protocolimapby default" in text


def test_a_listener_shows_what_it_inherits_and_from_where(conf: Path) -> None:
    append(conf, WITH_SALES)
    text = shown(load_config(conf, environ={}))
    assert "2 inboxes" in text
    _, _, sales = text.partition("sales: sales@contoso.example")
    assert f"oauth2.clientId{CLIENT}cmsbs.mail.imap.oauth2.clientId in {conf}" in sales


def test_no_secret_is_shown_not_even_one_that_was_overridden_or_is_in_a_wrong_place(
    conf: Path,
) -> None:
    append(conf, f"cmsbs.mail.imap.oauth2.clientId = {OTHER_SECRET}\n")
    append(conf, f"cmsbs.mail.imap.folder.inbox = {SECRET}\n")
    append(conf, f"cmsbs.mail.imap.oauth2.clientSecret{OTHER_SECRET} = x\n")
    append(conf, f"cmsbs.mail.imap.password = {OTHER_SECRET}\n")
    (conf / "conf.d" / "fix.properties").write_text(
        f"cmsbs.mail.imap.oauth2.clientId = {CLIENT}\ncmsbs.mail.imap.folder.inbox = INBOX\n"
    )
    text = shown(load_config(conf, environ={}))
    assert f"overrides (hidden) in {conf}/cmsbs.properties:12" in text
    assert f"overrides (hidden) in {conf}/cmsbs.properties:13" in text
    assert "oauth2.clientSecret(hidden)" in text
    assert "cmsbs.mail.imap.oauth2.clientSecret..." in text


def test_an_earlier_secret_is_hidden_wherever_it_is_repeated_even_if_it_is_made_of_words(
    conf: Path,
) -> None:
    earlier = "open-sesame-please"
    repeated = f"cmsbs.mail.imap.folder.inbox = {earlier}\n"
    append(conf, "cmsbs.mail.imap.oauth2.clientSecret = tiny7\n")
    append(conf, f"cmsbs.mail.imap.oauth2.clientSecret = {earlier}\n{repeated}{repeated}")
    append(conf, f"cmsbs.mail.imap.oauth2.clientSecret = {SECRET}\n")
    text = shown(load_config(conf, environ={}))
    assert earlier not in text
    assert "tiny7" not in text
    assert "folder.inbox(hidden)" in text


def test_a_password_in_a_uri_that_was_overridden_is_not_shown(conf: Path) -> None:
    uri = f"https://me:open-sesame@login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    append(conf, f"cmsbs.mail.imap.oauth2.accessTokenUri = {uri}\n")
    right = uri.replace("me:open-sesame@", "")
    append(conf, f"cmsbs.mail.imap.oauth2.accessTokenUri = {right}\n")
    text = shown(load_config(conf, environ={}))
    assert "overrides (hidden) in" in text
    assert "open-sesame" not in text


def test_a_secret_in_a_file_is_not_read_to_be_shown(conf: Path) -> None:
    settings = conf / "cmsbs.properties"
    file = conf / "secret.txt"
    file.write_text(OTHER_SECRET)
    lines = [line for line in settings.read_text().splitlines() if "clientSecret" not in line]
    lines.append("cmsbs.mail.imap.oauth2.clientSecret$file = secret.txt")
    settings.write_text("\n".join(lines))
    config = load_config(conf, environ={})
    file.unlink()
    assert "oauth2.clientSecret(hidden), read from secret.txt" in shown(config)


def test_warnings_come_first_with_their_fix(conf: Path) -> None:
    append(conf, "cmsbs.mail.imap.oauth2.debgu = true\n")
    text = shown(load_config(conf, environ={}))
    before, _, _ = text.partition("default: inbox@contoso.example")
    assert "Did you mean cmsbs.mail.imap.oauth2.debug?" in before


def test_an_inbox_that_is_not_read_here_says_why(conf: Path) -> None:
    append(conf, WITH_SALES + "cmsbs.bouncelistener.sales.authenticationMethod = plain\n")
    text = shown(load_config(conf, environ={}))
    assert "1 inbox" in text
    _, _, sales = text.partition("sales: not read here")
    assert "oauth2" in sales


def test_many_inboxes_are_folded(conf: Path) -> None:
    names = ["a", "b", "c"]
    append(conf, f'cmsbs.bounce.listeners = "{" ".join(names)}"\n')
    for name in names:
        append(conf, f"cmsbs.bouncelistener.{name}.mail.imap.server = outlook.office365.com\n")
        append(conf, f"cmsbs.bouncelistener.{name}.mail.imap.user = {name}@contoso.example\n")
    page = Page(load_config(conf, environ={})._repr_html_())
    assert "4 inboxes" in page.text
    assert ("open", None) not in page.attributes


@pytest.mark.parametrize("name", ["user", "port", "oauth2.clientId", "oauth2.scope"])
def test_a_passphrase_that_was_in_a_wrong_place_is_not_shown(conf: Path, name: str) -> None:
    lines = (conf / "cmsbs.properties").read_text().splitlines()
    (right,) = (line for line in lines if f".{name} =" in line)
    append(conf, f"cmsbs.mail.imap.{name} = open sesame\n{right}\n")
    text = shown(load_config(conf, environ={}))
    assert "overrides (hidden) in" in text
    assert "sesame" not in text


def test_a_setting_that_was_overridden_a_thousand_times_is_shown_in_short(conf: Path) -> None:
    append(conf, "".join(f"cmsbs.mail.imap.folder.inbox = F{n}\n" for n in range(1_000)))
    text = shown(load_config(conf, environ={}))
    assert "folder.inboxF999" in text
    assert "overrides F994 in" in text
    assert "overrides F993 in" not in text
    assert "and earlier ones" in text


# ---- an inbox --------------------------------------------------------------------------------


def test_an_inbox_shows_its_fields_and_that_there_is_a_secret() -> None:
    text = shown(by_hand(debug=True))
    for part in (
        "inbox@contoso.example",
        "outlook.office365.com:993, TLS from the start",
        TENANT,
        CLIENT,
        "client secret, not shown",
        "on: a summary at level INFO",
    ):
        assert part in text


def _certificate() -> ClientCertificate:
    key = rsa_key()
    return ClientCertificate.from_pem(key_pem(key) + pem_of(certificate_of(key)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"client_secret": lambda: SECRET}, "client secret from a function, not shown"),
        ({"client_secret": None, "assertion": jwt}, "federated assertion from a"),
        ({"client_secret": None}, "none, so it takes a token to open it"),
    ],
    ids=["function", "assertion", "none"],
)
def test_an_inbox_tells_what_its_credential_is(fields: dict[str, Any], expected: str) -> None:
    assert expected in shown(by_hand(**fields))


def test_a_certificate_is_shown_with_its_end() -> None:
    certificate = _certificate()
    inbox = by_hand(client_secret=None, certificate=certificate)
    for value in (inbox, inbox.token_source()):
        assert f"certificate {certificate.thumbprint}, expires 20" in shown(value)


def test_an_inbox_shows_its_warnings() -> None:
    inbox = by_hand(scope="https://outlook.office365.us/.default")
    assert inbox.warnings
    assert str(inbox.warnings[0]) in shown(inbox)


def test_everything_is_escaped() -> None:
    folder = "a\"b'&<!--<b>&amp;"
    html = by_hand(folder=folder)._repr_html_()
    assert folder not in html
    assert folder in Page(html).text
    hostile = "<b>&"
    assert hostile in shown(by_hand(name=hostile))
    assert f"claim {hostile}{hostile}" in shown(access_token(jwt(**{hostile: hostile})))


def test_no_invisible_character_turns_the_text_around() -> None:
    assert "a\\u202eb" in shown(by_hand(folder="a\u202eb"))


# ---- a source of tokens ----------------------------------------------------------------------


def test_to_show_a_source_fetches_no_token() -> None:
    with TokenEndpoint(token()) as endpoint:
        text = shown(endpoint.source(SECRET))
        assert endpoint.forms == []
    assert "no token yet" in text
    assert "claim" not in text
    assert "client secret, not shown" in text


@pytest.mark.parametrize(
    ("seconds", "state", "left"),
    [
        (60, "token fresh", "in 59 min"),
        (3_400, "in its refresh window", "in 3 min"),
        (3_900, "token expired", "5 min ago"),
    ],
)
def test_a_source_tells_the_state_of_its_token(
    clock: Callable[[float], None], seconds: float, state: str, left: str
) -> None:
    text = jwt(aud="https://outlook.office365.com", roles=["IMAP.AccessAsApp"], unknown="private")
    with TokenEndpoint(token(text)) as endpoint:
        source = endpoint.source(SECRET)
        got = source.get_token()
        clock(seconds)
        html = source._repr_html_()
    page = Page(html)
    assert state in page.text
    assert f" UTC, {left}" in page.text
    assert "claim rolesIMAP.AccessAsApp" in page.text
    assert "private" not in page.text
    assert got.token not in html


def test_a_token_that_was_invalidated_is_no_longer_shown() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(SECRET)
        source.invalidate(source.get_token())
        assert "no token yet" in shown(source)


# ---- a token ---------------------------------------------------------------------------------


def access_token(text: str, expires_on: int = 4_102_444_800) -> AccessToken:
    return AccessToken(text, expires_on=expires_on, refresh_on=expires_on, obtained_on=0.0)


def test_the_times_of_a_token_are_dates() -> None:
    text = shown(access_token(jwt(iat=1_800_000_000, nbf=1_800_000_000, exp=1_800_003_600, ver=1)))
    assert "valid" in text
    assert "expires2100-01-01 00:00:00 UTC, in " in text
    for claim, date in (("iat", "08:00:00"), ("nbf", "08:00:00"), ("exp", "09:00:00")):
        assert f"claim {claim}2027-01-15 {date} UTC, " in text
    assert "claim ver1" in text


def test_a_token_that_expired_says_so() -> None:
    assert "expired" in shown(access_token("opaque", expires_on=1_000))


@pytest.mark.parametrize("exp", [10**30, -(10**30), float("nan"), [], "soon", None, 1e308])
def test_odd_times_do_no_harm(exp: object) -> None:
    assert "claim exp" in shown(access_token(jwt(exp=exp)))


def test_a_token_of_absurd_length_keeps_nobody_waiting() -> None:
    token = access_token(jwt(**{f"k{n}": "x" for n in range(5_000)}))
    began = time.thread_time()
    assert "claimsnot shown: the token is" in shown(token)
    assert time.thread_time() - began < 1  # s of work; it took half a minute


def test_a_claim_that_holds_the_token_is_hidden() -> None:
    text = jwt(sub="x" * 30)
    hidden = text.split(".")[1]
    html = AccessToken(text, expires_on=1, refresh_on=1, obtained_on=0.0)._repr_html_()
    assert hidden not in html
    signature = text.split(".")[2]
    page = shown(access_token(jwt(**{signature: signature})))
    assert "claim (hidden)(hidden)" in page
