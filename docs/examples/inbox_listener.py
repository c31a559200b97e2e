"""Hand each unread message of every inbox of a cmsbs-conf to a function, until SIGTERM.

    python inbox_listener.py /path/to/cmsbs-conf

A message is handed over first and marked as read afterwards: a crash in between repeats it, and
loses none. Whatever goes wrong on the way, the listener says so and tries again.
"""

from __future__ import annotations

import imaplib
import logging
import random
import select
import signal
import socket
import sys
import threading
import time
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import AccessToken, InboxConfig, load_config
from exo_imap_oauth.errors import ExoImapOAuthError

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage
    from os import PathLike

    Handle = Callable[[InboxConfig, EmailMessage], None]

logger = logging.getLogger(__name__)
IDLE_TAG = b"IDLE"
NEW_TOKEN_EVERY = 5.0  # s between looks for the new token, once one is being fetched


class Stop:
    """Tells all listeners to stop; they may wait for it and for a server at the same time."""

    def __init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        self._event = threading.Event()

    def set(self) -> None:
        """Stop. A signal handler may call it."""
        self._event.set()
        self._waker.send(b"!")

    def is_set(self) -> bool:
        """Whether it is time to stop."""
        return self._event.is_set()

    def wait(self, seconds: float, server: socket.socket | None = None) -> None:
        """Wait for so long, unless the server says something or it is time to stop."""
        select.select([self._woken, *([server] if server else [])], [], [], seconds)

    def close(self) -> None:
        """Free its sockets."""
        self._woken.close()
        self._waker.close()


class InboxListener:
    """Listens to one inbox.

    Args:
        inbox: The inbox.
        handle: Gets each message. If it raises, the message stays unread and is handed over
            again at the next look. Listeners of several inboxes call it from several threads.
        stop: Ends :meth:`run`.
        timeout: Seconds that the server has for each answer.
        look_every: Seconds between two looks into the inbox, if the server says nothing.
        pause: Seconds before another try after a failure; doubled each time.
        longest_pause: Seconds of the longest pause, and of that after a failure that somebody
            has to fix. What a server asks for counts more than both.
    """

    def __init__(
        self,
        inbox: InboxConfig,
        handle: Handle,
        stop: Stop,
        *,
        timeout: float = 30.0,
        look_every: float = 60.0,
        pause: float = 1.0,
        longest_pause: float = 300.0,
    ) -> None:
        self._inbox = inbox
        self._handle = handle
        self._stop = stop
        self._timeout = timeout
        self._look_every = look_every
        self._pause = pause
        self._longest_pause = longest_pause
        self._source = inbox.token_source()
        self._failures = 0
        # What was handed over and may not be marked, since the connection broke just then.
        self._unmarked: set[tuple[object, bytes]] = set()

    def run(self) -> None:
        """Listen until it is time to stop."""
        while not self._stop.is_set():
            try:
                self._session()
            except (ExoImapOAuthError, imaplib.IMAP4.error, OSError) as error:
                self._failures += 1
                pause = self._pause_after(error)
                logger.warning("%s: %s\nTrying again in %.1f s", self._inbox.name, error, pause)
                self._stop.wait(pause)

    def _pause_after(self, error: Exception) -> float:
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, (int, float)):
            return asked
        if not getattr(error, "retryable", True):
            return self._longest_pause
        pause = self._pause * 2.0 ** min(self._failures - 1, 20)
        return min(pause, self._longest_pause) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def _session(self) -> None:
        """One connection: until it is time to stop, or for a new token."""
        with self._inbox.open(token=self._source, timeout=self._timeout) as imap:
            token = self._source.get_token()
            _, (validity, *_) = imap.response("UIDVALIDITY")
            while not self._stop.is_set():
                imap.response("EXISTS")  # forget what was said before the search
                self._look(imap, validity)
                self._failures = 0
                # Asking for the token is what starts to fetch the next one, ahead of time.
                if self._source.get_token().token != token.token:
                    return
                if imap.response("EXISTS")[1] == [None]:  # else mail came during the look
                    self._wait(imap, token)

    def _look(self, imap: imaplib.IMAP4, validity: object) -> None:
        """Hand over what is unread."""
        (uids,) = _ok(imap.uid("SEARCH", "UNSEEN"))
        for uid in (uids or b"").split():
            if self._stop.is_set():
                return
            key = validity, uid
            if key not in self._unmarked:
                raw = _literal(_ok(imap.uid("FETCH", uid.decode(), "(BODY.PEEK[])")))
                if raw is None:  # somebody else removed it
                    continue
                try:
                    self._handle(self._inbox, message_from_bytes(raw, policy=policy.default))
                except Exception:
                    logger.exception("%s: message %r", self._inbox.name, uid)
                    continue
                self._unmarked.add(key)
            _ok(imap.uid("STORE", uid.decode(), "+FLAGS.SILENT", r"(\Seen)"))
            self._unmarked.discard(key)

    def _wait(self, imap: imaplib.IMAP4, token: AccessToken) -> None:
        """Wait until there may be something to do."""
        until_refresh = max(token.refresh_on - time.time(), NEW_TOKEN_EVERY)
        seconds = min(self._look_every, until_refresh)
        if "IDLE" in imap.capabilities:
            idle(imap, self._stop, seconds)
        else:
            self._stop.wait(seconds)


def idle(imap: imaplib.IMAP4, stop: Stop, seconds: float) -> None:
    """IDLE (RFC 2177) for so long, unless the server says something or it is time to stop.

    imaplib has it from Python 3.14 on only. What the server says in one packet with its first
    ``+`` stays in imaplib's buffer and is noticed when the time is over.
    """
    imap.send(IDLE_TAG + b" IDLE\r\n")
    line = _line(imap, (b"+", IDLE_TAG))
    if line.startswith(b"+"):
        stop.wait(seconds, imap.sock)
        imap.send(b"DONE\r\n")
        line = _line(imap, (IDLE_TAG,))
    if not line.startswith(IDLE_TAG + b" OK"):
        raise imaplib.IMAP4.error(line.decode(errors="replace"))


def _line(imap: imaplib.IMAP4, starts: tuple[bytes, ...]) -> bytes:
    """The next line that begins so; what comes before it is what woke us."""
    while not (line := imap.readline()).startswith(starts):
        if not line:
            raise imaplib.IMAP4.abort("socket error: EOF")
        if line.startswith(b"* BYE "):
            raise imaplib.IMAP4.abort(line[6:].decode(errors="replace"))
    return line


def _ok(reply: tuple[str, list[Any]]) -> list[Any]:
    """The data of a reply; imaplib raises for BAD, but not for NO."""
    kind, data = reply
    if kind != "OK":
        raise imaplib.IMAP4.error(f"{kind} {data[-1]!r}")
    return data


def _literal(parts: list[bytes | tuple[bytes, bytes] | None]) -> bytes | None:
    return next((part[1] for part in parts if isinstance(part, tuple)), None)


def listen(path: str | PathLike[str], handle: Handle, stop: Stop) -> None:
    """Listen to all inboxes of a configuration, each in a thread, until it is time to stop."""
    listeners = [InboxListener(inbox, handle, stop) for inbox in load_config(path).values()]
    threads = [threading.Thread(target=listener.run) for listener in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def print_message(inbox: InboxConfig, message: EmailMessage) -> None:
    """What this example does with a message: put what your program does here."""
    # In one piece, for several threads do so.
    print(f"{inbox.name}: {message['Subject']}\n", end="", flush=True)


def main(arguments: list[str]) -> int:
    """Listen until SIGTERM or Ctrl-C."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    stop = Stop()

    def stop_listening(_number: int, _frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, stop_listening)
    signal.signal(signal.SIGINT, stop_listening)
    listen(arguments[0] if arguments else "cmsbs-conf", print_message, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
