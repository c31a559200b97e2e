"""Log in to Exchange Online over IMAP, and tell its refusals apart."""

from __future__ import annotations

import base64
import binascii
import contextlib
import imaplib
import json
import threading
from typing import TYPE_CHECKING, Any, TypedDict

from exo_imap_oauth._client import bounded_replies, overridden
from exo_imap_oauth._connection import Server, connect, leave, require_tls
from exo_imap_oauth._json import json_object
from exo_imap_oauth._logging import logger
from exo_imap_oauth._login import Login, SupportsGetToken, Token
from exo_imap_oauth._mailbox import ask_status, folder_argument, select
from exo_imap_oauth._replies import host_of, is_broken, is_out_of_step, typed_error, what_it_said
from exo_imap_oauth.advice import explain
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ExoImapOAuthError,
    ImapError,
)
from exo_imap_oauth.xoauth2 import AFTER_ERROR_CHALLENGE, decode_challenge

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Mapping
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
_MAX_CHALLENGES = 10
# How imaplib begins for a BAD, and for a reply that makes no sense; a NO is raised as it is.
_NO_REFUSAL = ("AUTHENTICATE command error: ", "command: ")


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
    RFC 4959). A cached token that is refused is fetched anew and tried once more. Neither the
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
    login = Login(user, token, scope)
    del token
    login.check()
    require_tls(imap, allow_unverified=allow_unverified_tls)
    _log_in(imap, login)
    if verify_mailbox:
        ask_status(imap, login)


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

    In the body, an :class:`imaplib.IMAP4.error` whose text is known is raised anew as one of
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
    login = Login(user, token, scope)
    del token
    login.check()
    if port is None:
        port = _STARTTLS_PORT if starttls else _IMPLICIT_TLS_PORT
    elif not 0 < port < 1 << 16:
        raise ValueError(f"port must be from 1 to 65535, not {port!r}")
    if not isinstance(host, str) or not host:
        raise ValueError(f"host must be the server's name, not {host!r}")
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
    return _mailbox(
        login,
        Server(host, port, starttls),
        folder_argument(folder),
        readonly=readonly,
        ssl_context=ssl_context,
        timeout=timeout,
    )


@contextlib.contextmanager
def _mailbox(
    login: Login,
    server: Server,
    folder: str,
    *,
    readonly: bool,
    ssl_context: ssl.SSLContext | None,
    timeout: float,
) -> Generator[imaplib.IMAP4]:
    login.obtain()  # first, since Exchange does not wait long for a silent client
    imap = connect(server, ssl_context, timeout)
    try:
        require_tls(imap, allow_unverified=False)
        _log_in(imap, login)
        select(imap, login, folder, readonly=readonly)
        yield imap
    except BaseException as error:
        ordinary = isinstance(error, Exception) and not is_broken(error)
        outstanding = None in imap.tagged_commands.values()  # a reply not read yet
        leave(imap, in_sync=ordinary and not outstanding)
        if (typed := _typed_body_error(error, imap, login)) is None:
            raise
        raise typed from error
    leave(imap, in_sync=True)


def _typed_body_error(error: BaseException, imap: imaplib.IMAP4, login: Login) -> ImapError | None:
    """Ours for an error of imaplib whose text is known, else None."""
    if isinstance(error, ExoImapOAuthError) or not isinstance(error, imaplib.IMAP4.error):
        return None
    said = what_it_said(error, imap, login.redact)
    what = f"{host_of(imap)} ended the work on {login.user}: {said.reply}"
    return typed_error(what, said, "runtime", **login.known())


# ---- AUTHENTICATE ----------------------------------------------------------------------------


class _Conversation:
    """The client's side of one AUTHENTICATE command."""

    __slots__ = ("_challenges", "_message", "_send", "challenge")

    def __init__(self, message: bytes, send: Callable[[bytes], None]) -> None:
        self._message: bytes | None = message
        self._send = send
        self._challenges = 0
        self.challenge: Mapping[str, Any] | None = None

    def send(self, data: bytes) -> None:
        """Stand in for ``imap.send``: put the initial response behind the command.

        imaplib itself can send none; given as an argument, it would stay in its debug buffer.
        """
        if self._message is not None and data.endswith(b" AUTHENTICATE XOAUTH2\r\n"):
            data = data[:-2] + b" " + base64.b64encode(self._message) + b"\r\n"
            self._message = None
        self._send(data)

    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge: once with the message, then with an empty line."""
        if self._message is not None:
            message, self._message = self._message, None
            return message
        self.challenge = decode_challenge(challenge)
        self._challenges += 1
        if self._challenges > _MAX_CHALLENGES:
            text = f"more than {_MAX_CHALLENGES} challenges"
            raise imaplib.IMAP4.abort(text)
        return AFTER_ERROR_CHALLENGE


def _log_in(imap: imaplib.IMAP4, login: Login) -> None:
    if imap.state != "NONAUTH":
        message = f"the connection to {host_of(imap)} is in the state {imap.state}, not NONAUTH"
        signed_in = imap.state in ("AUTH", "SELECTED")
        raise ImapError(message, advice=explain("already-authenticated") if signed_in else None)
    if "AUTH=XOAUTH2" not in imap.capabilities:
        offered = " ".join(imap.capabilities)
        raise ImapError(
            f"{host_of(imap)} does not offer AUTH=XOAUTH2, but {offered}; no token was sent"
        )
    login.obtain()
    refusal: Exception | None = _authenticate(imap, login)
    if isinstance(refusal, AuthenticationRefused) and login.renew():
        refusal = _second_try(imap, login, refusal)
    if refusal is not None:
        raise refusal
    logger.debug("logged in at %s as %s", host_of(imap), login.user)


def _second_try(
    imap: imaplib.IMAP4, login: Login, refusal: AuthenticationRefused
) -> Exception | None:
    """AUTHENTICATE with a new token; None if it succeeded, else the error that says most."""
    second: Exception | None
    try:
        login.obtain()
        second = _authenticate(imap, login)
    except Exception as error:  # noqa: BLE001 - whatever it is, the refusal says more
        second = error
    logger.debug("second try with a new token: %s", "refused" if second else "logged in")
    accepted = imap.state == "AUTH"  # whatever went wrong after the server's OK
    if second is None or accepted or isinstance(second, AuthenticationRefused):
        return second
    return refusal


def _authenticate(imap: imaplib.IMAP4, login: Login) -> ImapError | None:
    """One AUTHENTICATE command; None if it succeeded.

    The error is returned, not raised, since imaplib's frames hold the token.
    """
    conversation = _Conversation(login.message(), imap.send)
    offered = imap.capabilities
    try:
        with contextlib.ExitStack() as overrides:
            overrides.enter_context(bounded_replies(imap))
            if "SASL-IR" in imap.capabilities:
                overrides.enter_context(overridden(imap, "send", conversation.send))
            imap.authenticate("XOAUTH2", conversation.respond)
    except Exception as error:  # noqa: BLE001 - imaplib stumbles over replies in many ways
        if imap.state == "AUTH":
            return _broken_after_ok(error, imap, login)
        return _refusal(error, imap, login, conversation.challenge)
    except BaseException as error:  # noqa: BLE001 - it is raised again
        raise error.with_traceback(None) from None  # the frames below hold the token
    if imap.PROTOCOL_VERSION not in imap.capabilities:
        imap.capabilities = offered  # imaplib takes the words of a NO for capabilities
    return None


def _broken_after_ok(error: Exception, imap: imaplib.IMAP4, login: Login) -> ImapError | None:
    """What went wrong between the server's OK and the end of ``imap.authenticate()``.

    From 3.13.15, 3.14.8 and 3.15.0 on, imaplib asks for the capabilities there. The login
    stands whatever the server answers; only without a connection there is none.
    """
    if not is_out_of_step(error):
        logger.debug("logged in, but CAPABILITY failed: %s", type(error).__name__)
        return None
    said = what_it_said(error, imap, login.redact)
    what = f"{host_of(imap)} broke off after it had logged in {login.user}: {said.reply}"
    typed = typed_error(what, said, "post_auth", **login.known())
    if typed is None:
        typed = ConnectionFailed(what, advice=explain("connection-closed"), last_reply=said.bye)
    return typed


def _refusal(
    error: Exception,
    imap: imaplib.IMAP4,
    login: Login,
    challenge: Mapping[str, Any] | None,
) -> ImapError:
    challenge = json_object(login.redact(json.dumps(challenge)))  # it may echo the token
    said = what_it_said(error, imap, login.redact)
    broken = is_out_of_step(error) and not isinstance(error, binascii.Error)
    verb = "broke off while logging" if broken else "refused to log"
    what = f"{host_of(imap)} {verb} in {login.user}: {said.reply}"
    if challenge is not None:
        what += f" (challenge: {json.dumps(challenge)})"
    if (typed := typed_error(what, said, "authenticate", **login.known())) is not None:
        if isinstance(typed, AuthenticationRefused):
            typed.challenge = challenge
        return typed
    if broken:
        return ConnectionFailed(what, advice=explain("connection-closed"), last_reply=said.bye)
    text = str(error)
    if isinstance(error, binascii.Error) or text.startswith(_NO_REFUSAL):
        return ImapError(what)
    return AuthenticationRefused(what, challenge=challenge)
