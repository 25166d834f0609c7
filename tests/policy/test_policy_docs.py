from __future__ import annotations

import re
from pathlib import Path

import pytest

import otel_runtime.policy
from otel_runtime.policy.loading import load_policy_text

PAGE = Path(__file__).parents[2] / "docs" / "writing-policy.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
LINTS = Path(str(otel_runtime.policy.__file__)).parent.glob("*.py")


class TestPage:
    @pytest.mark.parametrize("block", BLOCKS)
    def test_every_block_loads(self, block: str) -> None:
        """Every policy on the page can be used as it stands, its cases included."""
        assert load_policy_text(block, "writing-policy.md").rules > 0

    def test_there_are_blocks(self) -> None:
        """The page has examples to try."""
        assert len(BLOCKS) >= 7

    def test_every_warning_is_explained(self) -> None:
        """Each warning code of the code is in the page's table."""
        used = {code for path in LINTS for code in re.findall(r'"(P1[0-9]{2})"', path.read_text(encoding="utf-8"))}
        assert used == set(re.findall(r"^\| (P1[0-9]{2}) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
