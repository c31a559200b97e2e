"""Say which step of the set-up is missing: every step is tried, one after the other."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import re
import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import quote_plus, urljoin

from exo_imap_oauth._connection import Server, connect, leave, require_tls
from exo_imap_oauth._logging import logger
from exo_imap_oauth._login import Login
from exo_imap_oauth._mailbox import folder_argument, select
from exo_imap_oauth._report import Check as Check  # noqa: PLC0414 - exported
from exo_imap_oauth._report import SetupReport as SetupReport  # noqa: PLC0414 - exported
from exo_imap_oauth._text import one_line
from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ExoImapOAuthError,
    TokenError,
)
from exo_imap_oauth.imap import authenticate_xoauth2
from exo_imap_oauth.powershell import is_guid
from exo_imap_oauth.token_endpoint import request_token, server_date
from exo_imap_oauth.trust import default_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Mapping

    from exo_imap_oauth._report import Status
    from exo_imap_oauth._token_request import TokenRequest
    from exo_imap_oauth.access_token import AccessToken
    from exo_imap_oauth.advice import Advice
    from exo_imap_oauth.config import InboxConfig
    from exo_imap_oauth.token_source import TokenSource

__all__ = ["Check", "SetupReport", "check_setup"]

_T = TypeVar("_T")
_ROLE: Final = "IMAP.AccessAsApp"
_SHORT_LIFE, _CLOCK_TOLERANCE = 600.0, 120.0  # s
_ECHO: Final = 16  # so many characters of a secret in a row are hidden


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
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
    checkup = _Checkup(inbox, token_source, (enterprise_object_id or "").strip(), timeout)
    checkup.ssl_context = ssl_context
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

    ssl_context: ssl.SSLContext | None
    request: TokenRequest
    folder: str  # as an argument of IMAP
    token: AccessToken | None = None
    login: Login
    imap: imaplib.IMAP4
    clock_lag: float | None = None  # s that this machine's clock is behind the server's
    took = ""  # how long the last network step was under way

    def __init__(
        self, inbox: InboxConfig, source: TokenSource | None, object_id: str, timeout: float
    ) -> None:
        self.inbox = inbox
        self.source = source
        self.object_id = object_id
        self.timeout = timeout
        self.patience = 0.9 * timeout  # a step's own report of a timeout says more than ours
        self.known: dict[str, str] = {}
        self.claims: Mapping[str, Any] = {}
        self.telling: dict[str, str] = {}  # the claims that tell why a token is refused
        self.secrets: set[str] = set()

    def run(self) -> Generator[Check]:
        """Make all checks, in order."""
        unmet: set[str] = set()
        for check_id, title, needs, check in _CHECKS:
            if missing := [need for need in needs if need in unmet]:
                finding = _Finding("skipped", f"needs {' and '.join(missing)}, which did not pass")
            else:
                finding = self._find(check)
            status, detail, advice = finding
            if status in {"failed", "skipped"}:
                unmet.add(check_id)
            detail = self._clean(detail)
            logger.debug("inbox %s: %s %s: %s", self.inbox.name, check_id, status, detail)
            yield Check(check_id, title, status, detail, advice)
        if "imap" in vars(self):
            with contextlib.suppress(Exception):  # the report is what counts
                self._within("LOGOUT", "connection-closed", lambda: leave(self.imap, in_sync=True))

    def hang_up(self) -> None:
        """Close what Ctrl-C left open."""
        if "imap" in vars(self):
            leave(self.imap, in_sync=False)

    def _find(self, check: Callable[[_Checkup], _Finding]) -> _Finding:
        """Make one check; its error is a finding, with the user's own values in the advice."""
        try:
            return check(self)
        except AuthenticationRefused as error:
            advice = error.advice and self._refusal(*self.telling)
            return _Finding("failed", str(error.args[0]), advice)
        except ExoImapOAuthError as error:
            advice = error.advice and explain(error.advice.id, **self.known)
            return _Finding("failed", str(error.args[0]), advice)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong belongs into the report
            return _Finding("failed", one_line(f"{type(error).__name__}: {error}"))

    # ---- the token ---------------------------------------------------------------------------

    def config(self) -> _Finding:
        inbox = self.inbox
        Login(inbox.user, "token", None).check()
        if not isinstance(inbox.client_secret, str):
            raise TypeError(f"client_secret is no string: {type(inbox.client_secret).__name__}")
        self.secrets = {inbox.client_secret, quote_plus(inbox.client_secret)}
        self.known = {"tenant_id": inbox.tenant_id, "mailbox": inbox.user} | {
            name: getattr(inbox, name) for name in ("client_id", "token_uri", "scope")
        }
        self.folder = folder_argument(inbox.folder)
        source = self.source or inbox.token_source()
        self.request = source._request  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a neighbour
        if self.request.credential.looks_like_guid:
            self.known["client_secret_format"] = "guid"
        where = f"{inbox.user} at {inbox.host}:{inbox.port}"
        return _Finding("passed", f"{where}, application {self.request.client_id}")

    def token_endpoint(self) -> _Finding:
        request = self.request = replace(
            self.request,
            ssl_context=self.ssl_context or self.request.ssl_context or default_context(),
            timeout=min(self.patience, self.request.timeout),
            deadline=self.patience,
        )
        uri, began = urljoin(request.token_uri, "/"), time.time()
        date = self._within(uri, "token-endpoint-unreachable", lambda: server_date(request))
        if isinstance(date, TokenError):
            raise date
        with contextlib.suppress(ValueError):
            server_time = parsedate_to_datetime(date).timestamp()
            self.clock_lag = server_time - (began + time.time()) / 2
        return _Finding("passed", f"{uri} answers over verified TLS{self.took}")

    def access_token(self) -> _Finding:
        uri = self.request.token_uri
        token = self._within(uri, "token-endpoint-unreachable", lambda: request_token(self.request))
        if isinstance(token, TokenError):
            raise token
        self.login = Login(self.inbox.user, token, None)
        self.login.obtain()
        self.secrets |= {token.token, base64.b64encode(self.login.message()).decode()}
        self.token, self.claims = token, token.claims
        known = {name: self._clean(value) for name, value in self.login.known().items()}
        self.telling = {name: known[name] for name in ("aud", "roles", "oid") if name in known}
        # Whatever was given: the object that logs in is the one that needs the mailbox.
        self.known["enterprise_object_id"] = known.get("oid", self.object_id)
        opaque = "" if self.claims else "; it is opaque, so there are no claims to compare"
        return _Finding("passed", f"issued{self.took}{opaque}")

    def tenant(self) -> _Finding:
        if is_guid(self.inbox.tenant_id):
            return self._compare("tid", self.inbox.tenant_id)
        return _Finding("skipped", f"configured is no ID, but {self.inbox.tenant_id}")

    def application(self) -> _Finding:
        return self._compare("azp" if "azp" in self.claims else "appid", self.inbox.client_id)

    def same_object(self) -> _Finding:
        if self.object_id:
            return self._compare("oid", self.object_id)
        seen = f"; the token's oid is {self.telling['oid']}" if "oid" in self.telling else ""
        return _Finding("skipped", one_line(f"no enterprise_object_id was given{seen}"))

    def _compare(self, name: str, expected: str) -> _Finding:
        if name not in self.claims:
            return _Finding("skipped", f"the token has no {name}")
        claim = one_line(str(self.claims[name]))
        if claim.lower() == expected.lower():
            return _Finding("passed", f"{name} {claim}")
        advice = self._refusal(name) if name == "oid" else None
        return _Finding("failed", f"the token's {name} is {claim}, not {expected}", advice)

    def audience(self) -> _Finding:
        if "aud" not in self.telling:
            return _Finding("skipped", "the token has no aud")
        advice, seen = self._refusal("aud"), one_line(f"aud {self.telling['aud']}")
        wrong = advice and advice.id == "audience-wrong"
        return _Finding("failed", seen, advice) if wrong else _Finding("passed", seen)

    def role(self) -> _Finding:
        roles = self.telling["roles"].split()
        seen = one_line(f"roles {', '.join(roles)}") if roles else "the token has no roles"
        if _ROLE not in roles:
            return _Finding("failed", seen, self._refusal("roles"))
        if len(roles) > 1:
            return _Finding("warning", f"{seen}: IMAP needs {_ROLE} alone, remove the others")
        return _Finding("passed", seen)

    def lifetime(self) -> _Finding:
        lag, left = self.clock_lag, None
        clock = "the server told no time" if lag is None else "the clock is right"
        if self.token is not None:
            exp = self.claims.get("exp")
            expires_on = exp if isinstance(exp, (int, float)) else self.token.expires_on
            left = expires_on - time.time() - (lag or 0.0)
            if left <= 0:
                return _Finding("failed", f"the new token expired {_span(left)} ago")
        if lag is not None and abs(lag) > _CLOCK_TOLERANCE:
            off = f"{_span(lag)} {'behind' if lag > 0 else 'ahead'}"
            return _Finding("warning", f"this machine's clock is {off}", explain("clock-skew"))
        if left is None:
            return _Finding("skipped", f"there is no token; {clock}")
        short = ", which is short: no connection lasts longer" if left < _SHORT_LIFE else ""
        detail = f"the token lives for {_span(left)}{short}; {clock}"
        return _Finding("warning" if short else "passed", detail)

    def _refusal(self, *claims: str) -> Advice | None:
        """Why Exchange refuses a token with these of its claims."""
        known = self.known | {name: self.telling[name] for name in claims if name in self.telling}
        if self.object_id:
            known["enterprise_object_id"] = self.object_id
        return advise("NO AUTHENTICATE failed.", stage="authenticate", **known)

    # ---- the mailbox -------------------------------------------------------------------------

    def imap_endpoint(self) -> _Finding:
        inbox = self.inbox
        if inbox.tls == "none":
            inbox.open(token="")  # refuses, and says what to do
        self.known |= {"host": inbox.host, "port": str(inbox.port)}
        server = Server(inbox.host, inbox.port, inbox.tls == "starttls")
        where, context = f"{inbox.host}:{inbox.port}", self.ssl_context
        self.imap = self._within(
            where, "imap-unreachable", lambda: connect(server, context, self.patience)
        )
        require_tls(self.imap, allow_unverified=False)
        return _Finding("passed", f"{where} answers over verified TLS{self.took}")

    def mechanism(self) -> _Finding:
        offered = self.imap.capabilities
        if "AUTH=XOAUTH2" in offered:
            return _Finding("passed", "AUTH=XOAUTH2 is offered")
        return _Finding("failed", one_line(f"AUTH=XOAUTH2 is not offered, but {' '.join(offered)}"))

    def authenticate(self) -> _Finding:
        user, token = self.inbox.user, self.token or ""
        self._within(
            f"login of {user}",
            "connection-closed",
            lambda: authenticate_xoauth2(self.imap, user, token, verify_mailbox=False),
        )
        return _Finding("passed", f"logged in as {user}{self.took}")

    def mailbox(self) -> _Finding:
        self._within(
            f"EXAMINE {self.folder}",
            "connection-closed",
            lambda: select(self.imap, self.login, self.folder, readonly=True),
        )
        return _Finding("passed", f"{self.inbox.folder} opens{self.took}")

    # ---- what they have in common ------------------------------------------------------------

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
            if "imap" in vars(self):  # wake the thread
                with contextlib.suppress(OSError):
                    self.imap.sock.shutdown(socket.SHUT_RDWR)
            future.add_done_callback(_close)
            message = f"{what}: no answer within {self.timeout:g} s"
            raise ExoImapOAuthError(message, advice=explain(advice_id)) from None
        finally:
            self.took = f" after {(time.monotonic() - began) * 1000:.0f} ms"

    def _clean(self, text: str) -> str:
        """The text without what a server may echo of secret and token, be it only a part."""
        marked = list(text)
        for secret in self.secrets:
            run = min(_ECHO, len(secret))
            for start in range(len(text) - run + 1):
                if text[start : start + run] in secret:
                    marked[start : start + run] = "\0" * run
        return re.sub("\0+", "(hidden)", "".join(marked))


def _close(future: Future[Any]) -> None:
    """Close a connection that was made too late."""
    if not future.exception() and isinstance(imap := future.result(), imaplib.IMAP4):
        leave(imap, in_sync=False)


def _span(seconds: float) -> str:
    seconds = abs(seconds)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - s, min


_CHECKS: Final[tuple[tuple[str, str, tuple[str, ...], Callable[[_Checkup], _Finding]], ...]] = (
    ("config", "Configuration", (), _Checkup.config),
    ("token-endpoint", "Token endpoint", ("config",), _Checkup.token_endpoint),
    ("token", "Token", ("token-endpoint",), _Checkup.access_token),
    ("tenant", "Tenant", ("token",), _Checkup.tenant),
    ("application", "Application", ("token",), _Checkup.application),
    ("object-id", "Object ID", ("token",), _Checkup.same_object),
    ("audience", "Audience", ("token",), _Checkup.audience),
    ("role", "Role", ("audience",), _Checkup.role),
    ("lifetime", "Lifetime", ("token-endpoint",), _Checkup.lifetime),
    ("imap-endpoint", "IMAP endpoint", (), _Checkup.imap_endpoint),
    ("mechanism", "Mechanism", ("imap-endpoint",), _Checkup.mechanism),
    ("authenticate", "Authenticate", ("token", "mechanism"), _Checkup.authenticate),
    ("mailbox", "Mailbox", ("authenticate",), _Checkup.mailbox),
)
