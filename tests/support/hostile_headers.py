"""Messages with headers that parsers stumble over, and everything a program may do with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage, MIMEPart

    from exo_imap_oauth.mail import Mail

NAMES = [
    b"Message-ID", b"From", b"To", b"Cc", b"Reply-To", b"Sender", b"Date", b"Subject", b"Received",
    b"References", b"In-Reply-To", b"Content-Type", b"Content-Disposition", b"Content-ID",
    b"Content-Transfer-Encoding", b"MIME-Version", b"Resent-Date", b"X-Anything", b"content-type",
]  # fmt: skip

# What raised, in some version of Python, or is near to what did.
KNOWN = [
    b"<[anu10].1c69fb81.7aec0.5503SMTPIN_ADDED_[au5]@[anu13].EURPRD10.PROD.OUTLOOK.COM>",
    b"<[83c48ddd@microsoft.com]>",
    b"=?utf-8?q?x?=@",
    b"=?utf-8?q?=00?=",
    b"=?x-unknown?b?4pyT?= <a@b>",
    b"=?utf-8?b?%%%?=",
    b"=?idna?q?=FF?=@=?punycode?b?/w==?=",
    b"Fri, 99 Foo 99999 99:99:99 +9999",
    b"Mon, 01 Jan 0001 00:00:00 +2359",
    b"1 Jan 99999999999999999999 00:00 +0000",
    b"multipart/mixed; boundary*0*=utf-8''%; boundary*2=x; boundary",
    b"text/plain; charset*=punycode''%FF; name*0*=a'b'c",
    b"attachment; filename*=x%00y''%FF",
    b"attachment; filename*" + b"9" * 5000 + b"*=x",
    b"attachment; filename*0*=\xff'\xff'%ff; filename=\"",
    b"text/plain; charset=\x00; charset=undefined",
    b"multipart/mixed",
    b"message/rfc822",
    b"message/delivery-status; x*0",
    b'multipart/alternative; boundary="',
    b"", b" ", b'"', b"<", b">", b"[", b"]", b"(", b")", b";", b":", b",", b"@", b"=", b"'", b"\\",
    b"\xff", b"\x00", b"\r", b"\x0b\x0c\x1c\x85", b"\xe2\x80\xa8",
    b"(" * 3000, b"<" * 1500, b"[" * 1500, b'"' * 300, b"a:" * 100, b"=?" * 100,
    b"a" * 3000, b"a " * 300, b";a=" * 100, b"\n\t" * 50,
]  # fmt: skip

values = st.lists(
    st.one_of(
        st.sampled_from(KNOWN),
        st.binary(max_size=12),
        st.text('<>[]()";:,@=?*\'\\%. \t\r\nab09é', max_size=12).map(str.encode),
        st.sampled_from([b"=?utf-8?q?", b"?=", b"; filename*0*=", b"; charset=", b"text/plain",
                         b"multipart/mixed; boundary=B", b"attachment", b"\r\n ", b"\n\t"]),
    ),
    max_size=5,
).map(b"".join)  # fmt: skip


def _one_logical_line(value: bytes) -> bytes:
    """The value with each line behind the first begun by a blank, unless it is to end headers."""
    return value.replace(b"\n", b"\n ")


headers = st.tuples(st.sampled_from(NAMES), values.map(_one_logical_line)).map(
    lambda pair: pair[0] + b":" + pair[1] + b"\r\n"
)
bodies = st.one_of(st.binary(max_size=40), st.sampled_from([b"plain", b"\xe4\xf6\xfc", b""]))
parts = st.tuples(st.lists(headers, max_size=4).map(b"".join), bodies).map(b"\r\n".join)
messages = st.one_of(
    parts,
    st.tuples(
        st.lists(headers, max_size=3).map(b"".join),
        st.sampled_from([b"mixed", b"alternative", b"related", b"report", b"digest", b"signed"]),
        st.lists(parts, max_size=3),
    ).map(
        lambda m: (
            b"Content-Type: multipart/%s; boundary=B\r\n%s\r\n" % (m[1], m[0])
            + b"".join(b"--B\r\n" + part + b"\r\n" for part in m[2])
            + b"--B--\r\n"
        )
    ),
)


def read_everything(mail: Mail) -> None:
    """Ask for everything that a program asks for."""
    _write(mail)
    for part in mail.walk():
        assert isinstance(part, type(mail).__mro__[1])
        read_headers(part)
        _look_inside(part)
        if not any(_has_lost_its_parts(inner) for inner in part.walk()):
            _write(part)


def read_headers(part: EmailMessage) -> None:
    for name in part:
        values = part.get_all(name, [])
        assert part[name] is not None
        assert all(isinstance(value, str) for value in values)
        for value in values:
            for attribute in _ATTRIBUTES:
                getattr(value, attribute, None)
            str(value)
    assert len(part.items()) == len(part.values()) == len(part.keys())


_ATTRIBUTES = (
    "addresses", "groups", "datetime", "params", "content_type", "maintype", "subtype", "cte",
    "content_disposition", "major", "minor", "version", "defects", "max_count",
)  # fmt: skip


def _look_inside(part: EmailMessage) -> None:
    part.get_content_type()
    part.get_content_maintype()
    part.get_content_subtype()
    part.get_content_charset()
    part.get_charsets()
    part.get_filename()
    part.get_boundary()
    part.get_content_disposition()
    part.is_attachment()
    part.get_params()
    part.get_param("name")
    part.is_multipart()
    part.get_payload()
    part.get_unixfrom()
    part.get_payload(decode=True)
    body = part.get_body()
    for inner in _inner(part):
        inner.get_filename()
    if body is not None and body.get_content_maintype() == "text":
        assert isinstance(body.get_content(), str)


def _inner(part: EmailMessage) -> Iterator[MIMEPart]:
    yield from part.iter_parts()
    yield from part.iter_attachments()


def _has_lost_its_parts(part: EmailMessage) -> bool:
    """A multipart whose boundary is nowhere: the generators raise for octets in its text."""
    return part.get_content_maintype() == "multipart" and not part.is_multipart()


def _write(part: EmailMessage) -> None:
    part.as_string()
    str(part)
    part.as_bytes()
    bytes(part)
    part.as_bytes(policy=part.policy.clone(linesep="\r\n"))
