"""An argument of a wrong kind: the error says what it is, what to pass, and where to read on."""

from __future__ import annotations

import asyncio
import imaplib
import importlib
import poplib
import re
import smtplib
import socket
import ssl
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from imap_tools import MailBox
from support.pages import DOCS

from exo_imap_oauth import (
    AccessToken,
    ClientCertificate,
    Cloud,
    InboxConfig,
    TokenSource,
    authenticate_xoauth2,
    check_setup,
    exchange_setup_script,
    load_config,
    open_mailbox,
)
from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.credentials import ClientAssertion, ClientSecret
from exo_imap_oauth.imap import ok
from exo_imap_oauth.listener import InboxListener, listen
from exo_imap_oauth.mail import message
from exo_imap_oauth.powershell import environment_option, quote
from exo_imap_oauth.properties import parse
from exo_imap_oauth.token_cache import MemoryTokenCache
from exo_imap_oauth.xoauth2 import decode_challenge, initial_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth.config import CmsbsConfig
    from exo_imap_oauth.testing import ReadyExchange

aioimaplib: Any = importlib.import_module("aioimaplib")  # they have no types
IMAPClient: Any = importlib.import_module("imapclient").IMAPClient

USER = "inbox@contoso.example"
TENANT, CLIENT = "contoso.example", "22222222-2222-4222-8222-222222222222"
TOKEN = "the.token.itself"
INBOX = InboxConfig(user=USER)
SOURCE = TokenSource(TENANT, CLIENT, "secret")
PAGE = re.compile(r"See https://exo-imap-oauth\.github\.io/exo-imap-oauth/([\w/-]+)\.html\Z")


class Slip(NamedTuple):
    """A call, and what its error says."""

    call: Callable[[], object]
    says: tuple[str, ...]
    page: str


def unmade(kind: Any) -> Any:
    """An object of a class whose constructor would connect to somewhere."""
    return kind.__new__(kind)


async def coroutine() -> str:
    return TOKEN


def handle(_inbox: InboxConfig, _mail: object) -> None:
    """Never called."""


class Theirs(IMAPClient):  # type: ignore[misc]
    """A subclass in a user's module."""


class Foreign:
    """A client of another library; exchangelib is not installed for this."""


Foreign.__module__, Foreign.__qualname__ = "exchangelib.account", "Account"


def login(imap: Any) -> Callable[[], object]:
    return lambda: authenticate_xoauth2(imap, USER, TOKEN)


def with_token(token: Any) -> Callable[[], object]:
    return lambda: open_mailbox(USER, token)


def wrong(call: Any, *arguments: Any, **options: Any) -> Callable[[], object]:
    return lambda: call(*arguments, **options)


def unawaited(call: Callable[[Any], object]) -> Callable[[], object]:
    return lambda: call(coroutine())


def wrong_context(context: Any) -> list[Slip]:
    says = ("ssl_context must be an ssl.SSLContext, not ",)
    calls = [
        wrong(TokenSource, TENANT, CLIENT, "secret", ssl_context=context),
        wrong(open_mailbox, USER, TOKEN, ssl_context=context),
        wrong(INBOX.open, token=TOKEN, ssl_context=context),
        wrong(check_setup, INBOX, ssl_context=context),
        wrong(InboxListener, INBOX, handle, token=TOKEN, ssl_context=context),
        wrong(listen, [INBOX], handle, token=TOKEN, ssl_context=context),
    ]
    return [Slip(call, says, "how-to/proxies") for call in calls]


WITH = "how-to/use-with"
SLIPS = [
    # -- a client that is none of imaplib
    Slip(login(unmade(IMAPClient)), ("imapclient.imapclient.IMAPClient", "client._imap"),
         f"{WITH}/imapclient"),
    Slip(login(unmade(Theirs)), ("test_wrong_kinds.Theirs", "client._imap"), f"{WITH}/imapclient"),
    Slip(login(unmade(MailBox)), ("imap_tools.mailbox.MailBox", "mailbox.client"),
         f"{WITH}/imap-tools"),
    Slip(login(unmade(aioimaplib.IMAP4_SSL)), ("aioimaplib", "asynchronous", "xoauth2()"),
         f"{WITH}/aioimaplib"),
    Slip(login(smtplib.SMTP()), ("not smtplib.SMTP", "sends mail"), "how-to/answer-by-smtp"),
    Slip(login(unmade(smtplib.SMTP_SSL)), ("not smtplib.SMTP_SSL",), "how-to/answer-by-smtp"),
    Slip(login(unmade(poplib.POP3_SSL)), ("not poplib.POP3_SSL", "POP3"), f"{WITH}/imaplib"),
    Slip(login(Foreign()), ("not exchangelib.account.Account", "EWS"), f"{WITH}/imaplib"),
    Slip(login(unmade(socket.socket)), ("not socket.socket", "not its socket"), f"{WITH}/imaplib"),
    Slip(login(unmade(ssl.SSLSocket)), ("not ssl.SSLSocket", "not its socket"), f"{WITH}/imaplib"),
    Slip(login(None), ("not None",), f"{WITH}/imaplib"),
    Slip(login("outlook.office365.com"), ("not str",), f"{WITH}/imaplib"),
    Slip(login(imaplib.IMAP4_SSL), ("not the class imaplib.IMAP4_SSL itself",), f"{WITH}/imaplib"),
    Slip(login(INBOX.open(token=TOKEN)), ("with … as imap",), f"{WITH}/imaplib"),
    Slip(unawaited(lambda it: login(it)()), ("not coroutine", "await"), f"{WITH}/imaplib"),
    # -- an inbox in place of its parts
    Slip(wrong(authenticate_xoauth2, INBOX, SOURCE), ("InboxConfig", "inbox.open()"),
         "reference/api/inbox"),
    Slip(wrong(authenticate_xoauth2, unmade(imaplib.IMAP4), INBOX), ("InboxConfig",),
         "reference/api/inbox"),
    Slip(wrong(open_mailbox, INBOX), ("open_mailbox() takes no exo_imap_oauth.inbox.InboxConfig",
         "with inbox.open() as imap"), "reference/api/inbox"),
    Slip(wrong(open_mailbox, INBOX, SOURCE), ("with inbox.open() as imap",), "reference/api/inbox"),
    # -- a token
    Slip(lambda: open_mailbox(USER, token=INBOX), ("InboxConfig", "inbox.token_source()"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
         "reference/api/imap"),
    Slip(wrong(open_mailbox, USER, INBOX), ("with inbox.open() as imap",), "reference/api/inbox"),
    Slip(lambda: INBOX.open(token=INBOX), ("InboxConfig", "inbox.token_source()"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
         "reference/api/imap"),
    Slip(with_token({"access_token": TOKEN}), ("not dict", "answer['access_token']"),
         f"{WITH}/msal"),
    Slip(with_token(TOKEN.encode()), ("not bytes", ".decode()"), "reference/api/imap"),
    Slip(with_token(None), ("not None",), "reference/api/imap"),
    Slip(with_token(TokenSource), ("the class exo_imap_oauth.token_source.TokenSource itself",),
         "reference/api/imap"),
    Slip(unawaited(lambda it: with_token(it)()), ("not coroutine", "await"), "reference/api/imap"),
    # -- one inbox, several, none
    Slip(wrong(check_setup, SOURCE), ("TokenSource", "this as token="), "how-to/check-up"),
    Slip(wrong(check_setup, [INBOX]), ("not list", "pass one of them"), "how-to/check-up"),
    Slip(wrong(check_setup, "cmsbs-conf"), ("not str", "load_config(path)"), "how-to/check-up"),
    Slip(wrong(check_setup, InboxConfig), ("the class", "InboxConfig itself"), "how-to/check-up"),
    Slip(wrong(listen, INBOX, handle), ("InboxConfig", "put a single one into a list: [inbox]"),
         "how-to/listen"),
    Slip(wrong(listen, SOURCE, handle), ("TokenSource", "this as token="), "how-to/listen"),
    Slip(wrong(listen, [SOURCE], handle), ("TokenSource", "this as token="), "how-to/listen"),
    Slip(wrong(listen, handle, [INBOX]), ("not function",), "how-to/listen"),
    Slip(wrong(listen, None, handle), ("not None",), "how-to/listen"),
    Slip(wrong(listen, [INBOX], "handle"), ("handle must be a function", "not str"),
         "how-to/listen"),
    Slip(wrong(InboxListener, [INBOX], handle), ("not list", "there is listen()"),
         "how-to/listen"),
    # -- the rest of the interface
    *wrong_context("ca.pem"),
    *wrong_context(True),
    Slip(wrong(TokenSource, TENANT, CLIENT, "s", cache={}), ("a TokenCache, not dict",),
         "how-to/many-workers"),
    Slip(wrong(TokenSource, TENANT, CLIENT, "s", cache=MemoryTokenCache), ("the class",),
         "how-to/many-workers"),
    Slip(wrong(TokenSource, TENANT, CLIENT, "s", cloud="CHINA"), ("a Cloud, not str",),
         "reference/api/clouds"),
    Slip(wrong(InboxConfig.for_tenant, TENANT, user=USER, cloud="CHINA"), ("a Cloud, not str",),
         "reference/api/clouds"),
    Slip(wrong(exchange_setup_script, tenant_id=TENANT, client_id=CLIENT, mailboxes=[USER],
               enterprise_object_id=CLIENT, cloud="CHINA"), ("a Cloud, not str",),
         "reference/api/clouds"),
    Slip(wrong(exchange_setup_script, tenant_id=None, client_id=CLIENT, mailboxes=[USER],
               enterprise_object_id=CLIENT), ("tenant_id must be a string, not None",),
         "reference/api/powershell"),
    Slip(wrong(exchange_setup_script, tenant_id=TENANT, client_id=CLIENT, mailboxes=None,
               enterprise_object_id=CLIENT), ("mailboxes must be a list of addresses, not None",),
         "reference/api/powershell"),
    Slip(wrong(exchange_setup_script, tenant_id=TENANT, client_id=CLIENT, mailboxes=USER,
               enterprise_object_id=CLIENT), ("mailboxes must be a list of addresses, not str",),
         "reference/api/powershell"),
    Slip(wrong(TokenSource, TENANT, CLIENT, certificate="bot.pem"), ("not str", "from_pem()"),
         "how-to/certificate"),
    Slip(wrong(ClientCertificate, "bot.pem"), ("not str", "from_pem()", "from_pfx()"),
         "how-to/certificate"),
    Slip(wrong(load_config, INBOX), ("path", "InboxConfig"), "reference/configuration"),
    Slip(wrong(load_config, None), ("path", "not None"), "reference/configuration"),
    Slip(wrong(message, b"Subject: x"), ("not bytes", "message_from_bytes"), "reference/api/mail"),
    Slip(unawaited(message), ("not coroutine", "await"), "reference/api/mail"),
    Slip(wrong(message, None), ("not None",), "reference/api/mail"),
    Slip(unawaited(ok), ("not coroutine", "await"), "reference/api/imap"),
    Slip(wrong(ok, [b"1"]), ("not list",), "reference/api/imap"),
    Slip(wrong(advise, ValueError("x")), ("not ValueError", "str(error)"), "reference/api/advice"),
    # -- values that people have at hand
    Slip(wrong(open_mailbox, USER, TOKEN, port="993"),
         ("port must be a whole number, such as 993, not str",), "reference/api/imap"),
    Slip(wrong(TokenSource, INBOX), ("TokenSource() takes no", "inbox.token_source()"),
         "reference/api/inbox"),
    Slip(lambda: TokenSource(tenant_id=INBOX, client_id=CLIENT, client_secret="s"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
         ("tenant_id must be a string", "inbox.token_source()"), "reference/api/token_source"),
    Slip(wrong(SOURCE.get_token, [SOURCE.scope]), ("scope must be a string", "get_token(*scopes)"),
         "reference/api/token_source"),
    Slip(wrong(TokenSource, TENANT, CLIENT, "s", cache=set[str]()), ("a TokenCache, not set",),
         "how-to/many-workers"),
    Slip(wrong(InboxConfig.from_env, {"EXO_IMAP_USER": USER}), ("prefix", "not dict", "environ="),
         "reference/api/inbox"),
    Slip(wrong(InboxConfig.from_env, environ={"EXO_IMAP_PORT": 993}),
         ("environ['EXO_IMAP_PORT'] must be a string, not int",), "reference/api/inbox"),
    Slip(wrong(InboxConfig.from_env, environ={b"EXO_IMAP_USER": USER}),
         ("a name in environ must be a string, not bytes",), "reference/api/inbox"),
    Slip(wrong(exchange_setup_script, tenant_id=TENANT, client_id=CLIENT, mailboxes=[[USER]],
               enterprise_object_id=CLIENT), ("mailboxes[0] must be a string, not list",),
         "reference/api/powershell"),
    Slip(wrong(advise, "AADSTS7000222", port=993), ("port", "not int", "as text"),
         "reference/api/advice"),
    Slip(wrong(advise, "AADSTS7000222", roles=["a"]), ("roles", "not list", "' '.join(roles)"),
         "reference/api/advice"),
    Slip(wrong(parse, Path("a.properties")), ("data", "path.read_bytes()"),
         "reference/api/properties"),
    Slip(wrong(ClientCertificate, ("bot.pem", "bot.key")), ("not tuple", "from_pem()"),
         "how-to/certificate"),
]  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS, ids=[f"{at}" for at in range(len(SLIPS))])
def test_it_says_what_it_is_what_to_pass_and_the_page(slip: Slip) -> None:
    with pytest.raises(TypeError) as raised:
        slip.call()
    text = str(raised.value)
    for part in slip.says:
        assert part in text
    page = PAGE.search(text)
    assert page is not None, text
    assert page[1] == slip.page
    assert (DOCS / f"{slip.page}.md").is_file()
    assert TOKEN not in text


# ---- every argument of every door, whatever is given for it ------------------------------------


VALUES = {"tenant_id": TENANT, "client_id": CLIENT}
IDS = VALUES | {"enterprise_object_id": "33333333-3333-4333-8333-333333333333"}
HELD = {"token": TOKEN, "expires_on": 1, "refresh_on": 1, "obtained_on": 1.0}
SERVER = {"user": USER, "token": TOKEN}
NUMBER, NOTHING = int | float, ()
MAPPING: Any = dict
LIST: Any = (list, dict)
SECONDS = dict.fromkeys(("timeout", "deadline", "refresh_margin"), NUMBER)
PAUSES = dict.fromkeys(("timeout", "poll_interval", "initial_backoff", "max_backoff"), NUMBER)
TEXTS = dict.fromkeys(("port", "host", "roles", "tenant_id", "aud", "token_uri", "scope"), str)
KINDS: list[object] = [None, 5, True, "10", ["x"], {"a": 1}, Path("x"), b"x", 1.5, INBOX, object()]
# What is good in it, and its arguments with the kinds that fit.
DOORS: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (TokenSource, VALUES | {"client_secret": "s"}, SECONDS | {
        "tenant_id": str, "client_id": str, "client_secret": str | None, "scope": str | None,
        "token_uri": str | None, "cache": NoneType, "ssl_context": NoneType, "cloud": Cloud}),
    (TokenSource, VALUES, {"certificate": NoneType, "assertion": NoneType}),
    (AccessToken, HELD, dict.fromkeys(HELD, NUMBER) | {"token": str}),
    (SOURCE.invalidate, {}, {"token": AccessToken}),
    (INBOX.open, {"token": TOKEN}, {"folder": str, "ssl_context": NoneType, "timeout": NUMBER}),
    (InboxConfig.from_env, {}, {"prefix": str, "environ": MAPPING | None}),
    (load_config, {}, {"path": str | Path, "environ": MAPPING | None}),
    (open_mailbox, SERVER, {"user": str, "token": str, "host": str | None, "port": int | None,
     "folder": str, "scope": str | None, "ssl_context": NoneType, "timeout": NUMBER}),
    (check_setup, {}, {"inbox": InboxConfig}),
    (check_setup, {"inbox": INBOX}, {"enterprise_object_id": str | None, "ssl_context": NoneType,
     "timeout": NUMBER}),
    (InboxListener, {"inbox": INBOX, "handle": handle, "token": TOKEN}, PAUSES | {
        "inbox": InboxConfig, "handle": NOTHING, "on_failure": NoneType, "unconfirmed": int,
        "longest": int | None, "ssl_context": NoneType}),
    (exchange_setup_script, IDS | {"mailboxes": [USER]}, dict.fromkeys(IDS, str) | {
        "mailboxes": LIST, "display_name": str | None, "cloud": Cloud}),
    (quote, {}, {"value": str}),
    (environment_option, {}, {"cloud": Cloud}),
    (advise, {"message": "AADSTS7000222"}, {"message": str, "stage": str | None}),
    (advise, {"message": "NO AUTHENTICATE failed.", "stage": "authenticate"},
     {name: kind | None for name, kind in TEXTS.items()}),
    (explain, {"advice_id": "role-missing"}, {"advice_id": str, "port": str | None}),
    (parse, {}, {"data": str | bytes}),
    (MemoryTokenCache, {}, {"maxsize": int}),
    (ClientCertificate, {}, {"pair": NOTHING}),
    (ClientCertificate.from_pem, {}, {"path_or_bytes": str | bytes | Path}),
    (ClientCertificate.from_pfx, {"path_or_bytes": b""}, {"password": str | bytes | None}),
    (ClientSecret, {}, {"secret": str}),
    (ClientAssertion, {}, {"assertion": NOTHING}),
    (initial_response, SERVER, {"user": str, "token": str}),
    (decode_challenge, {}, {"challenge": str | bytes}),
]  # fmt: skip
EVERY = [
    pytest.param(call, good, name, fits, id=f"{call.__qualname__}-{name}")
    for call, good, arguments in DOORS
    for name, fits in arguments.items()
]


@pytest.mark.parametrize(("call", "good", "name", "fits"), EVERY)
def test_whatever_is_given_the_error_names_the_argument(
    call: Any, good: dict[str, Any], name: str, fits: Any
) -> None:
    for given in KINDS:
        if isinstance(given, fits) and given is not True:
            continue
        with pytest.raises(TypeError, match=f"{name} must be .*, not "):
            call(**good | {name: given})


def test_a_configuration_has_inboxes(trusted_exchange: ReadyExchange, tmp_path: Path) -> None:
    config: Any = load_config(trusted_exchange.write_config(tmp_path))
    with pytest.raises(TypeError, match=r"CmsbsConfig: take one of its inboxes: config\.default"):
        check_setup(config)
    with pytest.raises(TypeError, match=r"CmsbsConfig: pass config\.default\.token_source\(\)"):
        open_mailbox(USER, config)
    with pytest.raises(TypeError, match=r"CmsbsConfig: for several inboxes there is listen\(\)"):
        InboxListener(config, handle)
    with pytest.raises(TypeError, match=r"the path of a folder or file, not .*CmsbsConfig"):
        load_config(config)
    assert check_setup(config.default).ok


def test_listen_takes_a_configuration(trusted_exchange: ReadyExchange, tmp_path: Path) -> None:
    config: CmsbsConfig = load_config(trusted_exchange.write_config(tmp_path))
    seen: list[str] = []

    def stop_after_all(_inbox: InboxConfig, mail: Any) -> None:
        seen.append(mail["Subject"])
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        listen(config, stop_after_all)
    assert len(seen) == 3


def test_what_checks_its_token_in_a_report_says_the_same_there() -> None:
    closed = InboxConfig(user=USER, host="localhost", port=9)
    report = check_setup(closed, token_source=INBOX)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # wrong
    assert "inbox.token_source()" in report.checks[0].detail


def test_nobody_is_warned_of_a_coroutine_that_was_not_awaited(
    recwarn: pytest.WarningsRecorder,
) -> None:
    for call in (unawaited(lambda it: login(it)()), unawaited(lambda it: with_token(it)())):
        with pytest.raises(TypeError, match="await"):
            call()
    asyncio.run(coroutine())
    assert not recwarn.list
