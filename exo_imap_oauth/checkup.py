"""Tries every step of a set-up and reports which one is missing."""

from __future__ import annotations

import contextlib
import imaplib
import logging
import socket
import time
from concurrent.futures import wait
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urljoin

from exo_imap_oauth import _token_checks as _checks
from exo_imap_oauth._arguments import require_context, require_inbox, require_text
from exo_imap_oauth._credentials.foreign import as_source, issued_by, name_of, problem_of_source
from exo_imap_oauth._errors_imap import AuthenticationRefused
from exo_imap_oauth._imap.authenticate import log_in
from exo_imap_oauth._imap.bearer import Bearer
from exo_imap_oauth._imap.connection import Server, connect, leave, require_tls
from exo_imap_oauth._imap.folders import folder_argument
from exo_imap_oauth._imap.mailbox import select
from exo_imap_oauth._inbox_rules import check_tls
from exo_imap_oauth._report import Check as Check  # noqa: PLC0414 - exported
from exo_imap_oauth._report import SetupReport as SetupReport  # noqa: PLC0414 - exported
from exo_imap_oauth._report import as_accepted
from exo_imap_oauth._text import check_seconds, described, hide, one_line, printable
from exo_imap_oauth._threads import in_thread
from exo_imap_oauth._token_checks import Finding, Issued
from exo_imap_oauth._tokens.endpoint import request_token, server_date
from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.errors import ConfigError, ExoImapOAuthError
from exo_imap_oauth.token_source import TokenSource
from exo_imap_oauth.xoauth2 import check_user

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    from exo_imap_oauth._credentials.foreign import GivesToken, SupportsGetToken
    from exo_imap_oauth._tokens.request import Credential, TokenRequest
    from exo_imap_oauth.access_token import AccessToken
    from exo_imap_oauth.advice import Advice
    from exo_imap_oauth.inbox import InboxConfig

__all__ = ["Check", "SetupReport", "check_setup"]

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_IDENTITY: Final = ("tenant_id", "client_id")
_FOR_ADVICE: Final = (*_IDENTITY, "token_uri", "scope")
_EXPECTED: Final = "a TokenSource, a credential or a function that returns a token"
_OF_THE_WAY: Final = ("certificate-untrusted", "token-endpoint-unreachable", "imap-unreachable")


def check_setup(
    inbox: InboxConfig,
    *,
    token_source: GivesToken | None = None,
    enterprise_object_id: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 30.0,
) -> SetupReport:
    """Try every step from the configuration to the open mailbox, and report on each.

    It asks for a new token, past every cache: after consent, one issued before would still lack
    the role. After a failure it goes on with whatever can still be checked. Claims of the token
    explain failures; whether it is good is for Exchange to say: it is tried even where they look
    wrong, which is a warning if the mailbox opens. That is only examined (RFC 3501 section 6.3.2).

    Args:
        inbox: The inbox.
        token_source: Gets the token in place of the inbox's own: a
            :class:`~exo_imap_oauth.token_source.TokenSource`, whose cache is left alone, any other
            credential, or a function. What these do not tell, such as their endpoint, is skipped.
        enterprise_object_id: The object ID that was given to ``New-ServicePrincipal``, to be
            compared with the one in the token.
        ssl_context: For both servers. Default: what this machine trusts; for the token endpoint
            that of ``token_source``.
        timeout: Seconds for the whole of each network step. These are six, so it takes six
            times as long at worst: reaching the token endpoint, getting a token, reaching the
            IMAP server, logging in, opening the mailbox, logging out.

    Returns:
        The report; it holds whatever goes wrong.

    Raises:
        TypeError: ``inbox`` is not one, or ``ssl_context`` no TLS context.
        ValueError: ``timeout`` is not positive, or longer than a thread can wait.

    Example:
        >>> print(check_setup(load_config()["default"]))  # doctest: +SKIP
        Set-up of inbox@contoso.com: 1 failed, 10 passed, 2 skipped
        ...
    """
    check_seconds("timeout", timeout)
    require_context(ssl_context)
    require_inbox(inbox, "how-to/check-up")
    if enterprise_object_id is not None:
        require_text("enterprise_object_id", enterprise_object_id, "how-to/check-up")
    object_id = (enterprise_object_id or "").strip()
    checkup = _Checkup(inbox, token_source, object_id, ssl_context, timeout)
    try:
        return SetupReport(one_line(str(inbox.user)), as_accepted(tuple(checkup.run())))
    except BaseException:
        checkup.hang_up()
        raise


class _Checkup:
    """The checks, a method each, and what they hand on to later ones."""

    def __init__(
        self,
        inbox: InboxConfig,
        source: GivesToken | None,
        object_id: str,
        ssl_context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self.inbox = inbox
        self.source = None if source is None else as_source(source)
        self.object_id = object_id
        self.ssl_context = ssl_context
        self.timeout = timeout
        self.step_timeout = 0.9 * timeout  # a step's own report of a timeout says more than ours
        self.known: dict[str, str] = {}  # fills the advice
        secret = inbox.client_secret  # of a callable's, nothing gets here
        self.secrets: set[str] = {secret} if isinstance(secret, str) else set()
        self.took = ""  # how long the last network step was under way
        # What the checks find; each is set by the check that others name among their needs.
        self.folder = ""  # as an argument of IMAP
        self.request: TokenRequest | None = None
        self.clock_lag: float | None = None  # s that this machine's clock is behind the server's
        self.token: AccessToken | None = None
        self.bearer: Bearer | None = None
        self.issued: Issued | None = None  # what the token tells
        self.imap: imaplib.IMAP4 | None = None

    def run(self) -> Generator[Check]:
        """Make all checks, in order."""
        unmet: set[str] = set()
        for step in _STEPS:
            if missing := [need for need in step.needs if need in unmet]:
                finding = Finding("skipped", f"needs {' and '.join(missing)}, which did not pass")
            else:
                finding = self._find(step.check)
            status, detail, advice = finding
            if missing or status == "failed":
                unmet.add(step.id)
            detail = printable(hide(detail, self.secrets))
            name = one_line(self.inbox.name)
            _logger.debug("inbox %s: %s %s: %s", name, step.id, status, detail)
            yield Check(step.id, step.title, status, detail, advice)
        if (imap := self.imap) is not None:
            with contextlib.suppress(Exception):  # the report is what counts
                self._within("LOGOUT", "connection-closed", lambda: leave(imap, in_sync=True))

    def hang_up(self) -> None:
        """Close what Ctrl-C left open."""
        if self.imap is not None:
            leave(self.imap, in_sync=False)

    def _find(self, check: Callable[[_Checkup], Finding]) -> Finding:
        """Make one check; its error is a finding, with the user's own values in the advice."""
        try:
            return check(self)
        except ExoImapOAuthError as error:
            # A ConfigError has its problems behind the first line; others have advice there.
            text = str(error) if isinstance(error, ConfigError) else str(error.args[0])
            return Finding("failed", text, self._advice_of(error))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong belongs in the report
            return Finding("failed", described(error, self.secrets))

    def _advice_of(self, error: ExoImapOAuthError) -> Advice | None:
        if error.advice is None:
            return None
        if isinstance(error, AuthenticationRefused) and self.issued is not None:
            return self.issued.refusal()
        if error.advice.id in _OF_THE_WAY:  # of which the error knows more, such as a proxy
            return error.advice
        return explain(error.advice.id, **self.known)

    # ---- the token ---------------------------------------------------------------------------

    def config(self) -> Finding:
        inbox = self.inbox
        if problem := check_user(inbox.user):
            raise ValueError(problem)
        values = {name: getattr(inbox, name) for name in _FOR_ADVICE} | {"mailbox": inbox.user}
        self.known = {name: value for name, value in values.items() if isinstance(value, str)}
        self.folder = folder_argument(inbox.folder)
        source = self._usable_source()
        if isinstance(source, TokenSource):
            self.request = source._request  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a neighbour
            who, credential = f"application {self.request.client_id}", self.request.credential
            self._learn(credential)
        else:
            who, credential = name_of(source), None
        return (
            _checks.two_clouds(token_uri=(self.request or inbox).token_uri, host=inbox.host)
            or _checks.certificate(getattr(credential, "expires_on", None))
            or _checks.suspicious(inbox.warnings)
            or Finding("passed", f"{inbox.user} at {inbox.host}:{inbox.port}, {who}")
        )

    def _usable_source(self) -> SupportsGetToken:
        if self.source is not None:
            if problem := problem_of_source(self.source, "token_source", _EXPECTED):
                raise problem
            return self.source
        return self.inbox.token_source()

    def _learn(self, credential: Credential) -> None:
        """What a credential of ours tells."""
        secret = getattr(credential, "_secret", None)
        if isinstance(secret, str):
            self.secrets.add(secret)
        self.known |= credential.known

    def token_endpoint(self) -> Finding:
        if self.request is None:
            return Finding("skipped", f"{name_of(self.source)} does not tell its endpoint")
        request = self.request = replace(
            self.request,
            ssl_context=self.ssl_context or self.request.ssl_context,
            timeout=min(self.step_timeout, self.request.timeout),
            deadline=self.step_timeout,
        )
        uri, began = urljoin(request.token_uri, "/"), time.time()
        date = self._within(uri, "token-endpoint-unreachable", lambda: server_date(request))
        if isinstance(date, ExoImapOAuthError):
            raise date
        with contextlib.suppress(ValueError):
            server_time = parsedate_to_datetime(date).timestamp()
            self.clock_lag = server_time - (began + time.time()) / 2
        return Finding("passed", f"{uri} answers over verified TLS{self.took}")

    def access_token(self) -> Finding:
        token = self._own_token(self.request) if self.request else self._foreign_token()
        if isinstance(token, Finding):
            return token
        self.bearer = Bearer(self.inbox.user, token, None)
        self.bearer.obtain()
        self.secrets |= {*self.bearer.secrets()}
        self.token, self.issued = token, self._told(token, self.bearer)
        opaque = "" if token.claims else "; it is opaque, so there are no claims to compare"
        return Finding("passed", f"issued{self.took}{opaque}")

    def _own_token(self, request: TokenRequest) -> AccessToken:
        uri = request.token_uri
        token = self._within(uri, "token-endpoint-unreachable", lambda: request_token(request))
        if isinstance(token, ExoImapOAuthError):
            raise token
        return token

    def _foreign_token(self) -> AccessToken | Finding:
        source, scope = self.source, self.inbox.scope
        assert source is not None  # or else there would be a request of ours
        what = f"the token of {name_of(source)}"
        try:
            return self._within(
                what, "token-endpoint-unreachable", lambda: issued_by(source, scope)
            )
        except ExoImapOAuthError:
            raise
        except Exception as error:  # noqa: BLE001 - a foreign credential raises its own
            advice = None
            with contextlib.suppress(Exception):  # its text may fail as well
                advice = advise(str(error), stage="token", **self.known)
            return Finding("failed", described(error, self.secrets), advice)

    def _told(self, token: AccessToken, bearer: Bearer) -> Issued:
        """What the token tells, of which the advice learns too."""
        known = {name: hide(value, self.secrets) for name, value in bearer.known().items()}
        if self.request is None:  # the inbox need not know whose credential it is
            self.known |= {name: known[name] for name in _IDENTITY if name in known}
        # Whatever was given: the object that logs in is the one that needs the mailbox.
        self.known["enterprise_object_id"] = known.get("oid", self.object_id)
        asked = self.request or self.inbox
        return Issued(
            claims=token.claims,
            telling=known,
            known=self.known,
            object_id=self.object_id,
            tenant_id=self.inbox.tenant_id,
            client_id=self.inbox.client_id,
            token_uri=asked.token_uri,
            scope=asked.scope,
            host=self.inbox.host,
        )

    def lifetime(self) -> Finding:
        token = self.token
        exp = token.claims.get("exp") if token else None
        expires_on = exp if isinstance(exp, (int, float)) else token and token.expires_on
        return _checks.lifetime(expires_on or None, self.clock_lag, issued=token is not None)

    # ---- the mailbox -------------------------------------------------------------------------

    def imap_endpoint(self) -> Finding:
        inbox = self.inbox
        check_tls(inbox.tls, inbox.name)
        self.known |= {"host": inbox.host, "port": str(inbox.port)}
        server = Server(inbox.host, inbox.port, inbox.tls == "starttls")
        where, context = f"{inbox.host}:{inbox.port}", self.ssl_context
        self.imap = self._within(
            where, "imap-unreachable", lambda: connect(server, context, self.step_timeout)
        )
        require_tls(self.imap, allow_unverified=False)
        return Finding("passed", f"{where} answers over verified TLS{self.took}")

    def mechanism(self) -> Finding:
        assert self.imap is not None  # by its needs
        capabilities = self.imap.capabilities
        if "AUTH=XOAUTH2" in capabilities:
            return Finding("passed", "AUTH=XOAUTH2 is offered")
        told = one_line(f"AUTH=XOAUTH2 is not offered, but {' '.join(capabilities)}")
        names = " ".join(name for name in capabilities if name.startswith("AUTH="))
        self.known["offered"] = hide(names, self.secrets) or "no mechanism"
        return Finding("failed", told, explain("wrong-port", **self.known))

    def authenticate(self) -> Finding:
        user, bearer, imap = self.inbox.user, self.bearer, self.imap
        assert bearer is not None and imap is not None  # noqa: PT018 - by its needs
        self._within(
            f"login of {user}",
            "connection-closed",
            lambda: log_in(imap, bearer),  # what the OK says is kept for the mailbox
        )
        return Finding("passed", f"logged in as {user}{self.took}")

    def mailbox(self) -> Finding:
        imap, bearer = self.imap, self.bearer
        assert imap is not None and bearer is not None  # noqa: PT018 - by its needs
        self._within(
            f"EXAMINE {self.folder}",
            "connection-closed",
            lambda: select(imap, bearer, self.folder, readonly=True),
        )
        return Finding("passed", f"{self.inbox.folder} opens{self.took}")

    def _within(self, what: str, advice_id: str, step: Callable[[], _T]) -> _T:
        """Take a network step in a thread: nothing else bounds name services and drips."""
        began = time.monotonic()
        future = in_thread("checkup", step)
        is_over = bool(wait([future], self.timeout).done)
        self.took = f" after {(time.monotonic() - began) * 1000:.0f} ms"
        if is_over:
            return future.result()
        if self.imap is not None:  # wake the thread
            with contextlib.suppress(OSError):
                self.imap.sock.shutdown(socket.SHUT_RDWR)
        future.add_done_callback(_close)
        message = f"{what}: no answer within {self.timeout:g} s"
        raise ExoImapOAuthError(message, advice=explain(advice_id, **self.known))


def _close(future: Future[Any]) -> None:
    """Close a connection that was made too late."""
    if not future.exception() and isinstance(imap := future.result(), imaplib.IMAP4):
        leave(imap, in_sync=False)


class _Step(NamedTuple):
    id: str
    title: str
    needs: tuple[str, ...]  # checks without which there is nothing to check
    check: Callable[[_Checkup], Finding]


def _of_token(check: Callable[[Issued], Finding]) -> Callable[[_Checkup], Finding]:
    """A check of what the token tells."""

    def find(checkup: _Checkup) -> Finding:
        assert checkup.issued is not None  # by its needs
        return check(checkup.issued)

    return find


_STEPS: Final = (
    _Step("config", "Configuration", (), _Checkup.config),
    _Step("token-endpoint", "Token endpoint", ("config",), _Checkup.token_endpoint),
    _Step("token", "Token", ("token-endpoint",), _Checkup.access_token),
    _Step("tenant", "Tenant", ("token",), _of_token(_checks.tenant)),
    _Step("application", "Application", ("token",), _of_token(_checks.application)),
    _Step("object-id", "Object ID", ("token",), _of_token(_checks.same_object)),
    _Step("audience", "Audience", ("token",), _of_token(_checks.audience)),
    _Step("role", "Role", ("audience",), _of_token(_checks.role)),
    _Step("lifetime", "Lifetime", ("token-endpoint",), _Checkup.lifetime),
    _Step("imap-endpoint", "IMAP endpoint", (), _Checkup.imap_endpoint),
    _Step("mechanism", "Mechanism", ("imap-endpoint",), _Checkup.mechanism),
    _Step("authenticate", "Authenticate", ("token", "mechanism"), _Checkup.authenticate),
    _Step("mailbox", "Mailbox", ("authenticate",), _Checkup.mailbox),
)
