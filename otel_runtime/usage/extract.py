"""Usage of any provider -> UsageRecord. Never raises: an object that cannot be read gives None."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from otel_runtime.usage.fields import TOKEN_ALIASES, count, field, first_count, first_text, opened, plain, text, token_counts
from otel_runtime.values.usage import Cost, ResponseFacts, RunRef, TokenUsage, UsageRecord

__all__ = ["extract", "tokens"]

_CHOICES_LIMIT = 64
_USAGE_KEYS = ("usage", "usage_metadata", "usageMetadata")
_DETAIL_KEYS = (
    "prompt_tokens_details",
    "input_tokens_details",
    "inputTokenDetails",
    "completion_tokens_details",
    "output_tokens_details",
    "outputTokenDetails",
)
_NOTHING = frozenset({None})
_DETAILS = frozenset(_DETAIL_KEYS)
_BESIDE = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cacheReadInputTokens", "cacheWriteInputTokens"})
_THOUGHTS = frozenset({"candidatesTokenCount", "candidates_token_count"})
_COST_KEYS = ("cost", "total_cost", "totalCost", "cost_usd", "costUsd")
_COSTS = frozenset(_COST_KEYS)


def extract(response: object) -> UsageRecord | None:
    """The usage record of one response.

    Reads OpenAI chat and responses, Anthropic messages, Gemini generateContent, Bedrock Converse, LiteLLM, and the usage objects of
    agent runtimes; SDK objects and dicts alike.

    Args:
        response: A whole response, a usage object, or a `UsageRecord` (given back as it is).

    Returns:
        None when nothing of a usage is found in it.
    """
    if isinstance(response, UsageRecord):
        return response
    try:
        return _extract(response)
    except Exception:  # noqa: BLE001 - foreign objects may raise anything from an attribute; a usage that cannot be read is none
        return None


def tokens(usage: object, *, beside: bool) -> TokenUsage | None:
    """Token counts of a provider's usage object.

    Args:
        usage: A dict or SDK object.
        beside: True when the provider reports cached tokens beside the input instead of inside it (Anthropic, Bedrock).
    """
    usage = opened(usage)
    whole = _lacks(usage, _DETAILS)
    parts = [] if whole else [opened(part) for key in _DETAIL_KEYS if (part := field(usage, key)) is not None]
    found = token_counts(usage, parts)
    if _NOTHING.issuperset(found.values()):
        details = plain(usage)
        return TokenUsage(details=details) if details else None
    return _settle(usage, found, beside=beside)


def _settle(usage: object, found: Mapping[str, int | None], *, beside: bool) -> TokenUsage:
    given, output = found["input"], found["output"]
    if beside and given is not None:
        given += (found["cache_read"] or 0) + (found["cache_write"] or 0)
    if output is not None and _thoughts_beside(usage):
        output += found["reasoning"] or 0
    total = found["total"]
    if given is not None and output is not None and (total is None or beside):
        total = given + output
    return TokenUsage(given, output, total, found["cache_read"], found["cache_write"], found["reasoning"])


def _thoughts_beside(usage: object) -> bool:
    # Gemini counts thoughts beside the candidates: https://ai.google.dev/api/generate-content#UsageMetadata
    return not _lacks(usage, _THOUGHTS) and any(count(field(usage, name)) is not None for name in _THOUGHTS)


def _extract(response: object) -> UsageRecord | None:
    if response is None or isinstance(response, str | bytes | int | float):
        return None
    response = opened(response)
    usage = next((part for key in _USAGE_KEYS if (part := field(response, key)) is not None), None)
    bare = usage is None
    if bare and any(count(field(response, name)) is not None for names in TOKEN_ALIASES.values() for name in names):
        usage = response
    if usage is None:
        return None
    usage = opened(usage)
    counted = tokens(usage, beside=_reports_beside(usage))
    if counted is None:
        return None
    cost = _reported_cost(usage, response)
    return UsageRecord(counted, cost=cost) if bare else _with_facts(counted, cost, response)


def _with_facts(counted: TokenUsage, cost: Cost | None, response: object) -> UsageRecord:
    identity = first_text(response, "id", "response_id", "responseId")
    return UsageRecord(
        counted,
        first_text(response, "model", "model_version", "modelVersion", "modelId"),
        _provider(response),
        ResponseFacts(identity, tuple(_finish_reasons(response))),
        cost=cost,
        run=RunRef(message=identity),
    )


def _reports_beside(usage: object) -> bool:
    """Anthropic and Bedrock report cache tokens next to `input_tokens`; OpenAI and Gemini inside it."""
    if _lacks(usage, _BESIDE) or all(field(usage, name) is None for name in _BESIDE):
        return False
    return first_count([usage], ("prompt_tokens", "promptTokens")) is None


def _lacks(source: object, names: frozenset[str]) -> bool:
    """True for a dict without any of the names: one look instead of one for each."""
    return type(source) is dict and names.isdisjoint(source)


def _provider(response: object) -> str | None:
    """Which API's shape this is; the model's maker may be another."""
    if (routed := _litellm_provider(response)) is not None:
        return routed
    if field(response, "type") == "message":
        return "anthropic"
    if field(response, "usage_metadata") is not None or field(response, "usageMetadata") is not None:
        return "gcp.gemini"
    if field(response, "stopReason") is not None and field(response, "output") is not None:
        return "aws.bedrock"
    kind = field(response, "object")
    return "openai" if isinstance(kind, str) and (kind.startswith("chat.completion") or kind == "response") else None


def _litellm_provider(response: object) -> str | None:
    hidden = field(response, "_hidden_params")
    return first_text(hidden, "custom_llm_provider") if hidden is not None else None


def _finish_reasons(response: object) -> Iterator[str]:
    for key in ("choices", "candidates"):
        parts = field(response, key)
        if type(parts) is list or (isinstance(parts, Sequence) and not isinstance(parts, str | bytes)):
            for part in parts[:_CHOICES_LIMIT]:
                if (reason := first_text(opened(part), "finish_reason", "finishReason")) is not None:
                    yield reason
    for key in ("stop_reason", "stopReason"):
        if (reason := text(field(response, key))) is not None:
            yield reason
    if field(response, "object") == "response" and (status := text(field(response, "status"))) is not None:
        yield status


def _reported_cost(usage: object, response: object) -> Cost | None:
    hidden = field(response, "_hidden_params")
    if hidden is None and _lacks(usage, _COSTS):
        return None
    candidates = [field(usage, key) for key in _COST_KEYS] + ([field(hidden, "response_cost")] if hidden is not None else [])
    for value in candidates:
        if value is not None and (amount := _money(value)) is not None:
            return Cost(amount=amount, currency=first_text(usage, "currency") or "USD", estimated=False, source="provider")
    return None


def _money(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        # str() first: Decimal(0.1) would carry the binary error into an exact sum.
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None
