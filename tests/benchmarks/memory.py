"""What a large mail takes at most, beside the parser of the standard library, and imaplib.

Each contender runs in a fresh process, and the server in another one. What counts is the peak of
resident memory above what was resident before; everything is imported by then.
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import re
import tempfile
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING

from exo_imap_oauth.mail import message

from .backlog import kept
from .mail_readers import (
    by_imap_tools,
    by_imaplib,
    inbox_at,
    listener,
    token,
    trust,
)
from .mail_server import mail_server, mail_with_file, process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.mail import Mail

    from .mail_server import Place

MOST_OF_A_LISTENER = 1.3  # x what parsing alone takes
MOST_OF_A_LITERAL = 1.1  # x its size


def _status(field: str) -> int:
    """A number of bytes that the kernel tells of this process."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


def parsed(file: Path, _: Place) -> None:
    """Read it from a file and parse it."""
    message_from_bytes(file.read_bytes(), policy=policy.default)


def listened(_: Path, place: Place) -> None:
    """This library's listener, whose function does nothing."""
    handled: list[int] = []

    def handle(_: InboxConfig, mail: Mail) -> None:
        handled.append(mail.uid)

    assert listener(place, handle).run_once() == 1
    assert handled == [1]


def tooled(_: Path, place: Place) -> None:
    """The same by imap_tools."""
    assert [each.uid for each in by_imap_tools(place).fetch("UNSEEN")] == ["1"]


def kept_by_imaplib(_: Path, place: Place) -> None:
    """FETCH by imaplib; what came is kept."""
    data = by_imaplib(place).uid("FETCH", "1", "(BODY.PEEK[])")[1]
    assert data[0]


def kept_by_ours(_: Path, place: Place) -> None:
    """The same by this library's client."""
    with inbox_at(place).open(token=token(), ssl_context=trust(place)) as imap:
        data = imap.uid("FETCH", "1", "(BODY.PEEK[])")[1]
    assert data[0]


def parsed_by_ours(_: Path, place: Place) -> None:
    """The same, and parsed by this library."""
    with inbox_at(place).open(token=token(), ssl_context=trust(place)) as imap:
        assert message(imap.uid("FETCH", "1", "(BODY.PEEK[])"))


HANDLED = {
    "parsing its bytes alone": parsed,
    "ours, a listener": listened,
    "ours, open() and mail.message": parsed_by_ours,
    "imap_tools": tooled,
}
KEPT = {"imaplib": kept_by_imaplib, "ours, open()": kept_by_ours}


def peak(line: Connection, name: str, file: Path, place: Place) -> None:
    """Be the client, and tell the bytes that it took at most."""
    before = _status("VmRSS")
    {**HANDLED, **KEPT}[name](file, place)
    line.send(_status("VmHWM") - before)


def _peaks(contenders: Mapping[str, Callable[[Path, Place], None]], size: int) -> dict[str, int]:
    """Print what a message of so many bytes takes with each."""
    text = mail_with_file(size)
    peaks: dict[str, int] = {}
    with mail_server() as server, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mail")
        file.write_bytes(text)
        for name in contenders:
            server.fill([text])
            with process(peak, name, file, server.place(0.0)) as line:
                peaks[name] = line.recv()
    print(f"\na message of {len(text) / 2**20:.1f} MiB\n")
    print("|  | MiB at most, above the start | ÷ its size |")
    print("| --- | ---: | ---: |")
    for name, taken in peaks.items():
        print(f"| {name} | {taken / 2**20:.0f} | {taken / len(text):.2f} |")
    return peaks


def memory(*, mail: int, literal: int) -> bool:
    """Print the tables; whether the promises hold."""
    handled = _peaks(HANDLED, mail)
    kept_whole = _peaks(KEPT, literal)
    print()
    listening = handled["ours, a listener"] / handled["parsing its bytes alone"]
    reading = kept_whole["ours, open()"] / literal
    return all(
        (
            kept("x what parsing takes, in a listener", listening, MOST_OF_A_LISTENER),
            kept("x the size of a literal, with open()", reading, MOST_OF_A_LITERAL),
        )
    )
