"""One thread with one asyncio loop, which serves TLS connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, TypeVar

from exo_imap_oauth._logging import logger

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_T = TypeVar("_T")
_LINE_LIMIT = 1024 * 1024
_SHUTDOWN_TIMEOUT = 2.0  # s that a client has to end TLS from its side


class LoopThread:
    """Serves TLS connections on 127.0.0.1 until it is stopped.

    Every connection is a task from the moment of its TCP accept, so that stopping finds also
    those which are still in their TLS handshake.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._services: list[tuple[socket.socket, Serve]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="LoopbackExchange", daemon=True)

    def listen(self, serve: Serve) -> int:
        """Open a listening socket for a service.

        Returns:
            Its port.
        """
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        listener.setblocking(False)
        self._services.append((listener, serve))
        port: int = listener.getsockname()[1]
        return port

    def start(self) -> None:
        """Start serving."""
        self._thread.start()
        self._ready.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not been stopped."""
        return self._thread.is_alive()

    def call(self, coroutine: Coroutine[None, None, _T]) -> _T:
        """Run a coroutine in the loop, from another thread, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        """End all connections and close everything."""
        if self._thread.ident is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._loop.close()
        for listener, _ in self._services:
            listener.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        accepting = [asyncio.create_task(self._accept(*service)) for service in self._services]
        self._ready.set()
        await self._stopping.wait()
        # asyncio would leak what has just been accepted, and a transport that is cancelled before
        # it is connected: let both come to rest.
        await asyncio.sleep(0)
        await _cancel(accepting)
        for _ in range(3):
            await asyncio.sleep(0)
        await _cancel(list(self._connections))

    async def _accept(self, listener: socket.socket, serve: Serve) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
                # asyncio does so only for sockets it has made itself; it saves 40 ms a command.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:  # gone already, or no file descriptor is left
                logger.debug("loopback: a connection was not accepted: %s", error)
                await asyncio.sleep(0.05)
                continue
            task = loop.create_task(self._connected(connection, serve))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connected(self, connection: socket.socket, serve: Serve) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LINE_LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._tls,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
            )
        except OSError:  # the client does not trust the certificate, or went away
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            logger.debug("loopback: a connection broke: %s", error)
        except Exception:  # noqa: BLE001 - one connection's failure must not end the others
            logger.exception("loopback: a connection failed")
        finally:
            transport.abort()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
