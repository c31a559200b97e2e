"""The IMAP commands that pymap does not parse as Exchange does."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING

from pymap.parsing import Space
from pymap.parsing.command import CommandAuth, CommandNoArgs, CommandSelect
from pymap.parsing.command.nonauth import AuthenticateCommand
from pymap.parsing.command.select import SearchCommand
from pymap.parsing.commands import Commands
from pymap.parsing.primitives import Atom
from typing_extensions import override

if TYPE_CHECKING:
    from pymap.parsing import Params

_XOAUTH2 = re.compile(rb"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01", re.IGNORECASE)
_CHARSET = re.compile(rb' CHARSET "?([^" \r\n]+)"?', re.IGNORECASE)
_ONLY_CHARSET = "US-ASCII"


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


class EnableCommand(CommandAuth):
    """``ENABLE`` (RFC 5161) with the names of what is to be enabled, in capitals."""

    command = b"ENABLE"

    def __init__(self, tag: bytes, names: list[bytes]) -> None:
        super().__init__(tag)
        self.names = names

    @override
    @classmethod
    def parse(cls, buf: memoryview, params: Params) -> tuple[EnableCommand, memoryview]:
        _, buf = Space.parse(buf, params)
        Atom.parse(buf, params)  # one name at least
        return cls(params.tag, bytes(buf).upper().split()), buf[len(buf) :]


class ExchangeSearchCommand(SearchCommand):
    """``SEARCH``, which knows one charset: what follows another one is not looked at."""

    @property
    def has_bad_charset(self) -> bool:
        """Whether it names a charset that Exchange does not take."""
        return self.charset not in {None, _ONLY_CHARSET}

    @override
    @classmethod
    def parse(cls, buf: memoryview, params: Params) -> tuple[SearchCommand, memoryview]:
        named = _CHARSET.match(buf)
        charset = named[1].decode("ascii", "replace").upper() if named else _ONLY_CHARSET
        if charset == _ONLY_CHARSET:
            # pymap would read strings in the charset that the command names, in small letters.
            return super().parse(buf[named.end() :] if named else buf, params)
        return cls(params.tag, [], charset), buf[len(buf) :]


class ExchangeUidSearchCommand(ExchangeSearchCommand):
    """``UID SEARCH``, in which bare numbers are sequence numbers (RFC 3501 section 6.4.8)."""

    command = b"UID SEARCH"
    delegate = SearchCommand
    uid = True


def exchange_commands(*, enable: bool) -> Commands:
    """The commands of Exchange on an implicit-TLS port.

    Args:
        enable: Whether ``ENABLE`` is among them.
    """
    commands = Commands()
    for command in (
        SaslCommand,
        NamespaceCommand,
        UnselectCommand,
        ExchangeSearchCommand,
        ExchangeUidSearchCommand,
    ):
        commands.register(command)
    if enable:
        commands.register(EnableCommand)
    commands.deregister(b"STARTTLS")
    return commands


def parse_xoauth2(response: bytes) -> tuple[str, str] | None:
    """User and token of a base64-encoded XOAUTH2 response, or None if it is malformed."""
    try:
        match = _XOAUTH2.fullmatch(b64decode(response, validate=True))
        return match and (match[1].decode(), match[2].decode())
    except (binascii.Error, UnicodeDecodeError):
        return None
