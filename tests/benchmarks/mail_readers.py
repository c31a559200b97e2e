"""Ways to read a mailbox: this library's, those of others, and the least that there could be."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
import statistics
import time
from email import message_from_bytes, policy
from importlib import import_module
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.listener import InboxListener

from .mail_server import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exo_imap_oauth.mail import Mail

    from .mail_server import Place

USER = "orders@contoso.example"
SECRET = "x"
LIMIT = 120.0  # s
_LITERAL = re.compile(rb"\* [0-9]+ FETCH \(UID ([0-9]+)[^{]*\{([0-9]+)\}\r\n")


def trust(place: Place) -> ssl.SSLContext:
    """What trusts the server."""
    return ssl.create_default_context(cadata=place.ca_pem)


def inbox_at(place: Place) -> InboxConfig:
    """The mailbox, for this library."""
    return InboxConfig(
        user=USER,
        host=HOST,
        port=place.port,
        token_uri="https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
        client_id="22222222-2222-4222-8222-222222222222",
        client_secret=SECRET,
    )


def token() -> AccessToken:
    """What the server takes, as it takes everything."""
    now = time.time()
    return AccessToken(SECRET, int(now) + 3600, int(now) + 3000, now)


def listener(
    place: Place, handle: Callable[[InboxConfig, Mail], object], **options: Any
) -> InboxListener:
    """This library's listener."""
    return InboxListener(
        inbox_at(place), handle, token=token(), ssl_context=trust(place), **options
    )


def by_imaplib(place: Place) -> imaplib.IMAP4_SSL:
    """A client of the standard library, with the folder selected."""
    imap = imaplib.IMAP4_SSL(HOST, place.port, ssl_context=trust(place), timeout=LIMIT)
    imap.login(USER, SECRET)
    imap.select()
    return imap


def by_imap_tools(place: Place) -> Any:
    """A client of imap_tools, with the folder selected."""
    mailbox: Any = import_module("imap_tools").MailBox
    return mailbox(HOST, place.port, ssl_context=trust(place)).login(USER, SECRET)


class Raw:
    """A socket, and no more words than the protocol needs."""

    def __init__(self, place: Place) -> None:
        plain = socket.create_connection((HOST, place.port), LIMIT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = trust(place).wrap_socket(plain, server_hostname=HOST)
        self.said_until(b"ready\r\n")
        self.ask(f"a LOGIN {USER} {SECRET}")
        self.ask("a SELECT INBOX")

    def ask(self, command: str) -> bytes:
        """What is said until the command is done."""
        self.send(command)
        return self.said_until(b"a OK done\r\n")

    def send(self, command: str) -> None:
        """Send it."""
        self._socket.sendall(f"{command}\r\n".encode())

    def said_until(self, end: bytes) -> bytes:
        """What is said until this is said."""
        said = bytearray()
        while not said.endswith(end):
            received = self._socket.recv(65_536)
            assert received, "the server closed the connection"
            said += received
        return bytes(said)


def round_trip(place: Place) -> float:
    """Seconds that the server takes for nothing, from so far away; the median of some."""
    raw = Raw(place)
    times: list[float] = []
    for _ in range(21):
        began = time.perf_counter()
        raw.ask("a NOOP")
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def texts_in(said: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages in replies to FETCH, with their UIDs."""
    found = _LITERAL.search(said)
    while found is not None:
        end = found.end() + int(found[2])
        yield int(found[1]), said[found.end() : end]
        found = _LITERAL.search(said, end)


# ---- a backlog: each reads what is unread, and gives the UIDs in the order of their handling -----


def floor(place: Place) -> list[int]:
    """One FETCH of all and one STORE; nothing is parsed."""
    raw = Raw(place)
    uids = [int(found[1]) for found in _LITERAL.finditer(raw.ask("a UID FETCH 1:* (BODY.PEEK[])"))]
    raw.ask(r"a UID STORE 1:* +FLAGS (\Seen)")
    return uids


def floor_with_parsing(place: Place) -> list[int]:
    """The same, and each message is parsed."""
    raw = Raw(place)
    uids: list[int] = []
    for uid, text in texts_in(raw.ask("a UID FETCH 1:* (BODY.PEEK[])")):
        message_from_bytes(text, policy=policy.default)
        uids.append(uid)
    raw.ask(r"a UID STORE 1:* +FLAGS (\Seen)")
    return uids


def imaplib_one_by_one(place: Place) -> list[int]:
    """The loop of most programs."""
    imap = by_imaplib(place)
    uids: list[int] = []
    for uid in imap.uid("SEARCH", "UNSEEN")[1][0].split():
        _, data = imap.uid("FETCH", uid.decode(), "(BODY.PEEK[])")
        message_from_bytes(data[0][1], policy=policy.default)
        uids.append(int(uid))
        imap.uid("STORE", uid.decode(), "+FLAGS", r"(\Seen)")
    return uids


def imap_tools_bulk(place: Place) -> list[int]:
    """A hundred at a time, which are marked when all of them are handled."""
    mailbox = by_imap_tools(place)
    uids: list[int] = []
    marked = 0
    unread = mailbox.uids("UNSEEN")
    for message in mailbox.fetch(uid_list=unread, bulk=100, mark_seen=False):
        uids.append(int(message.uid))
        if len(uids) % 100 == 0 or len(uids) == len(unread):
            mailbox.flag([str(uid) for uid in uids[marked:]], r"\Seen", True)
            marked = len(uids)
    return uids


def ours(place: Place, **options: Any) -> list[int]:
    """This library's listener."""
    uids: list[int] = []
    listener(place, lambda _, mail: uids.append(mail.uid), **options).run_once()
    return uids


def ours_confirmed(place: Place) -> list[int]:
    """The same; each mark is waited for."""
    return ours(place, unconfirmed=1)


BACKLOG: dict[str, Callable[[Place], list[int]]] = {
    "floor: one FETCH, one STORE": floor,
    "floor with parsing": floor_with_parsing,
    "imaplib, one by one": imaplib_one_by_one,
    "imap_tools, bulk=100": imap_tools_bulk,
    "ours": ours,
    "ours, unconfirmed=1": ours_confirmed,
}


# ---- new mail: each tells when it has a message, until it is stopped -----------------------------


def floor_waits(place: Place, handle: Callable[[], None]) -> None:
    """IDLE; then DONE and FETCH in one write, and STORE and IDLE in another."""
    raw = Raw(place)
    raw.send("a IDLE")
    while True:
        said = raw.said_until(b"EXISTS\r\n")
        number = int(said.split()[-2])
        raw.send(f"DONE\r\na UID FETCH {number} (BODY.PEEK[])")
        for _, text in texts_in(raw.said_until(b")\r\na OK done\r\n")):
            message_from_bytes(text, policy=policy.default)
        handle()
        raw.send(rf"a UID STORE {number} +FLAGS (\Seen)" + "\r\na IDLE")


def imap_tools_waits(place: Place, handle: Callable[[], None]) -> None:
    """As its documentation shows it."""
    mailbox = by_imap_tools(place)
    while True:
        if mailbox.idle.wait(timeout=LIMIT):
            for message in mailbox.fetch("UNSEEN", mark_seen=False):
                handle()
                mailbox.flag(message.uid, r"\Seen", True)


def ours_waits(place: Place, handle: Callable[[], None]) -> None:
    """This library's listener."""

    def told(_: InboxConfig, __: Mail) -> None:
        handle()

    listener(place, told).run()


NEW_MAIL: dict[str, Callable[[Place, Callable[[], None]], None]] = {
    "floor": floor_waits,
    "imap_tools, idle": imap_tools_waits,
    "ours": ours_waits,
}
