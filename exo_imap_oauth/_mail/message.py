"""A message of a folder: what was fetched of it, as an :class:`email.message.EmailMessage`."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.generator import BytesGenerator
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from exo_imap_oauth._errors_imap import MessageUnavailable
from exo_imap_oauth._mail.policy import INCOMING
from exo_imap_oauth.advice import explain

if TYPE_CHECKING:
    from email.message import Message
    from email.policy import Policy

    from exo_imap_oauth._mail.replies import Fetched

__all__ = ["Mail", "mail_of"]

_NO_HOST: Final = ".missing-host-name."  # what Exchange writes as the domain where it has none


class Mail(EmailMessage):
    r"""One message of a folder. Its parts are plain :class:`~email.message.EmailMessage`\ s.

    Whatever a header of an incoming message holds, reading it does not raise: one that cannot be
    parsed is its text, and its attributes, such as ``addresses`` or ``datetime``, are empty. The
    ``Message-ID`` is the text as it came.

    ``as_bytes()`` gives the headers back as they came, blanks and folds and octets beyond ASCII
    included, except that all line ends are ``\n``. As they are on the wire, ``\r\n``, gives them
    ``as_bytes(policy=mail.policy.clone(linesep="\r\n"))``, which is what to store or to verify a
    signature with.

    Attributes:
        uid: Its UID in the folder (RFC 3501 section 2.3.1.1), 0 where it is not known.
        uidvalidity: The folder's UIDVALIDITY, without which the UID means nothing, or 0.
        folder: The folder's name, or empty.
        flags: Its flags as it was fetched, such as ``\Seen``.
        received: INTERNALDATE, aware: when it came into the mailbox, or now if it is not known.
        size: RFC822.SIZE in octets, or the length of what was fetched.
    """

    __module__ = "exo_imap_oauth.mail"

    uid: int
    uidvalidity: int
    folder: str
    flags: frozenset[str]
    received: datetime
    size: int

    # A policy is all that the standard library gives where it makes a part of the same class.
    def __init__(self, policy: Policy | None = None) -> None:
        super().__init__(INCOMING if policy is None else policy)
        self.uid = self.uidvalidity = self.size = 0
        self.folder = ""
        self.flags = frozenset()
        self.received = datetime.now(UTC)

    @override
    def as_bytes(self, unixfrom: bool = False, policy: Policy | None = None) -> bytes:
        """The message as octets, its headers as they came."""
        try:
            return super().as_bytes(unixfrom, policy)
        except ValueError:  # octets in a multipart that has no parts
            output = io.BytesIO()
            chosen = self.policy if policy is None else policy
            _Generator(output, mangle_from_=False, policy=chosen).flatten(self, unixfrom)
            return output.getvalue()

    @override
    def as_string(
        self, unixfrom: bool = False, maxheaderlen: int | None = None, policy: Policy | None = None
    ) -> str:
        """The message as text; octets that no charset explains are replaced."""
        try:
            return super().as_string(unixfrom, maxheaderlen, policy)
        except (LookupError, ValueError):  # a body with octets in a charset that does not exist
            return self.as_bytes(unixfrom, policy).decode("utf-8", errors="replace")


class _Generator(BytesGenerator):
    """Writes a multipart whose boundary is nowhere, so that it is one text, as that text."""

    def _handle_multipart(self, msg: Message) -> None:
        bases: Any = super()
        if isinstance(msg.get_payload(), str):
            bases._handle_text(msg)  # noqa: SLF001 - as a generator's subclass does
        else:
            bases._handle_multipart(msg)  # noqa: SLF001


def mail_of(fetched: Fetched, *, uidvalidity: int = 0, folder: str = "") -> Mail:
    """The message of which a server told.

    Args:
        fetched: What it told.
        uidvalidity: The folder's UIDVALIDITY.
        folder: The folder's name.

    Raises:
        MessageUnavailable: The message did not come, or Exchange's stand-in came in its place.
    """
    if fetched.content is None:
        raise _unavailable(fetched, "the server lists it, but did not hand it out")
    mail = Mail()
    # Parsed as a Mail, each of its parts would be one, so only the root becomes one afterwards.
    vars(mail).update(vars(message_from_bytes(fetched.content, policy=INCOMING)))
    if _is_stand_in(mail):
        raise _unavailable(fetched, "Exchange sent a stand-in that says so in its place")
    mail.uid = fetched.uid or 0
    mail.uidvalidity = uidvalidity
    mail.folder = folder
    mail.flags = fetched.flags or frozenset()
    if fetched.received is not None:
        mail.received = fetched.received
    mail.size = len(fetched.content) if fetched.size is None else fetched.size
    return mail


def _unavailable(fetched: Fetched, why: str) -> MessageUnavailable:
    which = f"message with UID {fetched.uid}" if fetched.uid else f"message {fetched.number}"
    return MessageUnavailable(
        f"the {which} is not available: {why}",
        advice=explain("message-unavailable"),
        uid=fetched.uid or 0,
        size=fetched.size,
    )


def _is_stand_in(message: Mail) -> bool:
    """Whether it is Exchange's word that it cannot turn a message into MIME.

    It is known by its sender, who has no address, and by the Message-ID that it lacks: its text
    is in the language of the mailbox.
    """
    if "Message-ID" in message or "From" not in message:
        return False
    # As unstructured text: the parser of addresses makes something of everything.
    raw = next(value for name, value in message.raw_items() if name.lower() == "from")
    sender = str(INCOMING.header_fetch_parse("Sender-Text", raw)).lower()
    name, _, address = sender.partition("<")
    if "microsoft exchange" not in name:
        return False
    if "@" in re.sub(rf"@{re.escape(_NO_HOST)}", "", sender):
        return False
    address = address.partition(">")[0].strip()
    return not address or address.endswith(_NO_HOST)
