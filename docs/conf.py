"""How Sphinx builds the site: ``sphinx-build -W --keep-going -b html docs build/site``.

Nothing is fetched from the internet, neither by the build nor by a reader's browser.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.domains.python import ObjectEntry, PythonDomain

import exo_imap_oauth

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SOURCE: str = SETTINGS["project"]["urls"]["Source"]
sys.path.insert(0, str(DOCS))  # for the extension in pictures.py

project = "exo_imap_oauth"
author = "the exo_imap_oauth authors"
project_copyright = f"2026 {author}"
release = version = exo_imap_oauth.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "pictures",
]
exclude_patterns = ["*.py", "examples/**", "pictures/**"]

# ---- pages -----------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # as GitHub makes them, so that a link works in both places
myst_fence_as_directive = ["mermaid"]
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ---- the API reference -----------------------------------------------------------------------

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
nitpicky = True
nitpick_ignore_regex = [
    # Names of Python and of other packages: to link to them, their inventories would be fetched.
    (r"py:.*", r"(?!exo_imap_oauth\b).*"),
    # Private classes, which some signatures name.
    (r"py:.*", r"exo_imap_oauth\.(.*\.)?_.*"),
]

# ---- how it looks ----------------------------------------------------------------------------

html_theme = "furo"
html_title = f"exo_imap_oauth {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "source_repository": SOURCE,
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "default"
pygments_dark_style = "github-dark"

# ---- links that work on GitHub work here -----------------------------------------------------

# These pages of the site are files that GitHub wants elsewhere.
INCLUDED = {
    "security": ROOT / ".github" / "SECURITY.md",
    "changelog": ROOT / "CHANGELOG.md",
    "contributing": ROOT / ".github" / "CONTRIBUTING.md",
}
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")


def take_in(_app: Sphinx, docname: str, content: list[str]) -> None:
    """Give a page the text that it includes, and every link the form that Sphinx knows."""
    folder, text = (DOCS / docname).parent, content[0]
    file = INCLUDED.get(docname)
    if file is not None and file.exists():
        folder, text = file.parent, file.read_text("utf-8")
    content[0] = _LINK.sub(lambda link: _in_site(link, folder), text)


def _in_site(link: re.Match[str], folder: Path) -> str:
    target = (folder / link["path"]).resolve()
    for docname, file in INCLUDED.items():
        if target == file:
            return f"/{docname}.md{link['anchor'] or ''}"
    if target.is_relative_to(DOCS) and target.exists():
        path = f"/{target.relative_to(DOCS).as_posix()}"
        is_page = target.suffix == ".md" or target.parent.name == "notebooks"
        return path + (link["anchor"] or "") if is_page else f"path:{path}"
    if target.is_relative_to(ROOT) and target.exists():
        return f"{SOURCE}/blob/main/{target.relative_to(ROOT).as_posix()}"
    return link[0]  # Sphinx will say that it leads nowhere


# ---- names of Python -------------------------------------------------------------------------


def add_top_level_names(_app: Sphinx, env: BuildEnvironment) -> None:
    """Have ``exo_imap_oauth.TokenSource`` lead to where the name is documented."""
    domain = env.domains["py"]
    assert isinstance(domain, PythonDomain)
    for name in exo_imap_oauth.__all__:
        home = getattr(getattr(exo_imap_oauth, name), "__module__", None)
        entry = domain.objects.get(f"{home}.{name}")
        if entry is not None:
            domain.objects[f"exo_imap_oauth.{name}"] = ObjectEntry(
                entry.docname, entry.node_id, entry.objtype, aliased=True
            )


def leave_out_arguments_that_nobody_gives(*event: object) -> tuple[str, None] | None:
    """Protocols are not called, and pytest gives fixtures what they ask for."""
    _app, _kind, name, value, _options, _signature, _returns = event
    is_fixture = str(name).startswith("exo_imap_oauth.pytest_plugin.")
    return ("", None) if is_fixture or getattr(value, "_is_protocol", False) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", leave_out_arguments_that_nobody_gives)
    app.connect("source-read", take_in)
    app.connect("env-updated", add_top_level_names)
