"""The Agent Usage Record: what a model call used, in one shape for every provider. Absent stays absent, never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from otel_runtime.values.making import quickly_made

__all__ = ["Cost", "Latency", "ResponseFacts", "RunRef", "TokenUsage", "UsageRecord"]

_EMPTY: Mapping[str, object] = MappingProxyType({})


@quickly_made
@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Token counts; None where the provider said nothing.

    Args:
        input_tokens: All input, cached tokens included.
        output_tokens: All output, reasoning included.
        total_tokens: As reported, or the sum when both parts are known.
        cache_read: Input tokens read from a cache; a subset of input.
        cache_write: Input tokens written to a cache; a subset of input.
        reasoning: Output tokens spent on reasoning; a subset of output.
        details: Fields nobody recognised, as they came.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    details: Mapping[str, object] = field(default_factory=lambda: _EMPTY)


@quickly_made
@dataclass(frozen=True, slots=True)
class ResponseFacts:
    """What the response said of itself.

    Args:
        id: The provider's response id.
        finish_reasons: In the order of the choices.
    """

    id: str | None = None
    finish_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one model call, in seconds.

    Args:
        duration_s: From request to last byte.
        time_to_first_token_s: From request to first chunk; None when not streamed.
        tokens_per_second: Output tokens over the time they took.
    """

    duration_s: float | None = None
    time_to_first_token_s: float | None = None
    tokens_per_second: float | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class Cost:
    """Money.

    Args:
        amount: Exact decimal.
        currency: ISO 4217 code.
        estimated: True when computed from a price table, False when the provider reported it.
        source: Where the figure comes from, such as `provider` or `genai-prices 0.2.3`.
    """

    amount: Decimal
    currency: str = "USD"
    estimated: bool = True
    source: str = ""


@quickly_made
@dataclass(frozen=True, slots=True)
class RunRef:
    """Where a usage belongs.

    Args:
        run: The agent run.
        session: The session.
        message: The message it was reported for; a usage that comes twice for one message counts once.
    """

    run: str | None = None
    session: str | None = None
    message: str | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One model call's usage.

    Args:
        usage: Token counts.
        model: The model that answered, else the one asked for.
        provider: In the conventions' spelling, such as `openai`, `anthropic`, `gcp.gemini`.
        response: Id and finish reasons.
        latency: Times.
        cost: Reported or estimated; None when no price is known.
        run: Where it belongs.
        raw: The provider's own object; only when asked for.
    """

    usage: TokenUsage = TokenUsage()
    model: str | None = None
    provider: str | None = None
    response: ResponseFacts = ResponseFacts()
    latency: Latency = Latency()
    cost: Cost | None = None
    run: RunRef = RunRef()
    raw: object = None
