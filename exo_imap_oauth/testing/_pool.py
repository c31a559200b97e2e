"""What the pytest fixtures share: servers that stay up, and a clean state for each test."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Literal, Self, overload

from typing_extensions import override

from exo_imap_oauth.testing._exchange import LoopbackExchange
from exo_imap_oauth.testing._ready import ReadyExchange
from exo_imap_oauth.testing._trust import DEFAULT_TRUST
from exo_imap_oauth.token_cache import MemoryTokenCache, replaced_default

if TYPE_CHECKING:
    from collections.abc import Generator

    from exo_imap_oauth.testing._imap_wire import Wire


class ExchangePool(ExitStack):
    """Running servers that are handed out one after the other; leaving it stops them.

    Starting one costs some ten milliseconds, cleaning one about one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._idle: list[LoopbackExchange] = []

    @override
    def __enter__(self) -> Self:
        self.enter_context(DEFAULT_TRUST.kept())
        return self

    @contextmanager
    def factory(self) -> Generator[ExchangeFactory]:
        """A factory for one test; at its end everything is as it was before.

        Tokens that are cached meanwhile are not seen before or after it.
        """
        with replaced_default(MemoryTokenCache()), ExitStack() as trust:
            factory = ExchangeFactory(self, trust)
            try:
                yield factory
            finally:
                for exchange in factory.made:
                    self._take_back(exchange)

    def _take_back(self, exchange: LoopbackExchange) -> None:
        if _a_fetch_goes_on():  # it would use up the faults of the next test
            exchange.__exit__(None, None, None)
            return
        with suppress(RuntimeError):  # it was stopped by the test
            exchange.reset()
            self._idle.append(exchange)

    def take(self, kind: type[LoopbackExchange], wire: Wire) -> LoopbackExchange:
        """A clean one that nobody else uses."""
        for exchange in self._idle:
            if type(exchange) is kind and exchange.wire == wire:
                self._idle.remove(exchange)
                return exchange
        # The factory sees to the trust, which ends with the test and not with the server.
        ready = kind is ReadyExchange
        made = ReadyExchange(trust=False, wire=wire) if ready else LoopbackExchange(wire=wire)
        return self.enter_context(made)


def _a_fetch_goes_on() -> bool:
    """Whether a thread of this library still works for a test that has ended."""
    return any(thread.name.startswith("exo_imap_oauth-") for thread in threading.enumerate())


class ExchangeFactory:
    """Gives loopback Exchanges, which run until the test ends.

    Attributes:
        made: The exchanges that it gave so far.
    """

    def __init__(self, pool: ExchangePool, trust: ExitStack) -> None:
        self._pool = pool
        self._trust = trust
        self.made: list[LoopbackExchange] = []

    @overload
    def __call__(self, *, ready: Literal[True], wire: Wire = "2026") -> ReadyExchange: ...

    @overload
    def __call__(
        self, *, ready: Literal[False] = False, wire: Wire = "2026"
    ) -> LoopbackExchange: ...

    def __call__(self, *, ready: bool = False, wire: Wire = "2026") -> LoopbackExchange:
        """Another exchange, whose CA is in the default trust from now on.

        Args:
            ready: Whether every step of the administrator is done in it; by default none is.
            wire: What its IMAP server speaks, see :class:`LoopbackExchange`.
        """
        exchange = self._pool.take(ReadyExchange if ready else LoopbackExchange, wire)
        self.made.append(exchange)
        self._trust.enter_context(DEFAULT_TRUST.trusted(exchange.ca_pem))
        return exchange
