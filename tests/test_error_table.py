"""The page on errors says what the classes say, and every class is found where users look."""

from __future__ import annotations

import pydoc
import re
import runpy
import subprocess
import sys
from pathlib import Path

from exo_imap_oauth import errors

ROOT = Path(__file__).parent.parent


def test_the_page_on_errors_says_what_the_classes_say() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "error_table.py"))
    page = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    assert page == generator["errors_page"](), f"rewrite it with: {generator['COMMAND']}"


def test_every_error_has_a_line_with_when_retryable_and_what_to_do() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    lines = re.findall(r"^\| (?:&emsp;)*`(\w+)` \| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    classes = {name: getattr(errors, name) for name in errors.__all__}
    expected = {n for n, kind in classes.items() if issubclass(kind, errors.ExoImapOAuthError)}
    assert {name for name, *_ in lines} == expected
    for name, when, retryable, _ in lines:
        assert when.endswith("."), name
        answer = "yes" if classes[name]("").retryable else "no"
        assert retryable.removeprefix("usually ") == answer, name


def test_dir_and_help_show_every_error() -> None:
    # In a process of its own: here, other tests have loaded the branch that is loaded on use.
    code = "import exo_imap_oauth as e; print(*dir(e.errors))"
    listed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(errors.__all__) <= set(listed)
    shown = pydoc.plain(pydoc.render_doc(errors))
    for name in errors.__all__:
        assert re.search(rf"^    class {name}\(", shown, re.MULTILINE), name
