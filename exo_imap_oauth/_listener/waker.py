"""Wakes a thread that waits: for time to pass, or for a server."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import time
from typing import Self

_LONGEST_WAIT = 86_400.0  # s; poll refuses more than 24 days
# Poll needs no descriptor of its own, and a lack of them must not end who waits for its end.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class Waker:
    """Wakes whoever waits, perhaps for a server at the same time; it does so once, for good.

    Between ``with`` and its end one thread may wait. A signal handler may wake it, so there is
    no lock in it, which :class:`threading.Event` has. A forked child shares the sockets with its
    parent, so there it wakes nobody.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.woken_at = -math.inf  # by the monotonic clock
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._process = 0

    def __enter__(self) -> Self:
        if self._pair is not None and self.is_at_home:
            raise RuntimeError("it is running already, in another thread")
        self._process = os.getpid()
        self._pair = socket.socketpair()
        self._pair[1].setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        pair, self._pair = self._pair, None
        for end in pair or ():
            end.close()

    @property
    def is_at_home(self) -> bool:
        """Whether this is the process in which it is used, and not a fork of it."""
        return self._process == os.getpid()

    def wake(self) -> None:
        """Wake whoever waits, now or later."""
        self.woken_at = time.monotonic()
        self.is_set = True  # first: who has no socket yet looks here
        pair = self._pair
        if pair is not None and self.is_at_home:
            with contextlib.suppress(OSError):  # closed meanwhile, or woken very often
                pair[1].send(b"!")

    def wait(self, seconds: float, server: socket.socket | None = None) -> bool:
        """Wait for so long, a day at most, unless it is woken or the server says something.

        Returns:
            Whether it ended before the time was over.
        """
        assert self._pair is not None  # by __enter__
        return is_readable(seconds, self._pair[0], *((server,) if server else ()))


def is_readable(seconds: float, *sockets: socket.socket) -> bool:
    """Wait for so long, a day at most, until one of these has something to be read."""
    with _Selector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        return bool(selector.select(min(seconds, _LONGEST_WAIT)))
