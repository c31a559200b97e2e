"""Hands each unread message of an inbox to a function, until it is stopped.

A message is handed over first and marked as read afterwards: a crash in between repeats it, and
loses none. Whatever goes wrong on the way, the listener reports it and tries again.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import math
import signal
import socket
import threading
import time
from concurrent.futures import wait
from contextvars import copy_context
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypedDict

from typing_extensions import override

from exo_imap_oauth._credentials.foreign import issued_by
from exo_imap_oauth._imap.bearer import sealed
from exo_imap_oauth._imap.idle import idle
from exo_imap_oauth._listening.bell import Bell
from exo_imap_oauth._listening.retries import Retries
from exo_imap_oauth._listening.unread import MessageNotHandled, Unread
from exo_imap_oauth._text import check_seconds, one_line
from exo_imap_oauth._threads import in_thread
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.token_source import TokenSource

if TYPE_CHECKING:
    import imaplib
    import ssl
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from email.message import EmailMessage

    from typing_extensions import Unpack

    from exo_imap_oauth.imap import Token
    from exo_imap_oauth.inbox import InboxConfig

__all__ = ["InboxListener", "ListenerOptions", "MessageNotHandled", "listen"]

_logger = logging.getLogger(__name__)

_NEW_TOKEN_EVERY = 5.0  # s between looks for the new token, once one is being fetched
_MARGIN = 300.0  # s before its end from which on a token that does not say is replaced
_SHORTEST_SESSION = 60.0  # s, with a token of a source that is not ours
_GRACE = 0.7  # s that a command under way has when it is time to stop
_LOOK_FOR_STOP = 0.2  # s between looks, while an inbox is being opened


class ListenerOptions(TypedDict, total=False):
    """The options of an :class:`InboxListener`, and so of :func:`listen`."""

    token: Token | None
    ssl_context: ssl.SSLContext | None
    on_failure: Callable[[InboxConfig, Exception, float], None] | None
    timeout: float
    look_every: float
    pause: float
    longest_pause: float


class InboxListener:
    r"""Hands each unread message of an inbox to a function, then marks it as read.

    At least once: a message is marked after ``handle`` has returned, so that only a crash in
    between hands it over twice. If ``handle`` raises, the message stays unread and is handed
    over again, after pauses that grow; the others do not wait for it.

    New mail is noticed at once where the server offers IDLE (RFC 2177), else at the next look.
    Shortly before its token ends, a session is closed and another one opened.

    Args:
        inbox: The inbox. Its folder is opened for writing.
        handle: Called with the inbox and each message, from several threads if there are several
            listeners.
        token: As for :meth:`InboxConfig.open`; by default the inbox's own token source. A bare
            token serves until it expires; a listener that lives longer needs something that gives
            new ones.
        ssl_context: For both servers. Default: what this machine trusts.
        on_failure: Called with the inbox, each failure and the seconds until the next try. It is
            a failure of the connection, or a :class:`MessageNotHandled`. What ``on_failure``
            itself raises is logged.
        timeout: Seconds that the server may take for each answer.
        look_every: Seconds between two looks into the inbox, if the server says nothing.
        pause: Seconds before another try after a failure; doubled each time, and shortened at
            random by up to a half. What a server asks for (``retry_after``) counts instead.
        longest_pause: Seconds of the longest such pause, and of the pause after a failure that
            somebody has to fix.

    Raises:
        InsecureConnectionError: ``ssl_context`` does not verify, or the inbox uses no TLS.
        TypeError: ``handle`` is not callable, or another argument cannot work.
        ValueError: A number of seconds or a setting of the inbox cannot work.

    Example:
        >>> def handle(inbox, message):
        ...     print(inbox.name, message["Subject"])
        >>> InboxListener(load_config().default, handle).run()  # doctest: +SKIP
    """

    def __init__(
        self,
        inbox: InboxConfig,
        handle: Callable[[InboxConfig, EmailMessage], None],
        *,
        token: Token | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_failure: Callable[[InboxConfig, Exception, float], None] | None = None,
        timeout: float = 30.0,
        look_every: float = 60.0,
        pause: float = 1.0,
        longest_pause: float = 300.0,
    ) -> None:
        if token is None:
            token = inbox.token_source(ssl_context=ssl_context)
        self._token = sealed(token)
        del token  # tracebacks hold frames
        if not callable(handle):
            raise TypeError(f"handle must be callable, not {type(handle).__name__}")
        check_seconds("timeout", timeout)
        check_seconds("look_every", look_every)
        check_seconds("pause", pause)
        check_seconds("longest_pause", longest_pause)
        self._inbox = inbox
        self._ssl_context = ssl_context
        self._on_failure = on_failure
        self._timeout = timeout
        self._look_every = look_every
        self._bell = Bell()
        self._retries = Retries(one_line(inbox.name), pause, longest_pause)
        self._unread = Unread(inbox, handle, self._retries.growing_pause, self._tell)
        self._imap: imaplib.IMAP4 | None = None  # while a session is under way
        self._mailbox()  # refuses what cannot work; it is not entered, so nothing is connected

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an InboxListener is not pickled, it holds a secret; build one in each process"
        )

    def run(self) -> None:
        """Listen until :meth:`stop`.

        It carries on after every failure that can pass or be fixed: a server that is down, a secret
        that expired and is replaced, a permission that is missing.

        Raises:
            RuntimeError: It is running already.
        """
        with self._bell:
            self._tell_warnings()
            while not self._bell.has_rung:
                try:
                    self._session()
                except Exception as error:  # noqa: BLE001 - a credential may raise anything
                    if not self._bell.has_rung:
                        pause = self._retries.pause_after(error)
                        self._tell(error, pause)
                        self._bell.wait(pause)

    def _tell_warnings(self) -> None:
        """Log what is suspicious, such as a misspelt variable: few programs look at it."""
        name = one_line(self._inbox.name)
        for warning in self._inbox.warnings:
            _logger.warning("inbox %s: %s", name, warning, extra={"exo_inbox": name})

    def stop(self) -> None:
        """End :meth:`run` for good, within a second; only a running ``handle`` is waited for.

        Any thread and any signal handler may call it.
        """
        self._bell.ring()
        try:  # a signal handler must not wait for locks, and threading.Thread has some
            _thread.start_new_thread(self._cut_off, ())
        except RuntimeError:
            self._hang_up()

    def _cut_off(self) -> None:
        time.sleep(_GRACE)
        self._hang_up()

    def _hang_up(self) -> None:
        """Wake whoever waits for the server."""
        imap = self._imap
        if imap is not None:
            with contextlib.suppress(AttributeError, OSError):  # just closed
                imap.sock.shutdown(socket.SHUT_RDWR)

    def _tell(self, error: Exception, pause: float) -> None:
        if self._on_failure is None:
            return
        try:
            self._on_failure(self._inbox, error, pause)
        except Exception:
            name = one_line(self._inbox.name)
            _logger.exception("inbox %s: on_failure raised", name, extra={"exo_inbox": name})

    # ---- one connection ----------------------------------------------------------------------

    def _session(self) -> None:
        """Read until it is time to stop, or for a new token."""
        opened = self._opened()
        if opened is None:
            return
        with opened.stack:
            self._imap = opened.imap
            try:
                self._read(opened.imap, opened.token)
            finally:
                self._imap = None

    def _opened(self) -> _Opened | None:
        """The inbox, open, or None if it is time to stop.

        Another thread opens it, since nothing wakes who waits for a name service or for a token.
        """
        opening = in_thread("open", self._open)
        while not self._bell.has_rung:
            if wait([opening], timeout=_LOOK_FOR_STOP).done:
                return opening.result()
        opening.add_done_callback(_close)
        return None

    def _open(self) -> _Opened:
        with contextlib.ExitStack() as stack:
            token = self._current_token()
            imap = stack.enter_context(self._mailbox())
            return _Opened(imap, token, stack.pop_all())

    def _mailbox(self) -> AbstractContextManager[imaplib.IMAP4]:
        return self._inbox.open(
            token=self._token, timeout=self._timeout, ssl_context=self._ssl_context
        )

    def _current_token(self) -> AccessToken:
        """What the token source gives now; asking for it is what has the next one fetched."""
        if isinstance(self._token, AccessToken):
            return self._token
        if isinstance(self._token, TokenSource):
            return self._token.get_token()
        return issued_by(self._token, self._inbox.scope)

    def _is_replaced(self, token: AccessToken, began: float) -> bool:
        """Whether the next session would have another token."""
        if not isinstance(self._token, TokenSource):
            # Others may give a new one each time that they are asked, so not too often, even if
            # this machine's clock makes each new one look old.
            due = max(_ends_on(token), began + _SHORTEST_SESSION)
            if time.time() < due:
                return False
        return self._current_token().token != token.token

    def _read(self, imap: imaplib.IMAP4, token: AccessToken) -> None:
        began = time.time()
        validity = imap.response("UIDVALIDITY")[1][0]
        while not self._bell.has_rung:
            imap.response("EXISTS")  # forget what was said before the search
            self._unread.look(imap, validity, lambda: self._bell.has_rung)
            self._retries.end()
            if self._is_replaced(token, began):
                return
            if imap.response("EXISTS")[1] == [None]:  # else mail came during the look
                self._wait(imap, token)

    def _wait(self, imap: imaplib.IMAP4, token: AccessToken) -> None:
        """Wait until there may be something to do."""
        until_new_token = max(_ends_on(token) - time.time(), _NEW_TOKEN_EVERY)
        seconds = min(self._look_every, until_new_token, self._unread.seconds_to_next_try())
        if "IDLE" in imap.capabilities:
            idle(imap, lambda: self._bell.wait(seconds, imap.sock))
        else:
            self._bell.wait(seconds)


def listen(
    inboxes: Iterable[InboxConfig],
    handle: Callable[[InboxConfig, EmailMessage], None],
    **options: Unpack[ListenerOptions],
) -> None:
    """Listen to inboxes, each in a thread of its own, until SIGTERM or SIGINT.

    To be called in the main thread, which is the one that gets signals. After the first
    signal, messages that are being handled are finished; a second one acts as if ``listen`` were
    not there.

    Args:
        inboxes: For example ``load_config().values()``.
        handle: As for :class:`InboxListener`; it is called from several threads.
        **options: Those of :class:`InboxListener`.

    Raises:
        RuntimeError: This is not the main thread.
        ValueError: There is no inbox, or an argument cannot work.

    It also raises what :class:`InboxListener` raises, and a ``BaseException`` of ``handle``, such
    as ``SystemExit``, which ends all listeners.
    """
    listeners = [InboxListener(inbox, handle, **options) for inbox in inboxes]
    if not listeners:
        raise ValueError("there is no inbox to listen to")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "listen() waits for signals, which only the main thread gets; elsewhere run"
            " InboxListener(...).run() in threads of your own and call stop()"
        )
    crashes: list[BaseException] = []

    def run(listener: InboxListener) -> None:
        try:
            listener.run()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            crashes.append(error)
            _stop_all(listeners)

    threads = [
        threading.Thread(
            target=copy_context().run,  # what the caller has set, tracing and logging find there
            args=(run, listener),
            name="exo_imap_oauth-listener",
            daemon=True,
        )
        for listener in listeners
    ]
    with _stopped_by_signals(listeners):
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a longer wait was seen to swallow Ctrl-C
                thread.join(1.0)
    if crashes:
        raise crashes[0]


def _stop_all(listeners: Iterable[InboxListener]) -> None:
    for listener in listeners:
        listener.stop()


@contextlib.contextmanager
def _stopped_by_signals(listeners: list[InboxListener]) -> Generator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, action in before.items():
            signal.signal(number, signal.SIG_DFL if action is None else action)

    def stop(_number: int, _frame: object) -> None:
        restore()
        _stop_all(listeners)

    for number, action in before.items():
        if action is not signal.SIG_IGN:  # as a shell sets it for a job in the background
            signal.signal(number, stop)
    try:
        yield
    finally:
        _stop_all(listeners)  # if a thread could not start
        restore()


# ---- what goes with it -----------------------------------------------------------------------


class _Opened(NamedTuple):
    imap: imaplib.IMAP4
    token: AccessToken
    stack: contextlib.ExitStack


def _close(opening: Future[_Opened]) -> None:
    """Close an inbox that was opened too late."""
    if not opening.exception():
        opening.result().stack.close()


def _ends_on(token: AccessToken) -> float:
    """When to look for a new token, Unix seconds; infinity where nothing tells."""
    if token.refresh_on:
        return token.refresh_on
    exp = token.claims.get("exp")
    expires_on = token.expires_on or (exp if isinstance(exp, (int, float)) else 0)
    return expires_on - _MARGIN if expires_on else math.inf
