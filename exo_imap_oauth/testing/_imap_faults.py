"""What goes wrong at the IMAP server."""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING

from pymap.parsing.response import ResponseBad, ResponseBye, ResponseContinuation, ResponseNo

from exo_imap_oauth.testing._faults import Fault
from exo_imap_oauth.testing._loop import reset

if TYPE_CHECKING:
    from pymap.parsing.response import Response

    from exo_imap_oauth.testing._faults import Injection

CLOSED = b"Connection closed. 14"
WRONG_SERVER = (
    'Error="Microsoft.Exchange.Data.Storage.WrongServerException:Cross Server access is not'
    f' allowed for mailbox {uuid.uuid4()}" AuthResultFromPopImapEnd=0'
)
SESSION_INVALIDATED = b"Session invalidated - AccessTokenExpired"
# As Dovecot sends it; nobody has shown one of Exchange's.
CHALLENGE = ResponseContinuation(
    b64encode(json.dumps({"status": "401", "schemes": "bearer", "scope": "mail"}).encode())
)
_LINES = b"* OK Please wait.\r\n" * 10
_PAUSE = 0.001  # s between ten lines
_LONG_LINE = b"* OK " + b"x" * (2 * 1024 * 1024) + b"\r\n"


async def misbehave(
    injection: Injection, tag: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Response | None:
    """What is said in place of a command's answer; None: the command is answered after all."""
    match injection.fault:
        case Fault.IMAP_STALL:
            await injection.wait()
        case Fault.IMAP_LONG_LINE:
            writer.write(_LONG_LINE)
            await writer.drain()
        case Fault.IMAP_THROTTLED:
            backoff = injection.seconds * 1000
            text = f"Request is throttled. Suggested Backoff Time: {backoff:.0f} milliseconds"
            refuse = ResponseNo if injection.reply == "NO" else ResponseBad
            return refuse(tag, text.encode())
        case Fault.IMAP_SESSION_INVALIDATED:
            return ResponseBye(SESSION_INVALIDATED)
        case Fault.IMAP_CONNECTION_CLOSED:
            return ResponseBye(CLOSED)
        case Fault.IMAP_ENDLESS_LINES:
            await _go_on_and_on(injection, reader, writer)
            raise EOFError
        case _:
            reset(writer)
            raise ConnectionResetError
    return None


async def _go_on_and_on(
    injection: Injection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    over = asyncio.create_task(injection.wait())
    try:
        while not (over.done() or reader.at_eof()):
            writer.write(_LINES)
            await writer.drain()
            await asyncio.sleep(_PAUSE)
    finally:
        over.cancel()
        with suppress(asyncio.CancelledError):
            await over
