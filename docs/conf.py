"""The site: Sphinx, MyST and furo. ``make docs`` builds it into build/site, warnings as errors, without the network."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402

import sb3_lecture  # noqa: E402

project = "sb3_lecture"
author = "The sb3_lecture authors"
copyright = author
release = version = sb3_lecture.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["notebooks/*", "Thumbs.db", ".DS_Store"]
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "colon_fence"]
#: a code block without a language is a command's output or a formula
highlight_language = "text"
suppress_warnings = ["misc.highlighting_failure"]
toc_object_entries = False  # with them the side bar of every page lists every method
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the text names types, shapes and units
autodoc_default_options = {"members": True, "show-inheritance": True}
# what the classes inherit is SB3's to document
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = "sb3_lecture"
html_show_sourcelink = False
html_static_path: list[str] = []


def plain_marks(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Let |x| and q* in a docstring be what they look like: reStructuredText would read a substitution and an emphasis."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``|(?<![\w*])\*\w[^*]*\*(?![\w*]))", line)  # literals and emphasis stay
        parts[::2] = [re.sub(r"(?<!\*)\*(?![* ])", r"\\*", part.replace("|", "\\|")) for part in parts[::2]]
        lines[i] = "".join(parts)


def setup(app: Any) -> None:
    """Write the pages that are generated before Sphinx looks for its sources."""
    generate.write_all(HERE)
    app.connect("autodoc-process-docstring", plain_marks)
