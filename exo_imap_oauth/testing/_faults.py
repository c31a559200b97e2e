"""Faults on demand: what may go wrong, and when it does."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

Refusal = Literal["BAD", "NO"]


class Fault(Enum):
    """What :meth:`LoopbackExchange.inject` makes go wrong.

    ``TOKEN_`` faults strike at the token endpoint, ``IMAP_`` faults at the IMAP server. Every
    fault takes ``times``; what else ``inject`` takes for it is given in brackets, with its
    default. A fault *at a command* strikes at the next command of any kind, including the
    ``CAPABILITY`` that most clients begin with, unless ``command`` names one. With ``uid``, a
    fault strikes only at a command whose message set names that message: ``FETCH``, ``STORE``,
    ``COPY``, ``MOVE``, also by sequence number, and their ``UID`` forms.

    The ``IMAP_FETCH_`` faults strike where the content of messages is fetched (``BODY[…]``,
    ``BINARY[…]``, ``RFC822``, also in part), and concern the message that ``uid`` names, or all
    that the command names; the ``IMAP_SEARCH_`` faults at ``SEARCH`` and ``UID SEARCH``, the
    ``IMAP_STORE_`` faults at ``STORE`` and ``UID STORE``.

    Attributes:
        TOKEN_REFUSE: The connection is turned away (RST) before TLS begins.
        TOKEN_RESET: The connection is reset once the request is read.
        TOKEN_STALL: (``seconds``: never) The request is read, and the answer comes after
            ``seconds``.
        TOKEN_SLOW: (``seconds``: 1) The right answer, byte by byte with ``seconds`` in between.
        TOKEN_THROTTLED: (``seconds``: 30) HTTP 429 with ``Retry-After: seconds``.
        TOKEN_UNAVAILABLE: (``seconds``: none) HTTP 503, AADSTS90033, with
            ``Retry-After: seconds`` if they are given.
        TOKEN_HTML: HTTP 200 with a web page, as gateways and captive portals send it.
        TOKEN_TRUNCATED_JSON: HTTP 200 with the first half of the right answer.
        TOKEN_HUGE_BODY: HTTP 200 with a body of 64 MiB.
        TOKEN_REDIRECT: HTTP 302 to another host.
        TOKEN_EXPIRED_CERTIFICATE: A certificate of the right CA that expired yesterday.
        TOKEN_FOREIGN_CERTIFICATE: A certificate of a CA that nobody trusts.
        IMAP_NO_GREETING: (``seconds``: never) The connection is accepted, and greeted after
            ``seconds``.
        IMAP_BYE_GREETING: The greeting is a ``BYE``.
        IMAP_STALL: (``seconds``: never, ``command``, ``uid``) At a command: it is answered after
            ``seconds``.
        IMAP_RESET: (``command``, ``uid``) At a command: the connection is reset, and the command
            is not carried out.
        IMAP_IDLE_RESET: (``seconds``: 0) The connection is reset ``seconds`` after ``IDLE`` has
            begun.
        IMAP_AUTHENTICATE_FAILED: A good token is refused: ``NO AUTHENTICATE failed.``.
        IMAP_CHALLENGE: The same, after a JSON error challenge (RFC 7628 section 3.2.2).
        IMAP_WRONG_SERVER: A good token is authenticated with ``WrongServerException`` in the
            ``OK``, and the mailbox does not open in that session; it does in the next.
        IMAP_THROTTLED: (``seconds``: 300, ``command``, ``uid``, ``reply``: BAD) At a command:
            ``BAD Request is throttled.``, with ``seconds`` as the suggested pause; with
            ``reply="NO"`` a ``NO``, which :mod:`imaplib` returns instead of raising an error.
        IMAP_SESSION_INVALIDATED: (``command``, ``uid``) At a command:
            ``* BYE Session invalidated - AccessTokenExpired``.
        IMAP_CONNECTION_CLOSED: (``command``, ``uid``) At a command:
            ``* BYE Connection closed. 14``.
        IMAP_ENDLESS_LINES: (``seconds``: without end, ``command``, ``uid``) At a command:
            untagged lines, for ``seconds`` and then the end.
        IMAP_LONG_LINE: (``command``, ``uid``) At a command: an untagged line of 2 MiB before the
            answer.
        IMAP_FETCH_NOTHING: (``uid``) The answer is the ``OK`` alone, without the message.
        IMAP_FETCH_NIL: (``uid``) The content is ``NIL``: ``BODY[] NIL``.
        IMAP_FETCH_EMPTY: (``uid``) The content is ``""``.
        IMAP_FETCH_QUOTED: (``uid``) The content is a quoted string, and so its first line only.
        IMAP_FETCH_STAND_IN: (``uid``) Exchange's stand-in comes in place of the message: from
            ``"Microsoft Exchange Server"`` without an address, without ``Message-ID``; the
            message itself stays as it is.
        IMAP_FETCH_FOREIGN_FIRST: (``uid``) Before the answer come the flags and the whole content
            of a message that was not asked for: another one of the folder, or an invented one
            with the next UID.
        IMAP_SEARCH_ESEARCH: The answer is an ``ESEARCH`` line, as in IMAP4rev2.
        IMAP_SEARCH_TWO_LINES: The answer is two ``SEARCH`` lines, with the first number in both.
        IMAP_SEARCH_MODSEQ: ``(MODSEQ 917162500)`` stands at the end of a ``SEARCH`` line that
            names a message.
        IMAP_SEARCH_NOTHING: The answer is the ``OK`` alone, whatever is found.
        IMAP_STORE_REFUSED: (``uid``, ``reply``: NO) ``NO Command Argument Error. 12``, and
            nothing is changed.
        IMAP_STORE_NO_EFFECT: (``uid``) The answer is ``OK`` with the flags as they were, and
            nothing is changed.
        IMAP_STORE_REPLY_LOST: (``uid``) The command is carried out, and the connection is reset
            in place of the answer.
        IMAP_IDLE_REFUSED: ``BAD Command Argument Error. 12`` in place of the ``+``.
        IMAP_IDLE_EXISTS_BEFORE: At ``IDLE`` a message arrives, and is announced before the ``+``.
        IMAP_IDLE_EXISTS_WITH: The same, announced in one packet with the ``+`` and after it.
        IMAP_NO_XOAUTH2: A ``CAPABILITY`` answer without ``AUTH=XOAUTH2``.
        IMAP_NO_SASL_IR: A ``CAPABILITY`` answer without ``SASL-IR``.
    """

    TOKEN_REFUSE = "token-refuse"
    TOKEN_RESET = "token-reset"
    TOKEN_STALL = "token-stall"
    TOKEN_SLOW = "token-slow"
    TOKEN_THROTTLED = "token-throttled"
    TOKEN_UNAVAILABLE = "token-unavailable"
    TOKEN_HTML = "token-html"
    TOKEN_TRUNCATED_JSON = "token-truncated-json"
    TOKEN_HUGE_BODY = "token-huge-body"
    TOKEN_REDIRECT = "token-redirect"
    TOKEN_EXPIRED_CERTIFICATE = "token-expired-certificate"
    TOKEN_FOREIGN_CERTIFICATE = "token-foreign-certificate"
    IMAP_NO_GREETING = "imap-no-greeting"
    IMAP_BYE_GREETING = "imap-bye-greeting"
    IMAP_STALL = "imap-stall"
    IMAP_RESET = "imap-reset"
    IMAP_IDLE_RESET = "imap-idle-reset"
    IMAP_AUTHENTICATE_FAILED = "imap-authenticate-failed"
    IMAP_CHALLENGE = "imap-challenge"
    IMAP_WRONG_SERVER = "imap-wrong-server"
    IMAP_THROTTLED = "imap-throttled"
    IMAP_SESSION_INVALIDATED = "imap-session-invalidated"
    IMAP_CONNECTION_CLOSED = "imap-connection-closed"
    IMAP_ENDLESS_LINES = "imap-endless-lines"
    IMAP_LONG_LINE = "imap-long-line"
    IMAP_FETCH_NOTHING = "imap-fetch-nothing"
    IMAP_FETCH_NIL = "imap-fetch-nil"
    IMAP_FETCH_EMPTY = "imap-fetch-empty"
    IMAP_FETCH_QUOTED = "imap-fetch-quoted"
    IMAP_FETCH_STAND_IN = "imap-fetch-stand-in"
    IMAP_FETCH_FOREIGN_FIRST = "imap-fetch-foreign-first"
    IMAP_SEARCH_ESEARCH = "imap-search-esearch"
    IMAP_SEARCH_TWO_LINES = "imap-search-two-lines"
    IMAP_SEARCH_MODSEQ = "imap-search-modseq"
    IMAP_SEARCH_NOTHING = "imap-search-nothing"
    IMAP_STORE_REFUSED = "imap-store-refused"
    IMAP_STORE_NO_EFFECT = "imap-store-no-effect"
    IMAP_STORE_REPLY_LOST = "imap-store-reply-lost"
    IMAP_IDLE_REFUSED = "imap-idle-refused"
    IMAP_IDLE_EXISTS_BEFORE = "imap-idle-exists-before"
    IMAP_IDLE_EXISTS_WITH = "imap-idle-exists-with"
    IMAP_NO_XOAUTH2 = "imap-no-xoauth2"
    IMAP_NO_SASL_IR = "imap-no-sasl-ir"

    @override
    def __repr__(self) -> str:
        return f"Fault.{self.name}"


AT_A_COMMAND = (
    Fault.IMAP_STALL,
    Fault.IMAP_RESET,
    Fault.IMAP_THROTTLED,
    Fault.IMAP_SESSION_INVALIDATED,
    Fault.IMAP_CONNECTION_CLOSED,
    Fault.IMAP_ENDLESS_LINES,
    Fault.IMAP_LONG_LINE,
)
AT_A_FETCH = (
    Fault.IMAP_FETCH_NOTHING,
    Fault.IMAP_FETCH_NIL,
    Fault.IMAP_FETCH_EMPTY,
    Fault.IMAP_FETCH_QUOTED,
    Fault.IMAP_FETCH_STAND_IN,
    Fault.IMAP_FETCH_FOREIGN_FIRST,
)
AT_A_SEARCH = (
    Fault.IMAP_SEARCH_ESEARCH,
    Fault.IMAP_SEARCH_TWO_LINES,
    Fault.IMAP_SEARCH_MODSEQ,
    Fault.IMAP_SEARCH_NOTHING,
)
AT_A_STORE = (
    Fault.IMAP_STORE_REFUSED,
    Fault.IMAP_STORE_NO_EFFECT,
    Fault.IMAP_STORE_REPLY_LOST,
)
AT_IDLE = (
    Fault.IMAP_IDLE_REFUSED,
    Fault.IMAP_IDLE_EXISTS_BEFORE,
    Fault.IMAP_IDLE_EXISTS_WITH,
)
_AT_A_MESSAGE = AT_A_COMMAND + AT_A_FETCH + AT_A_STORE
_DEFAULT_REPLY: dict[Fault, Refusal] = {
    Fault.IMAP_THROTTLED: "BAD",
    Fault.IMAP_STORE_REFUSED: "NO",
}
_DEFAULT_SECONDS = {
    Fault.TOKEN_STALL: math.inf,
    Fault.TOKEN_SLOW: 1.0,
    Fault.TOKEN_THROTTLED: 30.0,
    Fault.TOKEN_UNAVAILABLE: 0.0,
    Fault.IMAP_NO_GREETING: math.inf,
    Fault.IMAP_STALL: math.inf,
    Fault.IMAP_IDLE_RESET: 0.0,
    Fault.IMAP_THROTTLED: 300.0,
    Fault.IMAP_ENDLESS_LINES: math.inf,
}


class Injection:
    """A fault that was injected. May be used from any thread.

    Attributes:
        fault: The fault.
        command: The IMAP command it waits for, or None for any.
        uid: The UID of the message it waits for, or None for any.
        reply: What a refusal of its own begins with.
        seconds: Its duration or pause, as its description says; 0 if it has none.
    """

    def __init__(
        self,
        fault: Fault,
        times: int | None,
        seconds: float | None,
        *,
        command: str | None,
        uid: int | None,
        reply: Refusal | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        _check(fault, times, seconds)
        _check_what_it_is_for(fault, command, uid, reply)
        self.fault: Fault = fault
        self.command: str | None = command and command.upper()
        self.uid: int | None = uid
        self.reply: Refusal = reply or _DEFAULT_REPLY.get(fault, "BAD")
        self.seconds: float = _DEFAULT_SECONDS.get(fault, 0.0) if seconds is None else seconds
        self._left = math.inf if times is None else times
        self._hits = 0
        self._changed = threading.Condition()
        self._loop = loop
        self._removed = asyncio.Event()

    @override
    def __repr__(self) -> str:
        at = f" at {self.command}" if self.command else ""
        of = f" of UID {self.uid}" if self.uid else ""
        return f"<Injection of {self.fault!r}{at}{of}, hits: {self.hits}>"

    @property
    def hits(self) -> int:
        """How often it has struck so far."""
        return self._hits

    def wait_for_hits(self, hits: int = 1, timeout: float = 10.0) -> None:
        """Wait until it has struck a number of times.

        Args:
            hits: How many times, counted since it was injected.
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: It has struck less often in that time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._hits >= hits, timeout):
                raise TimeoutError(f"{self!r} after {timeout:g} s")

    def remove(self) -> None:
        """Undo it: it no longer strikes, and clients that it keeps waiting are answered now."""
        with self._changed:
            self._left = 0
        with suppress(RuntimeError):  # the servers have been stopped
            self._loop.call_soon_threadsafe(self._removed.set)

    def strike(self, command: str, names: Callable[[int], bool] | None) -> bool:
        """Whether it strikes now; it is counted then."""
        if self.uid is not None and not (names and names(self.uid)):
            return False
        with self._changed:
            if self._left <= 0 or self.command not in (None, command):
                return False
            self._left -= 1
            self._hits += 1
            self._changed.notify_all()
            return True

    async def wait(self) -> None:
        """Let :attr:`seconds` pass, unless it is removed meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self.seconds == math.inf else self.seconds):
                await self._removed.wait()


class Faults:
    """The injected faults, in the order in which they strike."""

    def __init__(self) -> None:
        self._injections: tuple[Injection, ...] = ()  # replaced, never changed

    def add(self, injection: Injection) -> None:
        """Put one at the end."""
        self._injections += (injection,)

    def clear(self) -> None:
        """Remove all."""
        injections, self._injections = self._injections, ()
        for injection in injections:
            injection.remove()

    def strike(
        self, *faults: Fault, command: str = "", names: Callable[[int], bool] | None = None
    ) -> Injection | None:
        """The first injection of one of these faults that strikes now, if any.

        Args:
            *faults: What can go wrong here.
            command: The IMAP command that is under way.
            names: Whether that command names the message with a UID.
        """
        candidates = (i for i in self._injections if i.fault in faults)
        return next((i for i in candidates if i.strike(command, names)), None)


def _check(fault: object, times: int | None, seconds: float | None) -> None:
    if not isinstance(fault, Fault):
        raise TypeError(f"fault must be a Fault, not {type(fault).__name__}")
    if times is not None and times < 1:
        raise ValueError(f"times must be at least 1, or None for without end, not {times}")
    if seconds is not None and fault not in _DEFAULT_SECONDS:
        raise ValueError(f"{fault!r} takes no seconds")
    if seconds is not None and not 0 <= seconds < math.inf:
        raise ValueError(f"seconds must be a finite number and not negative, not {seconds}")


def _check_what_it_is_for(
    fault: Fault, command: str | None, uid: int | None, reply: str | None
) -> None:
    if command is not None and fault not in AT_A_COMMAND:
        raise ValueError(f"{fault!r} takes no command")
    if uid is not None and fault not in _AT_A_MESSAGE:
        raise ValueError(f"{fault!r} takes no uid")
    if uid is not None and uid < 1:
        raise ValueError(f"uid must be at least 1, not {uid}")
    if reply is not None and fault not in _DEFAULT_REPLY:
        raise ValueError(f"{fault!r} takes no reply")
    if reply not in {None, "BAD", "NO"}:
        raise ValueError(f"reply must be BAD or NO, not {reply!r}")
