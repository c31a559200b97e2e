"""Two hundred clients at once, twice over."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from exo_imap_oauth import TokenSource, open_mailbox
from exo_imap_oauth.testing import ready_exchange

CLIENTS = 200
TIMEOUT = 120.0


@pytest.mark.slow
def test_two_hundred_clients_read_twenty_messages_twice_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = set(threading.enumerate())
    together = threading.Barrier(CLIENTS)
    begin = time.perf_counter()
    with ready_exchange() as exchange:
        started = time.perf_counter() - begin
        address = "newsletter@contoso.example"
        exchange.add_mailbox(address, messages=20)
        exchange.add_mailbox_permission(address, exchange.app.enterprise_object_id)
        source = TokenSource(
            exchange.tenant_id,
            exchange.app.client_id,
            exchange.secret.value,
            token_uri=exchange.token_uri(),
            ssl_context=exchange.ssl_context,
        )

        def read(_number: int) -> list[bytes]:
            with open_mailbox(
                address,
                source,
                host=exchange.host,
                port=exchange.port,
                ssl_context=exchange.ssl_context,
                timeout=TIMEOUT,
            ) as imap:
                together.wait(TIMEOUT)
                _, parts = imap.fetch("1:20", "(BODY.PEEK[])")
                together.wait(TIMEOUT)
            return [part[1] for part in parts if isinstance(part, tuple)]

        begin = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            crowd = [*pool.map(read, range(CLIENTS)), *pool.map(read, range(CLIENTS))]
        read_all = time.perf_counter() - begin
        assert all(messages == crowd[0] for messages in crowd)
        assert len({*crowd[0]}) == 20
        assert [login.outcome for login in exchange.logins] == ["connected"] * 2 * CLIENTS
        assert len(exchange.token_requests) == 1
        begin = time.perf_counter()
    stopped = time.perf_counter() - begin
    left = set(threading.enumerate()) - threads
    gc.collect()  # an unclosed socket or loop would warn here
    with capsys.disabled():
        print(  # noqa: T201 - measured, not asserted
            f" [start {started * 1000:.0f} ms, 2 x {CLIENTS} clients {read_all:.1f} s,"
            f" stop {stopped * 1000:.0f} ms, threads left: {len(left)}] ",
            end="",
        )
    assert not left
