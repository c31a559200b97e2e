"""Hand each unread message of every inbox of a cmsbs-conf to a function, until SIGTERM.

    python inbox_listener.py /path/to/cmsbs-conf

A message is handed over first and marked as read afterwards: a crash in between repeats it, and
loses none. Whatever goes wrong on the way, the listener says so and tries again.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from exo_imap_oauth import load_config
from exo_imap_oauth.listener import listen

if TYPE_CHECKING:
    from email.message import EmailMessage

    from exo_imap_oauth import InboxConfig


def print_message(inbox: InboxConfig, message: EmailMessage) -> None:
    """What this example does with a message: put what your program does here."""
    # In one piece, for several threads do so.
    print(f"{inbox.name}: {message['Subject']}\n", end="", flush=True)


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s")
    listen(load_config(*sys.argv[1:]).values(), print_message)
