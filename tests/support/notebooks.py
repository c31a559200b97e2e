"""The notebooks of the documentation: their cells, run as Python, or by a real kernel."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, NamedTuple

from support.missing import skip_or_fail
from support.pages import DOCS

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
_CELL = re.compile(r"^# %%(?P<rest>.*)\n(?P<text>(?:(?!# %%).*\n)*)", re.MULTILINE)
_NEEDED = ("ipykernel", "jupytext", "nbclient")
_EXECUTE = """
import sys, jupytext, nbclient, nbformat
notebook = jupytext.reads(sys.stdin.read(), fmt="py:percent")
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
sys.stdout.write(nbformat.writes(notebook))
"""


class Cell(NamedTuple):
    """A cell; the text of a Markdown cell is without its comment signs."""

    line: int  # of its first line in the file
    is_code: bool
    raises: bool
    text: str


class Output(NamedTuple):
    """What a cell of code gave: what it printed, its value, its error."""

    text: str
    html: str = ""


def cells(notebook: Path) -> list[Cell]:
    """The cells of a notebook in jupytext's format ``py:percent``."""
    source = notebook.read_text("utf-8")
    found: list[Cell] = []
    for match in _CELL.finditer(source):
        is_code = "[markdown]" not in match["rest"]
        text = match["text"] if is_code else re.sub("(?m)^# ?", "", match["text"])
        line = source.count("\n", 0, match.start("text")) + 1
        found.append(Cell(line, is_code, "raises-exception" in match["rest"], text))
    return found


def run(notebook: Path) -> list[Output]:
    """The outputs of the cells of code, run in their order as one Python program.

    A cell that is marked so must raise; the text of the error is then its output.
    """
    names: dict[str, Any] = {"__name__": notebook.stem}
    return [_run_cell(notebook, cell, names) for cell in cells(notebook) if cell.is_code]


def _run_cell(notebook: Path, cell: Cell, names: dict[str, Any]) -> Output:
    value: Any = None
    error = ""
    with redirect_stdout(io.StringIO()) as printed:
        try:
            value = _value_of(notebook, cell, names)
        except Exception as raised:
            if not cell.raises:
                raise
            error = f"{type(raised).__name__}: {raised}"
    assert bool(error) == cell.raises, f"{notebook.name}:{cell.line} raises no exception"
    html: str = value._repr_html_() if hasattr(value, "_repr_html_") else ""
    shown = "" if value is None else repr(value)
    return Output(printed.getvalue() + shown + error, html)


def _value_of(notebook: Path, cell: Cell, names: dict[str, Any]) -> Any:
    """Run a cell; the value of the expression that it ends with, if it does."""
    tree = ast.parse("\n" * (cell.line - 1) + cell.text, notebook.name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, notebook, "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), notebook, "eval"), names)


def run_in_kernel(source: str, folder: Path) -> list[Output]:
    """The outputs of the cells of code of a ``py:percent`` text, run by IPython's kernel.

    Needs the extra ``docs``. Warnings and whatever else goes to stderr count as an error.
    """
    try:
        for module in _NEEDED:
            __import__(module)
    except ImportError as error:
        skip_or_fail(f"{error}; install it: pip install 'exo-imap-oauth[docs]'")
    done = subprocess.run(
        [sys.executable, "-c", _EXECUTE],
        input=source,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    notebook = json.loads(done.stdout)
    return [_output_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _output_of(cell: dict[str, Any]) -> Output:
    text, html = "", ""
    for output in cell["outputs"]:
        assert output.get("name") != "stderr", output
        text += "".join(output.get("text", []))
        if "traceback" in output:
            text += re.sub("\x1b\\[[0-9;]*m", "", "\n".join(output["traceback"]))
        data: dict[str, Any] = output.get("data", {})
        text += "".join(data.get("text/plain", []))
        html += "".join(data.get("text/html", []))
    return Output(text, html)
