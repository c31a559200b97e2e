"""Make the table of fields, keys and variables in docs/how-to/without-universal-messenger.md.

    python docs/fields_table.py

tests/test_without_universal_messenger.py fails where it does not say what the code says.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from exo_imap_oauth import InboxConfig
from exo_imap_oauth._cmsbs.keys import KEYS
from exo_imap_oauth._inbox.environment import FILES, VARIABLES

PAGE = Path(__file__).parent / "how-to" / "without-universal-messenger.md"
BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"
# Arguments of for_tenant() that are no fields, and their variables.
OF_A_TENANT = {
    "tenant_id": ("`TENANT_ID`", "in `oauth2.accessTokenUri`"),
    "cloud": ("`CLOUD`: worldwide, us_government, us_dod or china", ""),
}


def fields_table() -> str:
    """One row for each field: default, variable, key of a cmsbs-conf."""
    lines = ["| field | default | `EXO_IMAP_…` | `cmsbs.mail.imap.…` |", "|---|---|---|---|"]
    lines += (
        f"| `{name}` of `for_tenant()` | | {variable} | {key} |"
        for name, (variable, key) in OF_A_TENANT.items()
    )
    for field in dataclasses.fields(InboxConfig):
        cells = (f"`{field.name}`", _default(field), _variables(field.name), _keys(field.name))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    return "" if field.default is None else f"`{field.default}`"


def _variables(name: str) -> str:
    found = [variable for variable, field in (VARIABLES | FILES).items() if field == name]
    return ", ".join(f"`{variable}`" for variable in found)


def _keys(name: str) -> str:
    return ", ".join(f"`{key.name}`" for key in KEYS.values() if key.field == name)


def written(page: str) -> str:
    """The page with its table made again."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{fields_table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
