"""What the administrator of Entra ID does, the same names and order as in its portal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_imap_oauth.testing._identities import (
    TOKEN_EXCHANGE,
    AppCertificate,
    FederatedCredential,
    make_certificate,
    make_federated_credential,
    read_certificate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._directory import Directory
    from exo_imap_oauth.testing._records import App, ClientSecret


class EntraAdministration:
    """The administrator's steps in Entra ID."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._secrets: list[ClientSecret] = []

    def register_app(
        self, display_name: str, *, tenant_id: str | None = None, token_lifetime: int = 3600
    ) -> App:
        """Register an application.

        Args:
            display_name: Its name.
            tenant_id: The tenant (a GUID), which is made if need be; by default
                :attr:`tenant_id`.
            token_lifetime: How long its access tokens live, in seconds.

        Returns:
            The application with all its IDs.
        """
        return self._directory.register_app(display_name, tenant_id, token_lifetime)

    def add_permission(self, app: App, permission: str) -> None:
        """List an application permission of *Office 365 Exchange Online*.

        It has no effect until :meth:`grant_admin_consent`.

        Args:
            app: The application.
            permission: ``IMAP.AccessAsApp``; others exist, and do not let IMAP in.
        """
        self._directory.add_permission(app, permission)

    def grant_admin_consent(self, app: App) -> None:
        """Consent to the permissions that are listed now; later ones need consent again."""
        self._directory.grant_admin_consent(app)

    def remove_permission(self, app: App, permission: str) -> None:
        """Take a permission off the list of :meth:`add_permission`.

        What was consented to stays in the tokens until :meth:`grant_admin_consent`, which
        consents to what is listed then, or :meth:`revoke_consent`.

        Args:
            app: The application.
            permission: One that is listed.
        """
        self._directory.remove_permission(app, permission)

    def revoke_consent(self, app: App) -> None:
        """Take back what :meth:`grant_admin_consent` gave: new tokens have no ``roles``.

        Tokens that are out keep theirs until they expire, as in reality.
        """
        self._directory.revoke_consent(app)

    def add_client_secret(self, app: App, lifetime: float = 3600) -> ClientSecret:
        """Create a client secret.

        Args:
            app: The application.
            lifetime: Seconds from now until it expires; negative for an expired one.

        Returns:
            The secret, whose ``value`` a client sends.
        """
        secret = self._directory.add_client_secret(app, lifetime)
        self._secrets.append(secret)
        return secret

    def expire_client_secret(self, secret: ClientSecret) -> None:
        """Let a client secret expire now (AADSTS7000222), without moving the clock.

        Tokens that were issued for it stay valid.
        """
        self._directory.expire_client_secret(secret)

    def add_certificate(
        self,
        app: App,
        certificate: bytes | None = None,
        *,
        lifetime: float | None = None,
    ) -> AppCertificate:
        """Upload a certificate, so that the application can prove its identity with its key.

        >>> from exo_imap_oauth.testing import ready_exchange
        >>> with ready_exchange() as exchange:
        ...     certificate = exchange.add_certificate(exchange.app)
        >>> certificate.pem.count(b"-----BEGIN")
        2

        Args:
            app: The application.
            certificate: PEM or DER; None to have one made, with its private key.
            lifetime: Seconds from now until the one that is made expires, negative for an
                expired one; by default a year.

        Returns:
            The certificate; the ``pem`` of one that was made here holds the private key too.

        Raises:
            TypeError: ``certificate`` is not ``bytes``, but a file name, for example.
            ValueError: There is no certificate in it, its key is not RSA, or ``lifetime``
                is given for one that was not made here.
        """
        if certificate is None:
            certificate = make_certificate(app.display_name, self._clock.now(), lifetime)
        elif lifetime is not None:
            raise ValueError("a certificate that is given has its own lifetime")
        elif not isinstance(certificate, bytes):
            kind = type(certificate).__name__
            raise TypeError(f"certificate must be bytes, as Path.read_bytes() gives, not {kind}")
        added = read_certificate(app, certificate)
        self._directory.add_certificate(added)
        return added

    def add_federated_credential(
        self,
        app: App,
        issuer: str,
        subject: str,
        audience: str = TOKEN_EXCHANGE,
        *,
        key: bytes | Mapping[str, Any] | None = None,
    ) -> FederatedCredential:
        """Trust the tokens of another issuer, such as a Kubernetes cluster or GitHub.

        Unlike Entra, the loopback Exchange does not read the keys from the issuer's address.

        >>> from exo_imap_oauth.testing import ready_exchange
        >>> with ready_exchange() as exchange:
        ...     credential = exchange.add_federated_credential(
        ...         exchange.app,
        ...         "https://cluster.example/",
        ...         "system:serviceaccount:mail:reader",
        ...     )
        ...     token = credential.assertion()

        Args:
            app: The application.
            issuer: The ``iss`` of the tokens, an https URL. As with the next two, upper and
                lower case count.
            subject: Their ``sub``.
            audience: Their ``aud``.
            key: The issuer's public key as PEM, or its JSON Web Key Set; None to have one
                made, so that :meth:`FederatedCredential.assertion` gives such tokens.

        Raises:
            ValueError: The issuer is not an https URL, a name is empty, or the key is not RSA.
        """
        added = make_federated_credential(
            app, issuer, subject, audience, key=key, clock=self._clock
        )
        self._directory.add_federated_credential(added)
        return added
