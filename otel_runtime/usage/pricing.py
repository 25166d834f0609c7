"""Cost of a usage record from a maintained price table (`genai-prices`), in exact decimals. Nothing here raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from otel_runtime.values.usage import Cost, TokenUsage, UsageRecord

__all__ = ["price"]

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
    return record if cost is None else replace(record, cost=cost)


def _estimate(model: str, provider: str | None, usage: TokenUsage) -> Cost | None:
    import genai_prices

    # Cached tokens are a subset of the input, as the table expects: it charges each token once.
    counted = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
    }
    given = genai_prices.Usage(**{name: value for name, value in counted.items() if value is not None})
    for provider_id in _provider_ids(provider):
        try:
            answer = genai_prices.calc_price(given, model, provider_id=provider_id)
        except LookupError:
            continue
        return Cost(Decimal(answer.total_price), "USD", estimated=True, source=f"genai-prices {genai_prices.__version__}")
    return None


def _provider_ids(provider: str | None) -> tuple[str | None, ...]:
    return (None,) if provider is None else (_PROVIDERS.get(provider, provider), None)
