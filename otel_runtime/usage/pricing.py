"""Cost of a usage record from a maintained price table (`genai-prices`), in exact decimals. Nothing here raises."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from otel_runtime.usage.tariff import Tariff
from otel_runtime.values.usage import Cost, TokenUsage, UsageRecord

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

__all__ = ["price"]

# Long enough to save the matching, short enough for a table that the application updates in the background.
_KEPT_S = 60.0
_KEPT = 256
_entries: dict[tuple[str, str | None], tuple[_Entry | None, float]] = {}


class _Entry:
    """One model of the table, with the tariffs of its prices: some hold from a day on, some for hours of the day.

    Args:
        model: Its prices.
        vendor: Whose they are.
    """

    __slots__ = ("_tariffs", "model", "vendor")

    def __init__(self, model: ModelInfo, vendor: Provider) -> None:
        self.model = model
        self.vendor = vendor
        self._tariffs: dict[int, tuple[ModelPrice, Tariff]] = {}

    def amount(self, usage: TokenUsage) -> Decimal | None:
        """What the usage costs now, in US dollars; None when only the table's own calculation can tell."""
        prices = self.model.prices
        if isinstance(prices, list):
            prices = self.model.get_prices(datetime.now(UTC))
        known = self._tariffs.get(id(prices))
        if known is None:
            # The prices are kept with their id, so that the id cannot come to mean others; an entry has a handful of them.
            known = self._tariffs[id(prices)] = (prices, Tariff(prices))
        return known[1].amount(usage)


# The conventions' provider names -> the table's; others are tried under their own name, then by the model alone.
_PROVIDERS: Mapping[str, str] = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "vertex_ai": "google",
    "x_ai": "x-ai",
}


def price(record: UsageRecord) -> UsageRecord:
    """The same record with its cost.

    What the provider reported wins. A model nobody knows a price for, and a record without tokens, keep `cost=None`.
    """
    if record.cost is not None or record.model is None or (record.usage.input_tokens is None and record.usage.output_tokens is None):
        return record
    try:
        cost = _estimate(record.model, record.provider, record.usage)
    except Exception:  # noqa: BLE001 - a price table that cannot answer means no price, never a failed call
        return record
    if cost is None:
        return record
    return UsageRecord(record.usage, record.model, record.provider, record.response, record.latency, cost, record.run, record.raw)


def _estimate(model: str, provider: str | None, usage: TokenUsage) -> Cost | None:
    entry = _found(model, provider)
    if entry is None:
        return None
    amount = entry.amount(usage)
    return Cost(_calculated(entry, usage) if amount is None else amount, "USD", estimated=True, source=_source())


def _calculated(entry: _Entry, usage: TokenUsage) -> Decimal:
    """The table's own calculation, which takes twenty times as long."""
    import genai_prices

    # Cached tokens are a subset of the input, as the table expects: it charges each token once.
    counted = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
    }
    given = genai_prices.Usage(**{name: value for name, value in counted.items() if value is not None})
    return Decimal(entry.model.calc_price(given, entry.vendor).total_price)


def _found(model: str, provider: str | None) -> _Entry | None:
    """The table's entry for a model. Matching its name takes ten times as long as pricing it, so the answer is kept for a while."""
    key, now = (model, provider), time.monotonic()
    known = _entries.get(key)
    if known is not None and known[1] > now:
        return known[0]
    import genai_prices

    found: _Entry | None = None
    for provider_id in _provider_ids(provider):
        try:
            answer = genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model, provider_id=provider_id)
        except LookupError:
            continue
        found = _Entry(answer.model, answer.provider)
        break
    if len(_entries) >= _KEPT:
        _entries.clear()
    _entries[key] = (found, now + _KEPT_S)
    return found


@cache
def _source() -> str:
    import genai_prices

    return f"genai-prices {genai_prices.__version__}"


def _provider_ids(provider: str | None) -> tuple[str | None, ...]:
    return (None,) if provider is None else (_PROVIDERS.get(provider, provider), None)
