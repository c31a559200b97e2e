"""One thread with one asyncio loop, which serves TLS connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import ssl
    from asyncio.trsock import TransportSocket
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ChooseTls = Callable[[], ssl.SSLContext | None]

_logger = logging.getLogger("exo_imap_oauth.testing")

_T = TypeVar("_T")
_LINE_LIMIT = 1024 * 1024
_SHUTDOWN_TIMEOUT = 2.0  # s that a client has to end TLS from its side


class LoopThread:
    """Serves TLS connections on 127.0.0.1 until it is stopped.

    Every connection is a task from the moment of its TCP accept, so that stopping finds also
    those which are still in their TLS handshake.

    Attributes:
        loop: The loop, which runs from :meth:`start` to :meth:`stop`.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._services: list[tuple[socket.socket, Serve, ChooseTls]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="LoopbackExchange", daemon=True)

    def listen(self, serve: Serve, choose_tls: ChooseTls) -> int:
        """Open a listening socket for a service.

        Args:
            serve: Serves one connection.
            choose_tls: Gives the TLS context of the next one, or None to turn it away.

        Returns:
            Its port.
        """
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        listener.setblocking(False)
        self._services.append((listener, serve, choose_tls))
        port: int = listener.getsockname()[1]
        return port

    def start(self) -> None:
        """Start serving."""
        # Not before: where pytest-socket forbids sockets, it is listen() that fails, and asyncio
        # would leak a loop.
        self.loop = asyncio.SelectorEventLoop()  # on Windows too: it tells of readable sockets
        self._thread.start()
        self._ready.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not been stopped."""
        return self._thread.is_alive()

    def call(self, coroutine: Coroutine[None, None, _T]) -> _T:
        """Run a coroutine in the loop, from another thread, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def drop_connections(self) -> None:
        """End all connections; to be called in the loop."""
        # asyncio would leak a transport that is cancelled before it is connected: let it come
        # to rest first.
        for _ in range(3):
            await asyncio.sleep(0)
        await _cancel(list(self._connections))

    def stop(self) -> None:
        """End all connections and close everything; a second time it does nothing."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self.loop.close()
        for listener, _, _ in self._services:
            listener.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        for service in self._services:
            self._listen_to(*service)
        self._ready.set()
        await self._stopping.wait()
        for listener, _, _ in self._services:
            self.loop.remove_reader(listener)
        await self.drop_connections()

    def _listen_to(self, listener: socket.socket, serve: Serve, choose_tls: ChooseTls) -> None:
        # Not by sock_accept(): what that has just accepted is lost where it is cancelled.
        if not self._stopping.is_set():
            self.loop.add_reader(listener, self._accept, listener, serve, choose_tls)

    def _accept(self, listener: socket.socket, serve: Serve, choose_tls: ChooseTls) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:  # gone already, or no file descriptor is left
            _logger.debug("loopback: a connection was not accepted: %s", error)
            self.loop.remove_reader(listener)
            self.loop.call_later(0.05, self._listen_to, listener, serve, choose_tls)
            return
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # gone already
            # asyncio does so only for sockets it has made itself; it saves 40 ms a command.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = choose_tls()
        serving = self._connected(connection, serve, tls) if tls else _turn_away(connection)
        task = self.loop.create_task(serving)
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connected(
        self, connection: socket.socket, serve: Serve, tls: ssl.SSLContext
    ) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LINE_LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=tls,
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
            _logger.debug("loopback: a connection broke: %s", error)
        except Exception:
            _logger.exception("loopback: a connection failed")
        finally:
            transport.abort()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    _reset_on_close(writer.get_extra_info("socket"))
    writer.transport.abort()


async def _turn_away(connection: socket.socket) -> None:
    # Once the client has begun: Python's ssl leaks a socket that is reset before.
    with connection:
        await asyncio.get_running_loop().sock_recv(connection, 1)
        _reset_on_close(connection)


def _reset_on_close(connection: socket.socket | TransportSocket) -> None:
    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
