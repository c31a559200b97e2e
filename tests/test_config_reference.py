"""The tables of docs/reference/configuration.md are made from the code.

Rewrite them with: python tests/test_config_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from exo_imap_oauth._cmsbs.keys import KEYS, documented
from exo_imap_oauth._cmsbs.mistakes import CHECKS, MISTAKES

if TYPE_CHECKING:
    from exo_imap_oauth._inbox_rules import Mistake

NAMES = {key.field: key.name for key in KEYS.values()}
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"
COMMAND = "python tests/test_config_reference.py"
SEVERITIES = {
    "error": "error",
    "warning": "warning",
    "entra": "error at Entra",
    "exchange": "error at Exchange",
}


def table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = [head, re.sub(r"[^|]+", "---", head)]
    lines += ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join(lines)


def keys_table() -> str:
    rows: list[tuple[str, ...]] = []
    for key in KEYS.values():
        default = (
            "required" if key.default is None else f"`{key.default}`" if key.default else "none"
        )
        listener = documented(key.name, "<name>").removeprefix("cmsbs.bouncelistener.<name>.")
        rows.append(
            (
                f"`{key.name}`",
                f"`{listener}`",
                default,
                "yes" if key.inherited else "no",
                f"{key.meaning}",
            )
        )
    head = "| `cmsbs.mail.imap.` | `cmsbs.bouncelistener.<name>.` | default | inherited | meaning |"
    return table(head, rows)


def shown(template: str) -> str:
    """Markdown that shows the text as it is, and what is filled in in italics."""
    text = re.sub(r"([<>_*\\])", r"\\\1", template)
    return re.sub(r"\s?\{(\w+)\}", r" *\1*", text).strip()


def keys_of(mistake: Mistake) -> str:
    if mistake.fields:
        return ", ".join(f"`{NAMES.get(name, name)}`" for name in mistake.fields)
    if mistake not in CHECKS:
        return "any"
    missing = [f"`{name}`" for field, name in NAMES.items() if not mistake.concerns(field)]
    return "all but " + ", ".join(missing) if missing else "all"


def mistakes_table() -> str:
    rows: list[tuple[str, ...]] = [
        (
            SEVERITIES[mistake.severity],
            keys_of(mistake),
            shown(mistake.message),
            shown(mistake.fix.replace("{belongs}", "what belongs there")),
        )
        for mistake in MISTAKES.values()
    ]
    return table("| | keys | what is wrong | what to do |", rows)


def written(page: str) -> str:
    """The page with its tables made again."""
    for name, text in (("keys", keys_table()), ("mistakes", mistakes_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"
    return page


def test_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), f"the tables are out of date; rewrite them with: {COMMAND}"


def test_the_page_names_every_key_and_every_mistake() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in KEYS)
    assert all(shown(mistake.message) in page for mistake in MISTAKES.values())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
