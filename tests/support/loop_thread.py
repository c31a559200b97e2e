"""An event loop in a thread of its own, for asyncio servers of tests."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LIMIT = 60.0  # s, for the thread to end


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

    def stop(
        self, servers: Iterable[asyncio.Server], writers: Iterable[asyncio.StreamWriter] = ()
    ) -> None:
        """Close the servers and what they are doing, abort what is open, and join the thread."""
        asyncio.run_coroutine_threadsafe(self._close(servers, writers), self.loop).result(_LIMIT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_LIMIT)
        assert not self._thread.is_alive()
        self.loop.close()

    async def _close(
        self, servers: Iterable[asyncio.Server], writers: Iterable[asyncio.StreamWriter]
    ) -> None:
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in writers:  # TLS would wait for the other side to close as well
            writer.transport.abort()
