"""Login to Exchange Online over IMAP; its refusals become typed errors."""

from __future__ import annotations

import contextlib
import functools
import imaplib
import time
import warnings
from typing import TYPE_CHECKING, Any, TypedDict, cast

from exo_imap_oauth._arguments import (
    REPLIES,
    kind_of,
    refuses_inbox,
    require,
    require_context,
    require_text,
    wrong_kind,
)
from exo_imap_oauth._credentials.foreign import SupportsGetToken
from exo_imap_oauth._errors_imap import ImapError
from exo_imap_oauth._imap.authenticate import log_in
from exo_imap_oauth._imap.bearer import Bearer, Token
from exo_imap_oauth._imap.connection import (
    Server,
    connect,
    in_time,
    leave,
    require_client,
    require_tls,
)
from exo_imap_oauth._imap.folders import folder_argument
from exo_imap_oauth._imap.limits import way_in
from exo_imap_oauth._imap.mailbox import ask_status, select
from exo_imap_oauth._imap.replies import (
    ServerReply,
    is_broken,
    known_body_error,
    owes_reply,
    typed_error,
)
from exo_imap_oauth._text import check_seconds, quotable
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.errors import ExoImapOAuthError, UnverifiedTlsWarning

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator
    from contextlib import AbstractContextManager


__all__ = [
    "OpenOptions",
    "SupportsGetToken",
    "Token",
    "authenticate_xoauth2",
    "ok",
    "open_mailbox",
]


class OpenOptions(TypedDict, total=False):
    """The options of :func:`open_mailbox` that a configuration does not hold."""

    folder: str
    readonly: bool
    ssl_context: ssl.SSLContext | None
    timeout: float


_PAGE = "reference/api/imap"
_OPENS = "opens by itself: with inbox.open() as imap"
_IMPLICIT_TLS_PORT, _STARTTLS_PORT = 993, 143
_HIGHEST_PORT = 65_535
_MAX_SAID = 4_000  # bytes of a reply that an error may quote


@refuses_inbox("authenticate_xoauth2()", _OPENS)
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
    RFC 4959). A cached token that is refused is replaced, once, by a new one. The token that is
    sent appears neither in the debug output of imaplib nor in its command log.

    If the connection has a timeout, each wait ends after that time, and all waits together after
    twice as long; then the connection is cut.

    Args:
        imap: A connected, not yet authenticated client on a verified TLS connection.
        user: The mailbox, such as ``inbox@contoso.com``.
        token: A :class:`TokenSource`, any synchronous credential of azure-identity, a function
            that returns a token, or a token: its text, or an object with ``token``.
        scope: What a foreign credential is asked for. Default: the source's own, or
            ``https://outlook.office365.com/.default``.
        verify_mailbox: Whether to ask for ``STATUS INBOX (UIDVALIDITY)`` afterwards: Exchange
            accepts tokens for mailboxes that it then refuses to open.
        allow_unverified_tls: Whether to send the token over TLS to a server whose certificate
            was not verified, with an :class:`~exo_imap_oauth.errors.UnverifiedTlsWarning` once
            per process. Never over a plain connection.

    Raises:
        InsecureConnectionError: The connection is plain or not verified; nothing was sent.
        AuthenticationRefused: The server said NO.
        MailboxNotConnected: Logged in, but the mailbox does not open.
        Throttled: The server asks to slow down.
        ConnectionFailed: The server closed the connection, or did not answer in time.
        ImapError: The server does not offer XOAUTH2, or said something else.
        TokenError: The source got no token.
        TypeError: ``imap`` is no client of imaplib, or ``token`` is none of the above or has to be
            awaited; the text says what to pass.
        ValueError: ``user`` or ``token`` holds characters that would forge the message.

    What a foreign credential or a function raises is passed on unchanged, except that a note with
    the advice (:pep:`678`) is added where its text is known.
    """
    bearer = Bearer(user, token, scope)
    del token
    require_client(imap)
    bearer.check()
    if unverified := require_tls(imap, allow_unverified=allow_unverified_tls):
        _warn_of_unverified_tls(unverified)
    timeout: float | None = imap.sock.gettimeout()
    with in_time(imap, None if timeout is None else way_in(timeout)):
        log_in(imap, bearer)
        if verify_mailbox:
            ask_status(imap, bearer)


@functools.cache  # once per process, unless it is made an error: that is not kept
def _warn_of_unverified_tls(unverified: str) -> None:
    warnings.warn(
        f"a token is sent over TLS that does not verify {unverified}. Whoever is in between may"
        " be able to read the mailbox. Use a verifying ssl_context, and not"
        " allow_unverified_tls=True.",
        UnverifiedTlsWarning,
        stacklevel=4,  # who called authenticate_xoauth2
    )


@refuses_inbox("open_mailbox()", _OPENS)
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

    In the body, the client's commands raise :class:`~exo_imap_oauth.errors.ConnectionFailed`
    for a connection that is lost or silent, and this library's errors for texts that are known.
    Other errors of imaplib, and those of the body itself, are passed on unchanged. A ``NO`` is
    returned, not raised: put :func:`ok` around the command to get its data or an error. Messages
    marked ``\Deleted`` are not expunged by leaving the body.

    Args:
        user: The mailbox, such as ``inbox@contoso.com``.
        token: As for :func:`authenticate_xoauth2`.
        host: The IMAP server.
        port: Default: 993, with STARTTLS 143, which Exchange Online does not have.
        starttls: Whether TLS starts on a plain connection (RFC 3501 section 6.2.1).
        folder: The folder's name as people write it: spaces and umlauts are encoded here.
        readonly: Whether to EXAMINE instead of SELECT, so that nothing can change.
        scope: What a foreign credential is asked for.
        ssl_context: Must verify certificate and host name. Default: what this machine trusts.
        timeout: Seconds for each wait: for the name service, for connecting, for each answer
            of the server. All waits together, from looking up the name to the selected folder,
            end after twice as long; LOGOUT may take 3 seconds. The token is obtained before
            that, within the deadline of its source.

    Returns:
        A context manager that yields the client.

    Raises:
        ConnectionFailed: On entering: name not found, refused, TLS failure, BYE, no answer in
            time. In the body: the connection is lost or silent.
        ImapError: On entering: the folder does not open; if there is no folder of this name, the
            error lists the folders that exist.
        ValueError: An argument that cannot work.

    On entering, it also raises whatever :func:`authenticate_xoauth2` raises.

    Example:
        >>> with open_mailbox("inbox@contoso.com", source) as imap:  # doctest: +SKIP
        ...     (numbers,) = ok(imap.search(None, "UNSEEN"))
    """
    bearer = Bearer(user, token, scope)
    del token
    bearer.check()
    if port is None:
        port = _STARTTLS_PORT if starttls else _IMPLICIT_TLS_PORT
    require("port", port, int, "a whole number, such as 993", page=_PAGE)
    if not 0 < port <= _HIGHEST_PORT:
        raise ValueError(f"port must be from 1 to {_HIGHEST_PORT}, not {port!r}")
    if not host:
        raise ValueError(f"host must be the server's name, not {host!r}")
    require_text("host", host, _PAGE)
    check_seconds("timeout", timeout)
    require_context(ssl_context)
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
    ends_at = time.monotonic() + way_in(timeout)
    imap = connect(server, ssl_context, timeout, bearer)
    try:
        require_tls(imap, allow_unverified=False)
        with in_time(imap, ends_at - time.monotonic()):
            log_in(imap, bearer)
            select(imap, bearer, folder, readonly=readonly)
        imap.hand_over(bearer)
        yield imap
    except BaseException as error:
        leave(imap, in_sync=_can_log_out(imap, error))
        failure = _typed_body_error(error, imap, bearer)
        if failure is None:
            raise
    else:
        leave(imap, in_sync=True)
        return
    try:
        raise failure
    finally:
        # What the body raised quotes the server as it is. Leaving the body it is still under
        # way, and so Python puts it behind every error that is raised now.
        failure.__context__ = None


def _can_log_out(imap: imaplib.IMAP4, error: BaseException) -> bool:
    """Whether LOGOUT would be understood, and its reply be read, after this error."""
    return isinstance(error, Exception) and not is_broken(error) and not owes_reply(imap)


def _typed_body_error(
    error: BaseException, imap: imaplib.IMAP4, bearer: Bearer
) -> ImapError | None:
    """Ours for an error of imaplib that the body raised itself; None for any other.

    The commands of the client raise ours already.
    """
    if isinstance(error, ExoImapOAuthError) or not isinstance(error, imaplib.IMAP4.error):
        return None
    return known_body_error(error, imap, bearer, "the work")


def ok(reply: tuple[str, list[Any]]) -> list[Any]:
    """The data of a command that succeeded; a ``NO``, which imaplib returns, is an error.

    Args:
        reply: What a method of :class:`imaplib.IMAP4` returned, such as ``imap.search(…)``.

    Returns:
        Its data.

    Raises:
        Throttled: The server asks to slow down; ``retry_after`` is what it says.
        MailboxNotConnected: The mailbox does not open.
        ImapError: The server refused the command for another reason.
        TypeError: It is not a pair of a status and a list.
        ValueError: Its status is none of OK, NO, BAD and the BYE of ``logout()``.

    Example:
        >>> ok(("OK", [b"1 2 3"]))
        [b'1 2 3']
    """
    problem = _problem_of(reply)
    if problem is not None:
        del reply  # tracebacks hold frames, and the server may have echoed the token
        raise problem
    status, data = reply
    if status in ("OK", "BYE"):  # BYE is what imaplib's logout() returns
        return data
    said = b" ".join(line for line in data if isinstance(line, bytes))
    text = quotable(f"{status} {said[:_MAX_SAID].decode(errors='replace')}")
    what = f"the server refused the command: {text}"
    del reply, data, said  # as above
    raise typed_error(what, ServerReply(text), "runtime") or ImapError(what)


def _problem_of(reply: object) -> TypeError | ValueError | None:
    """Why something is no reply, or None."""
    if not isinstance(reply, tuple):
        expected = "a pair of status and data, such as imap.search(None, 'UNSEEN') returns"
        return wrong_kind("a reply", reply, expected, page=_PAGE, instead=REPLIES)
    parts = cast("tuple[object, ...]", reply)
    if len(parts) != 2:  # noqa: PLR2004 - status and data
        return TypeError(f"a reply is a pair of status and data, not a tuple of {len(parts)}")
    status, data = parts
    if not isinstance(status, str) or not isinstance(data, list):
        kinds = f"{kind_of(status)} and {kind_of(data)}"
        return TypeError(f"a reply is a pair of a string and a list, not of {kinds}")
    if status in ("OK", "NO", "BAD", "BYE"):
        return None
    return ValueError(
        f"the status must be OK, NO or BAD, not {quotable(repr(status))}: give the whole reply"
        " of a command, such as ok(imap.search(None, 'UNSEEN'))"
    )
