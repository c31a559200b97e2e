r"""Fixtures that stand in for a Microsoft 365 tenant; they need the extra ``testing``.

Any test run loads this file, so it imports nothing but pytest.

For example::

    def test_my_listener(exchange_online, tmp_path):
        conf = exchange_online.write_config(tmp_path)
        exchange_online.deliver(exchange_online.mailbox, b"Subject: hello\r\n\r\n")
        assert my_program.run(conf) == 4
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.testing import ExchangeFactory, ReadyExchange
    from exo_imap_oauth.testing._pool import ExchangePool


@pytest.fixture(scope="session")
def _exo_imap_oauth_pool() -> Iterator[ExchangePool]:
    """The servers of this test run, or of this worker of pytest-xdist."""
    try:
        from exo_imap_oauth.testing._pool import ExchangePool  # noqa: PLC0415 - loaded on use
    except ImportError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    with ExchangePool() as pool:
        yield pool


@pytest.fixture
def exchange_factory(_exo_imap_oauth_pool: ExchangePool) -> Iterator[ExchangeFactory]:
    """A function that gives a loopback Exchange Online in which nothing is set up yet.

    ``exchange_factory(ready=True)`` gives one like ``exchange_online``. All are independent of
    each other, run until the test ends, and are trusted by default, by way of
    ``SSL_CERT_FILE`` and ``REQUESTS_CA_BUNDLE``. The process-wide token cache starts empty.
    """
    with _exo_imap_oauth_pool.factory() as factory:
        yield factory


@pytest.fixture
def exchange_online(exchange_factory: ExchangeFactory) -> ReadyExchange:
    """A loopback Exchange Online with one application and one mailbox with three messages."""
    return exchange_factory(ready=True)


@pytest.fixture
def exchange_inbox(
    exchange_online: ReadyExchange, tmp_path_factory: pytest.TempPathFactory
) -> InboxConfig:
    """The inbox of ``exchange_online``: ``exchange_inbox.open()`` opens the mailbox."""
    from exo_imap_oauth import load_config  # noqa: PLC0415 - loaded on use

    folder = tmp_path_factory.mktemp("exchange_inbox")
    return load_config(exchange_online.write_config(folder), environ={}).default
