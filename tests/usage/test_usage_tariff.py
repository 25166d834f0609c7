"""The rates learned from the price table are the table's own, for every model it has."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_runtime.usage import pricing
from otel_runtime.usage.pricing import price
from otel_runtime.usage.tariff import Tariff
from otel_runtime.values.usage import TokenUsage, UsageRecord


def everything() -> list[tuple[str, ModelPrice]]:
    """Every set of prices of the table once, those of other days and hours too, with the name of a model that has it."""
    found = {
        repr(prices): (f"{provider.id}/{model.id}", prices)
        for provider in get_snapshot().providers
        for model in provider.models
        for prices in ([model.prices] if isinstance(model.prices, ModelPrice) else [part.prices for part in model.prices])
    }
    return list(found.values())


def limits(prices: ModelPrice) -> set[int]:
    """Where a tier of these prices begins."""
    return {tier.start for value in vars(prices).values() for tier in getattr(value, "tiers", ())}


TABLE = everything()
LIMITS = sorted({start for _, prices in TABLE for start in limits(prices)})
COUNTS = st.one_of(st.integers(0, 3), st.integers(0, 3_000_000), st.sampled_from(LIMITS), st.integers(0, 10**12))


def by_the_table(prices: ModelPrice, usage: TokenUsage) -> str | None:
    """The table's own amount, digit by digit; None when it refuses the usage."""
    names = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    names |= {"cache_read_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write}
    try:
        return str(prices.calc_price(Usage(**{name: value for name, value in names.items() if value is not None}))["total_price"])
    except ValueError:
        return None


def check(prices: ModelPrice, tariff: Tariff, usage: TokenUsage) -> bool:
    """True when the tariff had an answer, which then is the table's."""
    amount = tariff.amount(usage)
    if amount is None:
        return False
    assert by_the_table(prices, usage) == str(amount), usage
    return True


class TestEveryModel:
    def test_amounts(self) -> None:
        """For every model, on both sides of its tiers, with and without caches, the amount is the table's to the last digit."""
        asked = answered = 0
        for name, prices in TABLE:
            tariff = Tariff(prices)
            plain = TokenUsage(1_000, 77)
            assert check(prices, tariff, plain) or by_the_table(prices, plain) is None, name
            for given_tokens in {0, 1_000, *limits(prices), *(start + 1 for start in limits(prices))}:
                caches = ((None, None), (given_tokens // 3, None), (None, given_tokens // 7), (given_tokens // 3, given_tokens // 7))
                for read, written in (*caches, (given_tokens, 0)):
                    asked += 1
                    answered += check(prices, tariff, TokenUsage(given_tokens, 77, cache_read=read, cache_write=written))
        assert answered > 0.9 * asked

    @given(st.integers(0, len(TABLE) - 1), COUNTS, COUNTS, st.none() | COUNTS, st.none() | COUNTS)
    @settings(max_examples=500, deadline=None)
    def test_any_usage(self, at: int, given_tokens: int, output: int, read: int | None, written: int | None) -> None:
        """Whatever was used, an amount is the table's, and what the table refuses has none."""
        _, prices = TABLE[at]
        check(prices, Tariff(prices), TokenUsage(given_tokens, output, cache_read=read, cache_write=written))

    def test_used_twice(self) -> None:
        """What was learned from one usage does not carry over to one of another band or of other kinds."""
        prices = ModelPrice(
            input_mtok=TieredPrices(base=Decimal(3), tiers=[Tier(start=200_000, price=Decimal(6))]),
            output_mtok=Decimal(15),
            cache_read_mtok=Decimal("0.3"),
        )
        tariff = Tariff(prices)
        usages = [
            TokenUsage(100, 5),
            TokenUsage(200_001, 5),
            TokenUsage(200_000, 5, cache_read=50),
            TokenUsage(900_000, 0, cache_read=900_000),
        ]
        assert [True] * 8 == [check(prices, tariff, usage) for usage in usages * 2]


class TestDoubt:
    @pytest.mark.parametrize(
        "usage",
        [
            TokenUsage(10, 10, cache_read=50),
            TokenUsage(None, 10),
            TokenUsage(10, None),
            TokenUsage(-1, 10),
            TokenUsage(10**40, 10),
            TokenUsage(1.5, 10),  # type: ignore[arg-type]  # an application may make its own records
            TokenUsage(True, 10),
        ],
    )
    def test_the_table_is_asked(self, usage: TokenUsage) -> None:
        """What is not certain is left to the table."""
        assert Tariff(ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(15), cache_read_mtok=Decimal("0.3"))).amount(usage) is None

    def test_a_price_that_is_none(self) -> None:
        """An entry with a broken price is left to the table, which says so."""
        broken: Any = {"input_mtok": "3", "output_mtok": Decimal(15)}
        assert Tariff(ModelPrice(**broken)).amount(TokenUsage(10, 10)) is None


class TestDates:
    def test_the_prices_of_the_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prices that hold from a day on, or for hours of the day, are chosen anew for every call."""
        model = ModelInfo(
            id="dated",
            match=ClauseEquals(equals="dated"),
            prices=[
                ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(4), output_mtok=Decimal(8))),
                ConditionalPrice(StartDateConstraint(date(2026, 6, 1)), prices=ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(4))),
                ConditionalPrice(
                    TimeOfDateConstraint(time(16, tzinfo=UTC), time(20, tzinfo=UTC)),
                    prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2)),
                ),
            ],
        )
        entry = pricing._Entry(model, get_snapshot().providers[0])
        now: list[datetime] = []

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return now[-1]

        monkeypatch.setattr(pricing, "datetime", Clock)
        found = []
        for day, hour in ((date(2026, 5, 1), 9), (date(2026, 6, 1), 9), (date(2026, 6, 1), 17), (date(2026, 5, 1), 9)):
            now.append(datetime.combine(day, time(hour), UTC))
            found.append(entry.amount(TokenUsage(1_000_000, 0)))
        assert [Decimal(4), Decimal(2), Decimal(1), Decimal(4)] == found

    def test_the_record_keeps_the_rest(self) -> None:
        """Pricing a record changes its cost only."""
        record = UsageRecord(TokenUsage(1000, 100), "gpt-4o", "openai", raw={"a": 1})
        priced = price(record)
        assert record == UsageRecord(
            priced.usage, priced.model, priced.provider, priced.response, priced.latency, None, priced.run, priced.raw
        )
        assert Decimal("0.0035") == (priced.cost and priced.cost.amount)
