"""An HTTP proxy (CONNECT) that may ask for a password and may inspect TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from support import HOST, server_context
from support.loop_thread import LoopThread

if TYPE_CHECKING:
    import trustme


@dataclass(eq=False)
class ConnectProxy:
    """A proxy that leads every connection to one server, whatever its name.

    Args:
        upstream: Host and port of that server, which speaks TLS.
        trusted: What the proxy trusts where it inspects.
        user_and_password: What it asks for, such as ``user:password``.
        inspector: The authority of the certificates with which it opens TLS, if it does so.
        status: What it answers in place of opening a tunnel.

    Attributes:
        targets: What it was asked to connect to.
        seen: What clients sent and it could read.
        port: Its port.
        inspecting_port: Where it does the same without CONNECT, if it inspects.
    """

    upstream: tuple[str, int]
    trusted: ssl.SSLContext | None = None
    user_and_password: str | None = None
    inspector: trustme.CA | None = None
    inspected_host: str = "localhost"
    status: str = ""
    targets: list[str] = field(default_factory=list[str])
    seen: bytearray = field(default_factory=bytearray)
    port: int = 0
    inspecting_port: int = 0

    def __enter__(self) -> Self:
        """Listen."""
        self._thread = LoopThread("proxy")
        loop = self._thread.loop
        self._servers = [loop.run_until_complete(asyncio.start_server(self._serve, HOST, 0))]
        self.port = self._servers[0].sockets[0].getsockname()[1]
        if self.inspector is not None:
            context = server_context(self.inspector.issue_cert(self.inspected_host))
            inside = asyncio.start_server(self._inspect, HOST, 0, ssl=context)
            self._servers.append(loop.run_until_complete(inside))
            self.inspecting_port = self._servers[1].sockets[0].getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open and join the thread."""
        self._thread.stop(self._servers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.targets.append(head.split()[1])
            self.seen += head.encode()
            refusal = self.status or self._refusal(head)
            writer.write(f"HTTP/1.1 {refusal or '200 Connection established'}\r\n\r\n".encode())
            if refusal:
                await writer.drain()
                return
            inside = (HOST, self.inspecting_port) if self.inspecting_port else self.upstream
            await self._tunnel(reader, writer, *await asyncio.open_connection(*inside))

    def _refusal(self, head: str) -> str:
        if self.user_and_password is None:
            return ""
        basic = base64.b64encode(self.user_and_password.encode()).decode()
        known = f"proxy-authorization: basic {basic}".casefold() in head.casefold()
        return "" if known else "407 Proxy Authentication Required"

    async def _inspect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, ssl.SSLError):
            upstream = await asyncio.open_connection(*self.upstream, ssl=self.trusted)
            await self._tunnel(reader, writer, *upstream, opened=True)

    async def _tunnel(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
        *,
        opened: bool = False,
    ) -> None:
        with contextlib.closing(upstream_writer):
            there = asyncio.create_task(self._pump(reader, upstream_writer, opened=opened))
            back = asyncio.create_task(self._pump(upstream_reader, writer, opened=False))
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, opened: bool
    ) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65_536):
                if opened:
                    self.seen += data
                writer.write(data)
                await writer.drain()
