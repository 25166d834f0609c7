"""Sums run along with an agent and its ancestors."""

from __future__ import annotations

import threading
from decimal import Decimal

from otel_runtime.usage.totals import Totals
from otel_runtime.values.usage import Cost, RunRef, TokenUsage, UsageRecord


def used(message: str | None, amount: str = "0.1") -> UsageRecord:
    return UsageRecord(TokenUsage(10, 5, 15), cost=Cost(Decimal(amount)), run=RunRef(message=message))


class TestTotals:
    def test_sums(self) -> None:
        """Tokens and money add up exactly; what nobody said stays None."""
        totals = Totals()
        totals.add(used(None))
        totals.add(used(None, "0.2"))
        assert TokenUsage(20, 10, 30) == totals.tokens
        assert {"USD": Decimal("0.3")} == totals.cost

    def test_one_message_counts_once(self) -> None:
        """A usage that arrives twice for one message counts once."""
        totals = Totals()
        assert [True, False] == [totals.add(used("m1")), totals.add(used("m1"))]
        assert 10 == totals.tokens.input_tokens

    def test_sub_agent_adds_to_ancestors(self) -> None:
        """A sub-agent's usage is in its own sums and in those above it, once."""
        root = Totals()
        child, sibling = Totals(root), Totals(root)
        child.add(used("m1"))
        sibling.add(used("m2"))
        sibling.add(used("m1"))
        assert (10, 20, 20) == (child.tokens.input_tokens, sibling.tokens.input_tokens, root.tokens.input_tokens)

    def test_threads(self) -> None:
        """No addition is lost between threads."""
        totals = Totals()
        threads = [threading.Thread(target=lambda: [totals.add(used(None)) for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 8000 == totals.tokens.input_tokens
