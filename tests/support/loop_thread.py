"""An event loop in a thread of its own, for asyncio servers of tests."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_LIMIT = 60.0  # s, for the thread to end
_ROUNDS = 3  # of the loop; what was just accepted has its transport only in the next one


class LoopThread:
    """An event loop that runs from :meth:`start` to :meth:`stop`.

    Attributes:
        loop: The loop; servers may be made in it before it is started.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        """Run the loop."""
        self._thread.start()

    def stop(self, servers: Iterable[asyncio.Server]) -> None:
        """Close the servers and what they are doing, abort what is open, and join the thread."""
        asyncio.run_coroutine_threadsafe(self._close(servers), self.loop).result(_LIMIT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_LIMIT)
        assert not self._thread.is_alive()
        self.loop.close()

    async def _close(self, servers: Iterable[asyncio.Server]) -> None:
        for server in servers:
            server.close()
        await end_connections()


async def end_connections() -> None:
    """Cancel what else the running loop does, and abort its connections, before it is closed.

    One that is forgotten warns when it is collected, in whichever test that is. One that waits
    for its other side, as TLS does, or for what it has to write, would not be closed in time.
    """
    loop: Any = asyncio.get_running_loop()
    idle_rounds = 0
    while idle_rounds < _ROUNDS:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        transports = [each for each in loop._transports.values() if not each._conn_lost]
        idle_rounds = 0 if tasks or transports else idle_rounds + 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)
