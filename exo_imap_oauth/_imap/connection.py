"""The connection to the IMAP server: how it is made, trusted with a token, and left."""

from __future__ import annotations

import contextlib
import imaplib
import ssl
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth._arguments import CLIENTS, what_is_unverified, wrong_kind
from exo_imap_oauth._errors_imap import ConnectionFailed, ImapError, Throttled
from exo_imap_oauth._imap.client import Client, NotImapError, TlsClient
from exo_imap_oauth._imap.limits import bounded_replies
from exo_imap_oauth._imap.replies import (
    ServerReply,
    fell_silent,
    host_of,
    text_of,
    typed_error,
)
from exo_imap_oauth._reach import cut_after
from exo_imap_oauth._text import one_line
from exo_imap_oauth._trust import default_context, unreadable_bundle
from exo_imap_oauth.advice import RETRYABLE, advise, explain
from exo_imap_oauth.errors import InsecureConnectionError

if TYPE_CHECKING:
    from collections.abc import Generator

    from exo_imap_oauth._imap.bearer import Bearer

_LOGOUT_TIME = 3.0  # s; the work is done, and the server's word on it changes nothing


class Server(NamedTuple):
    """Where the server is, and how TLS begins."""

    host: str
    port: int
    starttls: bool

    @property
    def known(self) -> dict[str, str]:
        """What fills advice on it."""
        return {"host": self.host, "port": str(self.port)}


def connect(
    server: Server,
    ssl_context: ssl.SSLContext | None,
    timeout: float,
    bearer: Bearer | None = None,
) -> Client:
    """Connect with verified TLS.

    Without ``ssl_context``, what this machine trusts counts. Whose token a server may know from
    an earlier login, ``bearer``, is not quoted.

    Raises:
        ConnectionFailed: The server cannot be reached or is not the right one.
        Throttled: It asks to slow down, before anybody logged in.
        InsecureConnectionError: It does not offer STARTTLS.
    """
    is_default = ssl_context is None
    try:
        ssl_context = ssl_context or default_context()
    except OSError as error:
        advice = explain("certificate-untrusted", **server.known, **unreadable_bundle(error))
        raise ConnectionFailed(one_line(str(error)), advice=advice, retryable=False) from error
    imap: Client | None = None
    try:
        if server.starttls:
            imap = Client(server.host, server.port, timeout=timeout, bearer=bearer)
            _require_starttls(imap, server)
            with bounded_replies(imap):
                imap.starttls(ssl_context)
        else:
            imap = TlsClient(
                server.host, server.port, ssl_context=ssl_context, timeout=timeout, bearer=bearer
            )
        imap.be_patient()
    except InsecureConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 - imaplib stumbles over senseless replies in many ways
        known = server.known | (unreadable_bundle(error) if is_default else {})
        failure = _unreachable(server, error, bearer.secrets() if bearer else (), known)
    except BaseException:
        _hang_up(imap)
        raise
    else:
        return imap
    _hang_up(imap)
    raise failure


def _require_starttls(imap: Client, server: Server) -> None:
    if "STARTTLS" not in imap.capabilities:
        leave(imap, in_sync=True)
        where = one_line(f"{server.host}:{server.port}")
        raise _insecure(f"{where} does not offer STARTTLS", "implicit TLS, port 993")


def _unreachable(
    server: Server, error: Exception, secrets: tuple[str, ...], known: dict[str, str]
) -> ImapError:
    said = text_of(error, secrets)
    where = f"{one_line(server.host)}:{server.port}"
    typed = typed_error(f"{where} refused to begin: {said}", ServerReply(said), "authenticate")
    if isinstance(typed, Throttled):  # it says how long to wait; else the connection failed
        return typed
    what, advice = f"cannot be reached: {type(error).__name__}: {said}", None
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = explain("certificate-untrusted", **known)
    elif isinstance(error, (NotImapError, ssl.SSLError)):  # it answered, but what?
        advice = advise(str(error), stage="authenticate", **known)
        if isinstance(error, NotImapError):
            what = f"did not begin as an IMAP server does, it said: {said}"
    elif isinstance(error, imaplib.IMAP4.error) and "* BYE" in said:  # so no firewall is in between
        what = f"ended the connection before the login: {said}"
        advice = explain("connection-closed", **known)
    advice = advice or explain("imap-unreachable", **known)
    failure = ConnectionFailed(
        f"{where} {what}",
        advice=advice,
        retryable=advice.id in RETRYABLE,
        last_reply=said if isinstance(error, imaplib.IMAP4.error) else None,
    )
    if isinstance(error, OSError):  # the system's own words, which quote no server
        error.__cause__ = error.__context__ = None
        failure.__cause__ = error.with_traceback(None)
    return failure


def _hang_up(imap: Client | None) -> None:
    if imap is not None:
        imap.hang_up()


def require_client(imap: object) -> None:
    """Refuse what is no client of imaplib; nothing can be said of its connection.

    Raises:
        TypeError: It is not one.
    """
    if not isinstance(imap, imaplib.IMAP4):
        expected = "a connected client of imaplib, such as imaplib.IMAP4_SSL"
        page = "how-to/use-with/imaplib"
        raise wrong_kind("imap", imap, expected, page=page, instead=CLIENTS)


def require_tls(imap: imaplib.IMAP4, *, allow_unverified: bool) -> str:
    """Refuse a connection over which a token must not go; nothing is sent.

    Returns:
        What is not verified, as a part of a sentence; empty where all is.

    Raises:
        InsecureConnectionError: It is plain or, unless allowed, not verified.
    """
    where = host_of(imap)
    context = getattr(getattr(imap, "sock", None), "context", None)
    if context is None:
        raise _insecure(
            f"the connection to {where} is plain",
            "imap.starttls(ssl_context=ssl.create_default_context())",
        )
    unverified = what_is_unverified(context)
    if unverified and not allow_unverified:
        raise _insecure(
            f"the TLS connection to {where} does not verify {unverified}",
            "imap = imaplib.IMAP4_SSL(host, ssl_context=ssl.create_default_context())",
        )
    return unverified


def _insecure(what: str, remedy: str) -> InsecureConnectionError:
    return InsecureConnectionError(f"{what}, so the token was not sent. Use: {remedy}")


@contextlib.contextmanager
def in_time(imap: imaplib.IMAP4, seconds: float | None) -> Generator[None]:
    """Everything in the body must be over within these seconds; None means without an end.

    Raises:
        ConnectionFailed: It was not over in time.
    """
    if seconds is None:
        yield
    elif isinstance(imap, Client):
        with imap.within(seconds):
            yield
    else:
        with _watched(imap, seconds):
            yield


@contextlib.contextmanager
def _watched(imap: imaplib.IMAP4, seconds: float) -> Generator[None]:
    """A thread watches the time, since imaplib's reading takes byte after byte without an end."""
    with cut_after(imap.sock, seconds) as is_cut:
        try:
            yield
        except ImapError:
            if not is_cut.is_set():
                raise
    if is_cut.is_set():
        raise ConnectionFailed(
            f"{host_of(imap)} was not done with the login within {seconds:g} s, so the connection"
            " was cut",
            advice=fell_silent(imap),
        )


def leave(imap: imaplib.IMAP4, *, in_sync: bool) -> None:
    """LOGOUT where the server can follow, and soon; else just hang up. It never raises."""
    if in_sync and imap.state != "LOGOUT":
        with contextlib.suppress(Exception), bounded_replies(imap), in_time(imap, _LOGOUT_TIME):
            imap.logout()
            return
    with contextlib.suppress(OSError):
        imap.shutdown()
