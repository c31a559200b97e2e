"""AUTHENTICATE XOAUTH2: the command, its refusals, and the second try with a new token."""

from __future__ import annotations

import base64
import binascii
import contextlib
import imaplib
import json
import logging
from itertools import islice
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._errors_imap import AuthenticationRefused, ImapError
from exo_imap_oauth._imap.limits import bounded_replies, overridden
from exo_imap_oauth._imap.replies import (
    connection_failed,
    host_of,
    is_broken,
    is_out_of_step,
    owes_reply,
    reply_behind,
    typed_error,
)
from exo_imap_oauth._text import quotable
from exo_imap_oauth.advice import explain
from exo_imap_oauth.xoauth2 import AFTER_ERROR_CHALLENGE, decode_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exo_imap_oauth._imap.bearer import Bearer

_logger = logging.getLogger(__name__)

_MAX_CHALLENGES = 10
_MAX_MEMBERS = 20  # of a challenge; RFC 7628 knows four
_LONGEST_CAPABILITY = 40  # characters; what is longer is none, and in capitals no echo is known
_MAX_SAID = 4_000  # bytes
# How imaplib begins for a BAD, and for a reply that makes no sense; a NO is raised as it is.
_PROTOCOL_ERROR_PREFIXES = ("AUTHENTICATE command error: ", "command: ")


def log_in(imap: imaplib.IMAP4, bearer: Bearer) -> None:
    """Log in; a refused token that was cached is replaced once.

    Raises:
        ImapError: The server did not log in the user; its class says why.
        TokenError: The source got no token.
    """
    bearer.host = host_of(imap)
    _require_mechanism(imap, bearer)
    bearer.obtain()
    refusal: Exception | None = _authenticate(imap, bearer)
    if isinstance(refusal, AuthenticationRefused) and bearer.drop_refused():
        refusal = _second_try(imap, bearer, refusal)
    if refusal is not None:
        raise refusal
    reason = f": {bearer.login_said}" if bearer.login_said else ""
    _logger.debug("logged in at %s as %s%s", host_of(imap), bearer.shown, reason)


def _require_mechanism(imap: imaplib.IMAP4, bearer: Bearer) -> None:
    if imap.state != "NONAUTH":
        message = f"the connection to {host_of(imap)} is in the state {imap.state}, not NONAUTH"
        signed_in = imap.state in ("AUTH", "SELECTED")
        raise ImapError(message, advice=explain("already-authenticated") if signed_in else None)
    if "AUTH=XOAUTH2" not in imap.capabilities:
        names = [name for name in imap.capabilities if len(name) <= _LONGEST_CAPABILITY]
        offered = quotable(" ".join(names), bearer.secrets())
        raise ImapError(
            f"{host_of(imap)} does not offer AUTH=XOAUTH2, but {offered}; no token was sent"
        )


def _second_try(
    imap: imaplib.IMAP4, bearer: Bearer, refusal: AuthenticationRefused
) -> Exception | None:
    """AUTHENTICATE with a new token; None if it succeeded, else the error that says most."""
    second: Exception | None
    try:
        bearer.obtain()
        second = _authenticate(imap, bearer)
    except Exception as error:  # noqa: BLE001 - whatever it is, the refusal says more
        second = error
    _logger.debug("second try with a new token: %s", "refused" if second else "logged in")
    accepted = imap.state == "AUTH"  # whatever went wrong after the server's OK
    if second is None or accepted or isinstance(second, AuthenticationRefused):
        return second
    return refusal


def _authenticate(imap: imaplib.IMAP4, bearer: Bearer) -> ImapError | None:
    """One AUTHENTICATE command; None if it succeeded.

    The error is returned, not raised, since imaplib's frames hold the token.
    """
    conversation = _Conversation(bearer.message(), imap.send)
    offered = imap.capabilities
    try:
        with contextlib.ExitStack() as overrides:
            overrides.enter_context(bounded_replies(imap))
            if "SASL-IR" in imap.capabilities:
                overrides.enter_context(overridden(imap, "send", conversation.send))
            _, said = imap.authenticate("XOAUTH2", conversation.respond)
    except Exception as error:  # noqa: BLE001 - imaplib stumbles over replies in many ways
        if imap.state == "AUTH":
            return _broken_after_ok(error, imap, bearer)
        return _refusal(error, imap, bearer, conversation.challenge)
    except BaseException as error:  # noqa: BLE001 - it is raised again
        raise error.with_traceback(None) from None  # the frames below hold the token
    if imap.PROTOCOL_VERSION not in imap.capabilities:
        imap.capabilities = offered  # imaplib takes the words of a NO for capabilities
    bearer.login_said = _reason_in(said, bearer)
    return None


def _reason_in(said: Sequence[object], bearer: Bearer) -> str:
    """What the OK says beyond being one: Exchange may know already that the mailbox is closed."""
    last = said[-1] if said else None
    if not isinstance(last, bytes) or not last.startswith((b"[Error=", b"[AuthResult")):
        return ""
    return quotable(last[:_MAX_SAID].decode(errors="replace"), bearer.secrets())


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


def _broken_after_ok(error: Exception, imap: imaplib.IMAP4, bearer: Bearer) -> ImapError | None:
    """What went wrong between the server's OK and the end of ``imap.authenticate()``.

    From 3.13.15, 3.14.8 and 3.15.0 on, imaplib asks for the capabilities there. The login
    stands whatever the server answers; only without a connection there is none.
    """
    if not (is_broken(error) or owes_reply(imap)):
        _logger.debug("logged in, but CAPABILITY failed: %s", type(error).__name__)
        return None
    reply = reply_behind(error, imap, bearer.secrets())
    what = f"{host_of(imap)} broke off after it had logged in {bearer.shown}: {reply.text}"
    typed = typed_error(what, reply, "post_auth", **bearer.known())
    return typed or connection_failed(what, reply, error, imap)


def _refusal(
    error: Exception,
    imap: imaplib.IMAP4,
    bearer: Bearer,
    challenge: Mapping[str, Any] | None,
) -> ImapError:
    reply = reply_behind(error, imap, bearer.secrets())
    broken = is_out_of_step(error) and not isinstance(error, binascii.Error)
    verb = "broke off while logging" if broken else "refused to log"
    what = f"{host_of(imap)} {verb} in {bearer.shown}: {reply.text}"
    if challenge is not None:
        challenge = _to_quote(challenge, bearer)
        what += f" (challenge: {quotable(json.dumps(challenge), bearer.secrets())})"
    typed = typed_error(what, reply, "authenticate", **bearer.known())
    if isinstance(typed, AuthenticationRefused):
        typed.challenge = challenge
    if typed is not None:
        return typed
    if broken:
        return connection_failed(what, reply, error, imap)
    if isinstance(error, binascii.Error) or str(error).startswith(_PROTOCOL_ERROR_PREFIXES):
        return ImapError(what)
    return AuthenticationRefused(what, challenge=challenge)


def _to_quote(challenge: Mapping[str, Any], bearer: Bearer) -> dict[str, Any]:
    """A challenge whose texts may be quoted: it may echo the token, and be of any length."""
    secrets = bearer.secrets()
    return {
        quotable(name, secrets): value
        if isinstance(value, (int, float)) or value is None
        else quotable(value if isinstance(value, str) else json.dumps(value), secrets)
        for name, value in islice(challenge.items(), _MAX_MEMBERS)
    }
