"""Say which step of the set-up is missing: every step is tried, one after the other."""

from __future__ import annotations

import contextlib
import imaplib
import logging
import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import quote_plus, urljoin

from exo_imap_oauth._imap.bearer import Bearer
from exo_imap_oauth._imap.connection import Server, connect, leave, require_tls
from exo_imap_oauth._imap.mailbox import folder_argument, select
from exo_imap_oauth._inbox_rules import check_tls
from exo_imap_oauth._report import Check as Check  # noqa: PLC0414 - exported
from exo_imap_oauth._report import SetupReport as SetupReport  # noqa: PLC0414 - exported
from exo_imap_oauth._text import check_seconds, hide, is_guid, one_line, span
from exo_imap_oauth._tokens.endpoint import request_token, server_date
from exo_imap_oauth._trust import default_context
from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.errors import AuthenticationRefused, ExoImapOAuthError
from exo_imap_oauth.imap import authenticate_xoauth2
from exo_imap_oauth.xoauth2 import check_user

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Mapping

    from exo_imap_oauth._report import Status
    from exo_imap_oauth._tokens.request import TokenRequest
    from exo_imap_oauth.access_token import AccessToken
    from exo_imap_oauth.advice import Advice
    from exo_imap_oauth.inbox import InboxConfig
    from exo_imap_oauth.token_source import TokenSource

__all__ = ["Check", "SetupReport", "check_setup"]

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_ROLE: Final = "IMAP.AccessAsApp"
_REFUSAL_CLAIMS: Final = ("aud", "roles", "oid")
_SHORT_LIFE, _CLOCK_TOLERANCE = 600.0, 120.0  # s


def check_setup(
    inbox: InboxConfig,
    *,
    token_source: TokenSource | None = None,
    enterprise_object_id: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 30.0,
) -> SetupReport:
    """Try every step from the configuration to the open mailbox, and report on each.

    A new token is asked for, which no cache gets to see: after consent, one issued before would
    still lack the role. After a failure it goes on with whatever can still be checked. Claims
    of the token explain failures; whether it is good is for Exchange to say, so it is tried
    even where they look wrong. The mailbox is only examined (RFC 3501 section 6.3.2).

    Args:
        inbox: The inbox.
        token_source: Gets the token in place of the inbox's own; its cache is left alone.
        enterprise_object_id: The object ID that was given to ``New-ServicePrincipal``, to be
            compared with the one in the token.
        ssl_context: For both servers. Default: what this machine trusts; for the token endpoint
            that of ``token_source``.
        timeout: Seconds for the whole of each network step. These are six, so it takes six
            times as long at worst: reaching the token endpoint, getting a token, reaching the
            IMAP server, logging in, opening the mailbox, logging out.

    Returns:
        The report; whatever goes wrong stands in it.

    Raises:
        ValueError: ``timeout`` is not positive, or longer than a thread can wait.

    Example:
        >>> print(check_setup(load_config()["default"]))  # doctest: +SKIP
        Set-up of inbox@contoso.com: 1 failed, 10 passed, 2 skipped
        ...
    """
    check_seconds("timeout", timeout)
    object_id = (enterprise_object_id or "").strip()
    checkup = _Checkup(inbox, token_source, object_id, ssl_context, timeout)
    try:
        return SetupReport(inbox.user, tuple(checkup.run()))
    except BaseException:
        checkup.hang_up()
        raise


class _Finding(NamedTuple):
    status: Status
    detail: str
    advice: Advice | None = None


class _Checkup:
    """The checks, a method each, and what they hand on to later ones."""

    def __init__(
        self,
        inbox: InboxConfig,
        source: TokenSource | None,
        object_id: str,
        ssl_context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self.inbox = inbox
        self.source = source
        self.object_id = object_id
        self.ssl_context = ssl_context
        self.timeout = timeout
        self.step_timeout = 0.9 * timeout  # a step's own report of a timeout says more than ours
        self.known: dict[str, str] = {}  # fills the advice
        self.secrets: set[str] = set()
        self.took = ""  # how long the last network step was under way
        # What the checks find; each is set by the check that others name among their needs.
        self.folder = ""  # as an argument of IMAP
        self.request: TokenRequest | None = None
        self.clock_lag: float | None = None  # s that this machine's clock is behind the server's
        self.token: AccessToken | None = None
        self.bearer: Bearer | None = None
        self.claims: Mapping[str, Any] = {}
        self.refusal_claims: dict[str, str] = {}  # those that tell why a token is refused
        self.imap: imaplib.IMAP4 | None = None

    def run(self) -> Generator[Check]:
        """Make all checks, in order."""
        unmet: set[str] = set()
        for step in _STEPS:
            if missing := [need for need in step.needs if need in unmet]:
                finding = _Finding("skipped", f"needs {' and '.join(missing)}, which did not pass")
            else:
                finding = self._find(step.check)
            status, detail, advice = finding
            if status in {"failed", "skipped"}:
                unmet.add(step.id)
            detail = hide(detail, self.secrets)
            _logger.debug("inbox %s: %s %s: %s", self.inbox.name, step.id, status, detail)
            yield Check(step.id, step.title, status, detail, advice)
        if (imap := self.imap) is not None:
            with contextlib.suppress(Exception):  # the report is what counts
                self._within("LOGOUT", "connection-closed", lambda: leave(imap, in_sync=True))

    def hang_up(self) -> None:
        """Close what Ctrl-C left open."""
        if self.imap is not None:
            leave(self.imap, in_sync=False)

    def _find(self, check: Callable[[_Checkup], _Finding]) -> _Finding:
        """Make one check; its error is a finding, with the user's own values in the advice."""
        try:
            return check(self)
        except AuthenticationRefused as error:
            advice = error.advice and self._refusal(*self.refusal_claims)
            return _Finding("failed", str(error.args[0]), advice)
        except ExoImapOAuthError as error:
            advice = error.advice and explain(error.advice.id, **self.known)
            return _Finding("failed", str(error.args[0]), advice)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong belongs in the report
            return _Finding("failed", one_line(f"{type(error).__name__}: {error}"))

    # ---- the token ---------------------------------------------------------------------------

    def config(self) -> _Finding:
        inbox = self.inbox
        if problem := check_user(inbox.user):
            raise ValueError(problem)
        if not isinstance(inbox.client_secret, str):
            raise TypeError(f"client_secret is not a string: {type(inbox.client_secret).__name__}")
        self.secrets = {inbox.client_secret, quote_plus(inbox.client_secret)}
        self.known = {"tenant_id": inbox.tenant_id, "mailbox": inbox.user} | {
            name: getattr(inbox, name) for name in ("client_id", "token_uri", "scope")
        }
        self.folder = folder_argument(inbox.folder)
        source = self.source or inbox.token_source()
        self.request = source._request  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a neighbour
        self.known |= self.request.credential.known
        where = f"{inbox.user} at {inbox.host}:{inbox.port}"
        return _Finding("passed", f"{where}, application {self.request.client_id}")

    def token_endpoint(self) -> _Finding:
        assert self.request is not None  # by its needs
        request = self.request = replace(
            self.request,
            ssl_context=self.ssl_context or self.request.ssl_context or default_context(),
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
        return _Finding("passed", f"{uri} answers over verified TLS{self.took}")

    def access_token(self) -> _Finding:
        request = self.request
        assert request is not None  # by its needs
        uri = request.token_uri
        token = self._within(uri, "token-endpoint-unreachable", lambda: request_token(request))
        if isinstance(token, ExoImapOAuthError):
            raise token
        self.bearer = Bearer(self.inbox.user, token, None)
        self.bearer.obtain()
        self.secrets |= {*self.bearer.secrets()}
        self.token, self.claims = token, token.claims
        known = {name: hide(value, self.secrets) for name, value in self.bearer.known().items()}
        self.refusal_claims = {name: known[name] for name in _REFUSAL_CLAIMS if name in known}
        # Whatever was given: the object that logs in is the one that needs the mailbox.
        self.known["enterprise_object_id"] = known.get("oid", self.object_id)
        opaque = "" if self.claims else "; it is opaque, so there are no claims to compare"
        return _Finding("passed", f"issued{self.took}{opaque}")

    def tenant(self) -> _Finding:
        if is_guid(self.inbox.tenant_id):
            return self._compare("tid", self.inbox.tenant_id)
        return _Finding("skipped", f"the configuration has no ID, but {self.inbox.tenant_id}")

    def application(self) -> _Finding:
        return self._compare("azp" if "azp" in self.claims else "appid", self.inbox.client_id)

    def same_object(self) -> _Finding:
        if self.object_id:
            return self._compare("oid", self.object_id)
        detail = "no enterprise_object_id was given"
        if "oid" in self.refusal_claims:
            detail += f"; the token's oid is {self.refusal_claims['oid']}"
        return _Finding("skipped", one_line(detail))

    def _compare(self, name: str, expected: str) -> _Finding:
        if name not in self.claims:
            return _Finding("skipped", f"the token has no {name}")
        claim = one_line(str(self.claims[name]))
        if claim.lower() == expected.lower():
            return _Finding("passed", f"{name} {claim}")
        advice = self._refusal(name) if name == "oid" else None
        return _Finding("failed", f"the token's {name} is {claim}, not {expected}", advice)

    def audience(self) -> _Finding:
        if "aud" not in self.refusal_claims:
            return _Finding("skipped", "the token has no aud")
        advice, seen = self._refusal("aud"), one_line(f"aud {self.refusal_claims['aud']}")
        wrong = advice and advice.id == "audience-wrong"
        return _Finding("failed", seen, advice) if wrong else _Finding("passed", seen)

    def role(self) -> _Finding:
        roles = self.refusal_claims["roles"].split()
        seen = one_line(f"roles {', '.join(roles)}") if roles else "the token has no roles"
        if _ROLE not in roles:
            return _Finding("failed", seen, self._refusal("roles"))
        if len(roles) > 1:
            return _Finding("warning", f"{seen}: IMAP needs {_ROLE} alone, remove the others")
        return _Finding("passed", seen)

    def lifetime(self) -> _Finding:
        life = self._life_finding()
        if life.status == "failed":
            return life
        return self._clock_finding() or life

    def _life_finding(self) -> _Finding:
        clock = "the server told no time" if self.clock_lag is None else "the clock is right"
        if self.token is None:
            return _Finding("skipped", f"there is no token; {clock}")
        exp = self.claims.get("exp")
        expires_on = exp if isinstance(exp, (int, float)) else self.token.expires_on
        left = expires_on - time.time() - (self.clock_lag or 0.0)
        if left <= 0:
            return _Finding("failed", f"the new token expired {span(left)} ago")
        lives = f"the token lives for {span(left)}"
        if left < _SHORT_LIFE:
            short = "which is short: no connection lasts longer"
            return _Finding("warning", f"{lives}, {short}; {clock}")
        return _Finding("passed", f"{lives}; {clock}")

    def _clock_finding(self) -> _Finding | None:
        lag = self.clock_lag
        if lag is None or abs(lag) <= _CLOCK_TOLERANCE:
            return None
        off = f"{span(lag)} {'behind' if lag > 0 else 'ahead'}"
        return _Finding("warning", f"this machine's clock is {off}", explain("clock-skew"))

    def _refusal(self, *claims: str) -> Advice | None:
        """Why Exchange refuses a token with these of its claims."""
        found = self.refusal_claims
        known = self.known | {name: found[name] for name in claims if name in found}
        if self.object_id:
            known["enterprise_object_id"] = self.object_id
        return advise("NO AUTHENTICATE failed.", stage="authenticate", **known)

    # ---- the mailbox -------------------------------------------------------------------------

    def imap_endpoint(self) -> _Finding:
        inbox = self.inbox
        check_tls(inbox.tls, inbox.name)
        self.known |= {"host": inbox.host, "port": str(inbox.port)}
        server = Server(inbox.host, inbox.port, inbox.tls == "starttls")
        where, context = f"{inbox.host}:{inbox.port}", self.ssl_context
        self.imap = self._within(
            where, "imap-unreachable", lambda: connect(server, context, self.step_timeout)
        )
        require_tls(self.imap, allow_unverified=False)
        return _Finding("passed", f"{where} answers over verified TLS{self.took}")

    def mechanism(self) -> _Finding:
        assert self.imap is not None  # by its needs
        offered = self.imap.capabilities
        if "AUTH=XOAUTH2" in offered:
            return _Finding("passed", "AUTH=XOAUTH2 is offered")
        return _Finding("failed", one_line(f"AUTH=XOAUTH2 is not offered, but {' '.join(offered)}"))

    def authenticate(self) -> _Finding:
        user, token, imap = self.inbox.user, self.token, self.imap
        assert token is not None and imap is not None  # noqa: PT018 - by its needs
        self._within(
            f"login of {user}",
            "connection-closed",
            lambda: authenticate_xoauth2(imap, user, token, verify_mailbox=False),
        )
        return _Finding("passed", f"logged in as {user}{self.took}")

    def mailbox(self) -> _Finding:
        imap, bearer = self.imap, self.bearer
        assert imap is not None and bearer is not None  # noqa: PT018 - by its needs
        self._within(
            f"EXAMINE {self.folder}",
            "connection-closed",
            lambda: select(imap, bearer, self.folder, readonly=True),
        )
        return _Finding("passed", f"{self.inbox.folder} opens{self.took}")

    def _within(self, what: str, advice_id: str, step: Callable[[], _T]) -> _T:
        """Take a network step in a thread: nothing else bounds name services and drips."""
        future: Future[_T] = Future()

        def take() -> None:
            try:
                future.set_result(step())
            except Exception as error:  # noqa: BLE001 - result() raises it
                future.set_exception(error)

        began = time.monotonic()
        threading.Thread(target=take, name="exo_imap_oauth-checkup", daemon=True).start()
        try:
            return future.result(self.timeout)
        except TimeoutError:
            if self.imap is not None:  # wake the thread
                with contextlib.suppress(OSError):
                    self.imap.sock.shutdown(socket.SHUT_RDWR)
            future.add_done_callback(_close)
            message = f"{what}: no answer within {self.timeout:g} s"
            raise ExoImapOAuthError(message, advice=explain(advice_id)) from None
        finally:
            self.took = f" after {(time.monotonic() - began) * 1000:.0f} ms"


def _close(future: Future[Any]) -> None:
    """Close a connection that was made too late."""
    if not future.exception() and isinstance(imap := future.result(), imaplib.IMAP4):
        leave(imap, in_sync=False)


class _Step(NamedTuple):
    id: str
    title: str
    needs: tuple[str, ...]  # checks without which there is nothing to check
    check: Callable[[_Checkup], _Finding]


_STEPS: Final = (
    _Step("config", "Configuration", (), _Checkup.config),
    _Step("token-endpoint", "Token endpoint", ("config",), _Checkup.token_endpoint),
    _Step("token", "Token", ("token-endpoint",), _Checkup.access_token),
    _Step("tenant", "Tenant", ("token",), _Checkup.tenant),
    _Step("application", "Application", ("token",), _Checkup.application),
    _Step("object-id", "Object ID", ("token",), _Checkup.same_object),
    _Step("audience", "Audience", ("token",), _Checkup.audience),
    _Step("role", "Role", ("audience",), _Checkup.role),
    _Step("lifetime", "Lifetime", ("token-endpoint",), _Checkup.lifetime),
    _Step("imap-endpoint", "IMAP endpoint", (), _Checkup.imap_endpoint),
    _Step("mechanism", "Mechanism", ("imap-endpoint",), _Checkup.mechanism),
    _Step("authenticate", "Authenticate", ("token", "mechanism"), _Checkup.authenticate),
    _Step("mailbox", "Mailbox", ("authenticate",), _Checkup.mailbox),
)
