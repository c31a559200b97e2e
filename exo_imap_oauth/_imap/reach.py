"""A TCP connection to a host within a time, whatever the name service and its answers do."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import Any

_Address = tuple[Any, ...]
_Answer = list[_Address] | Exception


def reach(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to the first address of a host that answers.

    Args:
        host: Its name or address.
        port: The port.
        timeout: Seconds for looking up the name, and again for trying its addresses, each of
            which has an equal part of what is left.

    Raises:
        OSError: There is no such name, or none of its addresses answers in time.
    """
    addresses = _look_up(host, port, timeout)
    ends_at = time.monotonic() + timeout
    failure: OSError = OSError(f"{host} has no address")
    for position, address in enumerate(addresses):
        left = max(0.0, ends_at - time.monotonic())
        share = left / (len(addresses) - position)
        try:
            # With time for one try even where the clock jumped while this machine slept.
            return socket.create_connection(address[:2], max(share, 0.1))
        except OSError as error:
            failure = error
    raise failure


def _look_up(host: str, port: int, timeout: float) -> list[_Address]:
    """The addresses of a host. Nothing but a thread of its own bounds a name service that hangs."""
    with contextlib.suppress(socket.gaierror):  # it is an address, which no service is asked for
        return _addresses(host, port, socket.AI_NUMERICHOST)
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_addresses(host, port))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            answers.put(error)

    try:
        threading.Thread(target=ask, name="exo_imap_oauth-lookup", daemon=True).start()
    except RuntimeError:  # no thread can start: unbounded then
        ask()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        answer = TimeoutError(f"the name was not looked up within {timeout:g} s")
    if isinstance(answer, Exception):
        raise answer
    return answer


def _addresses(host: str, port: int, flags: int = 0) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [address for *_, address in found]
