"""Cost is exact, estimated from a maintained table, and never in the way."""

from __future__ import annotations

from decimal import Decimal

import genai_prices

from otel_runtime.usage.pricing import price
from otel_runtime.values.usage import Cost, TokenUsage, UsageRecord


def cost_of(record: UsageRecord) -> Cost:
    cost = price(record).cost
    assert cost is not None
    return cost


class TestPrice:
    def test_known_model(self) -> None:
        """A known model's cost is an exact decimal, marked as estimated, with the table's version."""
        cost = cost_of(UsageRecord(TokenUsage(1000, 100, 1100), "gpt-4o", "openai"))
        assert Cost(Decimal("0.0035"), "USD", estimated=True, source=f"genai-prices {genai_prices.__version__}") == cost

    def test_cached_input_is_priced_once(self) -> None:
        """Cached tokens are charged at their own price and not again as input."""
        cost = cost_of(UsageRecord(TokenUsage(1000, 100, 1100, cache_read=200), "gpt-4o", "openai"))
        assert Decimal("0.00325") == cost.amount

    def test_conventions_provider_names(self) -> None:
        """The conventions' provider names are translated to the table's."""
        assert Decimal(0) < cost_of(UsageRecord(TokenUsage(10, 10), "gemini-2.5-flash", "gcp.gemini")).amount

    def test_unknown_model(self) -> None:
        """A model nobody has a price for keeps no cost."""
        assert price(UsageRecord(TokenUsage(10, 10), "scripted-model", "openai")).cost is None

    def test_reported_cost_wins(self) -> None:
        """What the provider reported is kept."""
        reported = Cost(Decimal("1.5"), "EUR", estimated=False, source="provider")
        assert reported == cost_of(UsageRecord(TokenUsage(10, 10), "gpt-4o", "openai", cost=reported))

    def test_contradictory_counts(self) -> None:
        """More cached tokens than input is the provider's mistake: no price, no exception."""
        record = UsageRecord(TokenUsage(10, 10, cache_read=50), "gpt-4o", "openai")
        assert record == price(record)
