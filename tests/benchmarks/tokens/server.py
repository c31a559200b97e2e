"""A token endpoint in a process of its own: it counts, is slow, and fails in every way asked."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import threading
from pathlib import Path
from typing import Self

from .behaviour import HOST, Behaviour, Counts
from .server_process import run


class Endpoint:
    """One of the server's ports, and the URLs below it; each tenant is another identity."""

    def __init__(self, server: TokenServer, port: int) -> None:
        self._server = server
        self._port = port
        self.origin = f"https://{HOST}:{port}"

    def token_uri(self, tenant: str) -> str:
        return f"{self.origin}/{tenant}/oauth2/v2.0/token"

    def behave(self, behaviour: Behaviour) -> None:
        self._server.ask("behave", self._port, behaviour)

    def counts(self) -> Counts:
        counts = self._server.ask("counts", self._port)
        assert isinstance(counts, Counts)
        return counts


class TokenServer:
    """The process; a context manager. This process and its children trust its CA meanwhile."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # peers keep connections open
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._lock = threading.Lock()
        self._process = spawn.Process(target=run, args=(theirs,), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        bundle = Path(self._folder.name, "ca.pem")
        bundle.write_bytes(self._pipe.recv())
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(bundle)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    def ask(self, *command: object) -> object:
        with self._lock:
            self._pipe.send(command)
            return self._pipe.recv()

    def open(self, behaviour: Behaviour | None = None) -> Endpoint:
        port = self.ask("open", behaviour or Behaviour())
        assert isinstance(port, int)
        return Endpoint(self, port)
