"""Universal Messenger's configuration, ``cmsbs-conf``, to one :class:`InboxConfig` per inbox.

Nothing here imports :mod:`imaplib` or requests; opening an inbox does.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from typing_extensions import override

from exo_imap_oauth._cmsbs_findings import Findings
from exo_imap_oauth._cmsbs_findings import Setting as Setting  # noqa: PLC0414 - exported
from exo_imap_oauth._cmsbs_inboxes import read_inboxes
from exo_imap_oauth._cmsbs_keys import PRIMARY, documented
from exo_imap_oauth._cmsbs_layers import Layers
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.errors import ConfigProblem as ConfigProblem  # noqa: PLC0414 - exported
from exo_imap_oauth.errors import ExoImapOAuthError, InsecureConnectionError

if TYPE_CHECKING:
    import imaplib
    from contextlib import AbstractContextManager
    from os import PathLike

    from typing_extensions import Unpack

    from exo_imap_oauth.imap import OpenOptions, Token
    from exo_imap_oauth.token_source import TokenSource, TokenSourceOptions

logger = logging.getLogger(__name__)

_FIELDS = {
    "user": "user",
    "token_uri": "oauth2.accessTokenUri",
    "client_id": "oauth2.clientId",
    "client_secret": "oauth2.clientSecret",
    "scope": "oauth2.scope",
    "host": "server",
    "port": "port",
    "folder": "folder.inbox",
}
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
    name: str = PRIMARY

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

        self._log("tokens for client %s, scope %s", self.client_id, self.scope)
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
        """
        from exo_imap_oauth._imap.bearer import sealed  # noqa: PLC0415 - loaded on use
        from exo_imap_oauth.imap import open_mailbox  # noqa: PLC0415 - the same
        from exo_imap_oauth.token_source import TokenSource  # noqa: PLC0415 - the same

        token = None if token is None else sealed(token)  # tracebacks hold frames
        if self.tls not in ("implicit", "starttls", "none"):
            raise ValueError(f"tls is neither 'implicit', 'starttls' nor 'none', but {self.tls!r}")
        if self.tls == "none":
            raise InsecureConnectionError(
                f"The inbox {self.name} would send its access token without TLS; write "
                f'{documented("ssl", self.name)} = true (tls="implicit") with port 993.'
            )
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
                    self._log("token from %s after %s", self.token_uri, _since(started))
                claims: Mapping[str, Any] = getattr(token, "claims", {})
                self._log("token claims %s", {name: claims.get(name) for name in _CLAIMS})
                where = f"{self.user} at {self.host}:{self.port}"
                imap = stack.enter_context(mailbox)
            except ExoImapOAuthError as error:
                status = getattr(error, "status", None)
                correlation_id = getattr(error, "correlation_id", None)
                self._log(
                    "refused after %s: %s, status %s, correlation ID %s",
                    _since(started),
                    type(error).__name__,
                    status,
                    correlation_id,
                )
                raise
            self._log("opened %s after %s", where, _since(started))
            yield imap

    def _log(self, message: str, *values: object) -> None:
        if self.debug:
            logger.info("inbox %s: " + message, self.name, *values)


def _since(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"


class CmsbsConfig(Mapping[str, InboxConfig]):
    """The inboxes of a configuration by name: ``default`` first, then the listeners.

    Asking for an inbox that is configured but not read here, such as one that does not use
    OAuth2, raises a KeyError that says why.

    Attributes:
        warnings: What is suspicious but can work, in the order of files and lines.
        settings: Every setting of an inbox by its key: where it was made, what it overrode.
            Their ``value`` may be a secret.
    """

    def __init__(
        self,
        inboxes: Mapping[str, InboxConfig],
        *,
        absent: Mapping[str, ConfigProblem],
        warnings: tuple[ConfigProblem, ...],
        settings: Mapping[str, Setting],
    ) -> None:
        self._inboxes = dict(inboxes)
        self._absent = dict(absent)
        self.warnings = warnings
        self.settings: Mapping[str, Setting] = MappingProxyType(dict(settings))

    @property
    def default(self) -> InboxConfig:
        """The primary inbox."""
        return self[PRIMARY]

    @override
    def __getitem__(self, name: str) -> InboxConfig:
        if name in self._inboxes:
            return self._inboxes[name]
        why = self._absent.get(name, f"no inbox {name!r}, only {', '.join(self._inboxes)}")
        raise KeyError(str(why))

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._inboxes)

    @override
    def __len__(self) -> int:
        return len(self._inboxes)

    @override
    def __repr__(self) -> str:
        return f"CmsbsConfig({self._inboxes!r})"


def load_config(
    path: str | PathLike[str] = "cmsbs-conf", *, environ: Mapping[str, str] | None = None
) -> CmsbsConfig:
    """Read the inboxes that Universal Messenger is configured to read with OAuth2.

    Later settings win: ``cmsbs.properties``, then ``conf.d/*.properties`` in byte order of
    their names, then the environment.

    Args:
        path: A ``cmsbs-conf`` folder, or one ``.properties`` file, which is then read alone.
        environ: The environment; by default that of the process.

    Raises:
        ConfigError: Everything that cannot work, each with file, line and fix.
    """
    findings = Findings()
    layers = Layers(Path(path), os.environ if environ is None else environ, findings)
    found = read_inboxes(layers, findings)
    error = findings.error(str(path))
    if error is not None:
        del environ, layers, found  # tracebacks hold frames
        raise error
    inboxes = {name: _inbox(name, values) for name, values in found.values.items()}
    return CmsbsConfig(
        inboxes,
        absent=found.absent,
        warnings=findings.warnings,
        settings=layers.settings,
    )


def _inbox(name: str, values: Mapping[str, str]) -> InboxConfig:
    fields: dict[str, Any] = {attribute: values[key] for attribute, key in _FIELDS.items()}
    fields["port"] = int(values["port"])
    return InboxConfig(
        **fields,
        tls="implicit" if values["ssl"] == "true" else "starttls",
        debug=values["oauth2.debug"] == "true",
        name=name,
    )
