"""What an inbox with ``debug = true`` tells of its tokens, its logins and how they end."""

from __future__ import annotations

import dataclasses
import logging
import re
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ImapError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
)
from exo_imap_oauth.imap import ok
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange


class Told(logging.Handler):
    """Collects what is told of the inbox ``default``, with each time of its own as N."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        line = record.getMessage().removeprefix("inbox default: ")
        self.lines.append(re.sub(r"\b\d+ ms", "N ms", line))


@pytest.fixture
def told() -> Iterator[Told]:
    logger, handler = logging.getLogger("exo_imap_oauth"), Told()
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(before)
    logger.removeHandler(handler)


@pytest.fixture
def inbox(exchange: ReadyExchange, tmp_path: Path) -> InboxConfig:
    inbox = load_config(exchange.write_config(tmp_path), environ={}).default
    assert inbox.debug
    return inbox


@pytest.fixture
def options(exchange: ReadyExchange, inbox: InboxConfig) -> dict[str, Any]:
    """How the inbox is opened with one source and its token."""
    source = inbox.token_source(ssl_context=exchange.ssl_context)
    return {"ssl_context": exchange.ssl_context, "token": source}


def test_a_new_token_and_a_cached_one_can_be_told_apart(
    exchange: ReadyExchange, inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    with inbox.open(**options):
        pass
    with inbox.open(**options):
        pass
    opened = f"opened {inbox.user} at {inbox.host}:{inbox.port} after N ms"
    assert [line for line in told.lines if not line.startswith("token claims")] == [
        f"new token from {inbox.token_uri} after N ms, valid for 59 min",
        opened,
        "cached token, valid for 59 min",
        opened,
    ]
    claims = [line for line in told.lines if line.startswith("token claims")]
    assert len(claims) == 2
    assert exchange.app.enterprise_object_id in claims[0]
    assert {record.name for record in told.records} == {"exo_imap_oauth.inbox"}
    assert {record.levelno for record in told.records} == {logging.INFO}


def test_the_second_try_with_a_new_token_is_told(
    exchange: ReadyExchange, inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    first = options["token"].get_token()
    exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED)
    with inbox.open(**options):
        pass
    assert [line for line in told.lines if not line.startswith("token claims")] == [
        "cached token, valid for 59 min",
        "the server refused the cached token; second try, with a new one",
        f"new token from {inbox.token_uri} after N ms, valid for 59 min",
        f"opened {inbox.user} at {inbox.host}:{inbox.port} after N ms",
    ]
    assert [login.outcome for login in exchange.logins] == ["refused", "connected"]
    assert first.token not in str(told.lines)
    # Soon after, there is none: the source is known, although each login wraps it anew.
    exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED)
    with pytest.raises(AuthenticationRefused), inbox.open(**options):
        pass
    assert told.lines[-1].startswith("refused after N ms: AuthenticationRefused, advice ")
    assert sum("second try" in line for line in told.lines) == 1


def test_throttling_is_told_on_the_way_in_and_in_the_body(
    exchange: ReadyExchange, inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    exchange.inject(Fault.IMAP_THROTTLED, seconds=60, command="SELECT", reply="NO")
    with pytest.raises(Throttled), inbox.open(**options):
        pass
    exchange.inject(Fault.IMAP_THROTTLED, seconds=90, command="SEARCH", reply="NO")
    with pytest.raises(Throttled), inbox.open(**options) as imap:
        ok(imap.search(None, "UNSEEN"))
    refused, ended = (line for line in told.lines if "Throttled" in line)
    assert refused.startswith("refused after N ms: Throttled, advice throttled, try again in 60 s:")
    assert ended.startswith("ended after N ms: Throttled, advice throttled, try again in 90 s: ")


def test_the_end_of_a_session_is_told(
    exchange: ReadyExchange, inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    exchange.inject(Fault.IMAP_SESSION_INVALIDATED, command="NOOP")
    with pytest.raises(SessionExpired), inbox.open(**options) as imap:
        imap.noop()
    assert told.lines[-1].startswith("ended after N ms: SessionExpired, advice session-expired: ")


def test_the_reason_in_the_ok_is_told_where_the_mailbox_stays_shut(
    exchange: ReadyExchange, inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    exchange.set_cas_mailbox(exchange.mailbox, imap_enabled=False, reason_in_ok=True)
    with pytest.raises(MailboxNotConnected), inbox.open(**options):
        pass
    assert "MailboxNotConnected, advice imap-disabled: " in told.lines[-1]
    assert 'the login said: [Error="UserDisabled" AuthResult=27' in told.lines[-1]


TOKEN = f"eyJhbGciOi.{'Not-a_real' * 30}.token~1+/="
AUTHENTICATE = Step("{tag} AUTHENTICATE .+", "* CAPABILITY IMAP4rev1\n{tag} OK done.")
SELECT = Step("{tag} SELECT .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done.")


def at(server: ScriptedImap) -> InboxConfig:
    """An inbox on a server that says what is in its script."""
    return InboxConfig(user="inbox@contoso.example", host=server.host, port=server.port, debug=True)


def test_the_reason_in_the_ok_is_told_where_the_mailbox_opens_all_the_same(told: Told) -> None:
    reason = '[Error="WrongServerException" AuthResult=0]'
    said = AUTHENTICATE._replace(reply=f"* CAPABILITY IMAP4rev1\n{{tag}} OK {reason} done.")
    with ScriptedImap([GREETING, capability(), said, SELECT, LOGOUT], tls=True) as server:
        with at(server).open(token=TOKEN, ssl_context=server.ssl_context):
            pass
    assert told.lines[0] == "token as it was given, valid for a time that is not known"
    assert told.lines[-1].endswith(f"; the login said: {reason} done.")


def test_nothing_is_told_of_a_token_that_the_server_repeats(told: Told) -> None:
    noop = Step("{tag} NOOP", f"{{tag}} BAD {TOKEN}")
    script = [GREETING, capability(), AUTHENTICATE, SELECT, noop, LOGOUT]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(ImapError) as caught:
            with at(server).open(token=TOKEN, ssl_context=server.ssl_context) as imap:
                imap.noop()
    printed = "".join(traceback.format_exception(caught.value))
    assert "(hidden)" in told.lines[-1]
    for piece in (TOKEN[start : start + 16] for start in range(len(TOKEN) - 16)):
        assert piece not in printed + str(told.lines)


# ---- credentials of others -------------------------------------------------------------------


class Foreign:
    """A credential of the shape of azure-identity's."""

    def __init__(self, token: object) -> None:
        self.token = token

    def get_token(self, *scopes: str) -> Any:
        assert scopes == ("https://outlook.office.com/.default",)
        if isinstance(self.token, Exception):
            raise self.token
        return self.token


def test_a_foreign_credential_is_told_by_its_class(
    inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    issued = options["token"].get_token()
    inbox = dataclasses.replace(inbox, scope="https://outlook.office.com/.default")
    told.lines.clear()
    options["token"] = Foreign(SimpleNamespace(token=issued.token, expires_on=issued.expires_on))
    with inbox.open(**options):
        pass
    assert told.lines[0] == "token from Foreign after N ms, valid for 59 min"
    options["token"] = Foreign(SimpleNamespace(token=issued.token))
    with inbox.open(**options):
        pass
    assert "token from Foreign after N ms, valid for a time that is not known" in told.lines


def test_its_error_is_told_by_its_class_alone(
    inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    inbox = dataclasses.replace(inbox, scope="https://outlook.office.com/.default")
    options["token"] = Foreign(LookupError("whatever it may hold"))
    with pytest.raises(LookupError), inbox.open(**options):
        pass
    assert told.lines[-1] == "refused after N ms: LookupError"


def test_an_error_of_the_body_that_is_not_this_librarys_is_not_told(
    inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    with pytest.raises(LookupError), inbox.open(**options):
        raise LookupError
    assert told.lines[-1].startswith("opened ")


def test_a_log_that_raises_shows_no_token_of_a_foreign_credential(
    inbox: InboxConfig, options: dict[str, Any], told: Told
) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise LookupError

    class Shown(NamedTuple):  # as azure-core's
        token: str
        expires_on: int

    text = "".join(options["token"].get_token().token)  # a plain string, which repr() shows
    options["token"] = Foreign(Shown(text, 0))
    inbox = dataclasses.replace(inbox, scope="https://outlook.office.com/.default")
    told.addFilter(refuse)
    with pytest.raises(LookupError) as caught, inbox.open(**options):
        pass
    first = caught.value.__context__  # the second one is of the line that tells of the first
    assert first is not None
    report = traceback.TracebackException.from_exception(first, capture_locals=True)
    frames = [frame for frame in report.stack if frame.filename != __file__]
    assert "get_token" in [frame.name for frame in frames]
    assert text not in str([frame.locals for frame in frames])


@pytest.mark.parametrize("debug", [True, False])
def test_what_is_no_token_is_refused_with_debug_too(
    inbox: InboxConfig, options: dict[str, Any], *, debug: bool
) -> None:
    inbox = dataclasses.replace(inbox, scope="https://outlook.office.com/.default", debug=debug)
    options["token"] = 42
    with pytest.raises(TypeError, match="token must be a TokenSource"):
        inbox.open(**options)
    options["token"] = Foreign(42)
    with pytest.raises(TypeError, match="gave no token with a text, but int"):
        inbox.open(**options).__enter__()
