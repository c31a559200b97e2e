"""List the newest messages of every inbox of a cmsbs-conf, without changing anything.

    python read_inbox.py /path/to/cmsbs-conf
    python read_inbox.py                        # with a loopback Exchange Online

Exits with 1 if an inbox cannot be read, and says why.
"""

from __future__ import annotations

import re
import sys
import tempfile
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth.errors import ExoImapOAuthError
from exo_imap_oauth.imap import ok

if TYPE_CHECKING:
    import imaplib
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

NEWEST = 10
HEADERS = "(BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT)])"


def newest_messages(imap: imaplib.IMAP4) -> Iterator[str]:
    """A line for each of the newest messages, the newest last."""
    _, [count] = imap.response("EXISTS")
    last = int(count or 0)
    if last == 0:
        return
    for part in ok(imap.fetch(f"{max(1, last - NEWEST + 1)}:{last}", HEADERS)):
        if part is None or isinstance(part, bytes):  # nothing, or the end of a literal
            continue
        message = message_from_bytes(part[1], policy=policy.default)
        yield "  ".join(str(message[name]) for name in ("Date", "From", "Subject"))


def read_inbox(inbox: InboxConfig, ssl_context: ssl.SSLContext | None) -> None:
    """Get a token, connect, and print what is found on the way."""
    source = inbox.token_source(ssl_context=ssl_context)
    until = datetime.fromtimestamp(source.get_token().expires_on, UTC)
    print(f"{inbox.name}: token obtained, valid until {until:%Y-%m-%d %H:%M:%S} UTC")
    with inbox.open(token=source, ssl_context=ssl_context, readonly=True) as imap:
        print(f"{inbox.name}: connected to {inbox.host}:{inbox.port} as {inbox.user}")
        for line in newest_messages(imap):
            print(f"  {line}")


def read_config(path: str | Path, ssl_context: ssl.SSLContext | None = None) -> int:
    """Read every inbox of a configuration; the exit status."""
    status = 0
    try:
        config = load_config(path)
    except ExoImapOAuthError as error:
        print(error, file=sys.stderr)
        return 1
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for inbox in config.values():
        try:
            read_inbox(inbox, ssl_context)
        except ExoImapOAuthError as error:
            print(f"{inbox.name}: {error}", file=sys.stderr)
            status = 1
    return status


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
