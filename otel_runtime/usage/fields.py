"""Reading provider objects without running their code more than needed: dicts by key, SDK objects by attribute."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

__all__ = ["TOKEN_ALIASES", "count", "field", "first_count", "first_text", "opened", "plain", "text", "token_counts"]

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
# Which figure an alias stands for, and its place among the aliases.
_RANKED: Mapping[str, tuple[str, int]] = {
    alias: (name, rank) for name, aliases in TOKEN_ALIASES.items() for rank, alias in enumerate(aliases)
}
# Only the usage itself says these: its details count parts of them under the same names.
_TOP: frozenset[str] = frozenset({"input", "output", "total"})
_LAST = 99
# Everything else that is asked of a response, its parts, or a stream's items.
_ASKED = frozenset(_RANKED) | frozenset(
    "_hidden_params candidates choices completion_tokens_details cost costUsd cost_usd currency custom_llm_provider delta finishReason"
    " finish_reason id index inputTokenDetails input_tokens_details message model modelId modelVersion model_version object output"
    " outputTokenDetails output_tokens_details prompt_tokens_details provider response responseId response_cost response_id status"
    " stopReason stop_reason totalCost total_cost type usage usageMetadata usage_metadata".split()
)
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


def opened(source: object) -> object:
    """The fields of a plain pydantic model as a dict, not to be changed; anything else as it is.

    The clients' responses are such models, and asking one for a field that it lacks takes as long as reading all it has.
    """
    shape = type(source)
    if shape is dict or source is None or not _is_model(shape):  # type: ignore[arg-type]  # as above
        return source
    extra: dict[str, object] | None = source.__pydantic_extra__  # type: ignore[attr-defined]  # a pydantic model, as was just found
    return {**extra, **vars(source)} if extra else vars(source)


@lru_cache(maxsize=256)
def _is_model(shape: type) -> bool:
    """True for pydantic's models that answer for nothing we ask by themselves: no property, no method, no private attribute."""
    pydantic = sys.modules.get("pydantic")
    # Any: pydantic is not imported here, and its classes answer for themselves.
    base: Any = pydantic.BaseModel if pydantic is not None else None
    model: Any = shape
    if base is None or not issubclass(shape, base) or model.__getattribute__ is not base.__getattribute__:
        return False
    if model.__getattr__ is not base.__getattr__ or not _ASKED.isdisjoint(model.__private_attributes__):
        return False
    own = {name for cls in shape.__mro__ for name in vars(cls)} - model.model_fields.keys()
    return _ASKED.isdisjoint(own)


def count(value: object) -> int | None:
    """A token count: a whole, finite, non-negative number. A bool is no number."""
    if type(value) is int:
        return value if 0 <= value < _COUNT_LIMIT else None
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


def token_counts(usage: object, details: Sequence[object]) -> dict[str, int | None]:
    """Every figure of a usage: what it says itself, else what its details say.

    Args:
        usage: A dict or SDK object.
        details: Its parts, such as `prompt_tokens_details`.
    """
    found: dict[str, int | None] = dict.fromkeys(TOKEN_ALIASES)
    for source in (usage, *details):
        if type(source) is dict:
            _counts_in(source, found, all_names=source is usage)
            continue
        for name, aliases in TOKEN_ALIASES.items():
            if found[name] is None and (source is usage or name not in _TOP):
                found[name] = first_count((source,), aliases)
    return found


def _counts_in(source: Mapping[object, object], found: dict[str, int | None], *, all_names: bool) -> None:
    """Fill in what a dict says: it has a few keys, and there are dozens of aliases."""
    ranks: dict[str, int] = {}
    for key, value in source.items():
        place = _RANKED.get(key) if type(key) is str else None
        if place is None or value is None:
            continue
        name, rank = place
        known = ranks.get(name, _LAST)
        if rank > known or (known == _LAST and found[name] is not None) or not (all_names or name not in _TOP):
            continue
        if (figure := count(value)) is not None:
            found[name], ranks[name] = figure, rank


def text(value: object) -> str | None:
    """A non-empty string of at most 256 characters; enum members give their value."""
    if value is None:
        return None
    if type(value) is str:
        return value[:_TEXT_LIMIT] or None
    value = getattr(value, "value", value) if not isinstance(value, str | Mapping) else value
    if not isinstance(value, str) or not value:
        return None
    # Of an enum member that is a text, such as google-genai's, `str` gives the member's name.
    return str.__str__(value)[:_TEXT_LIMIT]


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
