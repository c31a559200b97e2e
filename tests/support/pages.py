"""The code blocks of the documentation's pages, and a way to run them."""

from __future__ import annotations

import doctest
import importlib.util
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCED = re.compile(
    r"^(?: *<!-- (?P<remark>[^\n]+?) -->\n\n?)?(?P<indent> *)```(?P<language>[^\n]*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def example(name: str) -> ModuleType:
    """The program of this name in docs/examples, as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def without_blocks(page: Path) -> str:
    """The prose of a page."""
    return _FENCED.sub("", page.read_text("utf-8"))


def run(block: Block, names: dict[str, Any] | None = None) -> str:
    """Run a Python block as it stands, with the line numbers of its page; what it prints.

    Where it is a session with prompts, what it shows is compared with what it prints.
    """
    if names is None:
        names = {"__name__": block.page.stem}
    if block.text.startswith(">>>"):
        return _run_session(block, names)
    code = compile("\n" * (block.line - 1) + block.text, block.page, "exec", dont_inherit=True)
    with redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    return printed.getvalue()


def prints(shown: str, printed: str) -> bool:
    """Whether a page shows what is printed; ``...`` stands for anything."""
    return doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)


def _run_session(block: Block, names: dict[str, Any]) -> str:
    session = doctest.DocTestParser().get_doctest(
        block.text, names, block.page.name, str(block.page), block.line - 1
    )
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed, _ = runner.run(session, out=report.append, clear_globs=False)
    names.update(session.globs)  # it works on a copy
    assert not failed, "".join(report)
    return ""
