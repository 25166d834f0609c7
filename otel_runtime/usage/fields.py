"""Reading provider objects without running their code more than needed: dicts by key, SDK objects by attribute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial

__all__ = ["TOKEN_ALIASES", "count", "field", "first_count", "first_text", "plain", "text"]

# The names providers and agent runtimes use for one and the same figure; the first finite one wins.
TOKEN_ALIASES: Mapping[str, tuple[str, ...]] = {
    "input": ("inputTokens", "promptTokens", "input_tokens", "prompt_tokens", "promptTokenCount", "prompt_token_count"),
    "output": (
        "outputTokens",
        "completionTokens",
        "output_tokens",
        "completion_tokens",
        "candidatesTokenCount",
        "candidates_token_count",
    ),
    "total": ("totalTokens", "total_tokens", "totalTokenCount", "total_token_count"),
    "cache_read": (
        "cacheReadTokens",
        "cachedInputTokens",
        "cached_tokens",
        "cache_read_input_tokens",
        "cacheReadInputTokens",
        "cache_read_tokens",
        "cachedContentTokenCount",
        "cached_content_token_count",
    ),
    "cache_write": (
        "cacheWriteTokens",
        "cache_creation_input_tokens",
        "cacheCreationInputTokens",
        "cacheWriteInputTokens",
        "cache_write_tokens",
        "cache_write_input_tokens",
    ),
    "reasoning": (
        "reasoningTokens",
        "reasoning_tokens",
        "reasoning_output_tokens",
        "thoughtsTokenCount",
        "thoughts_token_count",
    ),
}
_TEXT_LIMIT = 256
_COUNT_LIMIT = 1 << 53


def field(source: object, name: str) -> object:
    """The named part of a dict or object; None when there is none."""
    # The exact type first: an abstract base class' isinstance is slow, and a stream asks this for every item.
    if type(source) is dict:
        return source.get(name)
    if source is None:
        return None
    if _is_mapping(type(source)):  # type: ignore[arg-type]  # mypy asks the instances for the hash of their type
        found: object = source.get(name)  # type: ignore[attr-defined]  # a Mapping, as was just found
        return found
    return getattr(source, name, None)


@lru_cache(maxsize=256)
def _is_mapping(shape: type) -> bool:
    return issubclass(shape, Mapping)


def count(value: object) -> int | None:
    """A token count: a whole, finite, non-negative number. A bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or not 0 <= value < _COUNT_LIMIT:
        return None
    return int(value)


def first_count(sources: Iterable[object], names: Iterable[str]) -> int | None:
    """The first finite figure under any of the names, looked for in each source in turn."""
    wanted = tuple(names)
    for source in sources:
        # Most names are missing from most sources: a plain look-up says so for less than a call.
        read = source.get if type(source) is dict else partial(field, source)
        for name in wanted:
            value = read(name)
            if value is not None and (found := count(value)) is not None:
                return found
    return None


def text(value: object) -> str | None:
    """A non-empty string of at most 256 characters; enum members give their value."""
    if value is None:
        return None
    value = getattr(value, "value", value) if not isinstance(value, str | Mapping) else value
    if not isinstance(value, str) or not value:
        return None
    return str(value)[:_TEXT_LIMIT]


def first_text(source: object, *names: str) -> str | None:
    """The first non-empty string under any of the names."""
    for name in names:
        found = text(field(source, name))
        if found is not None:
            return found
    return None


def plain(source: object, limit: int = 32) -> dict[str, object]:
    """The simple top-level fields of an unrecognised usage object, at most `limit` of them."""
    if not isinstance(source, Mapping):
        return {}
    kept: dict[str, object] = {}
    for key, value in source.items():
        if isinstance(key, str) and isinstance(value, str | int | float) and len(kept) < limit:
            kept[key[:_TEXT_LIMIT]] = value[:_TEXT_LIMIT] if isinstance(value, str) else value
    return kept
