"""README and docs are run, block by block, so that what they show is what happens.

In each file, in order:
- python blocks together are one program, run in an empty folder;
- a block right after `<!-- file: NAME -->` is written to NAME in that folder when the program comes to it, whatever its language;
- a yaml block that starts with `version: 1` is a policy and must pass `otel-runtime policy check`;
- a block right after `<!-- not run: REASON -->` is left out; a reason must be given.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]
FENCE = re.compile(
    r"^(?:<!-- *(?P<word>file|not run): *(?P<text>.*?) *-->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Args:
        language: What stands after the fence.
        body: The text between the fences.
        line: Line of the first body line, starts at 1.
        file: Name to write it to, or empty.
        skipped: Why it is not run, or empty.
    """

    language: str
    body: str
    line: int
    file: str = ""
    skipped: str = ""


def blocks(text: str) -> list[Block]:
    """Every fenced block of a document that names its language."""
    return [
        Block(
            language=found["language"],
            body=found["body"],
            line=text.count("\n", 0, found.start("body")) + 1,
            file=found["text"] if found["word"] == "file" else "",
            skipped=found["text"] if found["word"] == "not run" else "",
        )
        for found in FENCE.finditer(text)
    ]


def program(of: list[Block]) -> str:
    """One program of the python blocks and the files between them, each at its line, so that a traceback points into the document."""
    lines: list[str] = []
    for block in of:
        if block.file or block.language == "python":
            lines += [""] * (block.line - 1 - len(lines)) + (write(block) if block.file else block.body.splitlines())
    return "\n".join(lines) + "\n"


def write(block: Block) -> list[str]:
    """The statement that writes a file of the document."""
    return [f"__import__('pathlib').Path({block.file!r}).write_text({block.body!r})"]


def run(*command: str | Path, cwd: Path) -> tuple[int, str]:
    """Exit code and everything printed, without the settings of whoever runs the tests."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def _lines_of(rule: str, policy: Path) -> list[int]:
    """Where rules of this id begin, from 1."""
    begins = re.compile(rf"\s*- \{{?id: {re.escape(rule)}\b(?![.-])")
    return [at for at, line in enumerate(policy.read_text(encoding="utf-8").splitlines(), 1) if begins.match(line)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
class TestDocument:
    def test_python_runs(self, document: Path, tmp_path: Path) -> None:
        """The python blocks of a document run as one program in an empty folder."""
        script = tmp_path / document.with_suffix(".py").name
        script.write_text(program([block for block in blocks(document.read_text()) if not block.skipped]))
        returncode, printed = run(sys.executable, script, cwd=tmp_path)
        assert (0, "") == (returncode, "" if returncode == 0 else printed)

    def test_policies_load(self, document: Path, tmp_path: Path) -> None:
        """Every whole policy that a document shows is accepted, its own cases included."""
        shown = [
            block
            for block in blocks(document.read_text())
            if block.language == "yaml" and block.body.startswith("version: 1") and not block.skipped
        ]
        refused = {}
        for block in shown:
            file = tmp_path / f"line-{block.line}.yaml"
            file.write_text(block.body)
            returncode, printed = run(sys.executable, "-m", "otel_runtime", "policy", "check", file, cwd=tmp_path)
            if returncode:
                refused[block.line] = printed
        assert {} == refused

    def test_rules_are_where_they_are_said_to_be(self, document: Path) -> None:
        """A printed `by RULE (FILE:LINE)` of a shipped policy names the line at which that rule begins."""
        said = re.findall(r"by ([\w.-]+) \((policy/[\w.-]+):(\d+)\)", document.read_text(encoding="utf-8"))
        found = [(rule, file, str(at)) for rule, file, line in said for at in _lines_of(rule, ROOT / file) if str(at) == line]
        assert said == found

    def test_skips_have_reasons(self, document: Path, record_property: Callable[[str, object], None]) -> None:
        """A block that is not run says why."""
        skipped = [block for block in blocks(document.read_text()) if block.skipped]
        record_property("blocks_not_run", len(skipped))
        assert [] == [block.line for block in skipped if len(block.skipped) < 10]


class TestBlocks:
    """The instrument itself: a reader that finds no block proves nothing."""

    TEXT = "a\n\n```python\nx = 1\n```\n\n<!-- file: p.yaml -->\n```yaml\nversion: 1\n```\n\n<!-- not run: needs a key of yours -->\n\n```python\nboom\n```\n```python\nprint(x)\n```\n"

    def test_are_found_with_their_marks(self) -> None:
        """Languages, lines and marks are read as written."""
        assert [
            Block("python", "x = 1\n", 4),
            Block("yaml", "version: 1\n", 9, file="p.yaml"),
            Block("python", "boom\n", 15, skipped="needs a key of yours"),
            Block("python", "print(x)\n", 18),
        ] == blocks(self.TEXT)

    def test_keep_their_lines(self) -> None:
        """A line of the program has the number it has in the document."""
        lines = program([block for block in blocks(self.TEXT) if not block.skipped]).splitlines()
        assert ["x = 1", "__import__('pathlib').Path('p.yaml').write_text('version: 1\\n')", "print(x)"] == [
            lines[number - 1] for number in (4, 9, 18)
        ]

    def test_readme_is_among_the_documents(self) -> None:
        """The README is there and shows a program."""
        assert "python" in {block.language for block in blocks((ROOT / "README.md").read_text())}
