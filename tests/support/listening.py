"""A listener in a thread of its own, and what it handed over and told."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.listener import InboxListener

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from exo_imap_oauth.mail import Mail
    from support.mail_server import MailServer

LIMIT = 60.0  # s, for what takes some milliseconds on an idle machine
USER = "inbox@contoso.example"


class Told(NamedTuple):
    """A call of ``on_failure``."""

    error: Exception
    pause: float


class Listening:
    """What a listener did so far; ``handle`` may raise or wait after a message is noted."""

    def __init__(self, handle: Callable[[Mail], object] | None = None) -> None:
        self._then = handle
        self._changed = threading.Condition()
        self.handled: list[int] = []
        self.subjects: list[str] = []
        self.told: list[Told] = []
        self.gives_up = False
        self.listener: InboxListener

    def handle(self, _inbox: InboxConfig, mail: Mail) -> object:
        with self._changed:
            self.handled.append(mail.uid)
            self.subjects.append(mail["Subject"])
            self._changed.notify_all()
        return self._then(mail) if self._then else None

    def on_failure(self, _inbox: InboxConfig, error: Exception, pause: float) -> bool:
        with self._changed:
            self.told.append(Told(error, pause))
            self._changed.notify_all()
        return self.gives_up

    @property
    def errors(self) -> list[Exception]:
        return [told.error for told in self.told]

    def wait_for_handled(self, number: int) -> list[int]:
        self._wait_for(lambda: len(self.handled) >= number)
        return list(self.handled)

    def wait_for_told(self, number: int = 1) -> list[Told]:
        self._wait_for(lambda: len(self.told) >= number)
        return list(self.told)

    def _wait_for(self, predicate: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(predicate, LIMIT), (self.handled, self.told)


def inbox_of(server: MailServer, **fields: Any) -> InboxConfig:
    """The mailbox of the server."""
    return InboxConfig(user=USER, host=server.host, port=server.port, **fields)


def listener_of(
    server: MailServer,
    listening: Listening,
    *,
    inbox: dict[str, Any] | None = None,
    **options: Any,
) -> InboxListener:
    """A listener that hardly waits for the next try; ``inbox`` has fields of its inbox."""
    defaults: dict[str, Any] = {
        "token": "a-token",
        "ssl_context": server.ssl_context,
        "on_failure": listening.on_failure,
        "timeout": LIMIT,
        "poll_interval": LIMIT,
        "initial_backoff": 0.01,
        "max_backoff": 0.05,
    }
    listening.listener = InboxListener(
        inbox_of(server, **(inbox or {})), listening.handle, **(defaults | options)
    )
    return listening.listener


@contextlib.contextmanager
def listening_to(
    server: MailServer, handle: Callable[[Mail], object] | None = None, **options: Any
) -> Generator[Listening]:
    """A listener at this server that runs in the body."""
    listening = Listening(handle)
    listener_of(server, listening, **options)
    with running(listening):
        yield listening


@contextlib.contextmanager
def running(listening: Listening) -> Generator[Listening]:
    """The listener that it belongs to runs in the body."""
    thread = threading.Thread(target=listening.listener.run)
    thread.start()
    try:
        yield listening
    finally:
        listening.listener.stop()
        thread.join(LIMIT)
        assert not thread.is_alive()
