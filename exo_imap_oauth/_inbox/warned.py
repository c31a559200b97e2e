"""Errors of an opening that also say what was suspicious about the inbox."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from exo_imap_oauth._errors_imap import ConnectionFailed

if TYPE_CHECKING:
    import imaplib
    from collections.abc import Generator, Iterable
    from contextlib import AbstractContextManager

    from exo_imap_oauth.errors import ConfigProblem


@contextmanager
def warned_mailbox(
    mailbox: AbstractContextManager[imaplib.IMAP4], warnings: Iterable[ConfigProblem]
) -> Generator[imaplib.IMAP4]:
    """The mailbox; where its server cannot be reached, the error holds the warnings too.

    They may be why: a port that does not go with the kind of TLS looks like a closed one.
    """
    is_open = False
    try:
        with mailbox as imap:
            is_open = True
            yield imap
    except ConnectionFailed as error:
        if not is_open:
            told = (f"(warning) {warning}" for warning in warnings)
            error.args = ("\n  ".join([str(error.args[0]), *told]),)
        raise
