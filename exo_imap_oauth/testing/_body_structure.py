"""ENVELOPE and BODYSTRUCTURE as RFC 3501 section 7.4.2 has them; pymap's differ in places."""

from __future__ import annotations

from email.parser import BytesHeaderParser
from email.utils import getaddresses
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from pymap.fetch import DynamicLoadedFetchValue, MessageAttributes
from pymap.message import BaseLoadedMessage
from typing_extensions import override

if TYPE_CHECKING:
    from email.message import Message

    from pymap.interfaces.message import LoadedMessageInterface
    from pymap.mime import MessageContent
    from pymap.parsing.specials.fetchattr import FetchAttribute, FetchValue

    _Triple = tuple[str | None, str | None, str]  # charset, language, text

_NIL = b"NIL"


class Attributes(MessageAttributes):
    """What FETCH asks for of one message."""

    @override
    def _get(self, attr: FetchAttribute) -> FetchValue:
        make = _VALUES.get(attr.value) if attr.section is None else None
        if make is None:
            return super()._get(attr)
        return make(attr, message=self.message, get_loaded=self._get_loaded)


class _Envelope(DynamicLoadedFetchValue):
    @override
    def get_value(self, loaded_msg: LoadedMessageInterface) -> bytes:
        return envelope(_content(loaded_msg))


class _BodyStructure(DynamicLoadedFetchValue):
    @override
    def get_value(self, loaded_msg: LoadedMessageInterface) -> bytes:
        return body_structure(_content(loaded_msg), extended=True)


class _Body(DynamicLoadedFetchValue):
    @override
    def get_value(self, loaded_msg: LoadedMessageInterface) -> bytes:
        return body_structure(_content(loaded_msg), extended=False)


_VALUES: dict[bytes, type[DynamicLoadedFetchValue]] = {
    b"ENVELOPE": _Envelope,
    b"BODYSTRUCTURE": _BodyStructure,
    b"BODY": _Body,
}


def _content(loaded: LoadedMessageInterface) -> MessageContent:
    assert isinstance(loaded, BaseLoadedMessage)
    return loaded.content


# ---- ENVELOPE --------------------------------------------------------------------------------


def envelope(message: MessageContent) -> bytes:
    """The envelope: the header's own words, not decoded."""
    header = _header(message)
    senders = _addresses(header, "from")
    return _list(
        _nstring(_raw(header, "date")),
        _nstring(_raw(header, "subject")),
        senders,
        _addresses(header, "sender", senders),
        _addresses(header, "reply-to", senders),
        *(_addresses(header, name) for name in ("to", "cc", "bcc")),
        _nstring(_raw(header, "in-reply-to")),
        _nstring(_raw(header, "message-id")),
    )


def _addresses(header: Message, name: str, missing: bytes = _NIL) -> bytes:
    values = [_text(value) for key, value in header.raw_items() if key.lower() == name]
    found = [pair for pair in getaddresses(values) if any(pair)]
    if not found:
        return missing
    return b"(%b)" % b"".join(_address(*pair) for pair in found)


def _address(name: str, address: str) -> bytes:
    mailbox, at, host = address.rpartition("@")
    if not at:  # no address at all: what stands there is a name
        return _list(_nstring(name or address), _NIL, _NIL, _NIL)
    return _list(_nstring(name or None), _NIL, _nstring(mailbox), _nstring(host))


# ---- BODY and BODYSTRUCTURE ------------------------------------------------------------------


def body_structure(part: MessageContent, *, extended: bool) -> bytes:
    """The structure of a message or a part of one.

    Args:
        part: The message or part.
        extended: Whether the extension data are in it, as in ``BODYSTRUCTURE``.
    """
    header = _header(part)
    kind = part.body.content_type
    if kind.maintype == "multipart" and part.body.has_nested:
        parts = b"".join(body_structure(p, extended=extended) for p in part.body.nested)
        more = [_parameters(header, "content-type"), *_extension(header)] if extended else []
        return _list(parts, _nstring(kind.subtype), *more)
    more = [_NIL, *_extension(header)] if extended else []  # the first is the MD5
    return _list(*_fields(part, header), *_of_its_kind(part, extended=extended), *more)


def _fields(part: MessageContent, header: Message) -> list[bytes]:
    """What every part has that is no multipart."""
    kind = part.body.content_type
    main, sub = kind.maintype, kind.subtype
    if main == "multipart":  # without parts, which the grammar does not know
        main, sub = "text", "plain"
    return [
        _nstring(main),
        _nstring(sub),
        _parameters(header, "content-type"),
        _nstring(_raw(header, "content-id")),
        _nstring(_raw(header, "content-description")),
        _nstring(_raw(header, "content-transfer-encoding") or "7bit"),
        b"%d" % len(part.body),
    ]


def _of_its_kind(part: MessageContent, *, extended: bool) -> list[bytes]:
    """What only a text or a message has."""
    body, kind = bytes(part.body), part.body.content_type
    lines = b"%d" % len(body.splitlines())
    if kind.maintype == "message" and kind.subtype == "rfc822":
        [inner] = part.body.nested
        return [envelope(inner), body_structure(inner, extended=extended), lines]
    return [lines] if kind.maintype in {"text", "multipart"} else []


def _extension(header: Message) -> list[bytes]:
    """Disposition, language and location."""
    disposition, languages = _NIL, _NIL
    if name := header.get_content_disposition():
        disposition = _list(_nstring(name), _parameters(header, "content-disposition"))
    if named := _raw(header, "content-language"):
        languages = _list(*(_nstring(language.strip()) for language in named.split(",")))
    return [disposition, languages, _nstring(_raw(header, "content-location"))]


def _parameters(header: Message, name: str) -> bytes:
    words: list[bytes] = []
    # typeshed does not know of the triples.
    found = cast("list[tuple[str, str | _Triple]]", header.get_params([], name))
    for key, value in found[1:]:
        if isinstance(value, tuple):  # RFC 2231: as it stood in the header
            charset, language, text = value
            coded = quote(text, safe="", encoding="latin-1")
            words += [_nstring(f"{key}*"), _nstring(f"{charset or ''}'{language or ''}'{coded}")]
        else:
            words += [_nstring(key), _nstring(value)]
    return _list(*words) if words else _NIL


# ---- words -----------------------------------------------------------------------------------


def _header(part: MessageContent) -> Message:
    return BytesHeaderParser().parsebytes(bytes(part.header))


def _raw(header: Message, name: str) -> str | None:
    """A field as it stands there, in one line."""
    values = (_text(value) for key, value in header.raw_items() if key.lower() == name)
    return next(values, None)


def _text(value: object) -> str:
    return "".join(str(value).splitlines()).strip()


def _list(*words: bytes) -> bytes:
    return b"(%b)" % b" ".join(words)


def _nstring(text: str | None) -> bytes:
    if text is None:
        return _NIL
    data = text.encode("utf-8", "surrogateescape")
    if all(ord(" ") <= byte <= ord("~") for byte in data):
        return b'"%b"' % data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b"{%d}\r\n%b" % (len(data), data)
