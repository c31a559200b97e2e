"""The IMAP commands that pymap does not parse as Exchange does."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING

from pymap.parsing import Space
from pymap.parsing.command import CommandAuth, CommandNoArgs, CommandSelect
from pymap.parsing.command.nonauth import AuthenticateCommand
from pymap.parsing.commands import Commands
from pymap.parsing.primitives import Atom
from typing_extensions import override

if TYPE_CHECKING:
    from pymap.parsing import Params

_XOAUTH2 = re.compile(rb"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01", re.IGNORECASE)


class SaslCommand(AuthenticateCommand):
    """``AUTHENTICATE`` with an optional initial response (RFC 4959)."""

    def __init__(self, tag: bytes, mech_name: bytes, initial_response: bytes | None) -> None:
        super().__init__(tag, mech_name)
        self.initial_response = initial_response

    @override
    @classmethod
    def parse(cls, buf: memoryview, params: Params) -> tuple[SaslCommand, memoryview]:
        _, buf = Space.parse(buf, params)
        mechanism, buf = Atom.parse(buf, params)
        response = bytes(buf).strip() or None
        return cls(params.tag, mechanism.value.upper(), response), buf[len(buf) :]


class NamespaceCommand(CommandNoArgs, CommandAuth):
    """``NAMESPACE`` (RFC 2342)."""

    command = b"NAMESPACE"


class UnselectCommand(CommandNoArgs, CommandSelect):
    """``UNSELECT`` (RFC 3691)."""

    command = b"UNSELECT"


def exchange_commands() -> Commands:
    """The commands of Exchange on an implicit-TLS port."""
    commands = Commands()
    for command in (SaslCommand, NamespaceCommand, UnselectCommand):
        commands.register(command)
    commands.deregister(b"STARTTLS")
    return commands


def parse_xoauth2(response: bytes) -> tuple[str, str] | None:
    """User and token of a base64-encoded XOAUTH2 response, or None if it is malformed."""
    try:
        match = _XOAUTH2.fullmatch(b64decode(response, validate=True))
        return match and (match[1].decode(), match[2].decode())
    except (binascii.Error, UnicodeDecodeError):
        return None
