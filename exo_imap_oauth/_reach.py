"""A TCP connection to a host: made within a time, whatever the name service does, and cut."""

from __future__ import annotations

import codecs
import contextlib
import functools
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._process_lock import looking_up
from exo_imap_oauth._threads import in_thread, let_program_end

if TYPE_CHECKING:
    from collections.abc import Generator

codecs.lookup("idna")  # else the first getaddrinfo() loads it
_ADDRESS_SHARE = 3.0  # s, at least, for one of several addresses to answer

Address = tuple[Any, ...]  # as getaddrinfo() gives it


def addresses_of(host: str, port: int, flags: int = 0) -> list[Address]:
    """The addresses of a host; nothing bounds a name service that hangs."""
    with looking_up():
        return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]


def addresses_in_time(host: str, port: int, timeout: float) -> list[Address]:
    """The same within a time, after which a thread may go on waiting for the name service."""
    with contextlib.suppress(socket.gaierror):  # it is an address, which no service is asked for
        return addresses_of(host, port, socket.AI_NUMERICHOST)
    look_up = functools.partial(addresses_of, host, port)
    try:
        found = in_thread("lookup", look_up)
    except RuntimeError:  # no thread can start: unbounded then
        return look_up()
    try:
        return found.result(timeout)
    except TimeoutError:
        raise TimeoutError(f"the name was not looked up within {timeout:g} s") from None


def first_to_answer(addresses: list[Address], timeout: float) -> socket.socket:
    """Connect to the first address that answers; each has an equal part of the time left.

    Raises:
        OSError: None answers in time.
    """
    ends_at = time.monotonic() + timeout
    failure: OSError = OSError("the host has no address")
    for tried, address in enumerate(addresses):
        left = ends_at - time.monotonic()
        if tried and left <= 0:
            break
        left = max(0.1, left)  # for one try even where the clock jumped while this machine slept
        share = max(_ADDRESS_SHARE, left / (len(addresses) - tried))
        try:
            return _connected(address, min(left, share))
        except OSError as error:
            failure = error
    raise failure


def _connected(address: Address, timeout: float) -> socket.socket:
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        # What goes out in two writes would wait for Nagle's algorithm.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout)
        connection.connect(where)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def cut_after(connection: socket.socket, seconds: float) -> Generator[threading.Event]:
    """Cut a connection that is not done with in time, whatever waits for it.

    Timeouts of a socket start again with each byte, so they see nothing of a peer that drips.
    Where no thread can start, they must do.

    Yields:
        What is set when the connection was cut.
    """
    is_cut = threading.Event()

    def cut() -> None:
        is_cut.set()
        with contextlib.suppress(OSError):
            # Unbound, since SSLSocket.shutdown() would first drop the TLS layer under the reader.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    watchdog = threading.Timer(min(seconds, threading.TIMEOUT_MAX), cut)
    let_program_end(watchdog)
    with contextlib.suppress(RuntimeError):
        watchdog.start()
    try:
        yield is_cut
    finally:
        watchdog.cancel()
        if watchdog.ident is not None:
            watchdog.join()
