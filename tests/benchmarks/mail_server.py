r"""A mailbox that is never the bottleneck, in a process of its own, behind a link that delays.

It knows the commands that the contenders send, keeps ``\Seen``, counts and takes the time. All is
told over a pipe, so that the contenders do nothing but read mail. Times are those of
``time.monotonic()``, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import trustme
from typing_extensions import override

from .first_message import relay

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from multiprocessing.connection import Connection

HOST = "localhost"
_CAPABILITIES = "IMAP4rev1 AUTH=XOAUTH2 SASL-IR IDLE UIDPLUS"
_READY = 0.05  # s that a client has idled when new mail comes
_HEADERS = (
    "Received: from AM0PR04MB1234.eurprd04.prod.outlook.com (2603:10a6:208:11a::12)\r\n"
    " by DB7PR04MB5678.eurprd04.prod.outlook.com with HTTPS; Mon, 2 Nov 2026 08:00:00 +0000\r\n"
    "Authentication-Results: spf=pass (sender IP is 192.0.2.1)\r\n"
    " smtp.mailfrom=fabrikam.example; dkim=pass header.d=fabrikam.example; dmarc=pass\r\n"
    "From: Alex Wilber <alex@fabrikam.example>\r\n"
    "To: Orders <orders@contoso.example>\r\n"
    "Subject: Order {number} of the day\r\n"
    "Date: Mon, 2 Nov 2026 08:00:00 +0000\r\n"
    "Message-ID: <order-{number}@fabrikam.example>\r\n"
    "Thread-Topic: Order {number}\r\n"
    "X-MS-Exchange-Organization-SCL: -1\r\n"
    "X-MS-Exchange-Transport-EndToEndLatency: 00:00:01.5936310\r\n"
    "MIME-Version: 1.0\r\n"
)


def text_mail(number: int, size: int) -> bytes:
    """A message of text with about so many octets."""
    head = f'{_HEADERS}Content-Type: text/plain; charset="utf-8"\r\n\r\n'.format(number=number)
    line = f"{'The order holds what was asked for. ' * 2}\r\n"
    return (head + line * max(1, (size - len(head)) // len(line))).encode()


def mail_with_file(size: int) -> bytes:
    """A message of about so many octets, nearly all of them an attachment in base64."""
    kind = "multipart/mixed; boundary=frontier"
    head = f"{_HEADERS}Content-Type: {kind}\r\n\r\n".format(number=1)
    text = "--frontier\r\nContent-Type: text/plain\r\n\r\nAttached.\r\n--frontier\r\n"
    file = (
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="scan.tif"\r\n\r\n'
    )
    line = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n"
    begin, end = (head + text + file).encode(), b"--frontier--\r\n"
    return b"".join((begin, line * ((size - len(begin) - len(end)) // len(line)), end))


class Measured(NamedTuple):
    """What the server saw since a client selected the folder.

    Attributes:
        seconds: From the first command that came to the last mark that was confirmed.
        flights: How often the client sent something after the server had: the round trips, and
            more where it sends while nothing is waited for.
        unread: How many messages have no mark.
        announced: When each new message was announced.
    """

    seconds: float
    flights: int
    unread: int
    announced: list[float]


@dataclass
class _Mailbox:
    messages: list[bytes] = field(default_factory=list[bytes])
    seen: set[int] = field(default_factory=set[int])
    began: float = 0.0
    ended: float = 0.0
    flights: int = 0
    has_spoken: bool = False
    announced: list[float] = field(default_factory=list[float])
    idling: _Session | None = None
    idles_since: float = 0.0

    def selected(self) -> None:
        self.began, self.flights = 0.0, 0

    def heard(self) -> None:
        self.began = self.began or time.monotonic()
        self.flights += self.has_spoken
        self.has_spoken = False

    def has_idled_for(self, seconds: float) -> bool:
        return self.idling is not None and time.monotonic() >= self.idles_since + seconds

    def named(self, numbers: bytes) -> Iterator[int]:
        there = len(self.messages)
        for each in numbers.replace(b"*", b"%d" % there).split(b","):
            first, _, last = each.partition(b":")
            yield from range(int(first), min(int(last or first), there) + 1)


class _Session(asyncio.Protocol):
    """A connection. The UID of a message is its number."""

    def __init__(self, mailbox: _Mailbox) -> None:
        self._mailbox = mailbox
        self._received = b""
        self._idle_tag: bytes | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.say(b"* OK [CAPABILITY %s] ready\r\n" % _CAPABILITIES.encode())

    @override
    def data_received(self, data: bytes) -> None:
        self._mailbox.heard()
        *lines, self._received = (self._received + data).split(b"\r\n")
        for line in lines:
            self._take(line)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._mailbox.idling is self:
            self._mailbox.idling = None

    def say(self, *what: bytes) -> None:
        self._mailbox.has_spoken = True
        self._transport.write(b"".join(what))

    def _take(self, line: bytes) -> None:
        if self._idle_tag is not None:
            self.say(self._idle_tag, b" OK idled\r\n")
            self._idle_tag = self._mailbox.idling = None
            return
        tag, _, command = line.partition(b" ")
        name, _, rest = command.partition(b" ")
        name = name.upper()
        if name == b"UID":
            name, _, rest = rest.partition(b" ")
            name = name.upper()
        answer = getattr(self, f"_{name.decode().lower()}", None)
        if answer is not None:
            answer(rest)
        if name == b"IDLE":
            self._idle_tag, self._mailbox.idling = tag, self
            self._mailbox.idles_since = time.monotonic()
            return
        self.say(tag, b" OK done\r\n")
        if name == b"STORE" and len(self._mailbox.seen) == len(self._mailbox.messages):
            self._mailbox.ended = time.monotonic()
        if name == b"SELECT":
            self._mailbox.selected()
        if name == b"LOGOUT":
            self._transport.close()

    def _capability(self, _: bytes) -> None:
        self.say(b"* CAPABILITY %s\r\n" % _CAPABILITIES.encode())

    def _select(self, _: bytes) -> None:
        there = len(self._mailbox.messages)
        self.say(
            b"* FLAGS (\\Seen)\r\n* OK [PERMANENTFLAGS (\\Seen)] kept\r\n* %d EXISTS\r\n" % there,
            b"* OK [UIDVALIDITY 1] valid\r\n* OK [UIDNEXT %d] next\r\n" % (there + 1),
        )

    def _search(self, criteria: bytes) -> None:
        named = re.search(rb"\bUID ([0-9:,*]+)", criteria)
        numbers = self._mailbox.named(named[1] if named else b"1:*")
        unread = [b" %d" % each for each in numbers if each not in self._mailbox.seen]
        self.say(b"* SEARCH", *unread, b"\r\n")

    def _fetch(self, arguments: bytes) -> None:
        numbers, _, items = arguments.partition(b" ")
        is_whole = b"BODY" in items.upper()
        self.say(
            *chain.from_iterable(
                self._fetched(number, is_whole=is_whole) for number in self._mailbox.named(numbers)
            )
        )

    def _fetched(self, number: int, *, is_whole: bool) -> Iterator[bytes]:
        text = self._mailbox.messages[number - 1]
        yield b"* %d FETCH (UID %d RFC822.SIZE %d" % (number, number, len(text))
        if is_whole:
            flags = b"\\Seen" if number in self._mailbox.seen else b""
            yield b" FLAGS (%s)" % flags
            yield b' INTERNALDATE " 2-Nov-2026 08:00:00 +0000" BODY[] {%d}\r\n' % len(text)
            yield text
        yield b")\r\n"

    def _store(self, arguments: bytes) -> None:
        numbers = [*self._mailbox.named(arguments.partition(b" ")[0])]
        self._mailbox.seen.update(numbers)
        self.say(*(b"* %d FETCH (UID %d FLAGS (\\Seen))\r\n" % (each, each) for each in numbers))

    def _idle(self, _: bytes) -> None:
        self.say(b"+ idling\r\n")


async def _deliver(mailbox: _Mailbox, text: bytes) -> None:
    """Announce a message to a client that idles."""
    while not mailbox.has_idled_for(_READY):  # noqa: ASYNC110 - no event tells of a length of time
        await asyncio.sleep(_READY / 10)
    mailbox.messages.append(text)
    mailbox.announced.append(time.monotonic())
    assert mailbox.idling is not None
    mailbox.idling.say(b"* %d EXISTS\r\n" % len(mailbox.messages))


def _serve(line: Connection) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)  # pyright: ignore[reportUnknownMemberType] # it names pyOpenSSL's class
    asyncio.run(_run(line, context, authority.cert_pem.bytes().decode()))


async def _run(line: Connection, context: ssl.SSLContext, ca_pem: str) -> None:
    loop = asyncio.get_running_loop()
    mailbox = _Mailbox()
    server = await loop.create_server(
        lambda: _Session(mailbox), HOST, 0, family=socket.AF_INET, ssl=context
    )
    line.send((server.sockets[0].getsockname()[1], ca_pem))
    while True:
        what, given = await loop.run_in_executor(None, line.recv)
        if what == "fill":
            mailbox.__init__(given)  # type: ignore[misc] # all is as at the start
            line.send(None)
        elif what == "deliver":
            await _deliver(mailbox, given)
        else:
            unread = len(mailbox.messages) - len(mailbox.seen)
            seconds = mailbox.ended - mailbox.began
            line.send(Measured(seconds, mailbox.flights, unread, mailbox.announced))


class Place(NamedTuple):
    """Where a contender finds the mailbox."""

    port: int
    ca_pem: str


class Server:
    """The mailbox, seen from here."""

    def __init__(self, line: Connection, place: Place) -> None:
        self._line = line
        self._direct = place
        self._links: dict[float, Place] = {}
        self._stop = contextlib.ExitStack()

    def place(self, round_trip: float) -> Place:
        """Where it is found so far away; without any delay there is nothing in between."""
        if not round_trip:
            return self._direct
        if round_trip not in self._links:
            line = self._stop.enter_context(process(relay, [self._direct.port], round_trip))
            (port,) = line.recv()
            self._links[round_trip] = self._direct._replace(port=port)
        return self._links[round_trip]

    def fill(self, messages: list[bytes]) -> None:
        """Hold these messages, all of them unread, and no others."""
        self._ask("fill", messages)

    def deliver(self, message: bytes) -> None:
        """Announce one more as soon as a client idles."""
        self._line.send(("deliver", message))

    def measured(self) -> Measured:
        """What it saw."""
        return cast("Measured", self._ask("measured", None))

    def _ask(self, what: str, given: object) -> Any:
        self._line.send((what, given))
        return self._line.recv()

    def close(self) -> None:
        """End its links."""
        self._stop.close()


@contextlib.contextmanager
def process(function: Any, *arguments: object) -> Generator[Connection]:
    """Run a function in a fresh process, which ends with the body; gives the line to it."""
    spawn = multiprocessing.get_context("spawn")
    line, other_end = spawn.Pipe()
    running = spawn.Process(target=function, args=(other_end, *arguments), daemon=True)
    running.start()
    other_end.close()  # so that its end is heard
    try:
        yield line
    finally:
        running.kill()
        running.join()
        line.close()


@contextlib.contextmanager
def mail_server() -> Generator[Server]:
    """A server, for as long as the body runs."""
    with process(_serve) as line:
        server = Server(line, Place(*line.recv()))
        try:
            yield server
        finally:
            server.close()
