from __future__ import annotations

import pytest

from otel_runtime.policy.truth import Tri, all_of, any_of, negate, spell


class TestKleene:
    @pytest.mark.parametrize(
        ("left", "right", "both", "either"),
        [
            (True, True, True, True),
            (True, False, False, True),
            (True, None, None, True),
            (False, False, False, False),
            (False, None, False, None),
            (None, None, None, None),
        ],
    )
    def test_tables(self, left: Tri, right: Tri, both: Tri, either: Tri) -> None:
        """Conjunction and disjunction follow Kleene's tables in both orders."""
        assert (both, both) == (all_of([left, right]), all_of([right, left]))
        assert (either, either) == (any_of([left, right]), any_of([right, left]))

    def test_negation(self) -> None:
        """Not unknown is unknown."""
        assert (False, True, None) == (negate(True), negate(False), negate(None))

    def test_empty(self) -> None:
        """All of nothing holds, one of nothing does not."""
        assert (True, False) == (all_of([]), any_of([]))

    def test_words(self) -> None:
        """The three values have names."""
        assert ["true", "false", "unknown"] == [spell(True), spell(False), spell(None)]
