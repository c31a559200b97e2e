"""The loopback Exchange Online: the administrator's steps, and the servers behind them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from exo_imap_oauth.testing._certificates import HOST, Certificates
from exo_imap_oauth.testing._clock import Clock
from exo_imap_oauth.testing._cmsbs import check_replaceable, write_cmsbs_conf
from exo_imap_oauth.testing._directory import FULL_ACCESS, Directory
from exo_imap_oauth.testing._entra import TokenEndpoint
from exo_imap_oauth.testing._faults import Faults, Injection
from exo_imap_oauth.testing._http import EntraServer
from exo_imap_oauth.testing._imap import ImapService
from exo_imap_oauth.testing._imap_wire import check_wire
from exo_imap_oauth.testing._loop import LoopThread
from exo_imap_oauth.testing._mailbox_administration import MailboxAdministration
from exo_imap_oauth.testing._tokens import TokenIssuer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from types import TracebackType

    from exo_imap_oauth.testing._faults import Fault, Refusal
    from exo_imap_oauth.testing._imap_wire import Wire
    from exo_imap_oauth.testing._records import App, ClientSecret, Login, TokenRequest

_T = TypeVar("_T")


class LoopbackExchange(MailboxAdministration):
    """An Entra token endpoint and an Exchange Online IMAP server on 127.0.0.1.

    A context manager, to be entered once: the servers run inside the ``with`` block. Nothing is
    set up at first; do the administrator's steps, in any order. A step that is left out, or done
    with the wrong value, gives the answer that the real service gives:

    ====================================================  =========================================
    what is wrong                                         the answer
    ====================================================  =========================================
    :meth:`register_app` (client ID, tenant)              token endpoint: AADSTS700016, 90002
    :meth:`add_client_secret` (wrong, expired, none)      token endpoint: AADSTS7000215, 7000222,
                                                          7000216
    :meth:`add_certificate` (wrong, expired, none)        token endpoint: AADSTS700027, 700024,
                                                          700023, 50027
    :meth:`add_federated_credential`                      token endpoint: AADSTS700211, 700213,
                                                          7002138, 700212, 50013, for a wrong
                                                          issuer, subject, audience or key
    :meth:`add_permission`, :meth:`grant_admin_consent`   a token without ``roles``, then
                                                          ``NO AUTHENTICATE failed.``
    :meth:`new_service_principal`                         ``NO AUTHENTICATE failed.``, also with
                                                          the App registration's object ID
    :meth:`add_mailbox` (unknown user, other tenant)      ``NO AUTHENTICATE failed.``
    :meth:`add_mailbox_permission`, IMAP disabled         authenticated; the mailbox commands get
                                                          ``BAD User is authenticated but not
                                                          connected.``, after the third
                                                          ``* BYE Connection closed. 14``
    ====================================================  =========================================

    To undo what was set up, do what an administrator does, or let time pass:
    :meth:`expire_client_secret`, :meth:`revoke_consent`, :meth:`remove_permission`,
    :meth:`remove_mailbox_permission`, :meth:`set_cas_mailbox`, :meth:`advance_clock`.
    Failures of the network or of the services are a :class:`Fault`, see :meth:`inject`.

    Exchange decides what a session may open when it logs in: what is granted or taken away
    afterwards is seen by the next login. All methods may be called from any thread.

    Attributes:
        host: The host of both servers, ``localhost``.
        port: The port of the IMAP server (implicit TLS), once it runs.
        ssl_context: A client context that trusts the service's CA and nothing else.
        ca_pem: The certificate of that CA.
        wire: What the IMAP server speaks.

    Args:
        refresh_in: What :attr:`refresh_in` is at first.
        wire: What the IMAP server speaks: ``2026``, as Exchange Online does since autumn 2026;
            ``2025``, the greeting and capabilities before; ``rev2``, as ``2026``, but every
            session behaves from its login on as if the client had enabled IMAP4rev2.
    """

    def __init__(self, *, refresh_in: int | None = None, wire: Wire = "2026") -> None:
        check_wire(wire)
        self.wire: Wire = wire
        self._faults = Faults()
        self._certificates = Certificates(self._faults)
        self.host: str = HOST
        self.port: int = 0
        self.ca_pem: bytes = self._certificates.ca_pem
        self.ssl_context: ssl.SSLContext = ssl.create_default_context(cadata=self.ca_pem.decode())
        clock = Clock()
        super().__init__(Directory(clock), clock)
        self._issuer = TokenIssuer(clock)
        self._loop = None
        self._refresh_in = refresh_in
        self._endpoint = TokenEndpoint(self._directory, self._issuer, clock)
        self._endpoint.refresh_in = refresh_in
        self._entra = EntraServer(self._endpoint, self._issuer, clock, self._faults)
        self._imap = ImapService(
            self._directory, self._issuer, clock, self._certificates.server, self._faults, wire=wire
        )

    def __enter__(self) -> Self:
        """Start the servers."""
        if self._loop is not None:
            raise RuntimeError("a LoopbackExchange can be entered once only; make another one")
        self._loop = LoopThread()
        port = self._loop.listen(self._entra.serve, self._certificates.token_endpoint)
        self._endpoint.base_uri = f"https://{HOST}:{port}"
        self.port = self._loop.listen(self._imap.serve, self._certificates.imap)
        self._loop.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the servers, whoever is still connected."""
        if self._loop is not None:
            self._loop.stop()

    def reset(self) -> None:
        """End all connections and forget everything, as if it were entered again.

        Addresses and CA stay; the tenant is another one, so that old tokens are of no use.
        """
        loop = self._running()
        self._faults.clear()
        loop.call(self._forget(loop))

    async def _forget(self, loop: LoopThread) -> None:
        await loop.drop_connections()
        self._directory.clear()
        self._clock.reset()
        self._endpoint.refresh_in = self._refresh_in
        self._imap.mailboxes.clear()
        self._secrets.clear()
        self._addresses.clear()

    # ---- the administrator's steps in Exchange Online ----------------------------------------

    def new_service_principal(self, client_id: str, object_id: str) -> None:
        """``New-ServicePrincipal -AppId client_id -ObjectId object_id``.

        As in reality, the object ID of the App registration is accepted, and does not work.

        Args:
            client_id: The application (client) ID.
            object_id: The object ID of the Enterprise application.
        """
        self._directory.new_service_principal(client_id, object_id)

    def add_mailbox_permission(
        self, mailbox: str, object_id: str, access_rights: str = FULL_ACCESS
    ) -> None:
        """``Add-MailboxPermission -Identity mailbox -User object_id -AccessRights …``.

        Args:
            mailbox: The address of the mailbox.
            object_id: The object ID that was given to :meth:`new_service_principal`.
            access_rights: ``FullAccess``; others exist, and do not let IMAP in.
        """
        self._directory.set_mailbox_permission(mailbox, object_id, access_rights, granted=True)

    def remove_mailbox_permission(
        self, mailbox: str, object_id: str, access_rights: str = FULL_ACCESS
    ) -> None:
        """``Remove-MailboxPermission``: what :meth:`add_mailbox_permission` gave."""
        self._directory.set_mailbox_permission(mailbox, object_id, access_rights, granted=False)

    def set_cas_mailbox(
        self, mailbox: str, *, imap_enabled: bool, reason_in_ok: bool = False
    ) -> None:
        """``Set-CASMailbox -Identity mailbox -ImapEnabled …``.

        Args:
            mailbox: The address of the mailbox.
            imap_enabled: Whether IMAP is switched on for it.
            reason_in_ok: Whether Exchange says that it is off when it authenticates:
                ``OK [Error="UserDisabled" AuthResult=27 …] AUTHENTICATE completed.`` It does so
                in some tenants.
        """
        self._directory.set_cas_mailbox(
            mailbox, imap_enabled=imap_enabled, reason_in_ok=reason_in_ok
        )

    # ---- what happens afterwards -------------------------------------------------------------

    def advance_clock(self, seconds: float) -> None:
        """Move the service's clock: tokens and secrets expire, the ``Date`` header follows.

        Args:
            seconds: By how much; negative to move it back.
        """
        self._clock.advance(seconds)

    def drop_connections(self) -> None:
        """Cut every connection now, as a firewall or a restarted server does.

        Whoever is in IDLE, or waits for an answer, sees it end without a ``BYE``.
        """
        loop = self._running()
        loop.call(loop.drop_connections())

    def inject(
        self,
        fault: Fault,
        times: int | None = 1,
        seconds: float | None = None,
        *,
        command: str | None = None,
        uid: int | None = None,
        reply: Refusal | None = None,
    ) -> Injection:
        """Make something go wrong.

        Faults that could strike at the same moment strike one after the other, in the order in
        which they were injected.

        Args:
            fault: What goes wrong; its description says which of the following it takes.
            times: How often; with None, until :meth:`Injection.remove`.
            seconds: How long, or the pause that the service asks for.
            command: The IMAP command to wait for, such as ``SELECT`` or ``UID FETCH``.
            uid: The UID of the message that a command must name, if only at one message; the
                sequence numbers of commands without ``UID`` are looked up.
            reply: What the refusal begins with, ``BAD`` or ``NO``; Exchange says both.

        Returns:
            The injection, which counts its ``hits`` and can be removed.

        Raises:
            ValueError: The fault does not take a parameter, or not this value.

        Example:
            >>> from exo_imap_oauth.testing import Fault
            >>> with LoopbackExchange() as exchange:
            ...     exchange.inject(Fault.IMAP_THROTTLED, seconds=60, command="SELECT")
            <Injection of Fault.IMAP_THROTTLED at SELECT, hits: 0>
        """
        loop = self._running().loop
        injection = Injection(
            fault, times, seconds, command=command, uid=uid, reply=reply, loop=loop
        )
        self._faults.add(injection)
        return injection

    @property
    def refresh_in(self) -> int | None:
        """After how many seconds the token endpoint asks for a new token (``refresh_in``).

        None, the default: its answers do not say. Setting it changes the answers that follow.
        """
        return self._endpoint.refresh_in

    @refresh_in.setter
    def refresh_in(self, seconds: int | None) -> None:
        self._endpoint.refresh_in = seconds

    @property
    def token_requests(self) -> tuple[TokenRequest, ...]:
        """What the token endpoint was asked so far, oldest first."""
        return self._directory.token_requests

    @property
    def logins(self) -> tuple[Login, ...]:
        """Who tried to log in over IMAP so far, oldest first."""
        return self._directory.logins

    # ---- how to reach it ---------------------------------------------------------------------

    @property
    def tenant_id(self) -> str:
        """The default tenant."""
        return self._directory.tenant_id

    @property
    def authority(self) -> str:
        """The base of the Entra addresses, without a trailing slash."""
        return self._endpoint.base_uri

    def token_uri(self, tenant_id: str | None = None) -> str:
        """The token endpoint of a tenant, by default of :attr:`tenant_id`."""
        return self._endpoint.token_uri(tenant_id or self.tenant_id)

    def write_ca(self, path: str | PathLike[str]) -> Path:
        """Write the CA's certificate (PEM) to a file, for what wants a file name."""
        file = Path(path)
        file.write_bytes(self.ca_pem)
        return file

    def write_config(
        self,
        folder: str | PathLike[str],
        *,
        secret: ClientSecret | None = None,
        app: App | None = None,
        mailbox: str | None = None,
    ) -> Path:
        """Write a ``cmsbs-conf`` folder with the values of what was set up.

        A file from an earlier call is replaced, any other is kept.

        Args:
            folder: Where to make the folder ``cmsbs-conf``.
            secret: The client secret, which names the application too; by default the one
                that was created last.
            app: An application without a secret, in place of ``secret``; the file holds none.
            mailbox: The address of the mailbox; by default the first one.

        Returns:
            The folder ``cmsbs-conf``; its ``cmsbs.properties`` is readable by its owner only.

        Raises:
            ValueError: A step is missing, or both ``secret`` and ``app`` are given.
            FileExistsError: There is a ``cmsbs.properties`` that no earlier call wrote.
        """
        credential: dict[str, str] = {}
        if app is None:
            secret = secret or _first(self._secrets[-1:], "client secret", "add_client_secret")
            app = secret.app
            credential = {"oauth2.clientSecret": secret.value}
        elif secret is not None:
            raise ValueError("give secret or app, not both")
        mailbox = mailbox or _first(self._addresses, "mailbox", "add_mailbox")
        settings = {
            "server": self.host,
            "port": str(self.port),
            "ssl": "true",
            "user": mailbox,
            "authenticationMethod": "oauth2",
            "oauth2.accessTokenUri": self.token_uri(app.tenant_id),
            "oauth2.clientId": app.client_id,
            **credential,
            "oauth2.scope": "https://outlook.office.com/.default",
            "oauth2.grantType": "client_credentials",
            "oauth2.debug": "true",
        }
        check_replaceable(Path(folder))
        return write_cmsbs_conf(Path(folder), settings)


def _first(candidates: Sequence[_T], what: str, step: str) -> _T:
    if not candidates:
        raise ValueError(f"there is no {what} yet: {step} comes first")
    return candidates[0]
