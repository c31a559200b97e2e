"""List the newest messages of every inbox of a cmsbs-conf, without changing anything.

    python read_inbox.py /path/to/cmsbs-conf
    python read_inbox.py                        # with a loopback Exchange Online

Exits with 1 if an inbox cannot be read, with 75 (EX_TEMPFAIL) if a message did not come, and says
why.
"""

from __future__ import annotations

import re
import sys
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import ExoImapOAuthError, MessageUnavailable
from exo_imap_oauth.mail import message

if TYPE_CHECKING:
    import imaplib
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from exo_imap_oauth.mail import Mail

NEWEST = 10
FINE, WRONG, TRY_AGAIN = 0, 1, 75


def newest_messages(imap: imaplib.IMAP4) -> Iterator[Mail | str]:
    """The newest messages, the newest last; of one that does not come, why."""
    _, [count] = imap.response("EXISTS")
    last = int(count or 0)
    for number in range(max(1, last - NEWEST + 1), last + 1):
        try:
            mail = message(imap.fetch(str(number), "(UID BODY.PEEK[])"))
            yield f"message {number} did not come; it may later" if mail is None else mail
        except (MessageUnavailable, ValueError) as error:
            yield f"message {number}: {error}"


def read_inbox(inbox: InboxConfig, ssl_context: ssl.SSLContext | None) -> int:
    """Get a token, connect, and print what is found on the way; the exit status."""
    status = FINE
    source = inbox.token_source(ssl_context=ssl_context)
    until = datetime.fromtimestamp(source.get_token().expires_on, UTC)
    print(f"{inbox.name}: token obtained, valid until {until:%Y-%m-%d %H:%M:%S} UTC")
    with inbox.open(token=source, ssl_context=ssl_context, readonly=True) as imap:
        print(f"{inbox.name}: connected to {inbox.host}:{inbox.port} as {inbox.user}")
        for mail in newest_messages(imap):
            if isinstance(mail, str):
                print(f"{inbox.name}: {mail}", file=sys.stderr)
                status = TRY_AGAIN
            else:
                print(" ", "  ".join(str(mail[name]) for name in ("Date", "From", "Subject")))
    return status


def read_config(path: str | Path, ssl_context: ssl.SSLContext | None = None) -> int:
    """Read every inbox of a configuration; the exit status."""
    try:
        config = load_config(path)
    except ExoImapOAuthError as error:
        print(error, file=sys.stderr)
        return WRONG
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    found = {FINE}
    for inbox in config.values():
        try:
            found.add(read_inbox(inbox, ssl_context))
        except ExoImapOAuthError as error:  # the other inboxes are read all the same
            print(f"{inbox.name}: {error}", file=sys.stderr)
            found.add(WRONG)
    return WRONG if WRONG in found else max(found)


def main(arguments: list[str]) -> int:
    """Read the configuration that is named, or one of a loopback Exchange Online."""
    if arguments:
        return read_config(arguments[0])
    from exo_imap_oauth.testing import ready_exchange  # noqa: PLC0415 - needs the extra `testing`

    with ready_exchange() as exchange, tempfile.TemporaryDirectory() as folder:
        conf = exchange.write_config(folder)
        settings = (conf / "cmsbs.properties").read_text()
        print(re.sub(r"(clientSecret\s*=).*", r"\1 (not shown)", settings))
        return read_config(conf, exchange.ssl_context)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
