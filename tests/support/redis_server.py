"""A real redis-server on a free loopback port, with a folder of its own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

import redis

from support import HOST

if TYPE_CHECKING:
    from collections.abc import Callable
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
        cluster: Whether it is a cluster of this one server.
    """

    def __init__(self, binary: str, folder: Path, *, cluster: bool = False) -> None:
        self._binary = binary
        self._folder = folder
        self._is_cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def client(self, **options: Any) -> Any:
        """A new client, as patient as one may be; redis-py's own types are incomplete."""
        kind: Any = redis.RedisCluster if self._is_cluster else redis.Redis
        patience = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0}
        return kind.from_url(self.url, **patience | options)

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", HOST, "--dir", str(self._folder)]
        if self._is_cluster:
            options += ["--cluster-enabled", "yes", "--cluster-port", str(_free_port())]
        self._process = subprocess.Popen(
            [self._binary, *options, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        kind: Any = redis.Redis
        with kind(host=HOST, port=self.port) as client:
            self._wait_until(client.ping)
            if self._is_cluster:
                with contextlib.suppress(redis.ResponseError):  # it has them already
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
                self._wait_until(lambda: client.set("a key", "a value"))

    def _wait_until(self, step: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + _LIMIT
        while True:
            try:
                step()
            except redis.RedisError:
                assert time.monotonic() < give_up_at
                assert self._process is not None
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


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port
