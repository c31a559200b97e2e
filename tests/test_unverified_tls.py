"""A token over TLS that nobody verified: allowed, but not without a word."""

from __future__ import annotations

import imaplib
import ssl
import warnings
from typing import TYPE_CHECKING

import pytest
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import TokenSource, authenticate_xoauth2, imap
from exo_imap_oauth.errors import InsecureConnectionError, UnverifiedTlsWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"
REFUSED = Step("{tag} AUTHENTICATE .+", "{tag} OK done.", optional=True)
SCRIPT = [GREETING, capability(), REFUSED, LOGOUT]


@pytest.fixture(autouse=True)
def _not_warned_yet() -> Iterator[None]:
    imap._warn_of_unverified_tls.cache_clear()
    yield
    imap._warn_of_unverified_tls.cache_clear()


def log_in(server: ScriptedImap, *, verified: bool = False) -> None:
    context = server.ssl_context if verified else None
    with imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context) as connection:
        authenticate_xoauth2(
            connection, USER, TOKEN, verify_mailbox=False, allow_unverified_tls=True
        )


def test_it_warns_once_in_a_process_and_names_the_caller() -> None:
    with ScriptedImap(SCRIPT, SCRIPT, tls=True) as server:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            log_in(server)
            log_in(server)
    (warning,) = caught
    assert warning.category is UnverifiedTlsWarning
    assert issubclass(UnverifiedTlsWarning, UserWarning)
    assert warning.filename == __file__


def test_made_an_error_it_keeps_the_token_back_each_time() -> None:
    with ScriptedImap(SCRIPT, SCRIPT, tls=True) as server:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("error", UnverifiedTlsWarning)
                with pytest.raises(UnverifiedTlsWarning):
                    log_in(server)
    assert not [line for line in server.lines if b"AUTHENTICATE" in line]


@pytest.mark.parametrize("checks", ["nothing", "all but the name"])
def test_what_is_not_checked_is_called_by_its_name(checks: str) -> None:
    """getmail, for one, compares the name itself, afterwards."""
    with ScriptedImap(SCRIPT, SCRIPT, tls=True) as server:
        context = ssl._create_unverified_context()
        if checks == "all but the name":
            context = server.ssl_context
            context.check_hostname = False
        says = "its name is not compared" if context.verify_mode else "the server's certificate"
        for allowed in (False, True):
            with imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context) as connection:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", UnverifiedTlsWarning)
                    with pytest.raises((InsecureConnectionError, UnverifiedTlsWarning)) as raised:
                        authenticate_xoauth2(connection, USER, TOKEN, allow_unverified_tls=allowed)
            assert says in str(raised.value)
        with pytest.raises(InsecureConnectionError, match=says):
            TokenSource("contoso.example", "id", "secret", ssl_context=context)


def test_a_verified_connection_needs_no_warning() -> None:
    with ScriptedImap(SCRIPT, tls=True) as server:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            log_in(server, verified=True)
