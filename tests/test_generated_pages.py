"""The pages that docs/generate.py makes say what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from exo_imap_oauth._cmsbs.keys import KEYS
from exo_imap_oauth._cmsbs.mistakes import MISTAKES

GENERATOR = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "generate.py"))


@pytest.mark.parametrize("page", GENERATOR["PAGES"], ids=lambda page: page.name)
def test_a_generated_page_is_up_to_date(page: Path) -> None:
    made = GENERATOR["PAGES"][page]()
    assert page.read_text("utf-8") == made, (
        f"{page.name} is out of date; rewrite it with: {GENERATOR['COMMAND']}"
    )


def test_the_page_on_configuration_names_every_key_and_every_mistake() -> None:
    page = GENERATOR["CONFIGURATION"].read_text("utf-8")
    assert all(f"`{name}`" in page for name in KEYS)
    assert all(GENERATOR["shown"](mistake.message) in page for mistake in MISTAKES.values())
