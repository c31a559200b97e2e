"""What a token tells of a set-up: pure functions, from claims and times to a finding."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exo_imap_oauth._text import is_guid, one_line, span
from exo_imap_oauth.advice import advise, explain
from exo_imap_oauth.clouds import differing_clouds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exo_imap_oauth._report import Status
    from exo_imap_oauth.advice import Advice
    from exo_imap_oauth.errors import ConfigProblem

_ROLE: Final = "IMAP.AccessAsApp"
_MAIL_ROLES: Final = {_ROLE, "POP.AccessAsApp", "SMTP.SendAsApp"}  # who answers mail needs these
_COMPARE: Final = "Get-ServicePrincipal must show the same ObjectId"
_SHORT_LIFE, _CLOCK_TOLERANCE = 600.0, 120.0  # s
_CERTIFICATE_WARNING: Final = 30 * 24 * 3600.0  # s


class Finding(NamedTuple):
    """What a check found; its parts are those of a :class:`~exo_imap_oauth.checkup.Check`."""

    status: Status
    detail: str
    advice: Advice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A token that was issued, as far as it tells.

    Attributes:
        claims: Its claims; empty if it is opaque.
        telling: What of them :func:`~exo_imap_oauth.advice.advise` may use, as text.
        known: What fills the advice.
        object_id: The object ID that was given to compare with, or "".
        tenant_id: The configured one, to compare with; None where there is none.
        client_id: The same.
        token_uri: Where it was asked for; None if that is not known.
        scope: What was asked for.
        host: The mail server that it is for.
    """

    claims: Mapping[str, Any]
    telling: Mapping[str, str]
    known: Mapping[str, str]
    object_id: str = ""
    tenant_id: str | None = None
    client_id: str | None = None
    token_uri: str | None = None
    scope: str | None = None
    host: str | None = None

    def refusal(self, *names: str) -> Advice | None:
        """Why Exchange refuses a token with these of its claims, or with those that it has."""
        names = names or ("aud", "roles", "oid")
        told = {name: self.telling[name] for name in names if name in self.telling}
        known = {**self.known, **told}
        if self.object_id:
            known["enterprise_object_id"] = self.object_id
        return advise("NO AUTHENTICATE failed.", stage="authenticate", **known)


def tenant(token: Issued) -> Finding:
    """Whether the token is of the configured tenant."""
    expected = token.tenant_id
    if not expected or not is_guid(expected):
        instead = f", but {expected}" if expected else ""
        return Finding("skipped", f"the configuration has no tenant ID{instead}")
    return _compared(token, "tid", expected)


def application(token: Issued) -> Finding:
    """Whether the token is of the configured application."""
    name = "azp" if "azp" in token.claims else "appid"
    if not token.client_id:
        claim = one_line(str(token.claims.get(name, "not told")))
        return Finding("skipped", f"no client_id is configured; the token's {name} is {claim}")
    return _compared(token, name, token.client_id)


def same_object(token: Issued) -> Finding:
    """Whether the token is of the object that Exchange was told, as far as somebody said which."""
    oid = token.telling.get("oid")
    if not token.object_id:
        tells = f"; the token's oid is {one_line(oid)}, and {_COMPARE}" if oid else ""
        return Finding("skipped", f"no enterprise_object_id was given{tells}")
    found = _compared(token, "oid", token.object_id)
    if found.status == "passed":
        return found._replace(detail=f"{found.detail}, as given; {_COMPARE}")
    if found.status == "failed":
        return found._replace(advice=token.refusal("oid"))
    return found


def _compared(token: Issued, name: str, expected: str) -> Finding:
    if name not in token.claims:
        return Finding("skipped", f"the token has no {name}")
    claim = one_line(str(token.claims[name]))
    if claim.lower() == expected.lower():
        return Finding("passed", f"{name} {claim}")
    return Finding("failed", f"the token's {name} is {claim}, not {expected}")


def audience(token: Issued) -> Finding:
    """Whether the token is for Exchange Online, and for that of the tenant's cloud."""
    if "aud" not in token.telling:
        return Finding("skipped", "the token has no aud")
    seen, advice = one_line(f"aud {token.telling['aud']}"), token.refusal("aud")
    if advice and advice.id == "audience-wrong":
        return Finding("failed", seen, advice)
    differ = two_clouds(token_uri=token.token_uri, scope=token.scope, host=token.host)
    return differ or Finding("passed", seen)


def role(token: Issued) -> Finding:
    """Whether the token has the role that IMAP needs."""
    if not token.claims:
        return Finding("skipped", "the token is opaque")
    roles = token.telling["roles"].split()
    seen = one_line(f"roles {', '.join(roles)}") if roles else "the token has no roles"
    if _ROLE not in roles:
        return Finding("failed", seen, token.refusal("roles"))
    if others := [name for name in roles if name not in _MAIL_ROLES]:
        others_text = one_line(", ".join(others))
        hint = f"IMAP needs {_ROLE} alone; remove {others_text} if nothing else needs it"
        return Finding("warning", f"{seen}: {hint}")
    return Finding("passed", seen)


def lifetime(expires_on: float | None, clock_lag: float | None, *, issued: bool) -> Finding:
    """Whether a new token lives long enough, and whether this machine's clock is right.

    Args:
        expires_on: When the token expires, in Unix seconds; None if nothing tells.
        clock_lag: Seconds that this machine's clock is behind the server's; None if unknown.
        issued: Whether there is a token.
    """
    clock = "the server told no time" if clock_lag is None else "the clock is right"
    life = _life(expires_on, clock_lag or 0.0, clock) if issued else None
    if life is not None and life.status == "failed":
        return life
    if clock_lag is not None and abs(clock_lag) > _CLOCK_TOLERANCE:
        off = f"{span(clock_lag)} {'behind' if clock_lag > 0 else 'ahead'}"
        return Finding("warning", f"this machine's clock is {off}", explain("clock-skew"))
    return life or Finding("skipped", f"there is no token; {clock}")


def _life(expires_on: float | None, clock_lag: float, clock: str) -> Finding:
    if expires_on is None:
        return Finding("skipped", f"the token does not tell how long it lives; {clock}")
    left = expires_on - time.time() - clock_lag
    if left <= 0:
        return Finding("failed", f"the new token expired {span(left)} ago")
    lives = f"the token lives for {span(left)}"
    if left < _SHORT_LIFE:
        short = "which is short: no connection lasts longer"
        return Finding("warning", f"{lives}, {short}; {clock}")
    return Finding("passed", f"{lives}; {clock}")


def certificate(expires_on: float | None) -> Finding | None:
    """A warning for a client certificate that ends soon, or has ended.

    Args:
        expires_on: When it ends, in Unix seconds; None where there is no certificate.
    """
    if expires_on is None or expires_on - time.time() > _CERTIFICATE_WARNING:
        return None
    day = time.strftime("%Y-%m-%d", time.gmtime(expires_on))
    days = (expires_on - time.time()) / 86_400
    when = f"ends in {days:.0f} days, on {day}" if days > 0 else f"ended on {day}"
    return Finding(
        "warning",
        f"the client certificate {when}; upload a new one to Certificates & secrets >"
        " Certificates of the app registration, then use it here",
    )


def two_clouds(**addresses: str | None) -> Finding | None:
    """A failure for addresses, hosts or URLs, that belong to different Microsoft clouds."""
    for (one, first), (other, second) in combinations(addresses.items(), 2):
        if clouds := differing_clouds(first or "", second or ""):
            detail = f"{one} is of the cloud {clouds[0].name}, {other} of {clouds[1].name}"
            return Finding("failed", detail, explain("wrong-cloud"))
    return None


def suspicious(problems: Iterable[ConfigProblem]) -> Finding | None:
    """A warning for what can work, but was hardly meant, such as a misspelt variable."""
    details = [f"{problem.key}: {problem.message} {problem.fix}" for problem in problems]
    return Finding("warning", " ".join(details)) if details else None
