"""Commands that README and docs show can be pasted as they stand: the shell reads no prose as arguments, and the parser takes the rest."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from otel_runtime.cli.main import build_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
# Indented, or in a block for a shell or of plain text.
SHOWN = re.compile(r"^(?: {4})?((?:[A-Z_]+=\S+ )*(?:otel-runtime|make|docker|promtool) [^\n]*?)\\?$", re.MULTILINE)


def shown(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|text)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return SHOWN.findall("\n".join([*re.findall(r"^ {4}.*$", outside, re.MULTILINE), *blocks]))


COMMANDS = sorted({(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in shown(page)})


def test_are_found() -> None:
    """A reader that finds none proves nothing."""
    assert {"README.md", "docs/approvals.md", "docs/viewing-traces.md", "docs/instrument.md"} <= {page for page, _ in COMMANDS}
    assert len([line for _, line in COMMANDS if line.startswith("otel-runtime ")]) > 40


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_can_be_pasted(page: str, line: str) -> None:
    """What is said about a command stands behind `#`."""
    words = shlex.split(line, comments=True)
    assert re.search(r"\S {2,}[^#\s]", line.partition(" #")[0]) is None, f"{page}: prose without `#`: {line}"
    if words[0] == "otel-runtime":
        build_parser().parse_args(words[1:])
