"""What the administrators of Entra ID and Exchange Online have set up. Pure: no I/O."""

from __future__ import annotations

import secrets
import string
import threading
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from exo_imap_oauth.testing._identities import AppCertificate, FederatedCredential
from exo_imap_oauth.testing._records import App, ClientSecret, Login, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._records import LoginOutcome

IMAP_ROLE = "IMAP.AccessAsApp"
FULL_ACCESS = "FullAccess"
_ROLES = frozenset({IMAP_ROLE, "POP.AccessAsApp", "SMTP.SendAsApp", "full_access_as_app"})
_ACCESS_RIGHTS = frozenset({FULL_ACCESS, "ReadPermission", "ChangePermission", "ChangeOwner"})
_IMAP_IS_OFF = 'Error="UserDisabled" AuthResult=27'
_SECRET_ALPHABET = string.ascii_letters + string.digits + "-._~"


@dataclass(slots=True)
class _Registration:
    app: App
    requested: set[str] = field(default_factory=set[str])
    consented: frozenset[str] = frozenset()
    secrets: list[ClientSecret] = field(default_factory=list[ClientSecret])
    certificates: list[AppCertificate] = field(default_factory=list[AppCertificate])
    federated: list[FederatedCredential] = field(default_factory=list[FederatedCredential])


@dataclass(slots=True)
class _Mailbox:
    address: str
    tenant_id: str
    imap_enabled: bool
    reason_in_ok: bool = False
    full_access: set[str] = field(default_factory=set[str])


class Verdict(NamedTuple):
    """What Exchange makes of a login.

    Attributes:
        outcome: Whether the user is authenticated, and the mailbox open.
        reason: Why not, in words that the real service keeps to itself.
        told: What Exchange says of it in its OK, without the names of its servers.
    """

    outcome: LoginOutcome
    reason: str = ""
    told: str = ""


class Directory:
    """The state of all tenants, and the questions that the services ask about it.

    Its methods are the administrator's steps of
    :class:`~exo_imap_oauth.testing.LoopbackExchange`, where they are described. All of them
    may be called from any thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        """Forget everything; there is one tenant then, without anything in it."""
        with self._lock:
            self.tenant_id: str = str(uuid.uuid4())
            self._tenants = {self.tenant_id}
            self._registrations: dict[str, _Registration] = {}
            self._mailboxes: dict[str, _Mailbox] = {}
            self._service_principals: set[tuple[str, str]] = set()
            self._token_requests: list[TokenRequest] = []
            self._logins: list[Login] = []

    # ---- the administrator's steps in Entra ID -----------------------------------------------

    def register_app(self, display_name: str, tenant_id: str | None, token_lifetime: int) -> App:
        """Register an application, which creates its Enterprise application too."""
        tenant_id = self.tenant_id if tenant_id is None else _guid(tenant_id, "tenant_id")
        client_id, enterprise, registration = (str(uuid.uuid4()) for _ in range(3))
        app = App(tenant_id, client_id, enterprise, registration, display_name, token_lifetime)
        with self._lock:
            self._tenants.add(tenant_id)
            self._registrations[client_id] = _Registration(app)
        return app

    def add_permission(self, app: App, permission: str) -> None:
        """List an application permission of Office 365 Exchange Online in the registration."""
        if permission not in _ROLES:
            raise ValueError(f"{permission!r} is none of {', '.join(sorted(_ROLES))}")
        with self._lock:
            self._registration(app).requested.add(permission)

    def grant_admin_consent(self, app: App) -> None:
        """Consent to what is listed now."""
        with self._lock:
            registration = self._registration(app)
            registration.consented = frozenset(registration.requested)

    def remove_permission(self, app: App, permission: str) -> None:
        """Take a permission off the list; what was consented to stays."""
        with self._lock:
            requested = self._registration(app).requested
            if permission not in requested:
                raise ValueError(f"{permission!r} is not listed: add_permission comes first")
            requested.remove(permission)

    def revoke_consent(self, app: App) -> None:
        """Take all consent back."""
        with self._lock:
            self._registration(app).consented = frozenset()

    def add_client_secret(self, app: App, lifetime: float) -> ClientSecret:
        """Create a client secret."""
        # Every character that a form, or a properties file, could spoil occurs in it.
        tail = "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(31))
        value = f"{secrets.token_hex(1)}x8Q~{tail}+/=&"
        expires_on = self._clock.now() + lifetime
        secret = ClientSecret(app, str(uuid.uuid4()), value, expires_on)
        with self._lock:
            self._registration(app).secrets.append(secret)
        return secret

    def expire_client_secret(self, secret: ClientSecret) -> None:
        """Let a secret expire now."""
        with self._lock:
            known = self._registration(secret.app).secrets
            for index, one in enumerate(known):
                if one.secret_id == secret.secret_id:
                    known[index] = replace(one, expires_on=self._clock.now())

    def add_certificate(self, certificate: AppCertificate) -> None:
        """Upload a certificate."""
        with self._lock:
            self._registration(certificate.app).certificates.append(certificate)

    def add_federated_credential(self, credential: FederatedCredential) -> None:
        """Trust in the tokens of another issuer."""
        with self._lock:
            self._registration(credential.app).federated.append(credential)

    def _registration(self, app: App) -> _Registration:
        try:
            return self._registrations[app.client_id]
        except KeyError:
            raise ValueError(
                f"{app.display_name!r} was registered with another LoopbackExchange"
            ) from None

    # ---- the administrator's steps in Exchange Online ----------------------------------------

    def add_mailbox(self, address: str, tenant_id: str | None, *, imap_enabled: bool) -> None:
        """Create a mailbox."""
        tenant_id = self.tenant_id if tenant_id is None else _guid(tenant_id, "tenant_id")
        if not address or not address.isprintable():
            raise ValueError(f"{address!r} is not a mailbox address")
        with self._lock:
            if address.lower() in self._mailboxes:
                raise ValueError(f"the mailbox {address} exists already")
            self._tenants.add(tenant_id)
            self._mailboxes[address.lower()] = _Mailbox(address, tenant_id, imap_enabled)

    def new_service_principal(self, client_id: str, object_id: str) -> None:
        """Register a service principal, without looking whether the IDs are the right ones."""
        pair = _guid(client_id, "client_id"), _guid(object_id, "object_id")
        with self._lock:
            self._service_principals.add(pair)

    def set_mailbox_permission(
        self, mailbox: str, object_id: str, access_rights: str, *, granted: bool
    ) -> None:
        """Grant or take away a permission on a mailbox."""
        if access_rights not in _ACCESS_RIGHTS:
            raise ValueError(f"{access_rights!r} is none of {', '.join(sorted(_ACCESS_RIGHTS))}")
        object_id = _guid(object_id, "object_id")
        with self._lock:
            full_access = self._mailbox(mailbox).full_access
            if access_rights != FULL_ACCESS:
                return
            if granted:
                full_access.add(object_id)
            else:
                full_access.discard(object_id)

    def set_cas_mailbox(self, mailbox: str, *, imap_enabled: bool, reason_in_ok: bool) -> None:
        """Switch IMAP on or off for a mailbox."""
        with self._lock:
            changed = self._mailbox(mailbox)
            changed.imap_enabled = imap_enabled
            changed.reason_in_ok = reason_in_ok

    def _mailbox(self, address: str) -> _Mailbox:
        try:
            return self._mailboxes[address.lower()]
        except KeyError:
            raise ValueError(f"no mailbox {address}: add_mailbox comes first") from None

    # ---- what the token endpoint asks --------------------------------------------------------

    def has_tenant(self, tenant_id: str) -> bool:
        """Whether there is such a tenant."""
        with self._lock:
            return tenant_id.lower() in self._tenants

    def find_app(self, tenant_id: str, client_id: str) -> App | None:
        """The application with this client ID, if this tenant has it."""
        with self._lock:
            registration = self._registrations.get(client_id.lower())
        if registration is None or registration.app.tenant_id != tenant_id.lower():
            return None
        return registration.app

    def find_secret(self, app: App, value: str) -> ClientSecret | None:
        """The secret of this application with this value, expired or not."""
        with self._lock:
            known = self._registration(app).secrets
            return next((secret for secret in known if secret.value == value), None)

    def certificates(self, app: App) -> Sequence[AppCertificate]:
        """The certificates of this application, expired or not."""
        with self._lock:
            return tuple(self._registration(app).certificates)

    def federated_credentials(self, app: App) -> Sequence[FederatedCredential]:
        """The federated credentials of this application."""
        with self._lock:
            return tuple(self._registration(app).federated)

    def roles(self, app: App) -> list[str]:
        """The permissions that an administrator has consented to."""
        with self._lock:
            return sorted(self._registration(app).consented)

    # ---- what the IMAP front end asks --------------------------------------------------------

    def may_open(self, user: str, claims: Mapping[str, object]) -> Verdict:
        """What Exchange makes of a genuine, unexpired Exchange token for this mailbox.

        A user that the token's tenant does not have is refused at AUTHENTICATE; a mailbox that
        is there but must not be opened is authenticated and not connected.
        """
        tenant_id, object_id = claims["tid"], claims["oid"]
        with self._lock:
            mailbox = self._mailboxes.get(user.lower())
            if (claims["appid"], object_id) not in self._service_principals:
                return Verdict("refused", f"no service principal with object ID {object_id}")
            if mailbox is None:
                return Verdict("refused", "unknown user")
            if mailbox.tenant_id != tenant_id:
                return Verdict("refused", "the token is of another tenant than the mailbox")
            if object_id not in mailbox.full_access:
                return Verdict("not connected", "no FullAccess on the mailbox")
            if not mailbox.imap_enabled:
                told = _IMAP_IS_OFF if mailbox.reason_in_ok else ""
                return Verdict("not connected", "IMAP is disabled for the mailbox", told)
            return Verdict("connected")

    # ---- records -----------------------------------------------------------------------------

    def record(self, event: TokenRequest | Login) -> None:
        """Keep what was asked."""
        with self._lock:
            if isinstance(event, Login):
                self._logins.append(event)
            else:
                self._token_requests.append(event)

    @property
    def token_requests(self) -> tuple[TokenRequest, ...]:
        """All token requests so far."""
        with self._lock:
            return tuple(self._token_requests)

    @property
    def logins(self) -> tuple[Login, ...]:
        """All logins so far."""
        with self._lock:
            return tuple(self._logins)


def _guid(value: str, name: str) -> str:
    """The GUID as Entra writes it."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise ValueError(f"{name} is not a GUID: {value!r}") from None
