"""A transparent TCP proxy that remembers what passed, and in which order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from support import HOST
from support.loop_thread import end_connections

_LIMIT = 60.0  # s, for the proxy's thread to come up or to end


class Flight(NamedTuple):
    """What one side sent until the other side spoke."""

    sender: Literal["client", "server"]
    data: bytes


@dataclass(eq=False)
class Connection:
    """One connection through the proxy; grows as long as it is open."""

    _chunks: list[Flight] = field(default_factory=list[Flight])

    @property
    def flights(self) -> list[Flight]:
        """What passed, in order; neighbours have different senders."""
        merged: list[Flight] = []
        for sender, data in list(self._chunks):
            if merged and merged[-1].sender == sender:
                merged[-1] = Flight(sender, merged[-1].data + data)
            else:
                merged.append(Flight(sender, data))
        return merged

    @property
    def sent_by_client(self) -> bytes:
        """All that the client sent."""
        return b"".join(data for sender, data in list(self._chunks) if sender == "client")

    @property
    def sent_by_server(self) -> bytes:
        """All that the server sent."""
        return b"".join(data for sender, data in list(self._chunks) if sender == "server")

    @property
    def round_trips(self) -> int:
        """How often a client on a slow link has waited so far, the TCP handshake included.

        One for that handshake, one for a greeting without TLS (the server speaks first, but
        only after the client's last packet of the handshake), one per answered client flight.
        """
        senders = [flight.sender for flight in self.flights]
        greeting = senders[:1] == ["server"]
        answered = sum(pair == ("client", "server") for pair in itertools.pairwise(senders))
        return 1 + greeting + answered

    def record(self, sender: Literal["client", "server"], data: bytes) -> None:
        """Note what passes; the proxy calls it before it forwards."""
        self._chunks.append(Flight(sender, data))


class CountingProxy:
    """Forwards every connection to one server and counts flights; never looks into TLS.

    A chunk is recorded before it is forwarded, so whoever has received an answer finds it,
    and the question before it, already recorded.

    Args:
        host: The server to forward to.
        port: Its port.

    Attributes:
        host: ``127.0.0.1``, where clients connect.
        port: The proxy's own port.
        connections: What passed, one per connection in the order of their arrival.

    Raises:
        OSError: On exit, if the server could not be reached for a client.
    """

    host = HOST

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._ready = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="counting-proxy", daemon=True)
        self.port = 0
        self.connections: list[Connection] = []

    @property
    def sent_by_client(self) -> bytes:
        """All that clients sent, over all connections."""
        return b"".join(connection.sent_by_client for connection in self.connections)

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        if not self._ready.wait(_LIMIT):
            raise TimeoutError
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close what is open and join the thread."""
        # The loop is closed already where the thread failed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_LIMIT)
        assert not self._thread.is_alive()
        for failure in self._failures:
            if error is None:
                raise failure
            error.add_note(f"CountingProxy: {failure!r}")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - __exit__ raises it in the test's thread
            self._failures.append(error)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        # No coroutine function: asyncio would own its task, and log the cancelled ones.
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection()
            self.connections.append(connection)
            tasks.add(self._loop.create_task(self._forward(connection, reader, writer)))

        server = await asyncio.start_server(accept, sock=self._listener)
        self._ready.set()
        await self._closing.wait()
        server.close()
        await end_connections()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self._failures += [
            result
            for result in results
            if result is not None and not isinstance(result, asyncio.CancelledError)
        ]

    async def _forward(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.closing(writer):
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            with contextlib.closing(upstream_writer):
                await asyncio.gather(
                    _pump(connection, "client", reader, upstream_writer),
                    _pump(connection, "server", upstream_reader, writer),
                )


async def _pump(
    connection: Connection,
    sender: Literal["client", "server"],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    # A reset is how either side may end a connection: passed on as an end.
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            connection.record(sender, data)
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
