"""Any credential, at every door: those of azure-identity, and plain functions."""

from __future__ import annotations

import contextlib
import functools
import http.server
import imaplib
import json
import logging
import math
import re
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.checkup import CHECK_IDS, check
from support.imap import TOKEN, USER, connected
from support.leaks import everything_in
from typing_extensions import override

from exo_imap_oauth import (
    AccessToken,
    InboxConfig,
    authenticate_xoauth2,
    check_setup,
    open_mailbox,
)
from exo_imap_oauth._credentials.foreign import _seconds, as_source, issued_by, of_unknown_age
from exo_imap_oauth.listener import InboxListener, listen
from exo_imap_oauth.testing import ready_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from email.message import EmailMessage
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

LIMIT = 60.0  # s, for what takes some milliseconds on an idle machine
SUBJECT = "system:serviceaccount:mail:reader"
SCOPE = "https://outlook.office365.com/.default"


@pytest.fixture(scope="module", name="exchange")
def _exchange() -> Iterator[ReadyExchange]:
    with ready_exchange(certificate=True, trust=False) as exchange:
        yield exchange


# ---- credentials -----------------------------------------------------------------------------


@dataclass
class Place:
    """Where a credential finds its tenant."""

    exchange: ReadyExchange
    folder: Path

    @property
    def azure(self) -> Any:
        return pytest.importorskip("azure.identity")

    @property
    def options(self) -> dict[str, Any]:
        return {
            "authority": self.exchange.authority,
            "disable_instance_discovery": True,
            "connection_verify": str(self.exchange.write_ca(self.folder / "ca.pem")),
        }

    @property
    def ids(self) -> tuple[str, str]:
        return self.exchange.app.tenant_id, self.exchange.app.client_id

    def own_token(self) -> AccessToken:
        inbox = replace_secret(self.exchange)
        return inbox.token_source(ssl_context=self.exchange.ssl_context).get_token()


def replace_secret(exchange: ReadyExchange) -> InboxConfig:
    """The inbox, with the client secret in place of the certificate."""
    return replace(exchange.inbox, certificate=None, client_secret=exchange.secret.value)


@contextlib.contextmanager
def secret(place: Place) -> Generator[Any]:
    value = place.exchange.secret.value
    with place.azure.ClientSecretCredential(*place.ids, value, **place.options) as credential:
        yield credential


@contextlib.contextmanager
def certificate(place: Place) -> Generator[Any]:
    assert place.exchange.certificate
    pem = place.exchange.certificate.pem
    with place.azure.CertificateCredential(
        *place.ids, certificate_data=pem, **place.options
    ) as credential:
        yield credential


@contextlib.contextmanager
def workload(place: Place) -> Generator[Any]:
    trust = place.exchange.add_federated_credential(
        place.exchange.app, "https://cluster.example", SUBJECT
    )
    file = place.folder / "token"
    file.write_text(trust.assertion())
    tenant_id, client_id = place.ids
    with place.azure.WorkloadIdentityCredential(
        tenant_id=tenant_id, client_id=client_id, token_file_path=str(file), **place.options
    ) as credential:
        yield credential


@contextlib.contextmanager
def managed(place: Place) -> Generator[Any]:
    """A managed identity of an App Service, whose endpoint gives tokens of the tenant."""

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            assert asked["resource"] == ["https://outlook.office365.com"]
            token = place.own_token()
            answer = {
                "access_token": token.token,
                "expires_on": str(token.expires_on),
                "resource": asked["resource"][0],
                "token_type": "Bearer",
            }
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            uri = f"http://127.0.0.1:{server.server_port}/msi/token"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("IDENTITY_ENDPOINT", uri)
                patch.setenv("IDENTITY_HEADER", "header")
                with place.azure.ManagedIdentityCredential() as credential:
                    yield credential
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def function_of_a_text(place: Place) -> Generator[Any]:
    yield lambda: place.own_token().token


@contextlib.contextmanager
def function_of_a_token(place: Place) -> Generator[Any]:
    yield functools.partial(place.own_token)


CREDENTIALS = [secret, certificate, workload, managed, function_of_a_text, function_of_a_token]


# ---- doors -----------------------------------------------------------------------------------


def by_authenticate(exchange: ReadyExchange, token: Any) -> None:
    imap = connected(exchange)
    try:
        authenticate_xoauth2(imap, USER, token)
        assert imap.select() == ("OK", [b"3"])
    finally:
        imap.shutdown()


def by_open_mailbox(exchange: ReadyExchange, token: Any) -> None:
    with open_mailbox(
        USER, token, host=exchange.host, port=exchange.port, ssl_context=exchange.ssl_context
    ) as imap:
        assert imap.state == "SELECTED"


def bare(exchange: ReadyExchange) -> InboxConfig:
    """An inbox without a credential of its own."""
    return InboxConfig(user=exchange.mailbox, host=exchange.host, port=exchange.port)


def by_inbox(exchange: ReadyExchange, token: Any) -> None:
    with bare(exchange).open(token=token, ssl_context=exchange.ssl_context) as imap:
        assert imap.state == "SELECTED"


def by_check_up(exchange: ReadyExchange, token: Any) -> None:
    report = check_setup(bare(exchange), token_source=token, ssl_context=exchange.ssl_context)
    assert [each.id for each in report.checks] == CHECK_IDS
    assert report.ok, str(report)
    assert "AttributeError" not in str(report.as_dict())
    assert "does not tell its endpoint" in check(report, "token-endpoint").detail
    assert check(report, "role").status == "passed"


def by_listener(exchange: ReadyExchange, token: Any) -> None:
    told: list[Exception] = []
    seen: list[EmailMessage] = []

    def handle(_: InboxConfig, message: EmailMessage) -> None:
        seen.append(message)
        listener.stop()

    def on_failure(_: InboxConfig, error: Exception, __: float) -> None:
        told.append(error)
        listener.stop()

    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")
    listener = InboxListener(
        bare(exchange),
        handle,
        token=token,
        ssl_context=exchange.ssl_context,
        on_failure=on_failure,
        timeout=LIMIT,
    )
    listener.run()
    assert not told
    assert seen


DOORS = [by_authenticate, by_open_mailbox, by_inbox, by_check_up, by_listener]


@pytest.mark.parametrize("credential", CREDENTIALS, ids=lambda each: each.__name__)
def test_every_credential_opens_every_door(
    exchange: ReadyExchange,
    tmp_path: Path,
    credential: Callable[[Place], contextlib.AbstractContextManager[Any]],
) -> None:
    exchange.reset()
    with credential(Place(exchange, tmp_path)) as token:
        for door in DOORS:
            door(exchange, token)


def test_listen_takes_them_too(exchange: ReadyExchange, tmp_path: Path) -> None:
    exchange.reset()
    exchange.deliver(exchange.mailbox, b"Subject: new\r\n\r\n")

    def handle(_: InboxConfig, __: EmailMessage) -> None:
        raise SystemExit(5)  # which ends all listeners

    place = Place(exchange, tmp_path)
    with pytest.raises(SystemExit):
        listen(
            [bare(exchange)],
            handle,
            token=lambda: place.own_token().token,
            ssl_context=exchange.ssl_context,
        )


# ---- what cannot be asked --------------------------------------------------------------------


class AioCredential:
    """As those of azure.identity.aio are."""

    async def get_token(self, *_: str) -> AccessToken:
        raise AssertionError


class Aio:
    """A function that has to be awaited, as an object."""

    async def __call__(self) -> str:
        raise AssertionError


async def fetch_token() -> str:
    raise AssertionError


def gives_a_coroutine() -> Any:
    return fetch_token()


class GivesACoroutine:
    def get_token(self, *_: str) -> Any:
        return fetch_token()


CANNOT = [
    (AioCredential(), "AioCredential is an asynchronous credential.*use its synchronous twin"),
    (GivesACoroutine(), "GivesACoroutine is an asynchronous credential"),
    (Aio(), "the function Aio has to be awaited.*give a plain function"),
    (functools.partial(fetch_token), "the function partial has to be awaited"),
    (gives_a_coroutine, "the function gives_a_coroutine has to be awaited"),
    (AioCredential, r"not the class [\w.]+AioCredential itself"),
    (lambda: {"access_token": TOKEN}, r"<lambda>\(\) gave no token with a text, but dict"),
    (lambda: None, r"<lambda>\(\) gave no token with a text, but NoneType"),
    ({"access_token": TOKEN}, "a function that returns a token.*, not dict"),
    (5, "a function that returns a token.*, not int"),
]


@pytest.mark.parametrize("door", [by_authenticate, by_open_mailbox, by_inbox])
@pytest.mark.parametrize(("token", "text"), CANNOT)
def test_what_cannot_give_a_token_is_a_type_error(
    exchange: ReadyExchange, door: Callable[[ReadyExchange, Any], None], token: Any, text: str
) -> None:
    before = len(exchange.logins)
    with pytest.raises(TypeError, match=text) as caught:
        door(exchange, token)
    assert len(exchange.logins) == before
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("token", [AioCredential(), Aio(), AioCredential, 5])
def test_an_inbox_that_is_told_of_refuses_it_in_the_same_words(
    exchange: ReadyExchange, token: Any
) -> None:
    texts: list[str] = []
    for debug in (False, True):
        with pytest.raises(TypeError) as caught:
            replace(bare(exchange), debug=debug).open(token=token)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


def test_an_inbox_that_is_told_of_names_the_function(
    exchange: ReadyExchange, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    exchange.reset()
    issued = Place(exchange, tmp_path).own_token()

    def fetch_it() -> str:
        return issued.token

    inbox = replace(bare(exchange), debug=True)
    with inbox.open(token=fetch_it, ssl_context=exchange.ssl_context):
        pass
    assert "token from fetch_it after" in caplog.text
    assert issued.token not in caplog.text


@pytest.mark.parametrize(("token", "text"), CANNOT)
def test_the_check_up_reports_it(exchange: ReadyExchange, token: Any, text: str) -> None:
    report = check_setup(bare(exchange), token_source=token, ssl_context=exchange.ssl_context)
    assert [each.id for each in report.checks] == CHECK_IDS
    failure = report.first_failure
    assert failure
    assert failure.id in ("config", "token")
    # It names its own argument, and what that takes.
    assert re.search(text.replace(".*", ".*?"), failure.detail)
    assert TOKEN not in str(report.as_dict())


@pytest.mark.parametrize("token", [AioCredential(), Aio(), AioCredential, 5])
def test_a_listener_refuses_it_when_it_is_made(exchange: ReadyExchange, token: Any) -> None:
    with pytest.raises(TypeError, match=r"token|await"):
        InboxListener(bare(exchange), print, token=token)


# ---- what they raise -------------------------------------------------------------------------


def test_azures_refusal_keeps_its_class_and_says_what_it_means(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    exchange.reset()
    place = Place(exchange, tmp_path)
    core = pytest.importorskip("azure.core.exceptions")
    wrong = "wrong~secret/of+some=length"
    with place.azure.ClientSecretCredential(*place.ids, wrong, **place.options) as credential:
        for door in (by_authenticate, by_open_mailbox, by_inbox):
            with pytest.raises(core.ClientAuthenticationError, match="AADSTS7000215") as caught:
                door(exchange, credential)
            (note,) = caught.value.__notes__
            assert note.startswith("Cause: ")
            assert "\n  Fix: " in note
            assert "Certificates & secrets > New client secret" in note
            assert wrong not in everything_in(caught.value)


class VaultError(Exception):
    pass


def raises(error: Exception) -> Callable[[], str]:
    def function() -> str:
        raise error

    return function


def test_a_text_that_nobody_knows_gets_no_note(exchange: ReadyExchange) -> None:
    for text in ("the vault is sealed", "[Errno 111] Connection refused", "HTTP 429"):
        error = VaultError(text)
        with pytest.raises(VaultError) as caught:
            by_open_mailbox(exchange, raises(error))
        assert caught.value is error
        assert not hasattr(error, "__notes__")


def test_an_error_that_is_raised_again_has_its_note_once(exchange: ReadyExchange) -> None:
    error = VaultError("AADSTS7000222: The provided client secret keys are expired.")
    for _ in range(2):
        with pytest.raises(VaultError):
            by_open_mailbox(exchange, raises(error))
    assert len(error.__notes__) == 1


def test_an_error_that_takes_no_note_passes_all_the_same(exchange: ReadyExchange) -> None:
    class StubbornError(Exception):
        @override
        def add_note(self, note: str, /) -> None:
            raise RuntimeError(note)

        @override
        def __str__(self) -> str:
            return "AADSTS7000222"

    with pytest.raises(StubbornError):
        by_open_mailbox(exchange, raises(StubbornError()))


def test_a_listener_logs_what_it_means(
    exchange: ReadyExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "exo_imap_oauth")
    error = VaultError(f"AADSTS7000222: The provided client secret keys are expired.\x1b {TOKEN}")
    told: list[Exception] = []

    def on_failure(_: InboxConfig, error: Exception, __: float) -> None:
        told.append(error)
        listener.stop()

    listener = InboxListener(
        bare(exchange), print, token=raises(error), on_failure=on_failure, timeout=LIMIT
    )
    listener.run()
    assert told == [error]
    assert "VaultError: AADSTS7000222" in caplog.text
    assert "\n  Fix: " in caplog.text
    assert "New client secret" in caplog.text
    assert TOKEN not in caplog.text
    assert "\x1b" not in caplog.text


# ---- how often they are asked ----------------------------------------------------------------


def test_a_login_asks_for_one_token(exchange: ReadyExchange, tmp_path: Path) -> None:
    exchange.reset()
    place = Place(exchange, tmp_path)
    asked: list[AccessToken] = []

    def function() -> AccessToken:
        asked.append(place.own_token())
        return asked[-1]

    by_authenticate(exchange, function)
    by_open_mailbox(exchange, function)
    assert len(asked) == 2


def test_a_session_outlives_a_function_that_gives_a_new_token_each_time(
    exchange: ReadyExchange,
) -> None:
    exchange.reset()
    source = replace_secret(exchange).token_source(ssl_context=exchange.ssl_context)
    subjects: list[str] = []

    def handle(_: InboxConfig, message: EmailMessage) -> None:
        subjects.append(message["Subject"])
        if message["Subject"] == "third":
            listener.stop()
        else:
            following = {"first": b"second", "second": b"third"}.get(subjects[-1])
            if following:
                exchange.deliver(exchange.mailbox, b"Subject: " + following + b"\r\n\r\n")

    exchange.deliver(exchange.mailbox, b"Subject: first\r\n\r\n")
    listener = InboxListener(
        bare(exchange),
        handle,
        token=lambda: source.get_token(claims="{}").token,  # past every cache
        ssl_context=exchange.ssl_context,
        timeout=LIMIT,
    )
    listener.run()
    assert subjects[-3:] == ["first", "second", "third"]
    assert len(exchange.logins) == 1


def test_a_credential_that_can_be_called_too_is_asked_for_its_token() -> None:
    class Both:
        def get_token(self, *_scopes: str) -> AccessToken:
            return of_unknown_age(TOKEN)

        def __call__(self) -> str:
            raise AssertionError

    assert issued_by(as_source(Both()), SCOPE).token == TOKEN


@pytest.mark.parametrize(
    ("expires_on", "refresh_on", "expected"),
    [
        (1_900_000_000, 1_800_000_000, (1_900_000_000, 1_800_000_000)),
        (1_900_000_000.9, None, (1_900_000_000, 0)),
        (math.inf, math.nan, (0, 0)),
        (10**400, -1, (0, 0)),
        ("soon", True, (0, 1)),
    ],
)
def test_times_are_taken_where_they_are_some(
    expires_on: object, refresh_on: object, expected: tuple[int, int]
) -> None:
    class Issued:
        token = TOKEN

        def __init__(self) -> None:
            self.expires_on, self.refresh_on = expires_on, refresh_on

        @property
        def not_told(self) -> int:
            raise LookupError

    class Credential:
        def get_token(self, *scopes: str) -> Issued:
            assert scopes == (SCOPE,)
            return Issued()

    assert _seconds(Issued(), "not_told") == 0
    token = issued_by(Credential(), SCOPE)
    assert (token.expires_on, token.refresh_on) == expected
    assert token.obtained_on > time.time()


def test_nothing_of_a_function_that_logs_in_is_left_in_the_debug_buffer(
    exchange: ReadyExchange, tmp_path: Path
) -> None:
    place = Place(exchange, tmp_path)
    token = place.own_token().token
    imap = imaplib.IMAP4_SSL(exchange.host, exchange.port, ssl_context=exchange.ssl_context)
    try:
        authenticate_xoauth2(imap, USER, lambda: token)
        assert token not in str(vars(imap))
    finally:
        imap.shutdown()
