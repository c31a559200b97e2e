"""Hands each unread message of an inbox to a function, until it is stopped.

A message is handed over first and marked as read afterwards: a crash in between repeats it, and
loses none. Whatever goes wrong on the way, the listener reports it and tries again.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import override

from exo_imap_oauth._errors_imap import ConnectionFailed, ImapError, SessionExpired
from exo_imap_oauth._imap.bearer import sealed
from exo_imap_oauth._listener.arguments import (
    ListenerOptions,
    check_counts,
    check_function,
    checked_inbox,
    checked_seconds,
    several,
    with_new_names,
)
from exo_imap_oauth._listener.batches import Limits
from exo_imap_oauth._listener.opening import Opening
from exo_imap_oauth._listener.retries import MessageNotHandled, Pauses, Retries
from exo_imap_oauth._listener.session import Duties, Session
from exo_imap_oauth._listener.signals import run_until_signalled
from exo_imap_oauth._listener.status import ListenerStatus
from exo_imap_oauth._listener.waker import Waker
from exo_imap_oauth._listener.work import Work
from exo_imap_oauth._text import one_line

if TYPE_CHECKING:
    import imaplib
    import ssl
    from collections.abc import Callable, Generator, Iterable, Mapping
    from contextlib import AbstractContextManager

    from typing_extensions import Unpack

    from exo_imap_oauth._listener.arguments import OldOptions
    from exo_imap_oauth._listener.opening import Opened
    from exo_imap_oauth._listener.status import State
    from exo_imap_oauth.imap import Token
    from exo_imap_oauth.inbox import InboxConfig
    from exo_imap_oauth.mail import Mail
    from exo_imap_oauth.token_cache import TokenCache

__all__ = ["InboxListener", "ListenerOptions", "ListenerStatus", "MessageNotHandled", "listen"]

_logger = logging.getLogger(__name__)

_LAST_GRACE = 3.0  # s to open the inbox once more, if marks are owed at the end


class InboxListener:
    r"""Hands each unread message of an inbox to a function, then marks it as read.

    At least once: a message is done when ``handle`` has returned and the server has confirmed its
    mark, so that only a process that is killed in between hands it over twice; a connection that
    is lost then repeats nothing. If ``handle`` raises, or the server does not hand the message
    out, it stays unread and is tried again, after pauses that grow; the others do not wait for it.

    Who marks a message as unread again has it handed over again. What somebody else reads first
    is not handed over: an inbox that people read too needs a folder of its own for the program.

    New mail is noticed at once where the server offers IDLE (RFC 2177), else at the next look.
    Shortly before its token ends, a session is closed and another one opened.

    Args:
        inbox: The inbox. Its folder is opened for writing.
        handle: Called with the inbox and each message, from several threads if there are several
            listeners. What it returns is ignored.
        token: As for :meth:`InboxConfig.open`; by default the inbox's own token source. A bare
            token serves until it expires; a listener that lives longer needs something that gives
            new ones.
        cache: Where the inbox's own token source keeps its token, such as a
            :class:`~exo_imap_oauth.redis_cache.RedisTokenCache`. Not together with ``token``.
        ssl_context: For both servers. Default: what this machine trusts.
        longest: Bytes of the longest message that is fetched. A longer one stays unread and is
            told as a :class:`MessageNotHandled`. To parse a message takes a multiple of its size.
            Default: no limit.
        unconfirmed: How many messages may be handled whose mark the server has not confirmed
            yet: so many at most are handed over again after the process was killed. With 1, each
            mark is waited for, which costs a round trip a message.
        on_failure: Called with the inbox, each failure and the seconds until the next try. It is
            a failure of the connection, or a :class:`MessageNotHandled`: if it returns True for
            that, the message is given up, which means marked as read. What ``on_failure`` itself
            raises is logged.
        timeout: Seconds that the server may take for each answer.
        poll_interval: Seconds between two looks into the inbox, if the server says nothing.
        initial_backoff: Seconds before another try after a failure; doubled each time until a
            message is done or a connection has lasted a minute, and lengthened at random by up
            to a quarter. If the server asks for more (``retry_after``), that counts.
        max_backoff: Seconds of the longest such pause, and of the pause after a failure that
            somebody has to fix.

    Raises:
        InsecureConnectionError: ``ssl_context`` does not verify, or the inbox uses no TLS.
        TypeError: ``handle`` is no plain function, or another argument cannot work.
        ValueError: A number of seconds or a setting of the inbox cannot work, or both ``token``
            and ``cache`` are given.

    Example:
        >>> def handle(inbox, message):
        ...     print(inbox.name, message["Subject"])
        >>> InboxListener(load_config().default, handle).run()  # doctest: +SKIP
    """

    def __init__(
        self,
        inbox: InboxConfig,
        handle: Callable[[InboxConfig, Mail], object],
        *,
        token: Token | None = None,
        cache: TokenCache | None = None,
        ssl_context: ssl.SSLContext | None = None,
        longest: int | None = None,
        unconfirmed: int = 32,
        on_failure: Callable[[InboxConfig, Exception, float], bool | None] | None = None,
        timeout: float = 30.0,
        poll_interval: float = 60.0,
        initial_backoff: float = 1.0,
        max_backoff: float = 300.0,
        **renamed: Unpack[OldOptions],
    ) -> None:
        given = None if token is None else sealed(token)
        del token  # tracebacks hold frames
        checked_inbox(inbox)
        check_function("handle", handle)
        if on_failure is not None:
            check_function("on_failure", on_failure)
        check_counts(longest, unconfirmed)
        seconds = checked_seconds(
            with_new_names(dict(renamed)),
            timeout=timeout,
            poll_interval=poll_interval,
            initial_backoff=initial_backoff,
            max_backoff=max_backoff,
        )
        if given is None:
            given = inbox.token_source(ssl_context=ssl_context, cache=cache)
        elif cache is not None:
            raise ValueError("give token or cache, not both: a token source has a cache of its own")
        self._inbox = inbox
        self._handle = handle
        self._seconds = seconds
        self._limits = Limits(longest, unconfirmed)
        self._is_of_message = False  # what ended the last session
        self._handled_at = -math.inf  # by the monotonic clock, the last time
        self._waker = Waker()
        pauses = Pauses(seconds["initial_backoff"], seconds["max_backoff"])
        self._retries = Retries(inbox, pauses, on_failure)
        self._work = Work(pauses.after, time.monotonic)

        def mailbox() -> AbstractContextManager[imaplib.IMAP4]:
            return inbox.open(token=given, timeout=seconds["timeout"], ssl_context=ssl_context)

        try:
            mailbox()  # refuses what cannot work; it is not entered, so nothing is connected
        except (TypeError, ValueError):
            given = None  # as in open(): it may be anything, with the text in it
            raise
        self._opening = Opening(mailbox, given, inbox.scope, self._waker)
        self._status = ListenerStatus("stopped", time.time(), None, 0, 0, None)

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("an InboxListener holds a secret, so it is not pickled; build another one")

    @property
    def status(self) -> ListenerStatus:
        """What it does at this moment. Any thread may ask."""
        return self._status

    def run(self) -> None:
        """Listen until :meth:`stop`.

        It carries on after every failure that can pass or be fixed: a server that is down, a secret
        that expired and is replaced, a permission that is missing.

        Raises:
            RuntimeError: It is running already.
        """
        with self._running():
            self._log_warnings()
            while not self._waker.is_set:
                try:
                    self._listen()
                except Exception as error:  # noqa: BLE001 - a credential may raise anything
                    self._carry_on_after(error)
            self._send_last_marks()

    def run_once(self) -> int:
        """Hand over what is unread now, for a program that runs now and then.

        Messages that fail are told to ``on_failure`` and stay unread. :meth:`stop` ends it early.

        Returns:
            For how many messages ``handle`` returned.

        Raises:
            RuntimeError: It is running already.

        It also raises what goes wrong with the token or the connection, as
        :func:`~exo_imap_oauth.imap.open_mailbox` does; what was handled until then is marked, or
        will be by the next call.
        """
        before = self._status.handled
        with self._running():
            self._log_warnings()
            try:
                while not self._waker.is_set and not self._listen(only_once=True):
                    pass  # there is another token, and more to be done
            finally:
                self._send_last_marks()
        return self._status.handled - before

    def stop(self) -> None:
        """End :meth:`run` for good, within a second.

        A running ``handle`` is waited for, and then up to 5 seconds for the confirmation that its
        message is marked. Any thread and any signal handler may call it; in a forked child it
        does not end the listener of the parent.
        """
        self._waker.wake()

    # ---- one connection ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _running(self) -> Generator[None]:
        with self._waker:
            try:
                yield
            finally:
                self._note("stopped")

    def _listen(self, *, only_once: bool = False) -> bool:
        """Use one connection, until it is time to stop or for a new token.

        Args:
            only_once: Whether to look once.

        Returns:
            Whether a look came to its end, where only one was asked for.
        """
        self._note("connecting")
        self._is_of_message = False
        opened = self._opening.open()
        if opened is None:
            return True
        self._retries.bearer = opened.imap.bearer
        with opened.stack:
            session = self._session(opened)
            try:
                self._note("listening")
                is_through = session.look() if only_once else session.run()
            except ImapError as error:
                self._lost(error, session)
                if isinstance(error, SessionExpired) and session.is_worthwhile:
                    return False  # a token ends after its hour, which is no failure
                raise
            finally:
                self._work.ended()
                session.log_out()
        return is_through

    def _send_last_marks(self) -> None:
        """Try once more to mark what was handled: nobody will, when this process has ended."""
        waited = time.monotonic() - max(self._waker.woken_at, self._handled_at)
        if not self._work.owes_marks or waited > _LAST_GRACE / 2:
            return
        ends_at = time.monotonic() + _LAST_GRACE
        with contextlib.suppress(Exception):  # what went wrong before says more
            if (opened := self._opening.open(within=_LAST_GRACE)) is None:
                return
            with opened.stack, opened.imap.within(ends_at - time.monotonic()):
                session = self._session(opened)
                session.send_last_marks()
                session.log_out()

    def _session(self, opened: Opened) -> Session:
        duties = Duties(
            handle=self._hand_over,
            looked=self._looked,
            is_given_up=self._retries.is_given_up,
            done=self._works,
            settled=lambda: self._works(for_long=True),
        )
        return Session(
            opened.imap,
            self._work,
            folder=self._inbox.folder,
            waker=self._waker,
            renewal=opened.renewal,
            poll_interval=self._seconds["poll_interval"],
            rest=self._seconds["initial_backoff"],
            limits=self._limits,
            duties=duties,
        )

    def _lost(self, error: Exception, session: Session) -> None:
        """Note what a session was ended by; a message at which this happens again is told."""
        if self._waker.is_set:
            return  # it was we who did not wait any longer
        came = session.came_when_lost()
        self._is_of_message = came is not None and isinstance(error, ConnectionFailed)
        for failure in self._work.lost(error, came):
            if self._retries.is_given_up(failure):
                self._work.give_up(failure.uid)

    def _hand_over(self, mail: Mail) -> None:
        self._note("handling")
        try:
            result = self._handle(self._inbox, mail)
        finally:
            self._handled_at = time.monotonic()
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()  # nobody will await it, which Python would warn of
            raise TypeError("handle returned something to be awaited; give a plain function")
        self._status = self._status._replace(handled=self._status.handled + 1)
        self._note("listening")

    def _looked(self) -> None:
        self._note("listening", last_look=time.time())

    def _works(self, *, for_long: bool = False) -> None:
        self._retries.achieved(for_long=for_long)
        self._note("listening", last_error=None)

    def _carry_on_after(self, error: Exception) -> None:
        if self._waker.is_set:
            return
        pause = self._retries.pause_after(error, is_of_message=self._is_of_message)
        self._note("pausing", last_error=error)
        self._waker.wait(pause)

    def _note(self, state: State, **changed: Any) -> None:  # noqa: ANN401 - fields of the status
        """Change the status; it is replaced as a whole, since other threads look at it."""
        before = self._status
        since = before.since if state == before.state else time.time()
        failing = self._work.failing
        self._status = before._replace(state=state, since=since, failing=failing, **changed)

    def _log_warnings(self) -> None:
        """Log what is suspicious, such as a misspelt variable: few programs look at it."""
        name = one_line(self._inbox.name)
        for warning in self._inbox.warnings:
            _logger.warning("inbox %s: %s", name, warning, extra={"exo_inbox": name})


def listen(
    inboxes: Iterable[InboxConfig] | Mapping[str, InboxConfig],
    handle: Callable[[InboxConfig, Mail], object],
    **options: Unpack[ListenerOptions],
) -> None:
    """Listen to inboxes, each in a thread of its own, until SIGTERM or SIGINT.

    To be called in the main thread, which is the one that gets signals. After the first
    signal, messages that are being handled are finished and marked; a second one acts as if
    ``listen`` were not there.

    Args:
        inboxes: For example ``load_config()``, or a list of inboxes.
        handle: As for :class:`InboxListener`; it is called from several threads.
        **options: Those of :class:`InboxListener`.

    Raises:
        RuntimeError: This is not the main thread.
        TypeError: What is given is one inbox, or something else.
        ValueError: There is no inbox, two would listen to the same folder, or an argument cannot
            work.

    It also raises what :class:`InboxListener` raises, and a ``BaseException`` of ``handle``, such
    as ``SystemExit``, which ends all listeners.
    """
    renamed: Any = with_new_names(dict(options))
    listeners = [InboxListener(inbox, handle, **renamed) for inbox in several(inboxes)]
    del options, renamed  # tracebacks hold frames, and a token may be among them
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "listen() waits for signals, which only the main thread gets; elsewhere run"
            " InboxListener(...).run() in threads of your own and call stop()"
        )
    run_until_signalled(
        "exo_imap_oauth-listener",
        [listener.run for listener in listeners],
        [listener.stop for listener in listeners],
    )
