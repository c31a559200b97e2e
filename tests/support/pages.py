"""The code blocks of the documentation's pages, and a way to run them."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCED = re.compile(
    r"^(?:<!-- (?P<remark>[^\n]+?) -->\n\n?)?(?P<indent> *)```(?P<language>[^\n]*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page; ``remark`` is the HTML comment right before it, if any."""

    page: Path
    line: int
    language: str
    text: str
    remark: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of these languages if any are named, in their order."""
    text = page.read_text("utf-8")
    found = [
        Block(
            page,
            text.count("\n", 0, match.start("text")) + 1,
            match["language"],
            match["text"],
            match["remark"] or "",
        )
        for match in _FENCED.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def run(block: Block, names: dict[str, Any] | None = None) -> str:
    """Run a Python block as it stands, with the line numbers of its page; what it prints."""
    code = compile("\n" * (block.line - 1) + block.text, block.page, "exec", dont_inherit=True)
    with redirect_stdout(io.StringIO()) as printed:
        exec(code, {"__name__": block.page.stem} if names is None else names)
    return printed.getvalue()
