"""Log in to Exchange Online over IMAP, and tell its refusals apart."""

from __future__ import annotations

import contextlib
import imaplib
from typing import TYPE_CHECKING, TypedDict

from exo_imap_oauth._imap.authenticate import log_in
from exo_imap_oauth._imap.bearer import Bearer, SupportsGetToken, Token
from exo_imap_oauth._imap.connection import Server, connect, leave, require_tls
from exo_imap_oauth._imap.mailbox import ask_status, folder_argument, select
from exo_imap_oauth._imap.replies import host_of, is_broken, owes_reply, reply_behind, typed_error
from exo_imap_oauth._text import check_seconds
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.errors import ExoImapOAuthError, ImapError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator
    from contextlib import AbstractContextManager


__all__ = [
    "OpenOptions",
    "SupportsGetToken",
    "Token",
    "authenticate_xoauth2",
    "open_mailbox",
]


class OpenOptions(TypedDict, total=False):
    """The options of :func:`open_mailbox` that a configuration does not hold."""

    folder: str
    readonly: bool
    ssl_context: ssl.SSLContext | None
    timeout: float


_IMPLICIT_TLS_PORT, _STARTTLS_PORT = 993, 143
_HIGHEST_PORT = 65_535


def authenticate_xoauth2(
    imap: imaplib.IMAP4,
    user: str,
    token: Token,
    *,
    scope: str | None = None,
    verify_mailbox: bool = True,
    allow_unverified_tls: bool = False,
) -> None:
    """Log in on an open connection with SASL XOAUTH2.

    The initial response goes out with the command where the server takes it (SASL-IR,
    RFC 4959). A cached token that is refused is replaced, once, by a new one. Neither the
    debug output of imaplib nor its buffer gets to see the token.

    Args:
        imap: A connected, not yet authenticated client on a verified TLS connection.
        user: The mailbox, such as ``inbox@contoso.com``.
        token: A :class:`TokenSource`, any azure-identity credential, or a token.
        scope: What a foreign credential is asked for. Default: the source's own, or
            ``https://outlook.office365.com/.default``.
        verify_mailbox: Whether to ask for ``STATUS INBOX (UIDVALIDITY)`` afterwards: Exchange
            accepts tokens for mailboxes that it then refuses to open.
        allow_unverified_tls: Whether to send the token over TLS to a server whose certificate
            was not verified. Never over a plain connection.

    Raises:
        InsecureConnectionError: The connection is plain or not verified; nothing was sent.
        AuthenticationRefused: The server said NO.
        MailboxNotConnected: Logged in, but the mailbox does not open.
        Throttled: The server asks to slow down.
        ConnectionFailed: The server closed the connection, or did not answer in time.
        ImapError: The server does not offer XOAUTH2, or said something else.
        TokenError: The source got no token.
        ValueError: ``user`` or ``token`` holds characters that would forge the message.
    """
    bearer = Bearer(user, token, scope)
    del token
    bearer.check()
    require_tls(imap, allow_unverified=allow_unverified_tls)
    log_in(imap, bearer)
    if verify_mailbox:
        ask_status(imap, bearer)


def open_mailbox(
    user: str,
    token: Token,
    *,
    host: str = Cloud.WORLDWIDE.imap_host,
    port: int | None = None,
    starttls: bool = False,
    folder: str = "INBOX",
    readonly: bool = False,
    scope: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 30.0,
) -> AbstractContextManager[imaplib.IMAP4]:
    r"""Get a token, connect, log in and select a folder; log out at the end.

    In the body, an :class:`imaplib.IMAP4.error` whose text is known is raised again as one of
    this library's; everything else passes unchanged, and a returned ``NO`` is the caller's.
    Messages marked ``\Deleted`` are not expunged by leaving the body.

    Args:
        user: The mailbox, such as ``inbox@contoso.com``.
        token: A :class:`TokenSource`, any azure-identity credential, or a token.
        host: The IMAP server.
        port: Default: 993, with STARTTLS 143.
        starttls: Whether TLS starts on a plain connection (RFC 3501 section 6.2.1).
        folder: The folder's name as people write it: blanks and umlauts are encoded here.
        readonly: Whether to EXAMINE instead of SELECT, so that nothing can change.
        scope: What a foreign credential is asked for.
        ssl_context: Must verify certificate and host name. Default: what this machine trusts.
        timeout: Seconds for connecting and for each read or write.

    Returns:
        A context manager that yields the client.

    Raises:
        ConnectionFailed: On entering: name not found, refused, TLS failure, BYE, no answer.
        ImapError: On entering: the folder does not open.
        ValueError: An argument that cannot work.

    On entering it raises, besides, what :func:`authenticate_xoauth2` does.

    Example:
        >>> with open_mailbox("inbox@contoso.com", source) as imap:  # doctest: +SKIP
        ...     _, numbers = imap.search(None, "UNSEEN")
    """
    bearer = Bearer(user, token, scope)
    del token
    bearer.check()
    if port is None:
        port = _STARTTLS_PORT if starttls else _IMPLICIT_TLS_PORT
    elif not 0 < port <= _HIGHEST_PORT:
        raise ValueError(f"port must be from 1 to {_HIGHEST_PORT}, not {port!r}")
    if not isinstance(host, str) or not host:
        raise ValueError(f"host must be the server's name, not {host!r}")
    check_seconds("timeout", timeout)
    return _mailbox(
        bearer,
        Server(host, port, starttls),
        folder_argument(folder),
        readonly=readonly,
        ssl_context=ssl_context,
        timeout=timeout,
    )


@contextlib.contextmanager
def _mailbox(
    bearer: Bearer,
    server: Server,
    folder: str,
    *,
    readonly: bool,
    ssl_context: ssl.SSLContext | None,
    timeout: float,
) -> Generator[imaplib.IMAP4]:
    bearer.obtain()  # first, since Exchange does not wait long for a silent client
    imap = connect(server, ssl_context, timeout)
    try:
        require_tls(imap, allow_unverified=False)
        log_in(imap, bearer)
        select(imap, bearer, folder, readonly=readonly)
        yield imap
    except BaseException as error:
        leave(imap, in_sync=_can_log_out(imap, error))
        if (typed := _typed_body_error(error, imap, bearer)) is None:
            raise
        raise typed from error
    leave(imap, in_sync=True)


def _can_log_out(imap: imaplib.IMAP4, error: BaseException) -> bool:
    """Whether LOGOUT would be understood, and its reply be read, after this error."""
    return isinstance(error, Exception) and not is_broken(error) and not owes_reply(imap)


def _typed_body_error(
    error: BaseException, imap: imaplib.IMAP4, bearer: Bearer
) -> ImapError | None:
    """Ours for an error of imaplib whose text is known, else None."""
    if isinstance(error, ExoImapOAuthError) or not isinstance(error, imaplib.IMAP4.error):
        return None
    reply = reply_behind(error, imap, bearer.secrets())
    what = f"{host_of(imap)} ended the work on {bearer.user}: {reply.text}"
    return typed_error(what, reply, "runtime", **bearer.known())


def ok(reply):  # TEMPORARY, until the other branch is merged
    typ, data = reply
    if typ == "OK":
        return data
    text = b" ".join(line for line in data if isinstance(line, bytes)).decode(errors="replace")
    from exo_imap_oauth._imap.replies import ServerReply

    said = ServerReply(f"{typ} {text}", None)
    raise typed_error(said.text, said, "runtime") or ImapError(said.text)
