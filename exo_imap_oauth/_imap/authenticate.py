"""AUTHENTICATE XOAUTH2: the command, its refusals, and the second try with a new token."""

from __future__ import annotations

import base64
import binascii
import contextlib
import imaplib
import json
import logging
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._imap.connection import bounded_replies, overridden
from exo_imap_oauth._imap.replies import (
    connection_failed,
    host_of,
    is_broken,
    is_out_of_step,
    owes_reply,
    reply_behind,
    typed_error,
)
from exo_imap_oauth._text import hide, json_object, one_line
from exo_imap_oauth.advice import explain
from exo_imap_oauth.errors import AuthenticationRefused, ImapError
from exo_imap_oauth.xoauth2 import AFTER_ERROR_CHALLENGE, decode_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exo_imap_oauth._imap.bearer import Bearer

_logger = logging.getLogger(__name__)

_MAX_CHALLENGES = 10
# How imaplib begins for a BAD, and for a reply that makes no sense; a NO is raised as it is.
_PROTOCOL_ERROR_PREFIXES = ("AUTHENTICATE command error: ", "command: ")


def log_in(imap: imaplib.IMAP4, bearer: Bearer) -> None:
    """Log in; a refused token that was cached is replaced once.

    Raises:
        ImapError: The server did not log in the user; its class says why.
        TokenError: The source got no token.
    """
    _require_mechanism(imap)
    bearer.obtain()
    refusal: Exception | None = _authenticate(imap, bearer)
    if isinstance(refusal, AuthenticationRefused) and bearer.drop_refused():
        refusal = _second_try(imap, bearer, refusal)
    if refusal is not None:
        raise refusal
    _logger.debug("logged in at %s as %s", host_of(imap), bearer.user)


def _require_mechanism(imap: imaplib.IMAP4) -> None:
    if imap.state != "NONAUTH":
        message = f"the connection to {host_of(imap)} is in the state {imap.state}, not NONAUTH"
        signed_in = imap.state in ("AUTH", "SELECTED")
        raise ImapError(message, advice=explain("already-authenticated") if signed_in else None)
    if "AUTH=XOAUTH2" not in imap.capabilities:
        offered = one_line(" ".join(imap.capabilities))
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
            imap.authenticate("XOAUTH2", conversation.respond)
    except Exception as error:  # noqa: BLE001 - imaplib stumbles over replies in many ways
        if imap.state == "AUTH":
            return _broken_after_ok(error, imap, bearer)
        return _refusal(error, imap, bearer, conversation.challenge)
    except BaseException as error:  # noqa: BLE001 - it is raised again
        raise error.with_traceback(None) from None  # the frames below hold the token
    if imap.PROTOCOL_VERSION not in imap.capabilities:
        imap.capabilities = offered  # imaplib takes the words of a NO for capabilities
    return None


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
    what = f"{host_of(imap)} broke off after it had logged in {bearer.user}: {reply.text}"
    typed = typed_error(what, reply, "post_auth", **bearer.known())
    return typed or connection_failed(what, reply)


def _refusal(
    error: Exception,
    imap: imaplib.IMAP4,
    bearer: Bearer,
    challenge: Mapping[str, Any] | None,
) -> ImapError:
    if challenge is not None:  # it may echo the token
        challenge = json_object(hide(json.dumps(challenge), bearer.secrets()))
    reply = reply_behind(error, imap, bearer.secrets())
    broken = is_out_of_step(error) and not isinstance(error, binascii.Error)
    verb = "broke off while logging" if broken else "refused to log"
    what = f"{host_of(imap)} {verb} in {bearer.user}: {reply.text}"
    if challenge is not None:
        what += f" (challenge: {one_line(json.dumps(challenge))})"
    typed = typed_error(what, reply, "authenticate", **bearer.known())
    if isinstance(typed, AuthenticationRefused):
        typed.challenge = challenge
    if typed is not None:
        return typed
    if broken:
        return connection_failed(what, reply)
    if isinstance(error, binascii.Error) or str(error).startswith(_PROTOCOL_ERROR_PREFIXES):
        return ImapError(what)
    return AuthenticationRefused(what, challenge=challenge)
