# ruff: noqa: E501 - the page's lines are as long as its sentences
"""Make docs/how-to/troubleshoot.md of the table of advice.

    python docs/generate.py

tests/test_troubleshoot_page.py fails where the page does not say what the code says.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._advice_entra import ENTRA
from exo_imap_oauth._advice_table import TABLE
from exo_imap_oauth.advice import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth._advice_table import Row

DOCS = Path(__file__).parent
TROUBLESHOOT = DOCS / "how-to" / "troubleshoot.md"
EXAMPLES = DOCS.parent / "tests" / "data" / "advice-examples.json"  # one for each id
COMMAND = "python docs/generate.py"

INTRODUCTION = """\
Every piece of advice the library gives, by its id: what the message looks like, what it means, what to do.
`error.advice.id` is such an id, and so is `advice.id` of a failed check in the report of `check_setup`.
`exo_imap_oauth.advice.advise(text)` looks up a message of any log; what it does not know for sure gets `None`.

The commands are for [Exchange Online PowerShell](set-up.md#7-exchange-online-register-the-application-and-give-it-the-mailboxes)
unless they begin with another program. An error shows them with your own values in place of the `<placeholders>`."""

FREQUENT = (
    "mailbox-not-connected",
    "authenticate-refused",
    "object-id-mismatch",
    "role-missing",
    "secret-wrong",
    "secret-expired",
)


def troubleshooting_page() -> str:
    """The whole page."""
    examples = {example["id"]: example for example in json.loads(EXAMPLES.read_text("utf-8"))}
    parts = [
        f"<!-- Made from exo_imap_oauth/_advice_table.py by: {COMMAND} -->",
        "# Troubleshoot",
        INTRODUCTION,
        *_index(),
    ]
    for row in TABLE:
        parts += _section(row, examples[row.id])
    return "\n\n".join(parts) + "\n"


def _index() -> Iterator[str]:
    """Links to the sections: first to those that most people need."""
    token = [row.id for row in ENTRA]
    mailbox = [row.id for row in TABLE if row not in ENTRA]
    groups = {"Most often": FREQUENT, "The token": token, "Mailbox and connections": mailbox}
    for title, ids in groups.items():
        yield f"**{title}:** " + " · ".join(f"[{id_}](#{id_})" for id_ in ids)


def _section(row: Row, example: dict[str, Any]) -> Iterator[str]:
    advice = explain(row.id)
    yield f"## {row.id}"
    if example["message"]:
        yield "Message, for example:"
        yield f"```text\n{textwrap.fill(example['message'], 96)}\n```"
    if row.codes:
        yield "Codes: " + ", ".join(f"AADSTS{code}" for code in row.codes.split())
    if example["known"]:
        yield f"Told from others by what is known: `{', '.join(example['known'])}`."
    yield f"**Cause.** {_markdown(advice.cause)}"
    yield f"**Fix.** {_markdown(advice.fix)}"
    if row.retryable:
        yield "It can pass without a change: the same call may succeed later."
    if advice.commands:
        yield "```powershell\n" + "\n".join(advice.commands) + "\n```"
    yield f"[More on the subject]({advice.url})"


def _markdown(text: str) -> str:
    return text.replace("<", "\\<").replace(" > ", " → ")


if __name__ == "__main__":
    TROUBLESHOOT.write_text(troubleshooting_page(), "utf-8")
