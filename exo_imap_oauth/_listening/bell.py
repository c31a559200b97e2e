"""Wakes threads that wait: for time to pass, or for a server."""

from __future__ import annotations

import contextlib
import socket
from selectors import EVENT_READ, DefaultSelector
from typing import Self

_LONGEST_WAIT = 86_400.0  # s; epoll refuses more than 24 days


class Bell:
    """Wakes whoever waits, perhaps for a server at the same time; it rings once, for good.

    Between ``with`` and its end one thread may wait. A signal handler may ring, so there is no
    lock in it, which :class:`threading.Event` has.
    """

    def __init__(self) -> None:
        self.has_rung = False
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Self:
        if self._pair is not None:
            raise RuntimeError("it is running already, in another thread")
        self._pair = socket.socketpair()
        self._pair[1].setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        pair, self._pair = self._pair, None
        for end in pair or ():
            end.close()

    def ring(self) -> None:
        """Wake whoever waits, now or later."""
        self.has_rung = True  # first: who has no socket yet looks here
        pair = self._pair
        if pair is not None:
            with contextlib.suppress(OSError):  # closed meanwhile, or rung very often
                pair[1].send(b"!")

    def wait(self, seconds: float, server: socket.socket | None = None) -> None:
        """Wait for so long, a day at most, unless it rings or the server says something."""
        assert self._pair is not None  # by __enter__
        with DefaultSelector() as selector:
            selector.register(self._pair[0], EVENT_READ)
            if server is not None:
                selector.register(server, EVENT_READ)
            selector.select(min(seconds, _LONGEST_WAIT))
