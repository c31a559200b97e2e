"""What notebooks show: one look for every value. Pure: no I/O, no scripts, nothing loaded."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from exo_imap_oauth._text import printable, quotable, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Badge = Literal["passed", "failed", "warning", "skipped"]

# The page's own colours, light or dark, except for the badges: white is readable on all of them.
_STYLE: Final = """
.exo { max-width: 70em; margin: .5em 0; border: 1px solid #8886; border-radius: 10px;
  color: inherit; font: 14px/1.5 system-ui, sans-serif; overflow: hidden;
  overflow-wrap: anywhere; container-type: inline-size }
.exo :is(header, summary) { padding: .8em 1em; font-weight: 600 }
.exo header { display: flex; flex-wrap: wrap; gap: .3em 1em; justify-content: space-between }
.exo details { border-top: 1px solid #8884 }
.exo summary { cursor: pointer }
.exo.exo table { width: 100%; margin: 0; border-collapse: collapse; color: inherit;
  font-size: inherit; table-layout: auto }
.exo.exo tr { background: none; border-top: 1px solid #8884 }
.exo.exo :is(th, td) { padding: .5em 1em; border: 0; text-align: left; vertical-align: top;
  white-space: normal; max-width: none }
.exo.exo th { font-weight: 600; overflow-wrap: break-word }
.exo b { display: inline-block; min-width: 4.6em; padding: .05em .6em; border-radius: 1em;
  color: #fff; font-size: 12px; text-align: center; background: #6a737d }
.exo b.passed { background: #1a7f37 }
.exo b.failed { background: #cf222e }
.exo b.warning { background: #8a6100 }
.exo small { display: block; font-size: 12px; opacity: .75 }
.exo aside { margin: .6em 0 .3em; padding-left: .9em; border-left: 3px solid #d0434d }
.exo > aside { margin: .6em 1em }
.exo aside.warning { border-color: #b08800 }
.exo aside p { margin: .3em 0 }
.exo.exo pre { margin: .5em 0; padding: .6em .8em; background: #8882; color: inherit;
  font-size: 12px; white-space: pre-wrap }
.exo a { color: inherit; text-decoration: underline }
@container (max-width: 560px) {
  .exo.exo :is(tbody, tr, th, td) { display: block }
  .exo.exo :is(th, td) + :is(th, td) { padding-top: 0 }
}
"""


def escaped(text: object) -> str:
    """A text as HTML shows it, without control or invisible characters."""
    return html.escape(printable(str(text)))


def panel(title: str, content: str, *, badge: str = "", status: Badge = "skipped") -> str:
    """A self-contained box; only ``content`` is HTML already."""
    mark = f'<b class="{status}">{escaped(badge)}</b>' if badge else ""
    return (
        f'<div class="exo"><style>{_STYLE}</style>'
        f"<header><span>{escaped(title)}</span>{mark}</header>{content}</div>"
    )


def table(rows: Mapping[str, object]) -> str:
    """A table of names and texts."""
    return rows_table((name, escaped(value)) for name, value in rows.items())


def rows_table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and what stands beside them, which is HTML already."""
    lines = (f"<tr><th>{escaped(name)}</th><td>{content}</td></tr>" for name, content in rows)
    return f"<table>{''.join(lines)}</table>"


def warnings_html(warnings: Iterable[object]) -> str:
    """What is suspicious, each with its fix."""
    return "".join(
        f'<aside class="warning"><p><strong>Warning:</strong> {escaped(warning)}</p></aside>'
        for warning in warnings
    )


# ---- tokens and credentials ------------------------------------------------------------------

SHOWN_CLAIMS: Final = ("aud", "roles", "tid", "appid", "oid", "exp")  # they explain a failure
_TIMES: Final = ("iat", "nbf", "exp")  # claims that are Unix seconds (RFC 7519 section 4.1)
_LONGEST_TOKEN: Final = 16_384  # characters; to search each claim for a longer one takes minutes


def moment(seconds: float, now: float) -> str:
    """A time for people: its date in UTC, and how far away it is."""
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return str(seconds)
    away = (
        f"in {_long_span(seconds - now)}" if seconds >= now else f"{_long_span(now - seconds)} ago"
    )
    return f"{date:%Y-%m-%d %H:%M:%S} UTC, {away}"


def _long_span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return span(seconds)


class _Times(Protocol):
    """The times of an access token."""

    @property
    def expires_on(self) -> int: ...
    @property
    def refresh_on(self) -> int: ...
    @property
    def obtained_on(self) -> float: ...


def time_rows(token: _Times, now: float) -> dict[str, str]:
    """When a token was obtained, is replaced and expires."""
    return {
        "obtained": moment(token.obtained_on, now),
        "refresh due": moment(token.refresh_on, now),
        "expires": moment(token.expires_on, now),
    }


def claim_rows(claims: Mapping[str, Any], token: str, now: float) -> dict[str, str]:
    """What a token says about itself; not the token, should a claim hold it."""
    if len(token) > _LONGEST_TOKEN:
        return {"claims": f"not shown: the token is {len(token):,} characters long"}
    rows: dict[str, str] = {}
    for name, value in claims.items():
        is_time = name in _TIMES and isinstance(value, (int, float))
        text = moment(value, now) if is_time else quotable(_plain(value), [token])
        rows[f"claim {quotable(name, [token])}"] = text
    return rows


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[object]", value)))
    return str(value)


class _Certificate(Protocol):
    @property
    def thumbprint(self) -> str: ...
    @property
    def expires_on(self) -> int: ...


def certificate_text(certificate: _Certificate, now: float) -> str:
    """Which certificate it is, and until when it serves."""
    return f"certificate {certificate.thumbprint}, expires {moment(certificate.expires_on, now)}"


ASSERTION: Final = "federated assertion from a function, not shown"


def secret_text(*, is_called: bool) -> str:
    """That there is a client secret."""
    return f"client secret{' from a function' if is_called else ''}, not shown"
