"""Clients that have the inbox of the loopback Exchange open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from testing.loopback_client import Wire, fetch_token, log_in

if TYPE_CHECKING:
    import imaplib
    from collections.abc import Iterator

    from exo_imap_oauth.testing import ReadyExchange


@pytest.fixture(name="imap")
def _imap(exchange: ReadyExchange) -> Iterator[imaplib.IMAP4]:
    imap = log_in(exchange)
    imap.select()
    yield imap
    imap.shutdown()


@pytest.fixture(name="session")
def _session(exchange: ReadyExchange) -> Iterator[Wire]:
    with Wire(exchange) as wire:
        wire.line()
        wire.authenticate(exchange.mailbox, fetch_token(exchange))
        wire.ask("A2 SELECT INBOX")
        yield wire
