"""A program that listens, and writes down what it does before it does the next thing."""

from __future__ import annotations

import logging
import os
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path[:0] = [str(folder) for folder in Path(__file__).parents[1:3]]  # it is run as a file

from torture.drawing import Handler  # noqa: E402 - see above

from exo_imap_oauth import InboxConfig  # noqa: E402 - see above
from exo_imap_oauth.listener import MessageNotHandled, listen  # noqa: E402 - see above

if TYPE_CHECKING:
    from exo_imap_oauth.mail import Mail


def main() -> None:
    """Listen until a signal."""
    logging.disable()
    port, ca, written, seed, is_last, unconfirmed = sys.argv[1:]
    out = os.open(written, os.O_WRONLY | os.O_APPEND)
    handler = Handler(seed, poison=0, slow=40)
    options: dict[str, Any] = {"unconfirmed": int(unconfirmed)}

    def write(what: str, validity: int, uid: int, subject: str) -> None:
        os.write(out, f"{what} {validity} {uid} {subject}\n".encode())

    def handle(_: InboxConfig, mail: Mail) -> None:
        what = mail.uidvalidity, mail.uid, mail["Subject"]
        write("handling", *what)
        seconds, raises = handler.fares(mail["Subject"])
        time.sleep(seconds / 2)
        if raises and not int(is_last):
            write("raised", *what)
            raise ValueError(mail["Subject"])
        write("handled", *what)
        time.sleep(seconds / 2)  # a kill comes here, too

    def on_failure(_: InboxConfig, error: Exception, __: float) -> bool:
        gives_up = isinstance(error, MessageNotHandled) and error.attempts > 3
        if gives_up and isinstance(error, MessageNotHandled):
            write("given-up", 0, error.uid, "-")
        return gives_up

    inbox = InboxConfig(user="inbox@contoso.example", host="127.0.0.1", port=int(port))
    listen(
        [inbox],
        handle,
        token="a-token",
        ssl_context=ssl.create_default_context(cafile=ca),
        on_failure=on_failure,
        timeout=20.0,
        poll_interval=0.05,
        initial_backoff=0.001,
        max_backoff=0.01,
        **options,
    )


if __name__ == "__main__":
    main()
