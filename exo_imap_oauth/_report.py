"""What a check-up found, as text, HTML and JSON. Pure: no I/O."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from typing_extensions import override

from exo_imap_oauth._html import escaped, panel

if TYPE_CHECKING:
    from exo_imap_oauth.advice import Advice

Status = Literal["passed", "failed", "warning", "skipped"]

_WIDTH: Final = 80
_MARKS: Final = {"passed": "ok", "failed": "FAILED", "warning": "warning", "skipped": "skipped"}
_OF_THE_TOKEN: Final = ("audience", "role", "lifetime")
_PORTAL_PAGE: Final = re.compile(r"Page: (https://entra\.microsoft\.com/#\S+)")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a set-up and what it found.

    Attributes:
        id: Its stable name, such as ``role``.
        title: What has to be the case, for people.
        status: ``passed``; ``failed``; ``warning``: it works today; ``skipped``: it needs another
            check that did not pass, or there is nothing to compare with.
        detail: What was seen. Never a secret or a token.
        advice: Likely cause and fix of a failure or warning, where one is known.
    """

    id: str
    title: str
    status: Status
    detail: str
    advice: Advice | None = None


def as_accepted(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """The checks, after what the server accepted: that outranks what the token says of itself."""
    if not any(check.id == "mailbox" and check.status == "passed" for check in checks):
        return checks
    return tuple(
        replace(
            check,
            status="warning",
            detail=f"{check.detail}; the mailbox opens all the same",
            advice=None,
        )
        if check.id in _OF_THE_TOKEN and check.status == "failed"
        else check
        for check in checks
    )


@dataclass(frozen=True, slots=True)
class SetupReport:
    """What :func:`~exo_imap_oauth.checkup.check_setup` found.

    ``str()`` is for terminals and logs, notebooks show it as HTML, :meth:`as_dict` is for JSON;
    none of them holds a secret or a token.

    Attributes:
        mailbox: The mailbox that was to be opened.
        checks: All checks, in their order.
    """

    mailbox: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed; there may be warnings."""
        return self.first_failure is None

    @property
    def first_failure(self) -> Check | None:
        """The first check that failed, which is the one to fix first."""
        return next((check for check in self.checks if check.status == "failed"), None)

    @property
    def summary(self) -> str:
        """The result in some words, such as ``1 failed, 8 passed, 4 skipped``."""
        statuses: list[Status] = [check.status for check in self.checks]
        order: tuple[Status, ...] = ("failed", "warning", "passed", "skipped")
        counts = ((statuses.count(status), status) for status in order)
        return ", ".join(f"{count} {status}" for count, status in counts if count)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain lists and dictionaries that :mod:`json` can write."""
        return {
            "ok": self.ok,
            "mailbox": self.mailbox,
            "first_failure": self.first_failure and self.first_failure.id,
            "checks": [asdict(check) for check in self.checks],
        }

    @override
    def __str__(self) -> str:
        """A line for each check; cause, fix and commands of what is not well. ASCII marks."""
        lines = _wrapped(f"Set-up of {self.mailbox}: {self.summary}", "", "  ")
        for check, same_as in self._with_repeated_advice():
            start = f"{_MARKS[check.status]:<8} {check.id:<15} "
            lines += _wrapped(check.detail, start, " " * 9)
            if same_as:
                lines += [f"    Cause and fix: those of {same_as}."]
            elif check.advice:
                lines += _wrapped(check.advice.cause, "    Cause: ")
                lines += _wrapped(check.advice.fix, "    Fix: ")
                for command in check.advice.commands:
                    lines += (f"        {line}" for line in command.splitlines())
                lines += [f"    See: {check.advice.url}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A self-contained table without scripts; it takes the page's own colours."""
        statuses = {check.status for check in self.checks}
        worst: Status = "passed"  # what was skipped is no worse
        if "warning" in statuses:
            worst = "warning"
        if "failed" in statuses:
            worst = "failed"
        rows = "".join(
            f'<tr class="{check.status}"><td><b class="{check.status}">{check.status}</b></td>'
            f"<th>{escaped(check.title)}</th>"
            f"<td>{escaped(check.detail)}{_advice_html(check.advice, same_as)}</td></tr>"
            for check, same_as in self._with_repeated_advice()
        )
        title = f"Set-up of {self.mailbox}"
        return panel(title, f"<table>{rows}</table>", badge=self.summary, status=worst)

    def _with_repeated_advice(self) -> list[tuple[Check, str]]:
        """Each check, and the id of the check before it that has the same advice, if any."""
        first: dict[Advice, str] = {}
        pairs: list[tuple[Check, str]] = []
        for check in self.checks:
            earlier = first.setdefault(check.advice, check.id) if check.advice else check.id
            pairs.append((check, "" if earlier == check.id else earlier))
        return pairs


def _wrapped(text: str, start: str, indent: str = " " * 6) -> list[str]:
    """Lines for a terminal; what has to be copied, such as IDs and links, is not broken."""
    wrapper = textwrap.TextWrapper(_WIDTH, start, indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text) or [start.rstrip()]


def _advice_html(advice: Advice | None, same_as: str) -> str:
    if advice is None:
        return ""
    if same_as:
        return f"<aside><p>Cause and fix: those of <em>{same_as}</em>.</p></aside>"
    link = r'<a href="\1" rel="noreferrer">Open that page.</a>'
    fix = _PORTAL_PAGE.sub(link, escaped(advice.fix))
    commands = html.escape("\n".join(advice.commands))
    return (
        f"<aside><p><strong>Cause:</strong> {escaped(advice.cause)}</p>"
        f"<p><strong>Fix:</strong> {fix}</p>"
        + (f"<pre>{commands}</pre>" if commands else "")
        + f'<p><a href="{escaped(advice.url)}" rel="noreferrer">Read more</a></p></aside>'
    )
