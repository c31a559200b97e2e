"""The loopback Exchange Online with every step done."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from exo_imap_oauth.testing._directory import IMAP_ROLE
from exo_imap_oauth.testing._exchange import LoopbackExchange
from exo_imap_oauth.testing._trust import DEFAULT_TRUST

if TYPE_CHECKING:
    from types import TracebackType

    from exo_imap_oauth.inbox import InboxConfig
    from exo_imap_oauth.testing._identities import AppCertificate
    from exo_imap_oauth.testing._imap_wire import Wire
    from exo_imap_oauth.testing._records import App, ClientSecret

_SECRET_LIFETIME = 180 * 24 * 3600.0  # s, what the portal recommends


class ReadyExchange(LoopbackExchange):
    """A :class:`LoopbackExchange` with every step done, once it is entered.

    Attributes:
        app: The application.
        secret: Its client secret.
        certificate: Its certificate with the private key, or None if it has none.
        mailbox: The address of the mailbox, with three messages in its inbox.

    Args:
        certificate: Whether the application has a certificate too.
        trust: Whether its CA is in the default trust inside the ``with`` block.
        refresh_in: What :attr:`refresh_in` is at first.
        wire: What the IMAP server speaks.
    """

    app: App
    secret: ClientSecret
    certificate: AppCertificate | None
    mailbox: str

    def __init__(
        self,
        *,
        certificate: bool = False,
        trust: bool = True,
        refresh_in: int | None = None,
        wire: Wire = "2026",
    ) -> None:
        super().__init__(refresh_in=refresh_in, wire=wire)
        self._with_certificate = certificate
        self._with_trust = trust
        self._undo = ExitStack()

    @override
    def __enter__(self) -> Self:
        super().__enter__()
        with ExitStack() as undo:
            undo.callback(super().__exit__, None, None, None)
            if self._with_trust:
                undo.enter_context(DEFAULT_TRUST.trusted(self.ca_pem))
            self._set_up()
            self._undo = undo.pop_all()
        return self

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._undo.close()

    @override
    def reset(self) -> None:
        """End all connections, forget everything, and do every step again."""
        super().reset()
        self._set_up()

    @property
    def inbox(self) -> InboxConfig:
        """The mailbox, as a program that reads it is configured.

        ``inbox.open()`` opens it, with the certificate in place of the client secret if there is
        one.
        """
        # Loaded on use: a test of another program may need neither.
        from exo_imap_oauth.credentials import ClientCertificate  # noqa: PLC0415 - on use
        from exo_imap_oauth.inbox import InboxConfig  # noqa: PLC0415 - the same

        certificate, secret = None, None
        if self.certificate is None:
            secret = self.secret.value
        else:
            certificate = ClientCertificate.from_pem(self.certificate.pem)
        return InboxConfig(
            user=self.mailbox,
            token_uri=self.token_uri(self.app.tenant_id),
            client_id=self.app.client_id,
            client_secret=secret,
            certificate=certificate,
            host=self.host,
            port=self.port,
        )

    def _set_up(self) -> None:
        self.mailbox = "inbox@contoso.example"
        self.app = app = self.register_app("cmsbs-mail-bot")
        self.add_permission(app, IMAP_ROLE)
        self.grant_admin_consent(app)
        self.secret = self.add_client_secret(app, _SECRET_LIFETIME)
        self.certificate = self.add_certificate(app) if self._with_certificate else None
        self.add_mailbox(self.mailbox, messages=3)
        self.new_service_principal(app.client_id, app.enterprise_object_id)
        self.add_mailbox_permission(self.mailbox, app.enterprise_object_id)


def ready_exchange(
    *,
    certificate: bool = False,
    trust: bool = True,
    refresh_in: int | None = None,
    wire: Wire = "2026",
) -> ReadyExchange:
    """A loopback Exchange Online with every step done.

    Example:
        >>> from exo_imap_oauth.imap import ok
        >>> with ready_exchange() as exchange:
        ...     with exchange.inbox.open() as imap:
        ...         ok(imap.search(None, "ALL"))
        [b'1 2 3']

    Args:
        certificate: Whether the application has a certificate too, ``exchange.certificate``,
            whose ``pem`` holds the private key as well; ``exchange.inbox`` then uses it in place
            of the client secret.
        trust: Whether its CA is trusted by default inside the ``with`` block, by way of
            ``SSL_CERT_FILE`` and ``REQUESTS_CA_BUNDLE``; these belong to the whole process, and
            get their former values back when the last such block has ended. With False, pass
            ``exchange.ssl_context`` to whatever connects.
        refresh_in: After how many seconds its answers ask for a new token; None: not at all.
        wire: What the IMAP server speaks, see :class:`LoopbackExchange`.

    Returns:
        A context manager that yields itself, with ``app``, ``secret``, ``mailbox`` and ``inbox``.
    """
    return ReadyExchange(certificate=certificate, trust=trust, refresh_in=refresh_in, wire=wire)
