"""How `make docs` turns this folder into a site with Sphinx; the reference is generated from docstrings and models at every build."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
# Help texts as wide as a page, whatever terminal the build has.
os.environ["COLUMNS"] = "100"
sys.path[:0] = [str(_HERE), str(_HERE.parent)]

import reference_pages  # noqa: E402 - found by the line above

from otel_runtime import __version__  # noqa: E402 - same

project = "otel-runtime"
author = "the otel-runtime authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["schemas"]
html_theme = "furo"
html_title = f"otel-runtime {__version__}"
html_show_copyright = False
html_show_sourcelink = False
html_static_path = ["site"]
html_css_files = ["site.css"]
myst_heading_anchors = 4
# A type is written as in the source; where it comes from is one click away.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Docstrings are written for editors, which read Markdown: there one backtick is code.
_CODE = re.compile(r"(?<![`:])`([^`]+)`(?!`)(?=(\w)?)")


def _name_files_outside(_app: object, document: str, source: list[str]) -> None:
    """Links that leave docs/ work in the repository; the site names the file instead."""
    out = re.escape("../" * (document.count("/") + 1))
    source[0] = re.sub(rf"\[([^\]]+)\]\({out}(?!docs/)([^)]+)\)", r"\1 (`\2` in the repository)", source[0])


def _markdown_code(*parts: Any) -> None:
    """Docstrings: `code` as reStructuredText spells it; the last part is the list of lines."""
    lines: list[str] = parts[-1]
    # "`Handle`s": a literal ends at a space, if only an escaped one.
    lines[:] = _CODE.sub(lambda code: f"``{code[1]}``" + "\\ " * bool(code[2]), "\n".join(lines)).split("\n")


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("builder-inited", lambda _app: reference_pages.write(_HERE / "reference"))
    app.connect("autodoc-process-docstring", _markdown_code)
    app.connect("source-read", _name_files_outside)
