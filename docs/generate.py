# ruff: noqa: E501 - the page's lines are as long as its sentences
"""Make the pages, and the tables in pages, that say what the code says.

    python docs/generate.py

tests/test_generated_pages.py fails where a page is out of date.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._advice_table import TABLE
from exo_imap_oauth._advice_table.entra import ENTRA
from exo_imap_oauth._cmsbs.keys import KEYS, documented
from exo_imap_oauth._cmsbs.mistakes import CHECKS, MISTAKES
from exo_imap_oauth.advice import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth._advice_table import Row
    from exo_imap_oauth._inbox_rules import Mistake

DOCS = Path(__file__).parent
TROUBLESHOOT = DOCS / "how-to" / "troubleshoot.md"
CONFIGURATION = DOCS / "reference" / "configuration.md"
EXAMPLES = DOCS.parent / "tests" / "data" / "advice-examples.json"  # one for each id
COMMAND = "python docs/generate.py"

# ---- how-to/troubleshoot.md, from the table of advice ----------------------------------------

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


# ---- reference/configuration.md, its tables of keys and of mistakes --------------------------

NAMES = {key.field: key.name for key in KEYS.values()}
SEVERITIES = {
    "error": "error",
    "warning": "warning",
    "entra": "error at Entra",
    "exchange": "error at Exchange",
}


def configuration_page() -> str:
    """The page as it is, with its tables made again."""
    page = CONFIGURATION.read_text("utf-8")
    for name, text in (("keys", _keys_table()), ("mistakes", _mistakes_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"
    return page


def _keys_table() -> str:
    rows: list[tuple[str, ...]] = []
    for key in KEYS.values():
        default = (
            "required" if key.default is None else f"`{key.default}`" if key.default else "none"
        )
        listener = documented(key.name, "<name>").removeprefix("cmsbs.bouncelistener.<name>.")
        inherited = "yes" if key.inherited else "no"
        rows.append((f"`{key.name}`", f"`{listener}`", default, inherited, key.meaning))
    head = "| `cmsbs.mail.imap.` | `cmsbs.bouncelistener.<name>.` | default | inherited | meaning |"
    return _table(head, rows)


def _mistakes_table() -> str:
    rows: list[tuple[str, ...]] = [
        (
            SEVERITIES[mistake.severity],
            _keys_of(mistake),
            shown(mistake.message),
            shown(mistake.fix.replace("{belongs}", "what belongs there")),
        )
        for mistake in MISTAKES.values()
    ]
    return _table("| | keys | what is wrong | what to do |", rows)


def _keys_of(mistake: Mistake) -> str:
    if mistake.fields:
        return ", ".join(f"`{NAMES.get(name, name)}`" for name in mistake.fields)
    if mistake not in CHECKS:
        return "any"
    missing = [f"`{name}`" for field, name in NAMES.items() if not mistake.concerns(field)]
    return "all but " + ", ".join(missing) if missing else "all"


def shown(template: str) -> str:
    """Markdown that shows the text as it is, and what is filled in in italics."""
    text = re.sub(r"([<>_*\\])", r"\\\1", template)
    return re.sub(r"\s?\{(\w+)\}", r" *\1*", text).strip()


def _table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = [head, re.sub(r"[^|]+", "---", head)]
    lines += ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join(lines)


PAGES = {TROUBLESHOOT: troubleshooting_page, CONFIGURATION: configuration_page}

if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(make(), "utf-8")
