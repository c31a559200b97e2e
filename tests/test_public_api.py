"""What ``import exo_imap_oauth`` offers, and what it does not load."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import exo_imap_oauth

ROOT = Path(__file__).parent.parent
HEAVY = ("requests", "urllib3", "imaplib", "ssl", "logging", "cachetools", "typing_extensions")


def _loaded_after(statement: str, names: str = "sys.modules") -> set[str]:
    script = f"import sys; {statement}; print(*{names})"
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_import_alone_loads_nothing_heavy() -> None:
    loaded = _loaded_after("import exo_imap_oauth")
    assert loaded.isdisjoint(HEAVY)
    assert {m for m in loaded if m.startswith("exo_")} == {
        "exo_imap_oauth",
        "exo_imap_oauth._version",
    }


def test_building_a_token_source_loads_no_http_client() -> None:
    loaded = _loaded_after(
        "import exo_imap_oauth; exo_imap_oauth.TokenSource('contoso.com', 'id', 'secret')"
    )
    assert loaded.isdisjoint(
        {"requests", "urllib3", "charset_normalizer", "certifi", "imaplib", "ssl"}
    )


def test_errors_are_there_after_a_plain_import() -> None:
    assert "exo_imap_oauth.errors" in _loaded_after("import exo_imap_oauth; exo_imap_oauth.errors")


@pytest.mark.parametrize("name", exo_imap_oauth.__all__)
def test_every_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(exo_imap_oauth, name) is not None
    assert name in dir(exo_imap_oauth)


def test_public_submodules_are_there_and_private_ones_start_with_an_underscore() -> None:
    folder = ROOT / "exo_imap_oauth"
    modules = {path.stem for path in folder.glob("*.py")} | {"testing"}
    public = {name for name in modules if not name.startswith("_")}
    # A fresh interpreter, since an import makes any module an attribute of its package.
    listed = _loaded_after("import exo_imap_oauth", "dir(exo_imap_oauth)") & modules
    assert public - listed == {"token_endpoint", "trust", "pytest_plugin"} & modules
    for name in sorted(public - {"pytest_plugin"}):
        assert importlib.import_module(f"exo_imap_oauth.{name}").__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Tokensource'"):
        exo_imap_oauth.Tokensource  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] # wrong on purpose  # noqa: B018


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{exo_imap_oauth.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
