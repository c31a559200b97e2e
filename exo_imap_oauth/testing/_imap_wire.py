"""What the IMAP server says of itself, by the year it comes from."""

from __future__ import annotations

import uuid
from base64 import b64encode
from typing import Literal, get_args

from exo_imap_oauth.testing._certificates import HOST

Wire = Literal["2026", "2025", "rev2"]

_ENCODED_HOST = b64encode(HOST.encode("utf-16-le"))
BEFORE_LOGIN_2025 = (
    b"IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN IDLE"
    b" NAMESPACE LITERAL+"
)
AFTER_LOGIN_2025 = (
    b"IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT"
    b" CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE CHILDREN IDLE"
    b" NAMESPACE LITERAL+"
)
BEFORE_LOGIN_2026 = (
    b"IMAP4 IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE"
    b" NAMESPACE LITERAL+"
)
AFTER_LOGIN_2026 = (
    b"IMAP4 IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR UIDPLUS MOVE ID UNSELECT ENABLE"
    b" IMAP4rev2 CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE"
    b" BACKENDAUTHENTICATE-IR CHILDREN IDLE NAMESPACE LITERAL+"
)


def check_wire(wire: str) -> None:
    """Raise ValueError if there is no such wire."""
    known = get_args(Wire)
    if wire not in known:
        raise ValueError(f"wire must be one of {', '.join(known)}, not {wire!r}")


def greeting(wire: Wire) -> bytes:
    """The text of a new service's greeting."""
    if wire == "2025":
        return b"The Microsoft Exchange IMAP4 service is ready. [%b]" % _ENCODED_HOST
    server = str(uuid.uuid4()).encode()
    version = b"tcpproxy/15.21.0406.000 BACKENDAUTHENTICATE"
    return b"Microsoft Exchange IMAP4 service ready. %b (%b) [%b]" % (
        server,
        version,
        _ENCODED_HOST,
    )
