"""What is published: the wheel and the sdist, looked into and built again."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import exo_imap_oauth

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
NAME = f"exo_imap_oauth-{exo_imap_oauth.__version__}"
WHEEL, SDIST = f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"

pytestmark = pytest.mark.slow


def build(source: Path, folder: Path) -> Path:
    """Build the sdist, and the wheel from the source itself."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel"]
    subprocess.run(
        [*command, "--outdir", folder, source], check=True, capture_output=True, timeout=300
    )
    return folder


@pytest.fixture(scope="module", name="dist")
def _dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("build", "hatchling"):
        pytest.importorskip(module, reason="pip install build hatchling")
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module", name="unpacked")
def _unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked by somebody else, later."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(dist / SDIST) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        os.utime(path, (2_000_000_000, 2_000_000_000))
        path.chmod(0o700 if path.is_dir() or os.access(path, os.X_OK) else 0o600)
    return folder / NAME


@pytest.fixture(scope="module", name="metadata")
def _metadata(dist: Path) -> Message:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        return email.message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "exo_imap_oauth").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        names = set(wheel.namelist())
        entry_points = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()
    about = {name for name in names if name.startswith(f"{NAME}.dist-info/")}
    assert names - about == package
    assert "exo_imap_oauth/py.typed" in names
    assert f"{NAME}.dist-info/licenses/LICENSE" in about
    assert entry_points.split() == [
        "[pytest11]", "exo_imap_oauth", "=", "exo_imap_oauth.pytest_plugin",
    ]  # fmt: skip


def test_the_metadata_say_what_a_reader_of_the_package_index_needs(metadata: Message) -> None:
    project = PYPROJECT["project"]
    required = metadata.get_all("Requires-Dist", [])
    always = [each for each in required if "extra ==" not in each]
    assert metadata["Metadata-Version"] == "2.4"
    assert metadata["Version"] == exo_imap_oauth.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == project["requires-python"]
    assert sorted(always) == sorted(project["dependencies"])
    assert {url.partition(", ")[0] for url in metadata.get_all("Project-URL", [])} == {
        "Changelog", "Documentation", "Issues", "Source",
    }  # fmt: skip
    assert metadata.get_payload() == (ROOT / "README.md").read_text("utf-8")


def test_the_sdist_holds_every_file_of_the_repository(dist: Path) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    with tarfile.open(dist / SDIST) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {*listed.stdout.splitlines(), "PKG-INFO"}


def test_built_again_from_the_sdist_both_are_the_same_byte_for_byte(
    dist: Path, unpacked: Path, tmp_path: Path
) -> None:
    again = build(unpacked, tmp_path)
    assert (again / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()
    assert (again / SDIST).read_bytes() == (dist / SDIST).read_bytes()


def test_the_changelog_has_a_dated_section_for_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    version = re.escape(exo_imap_oauth.__version__)
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
