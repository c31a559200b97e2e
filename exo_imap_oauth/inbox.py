"""All that is needed to read one inbox: a value to pass around, and the way to open it.

Nothing here imports :mod:`imaplib` or requests; opening an inbox does.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from exo_imap_oauth._inbox_rules import check_tls
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.errors import ExoImapOAuthError

if TYPE_CHECKING:
    import imaplib
    from collections.abc import Generator, Mapping
    from contextlib import AbstractContextManager

    from typing_extensions import Unpack

    from exo_imap_oauth.imap import OpenOptions, Token
    from exo_imap_oauth.token_source import TokenSource, TokenSourceOptions

_logger = logging.getLogger(__name__)

_CLAIMS = ("aud", "roles", "tid", "appid", "oid", "exp")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxConfig:
    """All that is needed to read one inbox; without Universal Messenger, write it by hand.

    ``repr()`` leaves the client secret out; :attr:`client_secret`, :func:`dataclasses.asdict`
    and :mod:`pickle` hold it: treat them as secrets.

    >>> inbox = InboxConfig(
    ...     user="inbox@contoso.example",
    ...     token_uri="https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
    ...     client_id="6731de76-14a6-49ae-97bc-6eba6914391e",
    ...     client_secret="the Value of the client secret",
    ... )
    >>> inbox.tenant_id
    'contoso.example'

    Attributes:
        user: The address of the mailbox.
        token_uri: The tenant's token endpoint, https.
        client_id: The Application (client) ID.
        client_secret: The Value of a client secret.
        scope: The resource to get a token for, and ``/.default``.
        host: Host name of the IMAP service.
        port: Its port: 993 for implicit TLS, 143 for STARTTLS.
        tls: How TLS begins; :meth:`open` refuses ``none``.
        folder: The folder to select.
        debug: Whether the methods log a summary at level INFO.
        name: ``default`` for the primary inbox, else the listener's name.
    """

    user: str
    token_uri: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = Cloud.WORLDWIDE.scope
    host: str = Cloud.WORLDWIDE.imap_host
    port: int = 993
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    folder: str = "INBOX"
    debug: bool = False
    name: str = "default"

    @property
    def tenant_id(self) -> str:
        """The tenant, as the token URI names it."""
        return urlsplit(self.token_uri).path.strip("/").partition("/")[0]

    def token_source(self, **options: Unpack[TokenSourceOptions]) -> TokenSource:
        """Make the source of this inbox's access tokens.

        Args:
            **options: How to fetch and keep tokens, as in
                :class:`~exo_imap_oauth.token_source.TokenSource`.
        """
        from exo_imap_oauth.token_source import TokenSource  # noqa: PLC0415 - loaded on use

        self._log(f"tokens for client {self.client_id}, scope {self.scope}")
        return TokenSource(
            self.tenant_id,
            self.client_id,
            self.client_secret,
            scope=self.scope,
            token_uri=self.token_uri,
            **options,
        )

    def open(
        self, *, token: Token | None = None, **options: Unpack[OpenOptions]
    ) -> AbstractContextManager[imaplib.IMAP4]:
        """Open the mailbox and select its folder; to be used in a ``with`` statement.

        Args:
            token: A token or what gives one; by default :meth:`token_source`, which then
                trusts the same ``ssl_context`` as the IMAP connection.
            **options: ``folder``, ``readonly``, ``ssl_context`` and ``timeout`` of
                :func:`~exo_imap_oauth.imap.open_mailbox`, which also says what is raised
                when the ``with`` statement is entered.

        Raises:
            InsecureConnectionError: :attr:`tls` is ``none``; nothing was sent.
            ValueError: :attr:`tls` is something else than it may be.
        """
        from exo_imap_oauth._imap.bearer import sealed  # noqa: PLC0415 - loaded on use
        from exo_imap_oauth.imap import open_mailbox  # noqa: PLC0415 - the same
        from exo_imap_oauth.token_source import TokenSource  # noqa: PLC0415 - the same

        token = None if token is None else sealed(token)  # tracebacks hold frames
        check_tls(self.tls, self.name)
        if token is None:
            context = options.get("ssl_context")
            token = self.token_source(ssl_context=context)
        options.setdefault("folder", self.folder)
        try:
            mailbox = open_mailbox(
                self.user,
                token,
                host=self.host,
                port=self.port,
                starttls=self.tls == "starttls",
                scope=None if isinstance(token, TokenSource) else self.scope,
                **options,
            )
        except (TypeError, ValueError):
            token = None  # it may be anything, such as another library's dict with the text in it
            raise
        return self._logged(mailbox, token) if self.debug else mailbox

    @contextmanager
    def _logged(
        self, mailbox: AbstractContextManager[imaplib.IMAP4], token: object
    ) -> Generator[imaplib.IMAP4]:
        from exo_imap_oauth.token_source import TokenSource  # noqa: PLC0415 - loaded on use

        with ExitStack() as stack:
            started = time.perf_counter()
            try:
                if isinstance(token, TokenSource):
                    token = token.get_token()
                    self._log(f"token from {self.token_uri} after {_since(started)}")
                claims: Mapping[str, Any] = getattr(token, "claims", {})
                shown = {name: claims.get(name) for name in _CLAIMS}
                self._log(f"token claims {shown}")
                where = f"{self.user} at {self.host}:{self.port}"
                imap = stack.enter_context(mailbox)
            except ExoImapOAuthError as error:
                status = getattr(error, "status", None)
                correlation_id = getattr(error, "correlation_id", None)
                self._log(
                    f"refused after {_since(started)}: {type(error).__name__}, status {status},"
                    f" correlation ID {correlation_id}"
                )
                raise
            self._log(f"opened {where} after {_since(started)}")
            yield imap

    def _log(self, text: str) -> None:
        if self.debug:
            _logger.info("inbox %s: %s", self.name, text)


def _since(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"
