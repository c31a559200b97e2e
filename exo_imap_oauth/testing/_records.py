"""What the administrator gets back, and what the service was asked: frozen, without tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class App:
    """An application registered in Entra ID, and its Enterprise application.

    Attributes:
        tenant_id: The directory (tenant) ID.
        client_id: The application (client) ID.
        enterprise_object_id: The object ID of the *Enterprise application*: the one that
            Exchange Online wants.
        app_object_id: The object ID of the *App registration*: the one that is often taken
            by mistake.
        display_name: The name in the portal.
        token_lifetime: How long its access tokens live, in seconds.
    """

    tenant_id: str
    client_id: str
    enterprise_object_id: str
    app_object_id: str
    display_name: str
    token_lifetime: int


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A client secret, as the portal shows it once.

    Attributes:
        app: The application that it belongs to.
        secret_id: The *Secret ID*, a GUID; never of use to a client.
        value: The *Value*: what a client sends. Not in ``repr()``.
        expires_on: When it expires, Unix seconds of the service's clock.
    """

    app: App
    secret_id: str
    value: str = field(repr=False)
    expires_on: float


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request that the token endpoint read.

    Attributes:
        time: When, Unix seconds of the service's clock.
        tenant_id: The tenant in the URL, as it was sent.
        client_id: ``client_id`` of the form, or an empty string.
        scope: ``scope`` of the form, or an empty string.
        status: The HTTP status of the answer, 0 if there was none.
        outcome: ``issued``, the code of the refusal, such as ``AADSTS7000215``, or the injected
            fault, such as ``fault token-html``.
    """

    time: float
    tenant_id: str
    client_id: str
    scope: str
    status: int
    outcome: str


LoginOutcome = Literal["connected", "not connected", "refused"]


@dataclass(frozen=True, slots=True)
class Login:
    """An attempt to log in over IMAP.

    Attributes:
        time: When, Unix seconds of the service's clock.
        user: The mailbox that was named, or an empty string if none could be read.
        mechanism: ``XOAUTH2``, another SASL mechanism, or ``LOGIN`` for the command.
        initial_response: Whether the SASL response came with the command (RFC 4959).
        client_id: The application of the token, or None if the token is not a genuine one.
        outcome: ``connected``; ``not connected`` (authenticated, but the mailbox does not
            open); ``refused``.
        reason: Why not, in words that the real service keeps to itself; empty if connected.
    """

    time: float
    user: str
    mechanism: str
    initial_response: bool
    client_id: str | None
    outcome: LoginOutcome
    reason: str
