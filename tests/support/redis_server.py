"""A real redis-server on a free loopback port, with a folder of its own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

import redis

from support import HOST

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT = 20.0  # s, to start or to stop


def find_redis() -> str | None:
    """The path of redis-server, or of valkey-server, or None."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """Runs between ``with`` and its end, and can be stopped, frozen and started in between.

    Args:
        binary: From :func:`find_redis`.
        folder: An empty folder of its own.
    """

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server((HOST, 0)) as free:
            self.port: int = free.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def client(self, **options: Any) -> Any:
        """A new client; redis-py's own types are incomplete."""
        kind: Any = redis.Redis
        return kind.from_url(self.url, **options)

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", HOST, "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            [self._binary, *options, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up_at = time.monotonic() + _LIMIT
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    assert time.monotonic() < give_up_at
                    assert self._process.poll() is None, "redis-server ended"
                    time.sleep(0.02)
                else:
                    return

    def stop(self) -> None:
        """Kill it: what it held is lost, as after a failure."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_LIMIT)
            self._process = None

    def freeze(self) -> None:
        """Have it answer nobody, while connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
