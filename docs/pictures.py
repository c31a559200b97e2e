"""Mermaid blocks of the pages as inline SVG, which follows the light and the dark theme.

GitHub draws a block itself. The site shows the drawing in ``docs/pictures`` that carries the
digest of the block; without one, ``sphinx-build -W`` fails. To draw what is missing, with Node.js
and a Chromium at hand::

    PUPPETEER_SKIP_DOWNLOAD=1 npm install --prefix build/mermaid @mermaid-js/mermaid-cli@11
    sphinx-build -b dummy -D mermaid_cli=build/mermaid/node_modules/.bin/mmdc \
        -D nb_execution_mode=off docs build/pictures
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from typing_extensions import override

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

FOLDER = Path(__file__).parent / "pictures"
STYLE = FOLDER / "style.css"  # colours are variables of furo
_TITLE = re.compile(r"^\s*accTitle:\s*(.+?)\s*$", re.MULTILINE)
_logger = logging.getLogger(__name__)


class Picture(SphinxDirective):
    """A Mermaid block, which has to have an ``accTitle`` and an ``accDescr``."""

    has_content = True

    @override
    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        title = _TITLE.search(source)
        if title is None:
            raise self.error("a picture needs a line accTitle: and a line accDescr:")
        name = re.sub(r"\W+", "-", title[1].lower())
        file = FOLDER / f"{name}.svg"
        self.env.note_dependency(file)
        if not _is_of(file, source) and self.config.mermaid_cli:
            file.write_text(_drawn(source, name, self.config.mermaid_cli), "utf-8")
        if not _is_of(file, source):
            place = self.get_location()
            _logger.warning("%s is not of this block: see docs/pictures.py", file, location=place)
            return [nodes.literal_block(source, source)]
        svg = file.read_text("utf-8")
        return [nodes.raw("", f'<div class="picture">{svg}</div>', format="html")]


def _digest(source: str) -> str:
    return sha256(f"{source}\n{STYLE.read_text('utf-8')}".encode()).hexdigest()


def _is_of(file: Path, source: str) -> bool:
    return file.exists() and f'data-source="{_digest(source)}"' in file.read_text("utf-8")


def _drawn(source: str, name: str, mermaid_cli: str) -> str:
    """The block as mermaid-cli draws it, with its own width and its digest."""
    settings = {
        "theme": "base",
        "fontFamily": "sans-serif",
        "htmlLabels": False,  # text of HTML in a picture is cut off in another font
        "flowchart": {"htmlLabels": False, "wrappingWidth": 300, "nodeSpacing": 30},
        "sequence": {"mirrorActors": False, "width": 120, "actorMargin": 30},
        "themeCSS": STYLE.read_text("utf-8"),
    }
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    browser = {"executablePath": chromium, "args": ["--no-sandbox"]}
    with tempfile.TemporaryDirectory() as folder:
        block, drawing = Path(folder, "block.mmd"), Path(folder, "block.svg")
        block.write_text(source, "utf-8")
        for file, values in (("settings.json", settings), ("browser.json", browser)):
            Path(folder, file).write_text(json.dumps(values), "utf-8")
        command = [mermaid_cli, "--quiet", "--input", "block.mmd", "--output", "block.svg"]
        command += ["--configFile", "settings.json", "--puppeteerConfigFile", "browser.json"]
        command += ["--backgroundColor", "transparent", "--svgId", f"picture-{name}"]
        command[0] = str(Path(mermaid_cli).resolve())
        subprocess.run(command, cwd=folder, check=True)  # noqa: S603 - the documented tool
        svg = drawing.read_text("utf-8")
    svg = re.sub(r'width="100%"', f'data-source="{_digest(source)}"', svg, count=1)
    return re.sub(r'style="max-width: ([\d.]+px);[^"]*"', r'style="width: \1"', svg, count=1) + "\n"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_config_value("mermaid_cli", "", "", str)
    app.add_directive("mermaid", Picture)
    return {"parallel_read_safe": True}
