"""The loopback Exchange Online with every step done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from typing_extensions import override

from exo_imap_oauth.testing._directory import IMAP_ROLE
from exo_imap_oauth.testing._exchange import LoopbackExchange

if TYPE_CHECKING:
    from exo_imap_oauth.testing._records import App, ClientSecret

_SECRET_LIFETIME = 180 * 24 * 3600.0  # s, what the portal recommends


class ReadyExchange(LoopbackExchange):
    """A :class:`LoopbackExchange` with every step done, once it is entered.

    Attributes:
        app: The application.
        secret: Its client secret.
        mailbox: The address of the mailbox, with three messages in its inbox.
    """

    app: App
    secret: ClientSecret
    mailbox: str

    @override
    def __enter__(self) -> Self:
        super().__enter__()
        self._set_up()
        return self

    @override
    def reset(self) -> None:
        """End all connections, forget everything, and do every step again."""
        super().reset()
        self._set_up()

    def _set_up(self) -> None:
        self.mailbox = "inbox@contoso.example"
        self.app = app = self.register_app("cmsbs-mail-bot")
        self.add_permission(app, IMAP_ROLE)
        self.grant_admin_consent(app)
        self.secret = self.add_client_secret(app, _SECRET_LIFETIME)
        self.add_mailbox(self.mailbox, messages=3)
        self.new_service_principal(app.client_id, app.enterprise_object_id)
        self.add_mailbox_permission(self.mailbox, app.enterprise_object_id)


def ready_exchange() -> ReadyExchange:
    """A loopback Exchange Online with every step done.

    Example:
        >>> with ready_exchange() as exchange:
        ...     uri = exchange.token_uri(exchange.app.tenant_id)
        ...     form = {"client_id": exchange.app.client_id, "client_secret": exchange.secret.value}
        ...     exchange.mailbox, len(exchange.logins)
        ('inbox@contoso.example', 0)

    Returns:
        A context manager that gives itself, with ``app``, ``secret`` and ``mailbox``.
    """
    return ReadyExchange()
