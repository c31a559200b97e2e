"""An IMAP server with one mailbox, for what comes after the login; tests bend its answers."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import ssl
import struct
import threading
import time
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from support import HOST, client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_LIMIT = 60.0  # s, for a handshake, for a client to take what is sent, for a thread to end
_ANY_STATE = {"CAPABILITY", "NOOP", "LOGOUT", "AUTHENTICATE", "LOGIN"}
_SIGNED_IN = {"SELECT", "EXAMINE", "STATUS", "LIST", "IDLE"}
_CHANGES = {"STORE", "EXPUNGE", "MOVE"}
_OPEN = {"SEARCH", "FETCH", "COPY", "UNSELECT"} | _CHANGES
_INVALID_STATE = "Command received in Invalid state."
_BAD_ARGUMENT = "BAD Command Argument Error. 11"
_SET = r"[\d*][\d*:,]*"
_NAME = r'(?:"([^"]*)"|([^\s"()]+))'
SEEN = r"\Seen"
IDLING = b"+ IDLE accepted, awaiting DONE command.\r\n"


class _Left(Exception):
    """The connection is over."""


class _Refused(Exception):
    """Its text is what follows the tag."""


class Hook:
    """What :meth:`MailServer.at` registered; :attr:`hits` counts how often it struck."""

    def __init__(
        self, prefix: str, answer: Callable[[Reply], None], times: int | None, uid: int | None
    ) -> None:
        self.prefix, self.answer, self.times, self.uid = prefix.upper(), answer, times, uid
        self.hits = 0

    def remove(self) -> None:
        """Let it strike no more."""
        self.times = self.hits

    def strikes(self, command: Command, uids: Sequence[int]) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        line = command.line.upper()
        if re.match(re.escape(self.prefix) + r"(?<=\w)(?=\w)", line):  # 2 is not the start of 20
            return False
        if self.uid is None or not line.startswith(self.prefix):
            return line.startswith(self.prefix)
        return command.by_uid and self.uid in command.named(sorted({*uids, self.uid}))


class MailServer:
    r"""IMAP over TLS on loopback: any token signs in, to one mailbox that all clients share.

    Commands are answered as RFC 3501 has it, or by what :meth:`at` registered for them
    (``support.mail_answers`` has a stock of answers). ::

        with MailServer(b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n") as server:
            server.at("UID FETCH", mail_answers.nil, times=1, uid=2)
            ...
            server.wait_for(lambda: server.seen == {1, 2})

    Args:
        contents: The messages, all unread, with UIDs from 1.

    Attributes:
        messages: By UID, ascending.
        flags: By UID.
        folders: Other folders, which COPY and MOVE can fill.
        log: Every command as it came, without its tag, over all connections; a token is cut.
        logins: AUTHENTICATEs that were accepted.
        connections: TLS connections that were accepted.
        refuse_logins: How many of the next AUTHENTICATEs to refuse.
        permanent_flags: The text of the code PERMANENTFLAGS; None leaves it out.
        tell_uidnext: Whether SELECT tells UIDNEXT.
        select_extra: Lines without CRLF that SELECT says before its OK.

    Raises:
        AssertionError: On exit, if an answer raised or a thread did not end.
    """

    host = HOST

    def __init__(self, *contents: bytes) -> None:
        self.messages = dict(enumerate(contents, 1))
        self.flags: dict[int, set[str]] = {uid: set() for uid in self.messages}
        self.folders: dict[str, list[bytes]] = {}
        self.uidvalidity = 14
        self.capabilities = "IMAP4 IMAP4rev1 AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT IDLE"
        self.permanent_flags: str | None = r"(\Seen \Answered \Flagged \Deleted \Draft $MDNSent)"
        self.tell_uidnext = True
        self.select_extra: list[bytes] = []
        self.greeting = b"* OK Microsoft Exchange IMAP4 service ready.\r\n"
        self.log: list[str] = []
        self.logins = self.connections = self.refuse_logins = self.port = 0
        self.changed = threading.Condition()  # its lock guards all this
        self._hooks: list[Hook] = []
        self._sessions: list[_Session] = []
        self._threads: list[threading.Thread] = []
        self._failures: list[str] = []
        self._highest = len(contents)
        self._is_over = False

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new verifying client context that trusts this server's certificate."""
        return client_context()

    @property
    def seen(self) -> set[int]:
        """The UIDs of the messages that are read."""
        with self.changed:
            return {uid for uid in self.messages if SEEN in self.flags.get(uid, ())}

    @property
    def unseen(self) -> set[int]:
        """The UIDs of the messages that are unread."""
        with self.changed:
            return set(self.messages) - self.seen

    @property
    def idlers(self) -> int:
        """How many clients are in IDLE now."""
        with self.changed:
            return sum(session.is_idle for session in self._sessions)

    @property
    def uidnext(self) -> int:
        """The UID of the next message."""
        with self.changed:
            return max([self._highest, *self.messages]) + 1

    def wait_for(self, predicate: Callable[[], bool], timeout: float = _LIMIT) -> None:
        """Wait until it is true; it is asked at every command and at every change."""
        with self.changed:
            assert self.changed.wait_for(predicate, timeout), f"in vain; log: {self.log[-20:]}"

    def deliver(self, content: bytes, uid: int | None = None) -> int:
        """A new unread message; returns its UID, which is higher than all before."""
        with self.changed:
            uid = self.uidnext if uid is None else uid
            assert uid >= self.uidnext
            self.messages[uid], self.flags[uid] = content, set()
            self._highest = uid
            self.tell()
        return uid

    def remove(self, uid: int) -> None:
        """Somebody else removes it."""
        with self.changed:
            self._highest = self.uidnext - 1
            del self.messages[uid], self.flags[uid]
            self.tell()

    def set_flags(self, uid: int, flags: Iterable[str]) -> None:
        """Somebody else gives a message these flags and no others."""
        with self.changed:
            self.flags[uid] = set(flags)
            self.tell()

    def person_reads(self, uid: int) -> None:
        """Somebody else marks it as read."""
        with self.changed:
            self.set_flags(uid, self.flags[uid] | {SEEN})

    def person_marks_unread(self, uid: int) -> None:
        """Somebody else marks it as unread."""
        with self.changed:
            self.set_flags(uid, self.flags[uid] - {SEEN})

    def drop(self) -> None:
        """Cut all connections now."""
        with self.changed:
            for session in self._sessions:
                session.wire.cut()

    def at(
        self,
        prefix: str,
        answer: Callable[[Reply], None],
        *,
        times: int | None = None,
        uid: int | None = None,
    ) -> Hook:
        """Have commands that begin so answered by ``answer``; the longest prefix wins.

        Of several with the same prefix the one that was registered first strikes, until it has
        struck ``times`` times. With ``uid`` it strikes only UID commands that name that UID, and
        answers of ``support.mail_answers`` bend what is said of that message alone.
        """
        hook = Hook(prefix, answer, times, uid)
        with self.changed:
            self._hooks.append(hook)
        return hook

    def note(self, line: str) -> None:
        """Log a command."""
        with self.changed:
            self.log.append(line)
            self.changed.notify_all()

    def happened(self, what: str, uids: Iterable[int]) -> None:
        r"""Account for what was just done for a client; nobody does, unless a subclass does.

        Args:
            what: ``fetched``, a body; ``listed``, by SEARCH; ``marked``, as ``\Seen``.
            uids: The messages.
        """

    def tell(self) -> None:
        """Wake who waits for a change."""
        self.changed.notify_all()
        for session in self._sessions:
            if session.is_idle:
                session.wire.wake()

    def struck(self, command: Command) -> Hook | None:
        """The hook that strikes, if any."""
        with self.changed:
            uids = list(self.messages)
            hooks = [hook for hook in self._hooks if hook.strikes(command, uids)]
            hook = max(hooks, key=lambda hook: len(hook.prefix), default=None)
            if hook is not None:
                hook.hits += 1
                self.changed.notify_all()
            return hook

    def __enter__(self) -> Self:
        """Listen."""
        self._context = server_context()  # here, since the CA is made once, by one thread
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="mail-server", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Cut what is open, join the threads, and tell what went wrong in them."""
        self._is_over = True
        with contextlib.suppress(ConnectionError):  # a client was the last to be accepted
            socket.create_connection((HOST, self.port), _LIMIT).close()  # wakes accept()
        self._acceptor.join(_LIMIT)
        self.drop()
        for thread in self._threads:
            thread.join(_LIMIT)
            assert not thread.is_alive()
        report = "\n".join(f"MailServer: {failure}" for failure in self._failures)
        if report and error is None:
            raise AssertionError(report)
        if report and error is not None:
            error.add_note(report)

    def _accept(self) -> None:
        with self._listener:
            while True:
                connection, _ = self._listener.accept()
                if self._is_over:
                    connection.close()
                    return
                try:
                    session = _Session(self, _Wire(connection, self._context))
                except OSError:  # it has left already
                    connection.close()
                    continue
                thread = threading.Thread(
                    target=self._serve, args=(session,), name="mail-server-client", daemon=True
                )
                with self.changed:
                    self._sessions.append(session)
                self._threads.append(thread)
                thread.start()

    def _serve(self, session: _Session) -> None:
        try:
            session.serve()
        except (_Left, OSError):
            pass  # the client may leave whenever it likes
        except BaseException as error:  # noqa: BLE001 - __exit__ raises it in the test's thread
            self._failures.append(f"broken: {error!r}")
        finally:
            with self.changed:
                self._sessions.remove(session)
                self.changed.notify_all()
            session.wire.close()


class _Wire:
    """One connection, read and written by its own thread only; others wake or cut it."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._received = b""

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # it is full, so it wakes anyway
            self._wake.send(b"!")

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            # SSLSocket's own would take the TLS away from under the thread that reads.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self._selector, self._socket, self._wake, self._woken):
            one.close()

    def handshake(self) -> None:
        self._socket.settimeout(_LIMIT)
        self._socket.do_handshake()

    def send(self, data: bytes) -> None:
        self._socket.settimeout(_LIMIT)
        self._socket.sendall(data)

    def line(self, woken: Callable[[], None] = lambda: None) -> str:
        """The next line without its CRLF."""
        while b"\n" not in self._received:
            if not self._receive(None):
                woken()
        line, _, self._received = self._received.partition(b"\n")
        return line.removesuffix(b"\r").decode("latin-1")

    def pause(self, seconds: float) -> None:
        """Say nothing for so long, if the client stays."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive(left)

    def stall(self) -> NoReturn:
        """Say nothing any more."""
        while True:
            self._receive(None)

    def finish(self) -> NoReturn:
        """Say that nothing follows (FIN), and wait for the client to go."""
        socket.socket.shutdown(self._socket, socket.SHUT_WR)
        self.stall()

    def reset(self) -> NoReturn:
        self._selector.unregister(self._socket)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        raise _Left

    def _receive(self, seconds: float | None) -> bool:
        """Wait for something from the client; false if the time is over or somebody woke us."""
        if not self._socket.pending():
            ready = {key.fileobj for key, _ in self._selector.select(seconds)}
            if self._woken in ready:
                self._woken.recv(4_096)
            if self._socket not in ready:
                return False
        self._socket.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):  # the record is not whole yet
            data = self._socket.recv(65_536)
            if not data:
                raise _Left
            self._received += data
        return True


class Command(NamedTuple):
    """A command without its tag."""

    line: str
    by_uid: bool
    name: str
    args: str
    response: str | None  # the SASL response, which the line does not show

    @classmethod
    def of(cls, text: str) -> Self:
        sasl = re.fullmatch(r"(?i)(AUTHENTICATE \S+) (\S+)", text)
        text = re.sub(r"(?i)^(AUTHENTICATE \S+|LOGIN) .*", r"\1 ***", text)
        uid, name, args = re.fullmatch(r"(?is)(UID )?(\S*) ?(.*)", text, re.ASCII).groups()  # type: ignore[union-attr] # it fits all
        return cls(text, uid is not None, name.upper(), args, sasl[2] if sasl else None)

    @property
    def is_numbered(self) -> bool:
        """Whether EXPUNGE is forbidden in its answer."""
        return not self.by_uid and self.name in {"FETCH", "STORE", "SEARCH"}

    def named(self, ascending: Sequence[int]) -> list[int]:
        """Which of these numbers its set names."""
        where = r"(?i)(?:^|.* )UID (" if self.name == "SEARCH" else r"("
        found = re.match(where + _SET + r")(?= |$)", self.args)
        return chosen(found[1], ascending) if found else []


def chosen(message_set: str, ascending: Sequence[int]) -> list[int]:
    """The numbers that are in a set such as ``1:3,7`` or ``5:*``."""
    found: set[int] = set()
    for part in message_set.split(","):
        top = ascending[-1] if ascending else 0
        ends = sorted(top if end == "*" else int(end) for end in part.split(":"))
        found.update(ascending[bisect_left(ascending, ends[0]) : bisect_right(ascending, ends[-1])])
    return sorted(found)


def matching(keys: str, uids: Sequence[int], seen: set[int]) -> list[int]:
    """The UIDs that SEARCH finds in a folder of these ``uids``."""
    found = set(uids)
    words = iter(keys.split())
    for word in words:
        match word.upper():
            case "ALL":
                pass
            case "UNSEEN":
                found -= seen
            case "SEEN":
                found &= seen
            case "UID":
                found &= set(chosen(next(words, "0"), uids))
            case "CHARSET":
                raise _Refused("NO [BADCHARSET (US-ASCII)] The specified charset is not supported.")
            case number if re.fullmatch(_SET, number):
                found &= {uids[n - 1] for n in chosen(number, range(1, len(uids) + 1))}
            case _:
                raise _Refused(_BAD_ARGUMENT)
    return sorted(found)


def literal(content: bytes) -> bytes:
    """A literal of RFC 3501."""
    return b"{%d}\r\n%b" % (len(content), content)


def _flag_list(flags: Iterable[str]) -> bytes:
    return f"({' '.join(sorted(flags))})".encode()


class _Done(NamedTuple):
    said: bytes = b""
    code: str = ""


class _Session:
    """What one client has done and been told so far."""

    def __init__(self, server: MailServer, wire: _Wire) -> None:
        self.server = server
        self.wire = wire
        self.is_idle = False
        self.numbered: list[int] = []  # the UIDs in the order of the numbers that the client knows
        self._is_signed_in = self._is_open = self._is_read_only = False
        self._told: dict[int, set[str]] = {}

    def serve(self) -> NoReturn:
        self.wire.handshake()
        with self.server.changed:
            self.server.connections += 1
        self.wire.send(self.server.greeting)
        while True:
            tag, _, text = self.wire.line().partition(" ")
            command = Command.of(text)
            self.server.note(command.line)
            hook = self.server.struck(command)
            reply = Reply(self, tag, command, hook.uid if hook else None)
            answer = hook.answer if hook else Reply.usual
            answer(reply)

    def do(self, command: Command, *, tell: bool = True) -> tuple[bytes, str]:
        """Carry it out: what is said before the tag, and after it.

        With ``tell`` the client learns first, and last, what is new, if it may.
        """
        refusal = self.refusal(command.name)
        if refusal:
            return b"", refusal
        if command.name == "AUTHENTICATE":
            return b"", self._authenticate(command)
        try:
            with self.server.changed:
                tell = tell and not command.is_numbered
                before = self.news() if tell else b""
                done: _Done = getattr(self, f"_do_{command.name.lower()}")(command)
                after = self.news() if tell else b""
                self.server.tell()
        except _Refused as error:
            return b"", str(error)
        return before + done.said + after, f"OK {done.code}{command.name} completed."

    def refusal(self, name: str) -> str:
        """Why the command is refused in this state; empty if it is not."""
        if name not in _ANY_STATE | _SIGNED_IN | _OPEN:
            return "BAD Command is not recognized."
        if name not in _ANY_STATE and not self._is_signed_in:
            return f"BAD {_INVALID_STATE}"
        if name in _OPEN and not self._is_open:
            return f"BAD {_INVALID_STATE}"
        if (name in _CHANGES and self._is_read_only) or (
            name == "AUTHENTICATE" and self._is_signed_in
        ):
            return f"NO {_INVALID_STATE}"
        return ""

    def news(self) -> bytes:
        """What the client has not been told yet of what others did."""
        if not self._is_open:
            return b""
        said: list[str] = []
        with self.server.changed:
            for uid in [uid for uid in self.numbered if uid not in self.server.messages]:
                said.append(f"* {self.number(uid)} EXPUNGE\r\n")
                self.numbered.remove(uid)
            old = set(self.numbered)
            new = [uid for uid in self.server.messages if uid not in old]
            if new:
                self.numbered += new
                said.append(f"* {len(self.numbered)} EXISTS\r\n")
                self._told.update((uid, set(self.server.flags[uid])) for uid in new)
            if self._told != self.server.flags:
                changed = [u for u in self.numbered if self._told[u] != self.server.flags[u]]
                lines = [self.line(uid, {"FLAGS": self.flags(uid)}) for uid in changed]
                said += [line.decode() for line in lines]
                self._told = {uid: self._told[uid] for uid in self.numbered}
        return "".join(said).encode()

    def idle(self, tag: str, opening: bytes) -> None:
        with self.server.changed:
            self.is_idle = True
            self.server.changed.notify_all()
        self.wire.send(opening)
        self._say_news()
        line = self.wire.line(woken=self._say_news)
        with self.server.changed:
            self.is_idle = False
            self.server.note(line)
        result = "OK IDLE completed." if line.upper() == "DONE" else f"BAD {_INVALID_STATE}"
        self.wire.send(self.news() + f"{tag} {result}\r\n".encode())

    def _authenticate(self, command: Command) -> str:
        response = command.response
        if response is None:
            self.wire.send(b"+ \r\n")
            response = self.wire.line()
        with self.server.changed:
            if response == "*" or self.server.refuse_logins > 0:
                self.server.refuse_logins -= response != "*"
                return "NO AUTHENTICATE failed."
            self._is_signed_in = True
            self.server.logins += 1
            self.server.changed.notify_all()
        return "OK AUTHENTICATE completed."

    def existing(self, command: Command) -> list[int]:
        """The UIDs of the messages that the command names, and that are there."""
        if command.by_uid:
            return [uid for uid in command.named(self.numbered) if uid in self.server.messages]
        numbers = command.named(range(1, len(self.numbered) + 1))
        return [uid for n in numbers if (uid := self.numbered[n - 1]) in self.server.messages]

    def flags(self, uid: int) -> bytes:
        self._told[uid] = set(self.server.flags[uid])
        return _flag_list(self._told[uid])

    def line(self, uid: int, parts: dict[str, bytes]) -> bytes:
        """A FETCH line."""
        inner = b" ".join(name.encode() + b" " + value for name, value in parts.items())
        return b"* %d FETCH (%b)\r\n" % (self.number(uid), inner)

    def number(self, uid: int) -> int:
        """The message's number, as the client counts."""
        return bisect_left(self.numbered, uid) + 1

    def parts(self, command: Command, uid: int) -> dict[str, bytes]:
        """What FETCH asks of a message."""
        _, _, asked = command.args.upper().partition(" ")
        items = asked.removeprefix("(").removesuffix(")").split()
        flags = self.server.flags[uid]
        if {"BODY[]", "RFC822"} & set(items) and SEEN not in flags and not self._is_read_only:
            flags.add(SEEN)
            self.server.happened("marked", [uid])
            items += [] if "FLAGS" in items else ["FLAGS"]
        names = ["UID"] if command.by_uid and "UID" not in items else []
        names += [item.replace(".PEEK", "") for item in items]
        return {name: self._part(name, uid) for name in names}

    def _part(self, name: str, uid: int) -> bytes:
        content = self.server.messages[uid]
        match name:
            case "UID":
                return b"%d" % uid
            case "FLAGS":
                return self.flags(uid)
            case "INTERNALDATE":
                return b'" 1-Dec-2026 08:00:00 +0000"'
            case "RFC822.SIZE":
                return b"%d" % len(content)
            case "BODY[]" | "RFC822":
                self.server.happened("fetched", [uid])
                return literal(content)
            case _:
                raise _Refused(_BAD_ARGUMENT)

    def _say_news(self) -> None:
        if news := self.news():
            self.wire.send(news)

    def _do_capability(self, _: Command) -> _Done:
        return _Done(f"* CAPABILITY {self.server.capabilities}\r\n".encode())

    def _do_noop(self, _: Command) -> _Done:
        return _Done()

    def _do_logout(self, _: Command) -> _Done:
        return _Done(b"* BYE Microsoft Exchange Server IMAP4 server signing off.\r\n")

    def _do_login(self, _: Command) -> _Done:
        raise _Refused("NO LOGIN failed.")

    def _do_select(self, command: Command) -> _Done:
        server = self.server
        self._is_open = False
        _check_inbox(command.args)
        self.numbered = list(server.messages)
        self._told = {uid: set(server.flags[uid]) for uid in self.numbered}
        self._is_open, self._is_read_only = True, command.name == "EXAMINE"
        lines = [f"* {len(self.numbered)} EXISTS", "* 0 RECENT"]
        lines += [r"* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $MDNSent)"]
        if server.permanent_flags is not None:
            lines += [f"* OK [PERMANENTFLAGS {server.permanent_flags}] Permanent flags"]
        lines += [f"* OK [UIDVALIDITY {server.uidvalidity}] UIDVALIDITY value"]
        if server.tell_uidnext:
            lines += [f"* OK [UIDNEXT {server.uidnext}] The next unique identifier value"]
        said = b"".join(line + b"\r\n" for line in [*map(str.encode, lines), *server.select_extra])
        return _Done(said, "[READ-ONLY] " if self._is_read_only else "[READ-WRITE] ")

    _do_examine = _do_select

    def _do_unselect(self, _: Command) -> _Done:
        self._is_open = False
        return _Done()

    def _do_status(self, command: Command) -> _Done:
        _check_inbox(command.args)
        server = self.server
        values = {"MESSAGES": len(server.messages), "UNSEEN": len(server.unseen), "RECENT": 0}
        values |= {"UIDNEXT": server.uidnext, "UIDVALIDITY": server.uidvalidity}
        name, _, items = command.args.rpartition(" (")
        try:
            told = [f"{item} {values[item]}" for item in items.upper().rstrip(")").split()]
        except KeyError:
            raise _Refused(_BAD_ARGUMENT) from None
        return _Done(f"* STATUS {name} ({' '.join(told)})\r\n".encode())

    def _do_list(self, _: Command) -> _Done:
        lines = [f'* LIST () "/" "{name}"\r\n' for name in ("INBOX", *self.server.folders)]
        return _Done("".join(lines).encode())

    def _do_search(self, command: Command) -> _Done:
        found = matching(command.args, self.numbered, self.server.seen)
        self.server.happened("listed", found)
        if not command.by_uid:
            found = [self.number(uid) for uid in found]
        return _Done("".join(["* SEARCH", *(f" {n}" for n in found), "\r\n"]).encode())

    def _do_fetch(self, command: Command) -> _Done:
        uids = self.existing(command)
        return _Done(b"".join(self.line(uid, self.parts(command, uid)) for uid in uids))

    def _do_store(self, command: Command) -> _Done:
        found = re.fullmatch(r"(?i)\S+ ([+-]?)FLAGS(\.SILENT)? \(?([^()]*)\)?", command.args)
        if found is None:
            raise _Refused(_BAD_ARGUMENT)
        named, said = set(found[3].split()), b""
        for uid in self.existing(command):
            old = self.server.flags[uid]
            new = {"+": old | named, "-": old - named, "": named}[found[1]]
            self.server.flags[uid] = set(new)
            if SEEN in named and found[1] != "-":
                self.server.happened("marked", [uid])
            parts = {"UID": b"%d" % uid} if command.by_uid else {}
            line = self.line(uid, parts | {"FLAGS": self.flags(uid)})
            said += b"" if found[2] else line
        return _Done(said)

    def _do_copy(self, command: Command) -> _Done:
        target, uids = _mailboxes(command.args)[-1], self.existing(command)
        folder = self.server.folders.get(target)
        if folder is None:
            raise _Refused(f"NO [TRYCREATE] {target} doesn't exist.")
        ends = f"{len(folder) + 1}:{len(folder) + len(uids)}"
        folder += [self.server.messages[uid] for uid in uids]
        return _Done(code=f"[COPYUID 1 {','.join(map(str, uids))} {ends}] " if uids else "")

    def _do_move(self, command: Command) -> _Done:
        uids, copied = self.existing(command), self._do_copy(command)
        for uid in uids:
            self.server.remove(uid)
        return _Done(f"* OK {copied.code}\r\n".encode() if uids else b"")

    def _do_expunge(self, command: Command) -> _Done:
        for uid in self.existing(command) if command.by_uid else list(self.numbered):
            if r"\Deleted" in self.server.flags.get(uid, ()):
                self.server.remove(uid)
        return _Done()


def _mailboxes(args: str) -> list[str]:
    names = [quoted or atom for quoted, atom in re.findall(_NAME, args)]
    return ["INBOX" if name.upper() == "INBOX" else name for name in names]


def _check_inbox(args: str) -> None:
    if _mailboxes(args)[:1] != ["INBOX"]:
        raise _Refused(f"NO {args} doesn't exist.")


class Reply:
    """What an answer can say and do; an answer is a function of it.

    Attributes:
        tag: The tag of the command.
        line: The command without its tag.
        uids: The UIDs that the command names and that are there; of these only the one that the
            hook was registered for, if it was.
        others: The rest of them.
    """

    def __init__(
        self, session: _Session, tag: str, command: Command, uid: int | None = None
    ) -> None:
        self.server = session.server
        self.tag, self.line, self.command = tag, command.line, command
        with self.server.changed:
            named = session.existing(command)
        self.uids = [one for one in named if uid in {None, one}]
        self.others = [one for one in named if one not in self.uids]
        self._session = session
        self._wire = session.wire

    def send(self, data: bytes) -> None:
        """Say just this."""
        self._wire.send(data)

    def ok(self, before: bytes = b"") -> None:
        """Say OK, in one packet with what stands before it."""
        self.send(before + f"{self.tag} OK {self.command.name} completed.\r\n".encode())

    def no(self, text: str) -> None:
        """Refuse by NO."""
        self.send(f"{self.tag} NO {text}\r\n".encode())

    def bad(self, text: str) -> None:
        """Refuse by BAD."""
        self.send(f"{self.tag} BAD {text}\r\n".encode())

    def usual(self, before: bytes = b"") -> None:
        """Do and say what the server does without a hook."""
        name = self.command.name
        if name == "IDLE" and not self._session.refusal(name):
            self.idle(before + IDLING)
            return
        said, result = self._session.do(self.command)
        self.send(before + said + f"{self.tag} {result}\r\n".encode())
        if name == "LOGOUT":
            self.close()

    def usual_without_saying(self) -> None:
        """Do it, and say nothing."""
        self._session.do(self.command, tell=False)

    def done_for_others(self) -> bytes:
        """Carry the command out for :attr:`others` alone: what is said of it before the OK."""
        if not self.others:
            return b""
        _, _, rest = self.command.args.partition(" ")
        args = f"{','.join(map(str, self.others))} {rest}"
        return self._session.do(self.command._replace(args=args))[0]

    def close(self) -> NoReturn:
        """End the connection in order (FIN)."""
        self._wire.finish()

    def reset(self) -> NoReturn:
        """Break the connection (RST)."""
        self._wire.reset()

    def stall(self) -> NoReturn:
        """Say nothing until the client leaves or the test ends."""
        self._wire.stall()

    def pause(self, seconds: float) -> None:
        """Say nothing for so long."""
        self._wire.pause(seconds)

    def line_of_client(self) -> str:
        """What the client says next."""
        return self._wire.line()

    def idle(self, opening: bytes = IDLING) -> None:
        """Be in IDLE until DONE, after these first words."""
        self._session.idle(self.tag, opening)

    def news(self) -> bytes:
        """The lines that tell what others did since the last command."""
        return self._session.news()

    def parts(self, uid: int) -> dict[str, bytes]:
        """The items that the usual answer to FETCH has for a message, and their values."""
        with self.server.changed:
            return self._session.parts(self.command, uid)

    def fetch_line(self, uid: int, parts: dict[str, bytes]) -> bytes:
        """A FETCH line for a message."""
        return self._session.line(uid, parts)

    def flags_line(self, uid: int) -> bytes:
        """A FETCH line with the UID and the flags that a message has now."""
        return self.fetch_line(uid, {"UID": b"%d" % uid, "FLAGS": self.flags_of(uid)})

    def found(self) -> list[int]:
        """Say what is new; the numbers that the usual answer to SEARCH has then."""
        self.send(b"" if self.command.is_numbered else self.news())
        said, _ = self._session.do(self.command, tell=False)
        return [int(number) for number in said.split()[2:]]

    def uid_at(self, number: int) -> int:
        """The UID of a message by its number."""
        return self._session.numbered[number - 1]

    def flags_of(self, uid: int) -> bytes:
        """The flags of a message as a parenthesised list."""
        with self.server.changed:
            return self._session.flags(uid)
