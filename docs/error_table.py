# ruff: noqa: E501 - the page's lines are as long as its sentences
"""Make docs/reference/errors.md of the error classes.

    python docs/error_table.py

tests/test_error_table.py fails where the page does not say what the code says.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth import errors
from exo_imap_oauth.advice import RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

ERRORS = Path(__file__).parent / "reference" / "errors.md"
COMMAND = "python docs/error_table.py"

INTRODUCTION = """\
This page says when each error comes, whether the same call may succeed later without anybody changing anything, and what to do.

`error.advice` is the likely cause and the fix, or `None`; `str(error)` shows both. `error.retryable` says whether to try again, and `error.retry_after` is how many seconds the server asked to wait, or `None`. Where the table says *usually*, an error of that class may say otherwise. [Troubleshoot](../how-to/troubleshoot.md) lists every piece of advice."""

WHAT_TO_DO = {
    "ExoImapOAuthError": "Catch it to catch them all; follow `.advice`, and try again only if `.retryable`.",
    "ConfigError": "Correct each of `.problems`: it names file, line and fix.",
    "PropertiesError": "Correct the file `.source` at `.line`.",
    "TokenError": "Follow `.advice`. Without one, the text says what the credential or the cache raised.",
    "TokenRequestRejected": "Follow `.advice`: mostly it is a secret, an ID or a consent in the Entra admin center. Support asks for `.correlation_id`.",
    "TokenEndpointUnavailable": "Try again after `.retry_after` or with growing pauses; if it is not retryable, correct the address or the trust in its certificate.",
    "InsecureConnectionError": "Connect with TLS and a context that verifies; the text shows the line to write.",
    "ImapError": "Follow `.advice`. Without one, the text is the server's own.",
    "AuthenticationRefused": "Compare mailbox address and Object ID as `.advice` says; `check_setup` says which step is missing.",
    "MailboxNotConnected": "Run the commands of `.advice`, which check the address, FullAccess, and whether IMAP is on.",
    "MessageUnavailable": "Come back to the message later: it stays in its folder, unread. `.uid` says which one it is; if it does not come at last, see to it in Outlook.",
    "Throttled": "Wait `.retry_after` seconds, then connect again, with fewer connections.",
    "SessionExpired": "Connect again; the token source has a fresh token.",
    "ConnectionFailed": "Connect again with growing pauses; `.last_reply` is the last thing the server said.",
}


def errors_page() -> str:
    """The whole page."""
    head = ("error", "when", "retryable", "what to do")
    rows = [head, ("---",) * len(head), *(_row(kind, depth) for kind, depth in _tree())]
    passing = ", ".join(f"`{advice_id}`" for advice_id in sorted(RETRYABLE))
    return (
        "\n\n".join(
            (
                f"<!-- Made from the classes of exo_imap_oauth.errors by: {COMMAND} -->",
                "# Errors",
                INTRODUCTION,
                _picture(),
                "\n".join(f"| {' | '.join(cells)} |" for cells in rows),
                f"Advice whose cause can pass by itself: {passing}.",
            )
        )
        + "\n"
    )


def _picture() -> str:
    """The tree as a Mermaid block."""
    kinds = [kind for kind, _ in _tree()]
    edges = [(kind.__bases__[0], kind) for kind in kinds]
    described = ", ".join(
        f"{kind.__name__} below {base.__name__}" for base, kind in edges[1:] if base
    )
    lines = [
        "flowchart LR",
        "accTitle: The error tree",
        f"accDescr: {described}.",
        *(f"{base.__name__} --- {kind.__name__}" for base, kind in edges[1:] if base),
    ]
    return "```mermaid\n" + "\n    ".join(lines) + "\n```"


def _tree() -> Iterator[tuple[type[errors.ExoImapOAuthError], int]]:
    """Every class, each behind its base, and how deep it stands."""

    def below(kind: type[errors.ExoImapOAuthError], depth: int) -> Iterator[Any]:
        yield kind, depth
        for child in sorted(
            (child for child in kind.__subclasses__() if child.__name__ in errors.__all__),
            key=lambda child: errors.__all__.index(child.__name__),
        ):
            yield from below(child, depth + 1)

    for name in errors.__all__:  # the IMAP branch is loaded on use
        getattr(errors, name)
    return below(errors.ExoImapOAuthError, 0)


def _row(kind: type[errors.ExoImapOAuthError], depth: int) -> tuple[str, ...]:
    summary, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    summary = re.sub(r":\w+:`~?([.\w]+)`", r"`\1`", summary.replace("\n", " "))
    name = "&emsp;" * depth + f"`{kind.__name__}`"
    return name, summary.replace("``", "`"), _retryable(kind), WHAT_TO_DO[kind.__name__]


def _retryable(kind: type[errors.ExoImapOAuthError]) -> str:
    usual = "yes" if kind("").retryable else "no"
    may_differ = "retryable" in inspect.signature(kind).parameters
    return f"usually {usual}" if may_differ else usual


if __name__ == "__main__":
    ERRORS.write_text(errors_page(), "utf-8")
