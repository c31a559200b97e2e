"""All that is needed to read one inbox: a value to pass around, and the way to open it.

Nothing here imports :mod:`imaplib` or requests; opening an inbox does.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict
from urllib.parse import urlsplit

from typing_extensions import override

from exo_imap_oauth._arguments import Instead, checked_environ, require_cloud, require_text
from exo_imap_oauth._inbox.check import (
    BY_HAND,
    CREDENTIALS,
    InboxCheck,
    remember,
    tenant_uri,
    with_tenant,
)
from exo_imap_oauth._inbox_rules import check_tls
from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import one_line
from exo_imap_oauth.clouds import Cloud
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    import imaplib
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from typing import Self

    from typing_extensions import Unpack

    from exo_imap_oauth._inbox.check import Notation
    from exo_imap_oauth.credentials import ClientCertificate
    from exo_imap_oauth.errors import ConfigProblem
    from exo_imap_oauth.imap import OpenOptions, Token
    from exo_imap_oauth.token_source import TokenSource, TokenSourceOptions

_logger = logging.getLogger(__name__)
_AS_ENVIRON = Instead("variables are passed as environ=")
_PREFIXES = {"builtins.dict": _AS_ENVIRON, "os": _AS_ENVIRON}
_TLS = {"implicit": "TLS from the start", "starttls": "STARTTLS", "none": "no TLS: refused"}


class InboxFields(TypedDict, total=False):
    """The fields of an :class:`InboxConfig` other than its token endpoint."""

    user: Required[str]
    client_id: str | None
    client_secret: str | Callable[[], str] | None
    certificate: ClientCertificate | None
    assertion: Callable[[], str] | None
    scope: str
    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    folder: str
    debug: bool
    name: str


class _Judged:
    """Holds what was found when the inbox was made, and how it is written there.

    These are no fields, and so no part of ``asdict``, of a copy or of a pickle.
    """

    __slots__ = ("_notation", "_warnings")
    _notation: Notation
    _warnings: tuple[ConfigProblem, ...]


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class InboxConfig(_Judged):  # noqa: PLW1641 - dataclass adds __hash__
    """All that is needed to read one inbox; without Universal Messenger, write it by hand.

    It checks itself: what can never work is a :class:`~exo_imap_oauth.errors.ConfigError` with
    all problems, named after the fields; what is suspicious is listed in :attr:`warnings`. Blanks
    around a value are removed, except from a secret.

    ``repr()`` leaves the client secret out; :attr:`client_secret`, :func:`dataclasses.asdict`
    and :mod:`pickle` hold it, so treat them as secrets.

    >>> inbox = InboxConfig(
    ...     user="inbox@contoso.example",
    ...     token_uri="https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
    ...     client_id="6731de76-14a6-49ae-97bc-6eba6914391e",
    ...     client_secret="the-Value-of-the-client-secret",
    ... )
    >>> inbox.tenant_id
    'contoso.example'

    Attributes:
        user: The address of the mailbox.
        token_uri: The tenant's token endpoint, https. Without it, and without a client ID, the
            inbox can be opened with a token only.
        client_id: The Application (client) ID.
        client_secret: The Value of a client secret, or a function that returns the current one.
        certificate: A certificate of the application, in place of a secret.
        assertion: A function that returns a federated assertion, in place of a secret.
        scope: The resource to get a token for, and ``/.default``.
        host: Host name of the IMAP service.
        port: Its port: 993 for implicit TLS, 143 for STARTTLS.
        tls: How TLS begins; ``none`` is refused.
        folder: The folder to select.
        debug: Whether the methods log a summary at level INFO.
        name: ``default`` for the primary inbox, else the listener's name.

    Raises:
        ConfigError: It can never work; each problem has the name of its field.
    """

    user: str
    token_uri: str | None = None
    client_id: str | None = None
    client_secret: str | Callable[[], str] | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None
    assertion: Callable[[], str] | None = field(default=None, repr=False)
    scope: str = Cloud.WORLDWIDE.scope
    host: str = Cloud.WORLDWIDE.imap_host
    port: int = 993
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    folder: str = "INBOX"
    debug: bool = False
    name: str = "default"

    # Written out because tracebacks hold frames, and that of the generated one holds the secret.
    def __init__(
        self,
        *,
        user: str,
        token_uri: str | None = None,
        client_id: str | None = None,
        client_secret: str | Callable[[], str] | None = None,
        certificate: ClientCertificate | None = None,
        assertion: Callable[[], str] | None = None,
        scope: str = Cloud.WORLDWIDE.scope,
        host: str = Cloud.WORLDWIDE.imap_host,
        port: int = 993,
        tls: Literal["implicit", "starttls", "none"] = "implicit",
        folder: str = "INBOX",
        debug: bool = False,
        name: str = "default",
    ) -> None:
        given = dict(locals())
        del given["self"]
        check = InboxCheck()
        values = check.values(given)
        if check.errors:
            del self, user, token_uri, client_id, client_secret, certificate, assertion, scope
            del host, port, tls, folder, debug, name, given, values
            raise check.error()
        for field_name, value in values.items():
            object.__setattr__(self, field_name, value)
        remember(self, check.warnings)

    # pytest takes a dataclass apart, and shows its fields, unless it has an __eq__ of its own.
    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InboxConfig):
            return NotImplemented
        return self._values() == other._values()

    def _values(self) -> dict[str, object]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def for_tenant(
        cls, tenant_id: str, *, cloud: Cloud = Cloud.WORLDWIDE, **fields: Unpack[InboxFields]
    ) -> Self:
        """An inbox of a tenant in one of Microsoft's clouds.

        >>> InboxConfig.for_tenant("contoso.example", user="inbox@contoso.example").token_uri
        'https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token'

        Args:
            tenant_id: The Directory (tenant) ID, or one of the tenant's domain names.
            cloud: Supplies the token endpoint, and host and scope where they are not given.
            **fields: The other fields, as for the class itself.

        Raises:
            ConfigError: It can never work; each problem has the name of its argument.
            TypeError: ``cloud`` is not a Cloud.
        """
        values: dict[str, Any] = {**fields}
        del fields  # it may hold the secret, and tracebacks hold frames
        try:
            require_cloud(cloud, Cloud)
            values = {"host": cloud.imap_host, "scope": cloud.scope, **values}
            return cls(token_uri=tenant_uri(cloud, tenant_id), **values)
        except ConfigError as error:
            renamed = with_tenant(error, cloud)
        finally:
            values.clear()
        raise renamed

    @classmethod
    def from_env(
        cls, prefix: str = "EXO_IMAP_", *, environ: Mapping[str, str] | None = None
    ) -> Self:
        """An inbox from environment variables, such as a container is given.

        They are named after the fields: ``EXO_IMAP_USER``, ``EXO_IMAP_CLIENT_ID``,
        ``EXO_IMAP_CLIENT_SECRET`` and so on; ``EXO_IMAP_TENANT_ID`` and ``EXO_IMAP_CLOUD``
        can take the place of token endpoint, host and scope. ``EXO_IMAP_CLIENT_SECRET_FILE``
        names a file that holds the value; ``_FILE`` does the same for every other variable.
        Without ``EXO_IMAP_NAME`` the inbox is named after the prefix: that of ``"SALES_"`` is
        ``sales``.

        Args:
            prefix: What the names begin with.
            environ: The variables; by default those of the process.

        Raises:
            ConfigError: It can never work; each problem has the name of its variable. Where only
                what gets a token is missing, :meth:`open` and :meth:`token_source` raise it.
        """
        with no_fork:
            from exo_imap_oauth._inbox.environment import read_environment  # noqa: PLC0415 - loaded on use

        page = "reference/api/inbox"
        require_text("prefix", prefix, page, _PREFIXES)
        found = read_environment(prefix, checked_environ(environ, page))
        del environ  # tracebacks hold frames
        if isinstance(found, ConfigError):
            raise found
        values, check = found
        inbox = cls(**values)
        remember(inbox, check.warnings, check.notation)
        return inbox

    @property
    def tenant_id(self) -> str | None:
        """The tenant, as the token URI names it."""
        if self.token_uri is None:
            return None
        return urlsplit(self.token_uri).path.strip("/").partition("/")[0]

    @property
    def warnings(self) -> tuple[ConfigProblem, ...]:
        """What is suspicious but can work."""
        try:
            return self._warnings
        except AttributeError:  # a copy, or out of a pickle: these hold the fields only
            check = InboxCheck()
            check.values(self._values())
            return tuple(check.warnings)

    def _repr_html_(self) -> str:
        """The fields for notebooks, without the secret, and :attr:`warnings` with their fixes."""
        from exo_imap_oauth import _html  # noqa: PLC0415 - few need it, and loading it takes time

        rows = {
            "mailbox": self.user,
            "folder": self.folder,
            "IMAP server": f"{self.host}:{self.port}, {_TLS[self.tls]}",
            "tenant": self.tenant_id,
            "application": self.client_id,
            "credential": self._credential_text(),
            "scope": self.scope,
            "token endpoint": self.token_uri,
            "debug": "on: a summary at level INFO" if self.debug else None,
        }
        table = _html.table({name: value for name, value in rows.items() if value is not None})
        return _html.panel(f"Inbox {self.name}", _html.warnings_html(self.warnings) + table)

    def _credential_text(self) -> str:
        from exo_imap_oauth import _html  # noqa: PLC0415 - the same

        if self.certificate is not None:
            return _html.certificate_text(self.certificate, time.time())
        if self.assertion is not None:
            return _html.ASSERTION
        if self.client_secret is None:
            return "none, so it takes a token to open it"
        return _html.secret_text(is_called=not isinstance(self.client_secret, str))

    def token_source(self, **options: Unpack[TokenSourceOptions]) -> TokenSource:
        """The source of this inbox's access tokens.

        Args:
            **options: How to fetch and keep tokens, as in
                :class:`~exo_imap_oauth.token_source.TokenSource`.

        Raises:
            ConfigError: The inbox has no credential, so it can be opened with a token only.
        """
        with no_fork:
            from exo_imap_oauth.token_source import TokenSource  # noqa: PLC0415 - loaded on use

        credential = self._credential()
        if self.token_uri is None or self.client_id is None or not credential:
            raise self._incomplete()
        self._log(f"tokens for client {self.client_id}, scope {self.scope}")
        return TokenSource(
            self.tenant_id or "",
            self.client_id,
            scope=self.scope,
            token_uri=self.token_uri,
            **credential,
            **options,
        )

    def _credential(self) -> dict[str, Any]:
        """The one credential by its name, as TokenSource takes it; empty if there is none."""
        given = {name: getattr(self, name) for name in CREDENTIALS}
        return {name: value for name, value in given.items() if value is not None}

    def _incomplete(self) -> ConfigError:
        check = InboxCheck(getattr(self, "_notation", BY_HAND))  # a copy has none
        check.warnings.extend(self.warnings)  # a misspelt variable explains what is missing
        check.identity(self._values(), needed=True)
        return check.error()

    def open(
        self,
        *,
        token: Token | None = None,
        deadline: float | None = None,
        **options: Unpack[OpenOptions],
    ) -> AbstractContextManager[imaplib.IMAP4]:
        """Open the mailbox and select its folder; to be used in a ``with`` statement.

        Args:
            token: A token, or something that gives one. By default :meth:`token_source`, with the
                same ``ssl_context`` as the IMAP connection.
            deadline: Seconds that the token may take, all tries together; 30 by default. Not with
                ``token``, which has one of its own.
            **options: ``folder``, ``readonly``, ``ssl_context`` and ``timeout`` of
                :func:`~exo_imap_oauth.imap.open_mailbox`, which also says what is raised
                when the ``with`` statement is entered.

        Raises:
            ConfigError: No token is given, and the inbox has no credential.
            ValueError: One of the options cannot work, or ``deadline`` is given with ``token``.
        """
        with no_fork:  # loaded on use
            from exo_imap_oauth._imap.bearer import sealed  # noqa: PLC0415
            from exo_imap_oauth._inbox.told import told_mailbox, told_source  # noqa: PLC0415
            from exo_imap_oauth._inbox.warned import warned_mailbox  # noqa: PLC0415
            from exo_imap_oauth.imap import open_mailbox  # noqa: PLC0415
            from exo_imap_oauth.token_source import TokenSource  # noqa: PLC0415

        token = None if token is None else sealed(token)  # tracebacks hold frames
        check_tls(self.tls, self.name)
        if token is None:
            how: TokenSourceOptions = {"ssl_context": options.get("ssl_context")}
            if deadline is not None:
                how["deadline"] = deadline
            token = self.token_source(**how)
        elif deadline is not None:
            token = None  # the text of one, perhaps, and tracebacks hold frames
            raise ValueError(
                "deadline is for the token that the inbox gets itself; give the one that you pass"
                " its own: token=inbox.token_source(deadline=...)"
            )
        options.setdefault("folder", self.folder)
        scope = None if isinstance(token, TokenSource) else self.scope
        if self.debug:
            token = told_source(token, str(self.token_uri), self._log)
        try:
            mailbox = open_mailbox(
                self.user,
                token=token,
                host=self.host,
                port=self.port,
                starttls=self.tls == "starttls",
                scope=scope,
                **options,
            )
        except (TypeError, ValueError):
            token = None  # it may be anything, such as another library's dict with the text in it
            raise
        mailbox = warned_mailbox(mailbox, self.warnings)
        if not self.debug:
            return mailbox
        where = f"{self.user} at {self.host}:{self.port}"
        return told_mailbox(mailbox, token, where, self._log)

    def _log(self, text: str) -> None:
        if self.debug:
            name = one_line(self.name)
            _logger.info("inbox %s: %s", name, text, extra={"exo_inbox": name})
