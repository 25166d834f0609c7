"""Usage of a streamed response, chunk by chunk, in constant memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from otel_runtime.usage.extract import extract, tokens
from otel_runtime.usage.fields import field, first_text
from otel_runtime.values.usage import ResponseFacts, RunRef, TokenUsage, UsageRecord

__all__ = ["StreamUsage", "final_response"]

_FINISH_LIMIT = 64
# Where the clients' own stream helpers keep the whole response they put together: Anthropic's and OpenAI's.
_SNAPSHOTS = ("current_message_snapshot", "current_completion_snapshot")
# Everything that a chunk can say and we read. An item without any of it, a text most of all, says nothing.
_FIELDS = frozenset("candidates choices id message model modelVersion object response type usage usageMetadata usage_metadata".split())
_BESIDE = frozenset({"anthropic", "aws.bedrock"})
_SILENT = frozenset({str, bytes, int, float, bool, type(None), list, tuple})


def final_response(stream: object) -> object:
    """The response that a client's stream object has put together from its items; None when it keeps none."""
    for name in _SNAPSHOTS:
        try:
            found: object = getattr(stream, name, None)
        except Exception:  # noqa: BLE001 - these raise until the first item was read
            found = None
        if found is not None:
            return found
    return None


class StreamUsage:
    """Collects the usage of one stream: OpenAI chunks, Anthropic and Bedrock events, Gemini responses.

    Every provider reports running totals, so the newest figure of each field wins and nothing is added up.
    """

    __slots__ = ("_cost", "_finish", "_id", "_model", "_openai", "_provider", "_raw")

    def __init__(self) -> None:
        self._raw: dict[str, object] = {}
        self._cost = UsageRecord().cost
        self._finish: dict[int, str] = {}
        self._id: str | None = None
        self._model: str | None = None
        self._provider: str | None = None
        # The class of OpenAI's chunks once one was seen: their many chunks without usage then cost two look-ups.
        self._openai: type | None = None

    def feed(self, chunk: object) -> None:
        """Read one chunk; anything that is no known chunk is ignored. Never raises."""
        shape = type(chunk)
        try:
            if shape is self._openai:
                self._openai_chunk(chunk, shape)
            # mypy asks the instances for the hash of their type.
            elif shape not in _SILENT and (shape is dict or _speaks(shape) or _says(chunk)):  # type: ignore[arg-type]
                self._feed(chunk)
        except Exception:  # noqa: BLE001 - foreign objects may raise anything from an attribute; the stream goes on
            return

    def record(self) -> UsageRecord | None:
        """The usage so far; None when no chunk carried any."""
        if not self._raw:
            return None
        counted = tokens(self._raw, beside=self._provider in _BESIDE) or TokenUsage()
        reasons = tuple(self._finish[index] for index in sorted(self._finish))
        facts = ResponseFacts(self._id, reasons)
        return UsageRecord(counted, self._model, self._provider, facts, cost=self._cost, run=RunRef(message=self._id))

    def _feed(self, chunk: object) -> None:
        kind = field(chunk, "type")
        if isinstance(kind, str) and kind.startswith("content_block"):
            return
        if kind == "message_start":
            self._anthropic(field(chunk, "message"))
        elif kind == "message_delta":
            self._provider = "anthropic"
            self._merge(field(chunk, "usage"))
            self._reason(0, field(chunk, "delta"))
        elif isinstance(kind, str) and kind.startswith("response."):
            self._whole(field(chunk, "response"))
        elif type(chunk) is dict and len(chunk) == 1:
            self._bedrock(chunk)
        else:
            self._whole(chunk)

    def _openai_chunk(self, chunk: Any, shape: type) -> None:
        """One of OpenAI's chunks after the first: most bring neither usage nor a reason, and cost few look-ups."""
        if shape is dict:
            usage, choices = chunk.get("usage"), chunk.get("choices")
        else:
            usage, choices = getattr(chunk, "usage", None), getattr(chunk, "choices", None)
        if usage is not None:
            self._whole(chunk)
        elif choices:
            for index, choice in enumerate(choices):
                if (choice.get("finish_reason") if type(choice) is dict else getattr(choice, "finish_reason", None)) is not None:
                    self._reason(index, choice)

    def _anthropic(self, message: object) -> None:
        self._provider = "anthropic"
        self._facts(message)
        self._merge(field(message, "usage"))

    def _bedrock(self, event: Mapping[str, object]) -> None:
        """An event of ConverseStream, named by its only key; or what else has but one: a usage alone."""
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html
        usage = field(event.get("metadata"), "usage")
        if usage is not None:
            self._provider = "aws.bedrock"
            self._merge(usage)
        elif (stop := event.get("messageStop")) is not None:
            self._reason(0, stop)
        else:
            self._whole(event)

    def _whole(self, chunk: object) -> None:
        """A chunk that looks like a response: OpenAI's and Gemini's."""
        if chunk is None:
            return
        self._facts(chunk)
        for key in ("usage", "usage_metadata", "usageMetadata"):
            self._merge(field(chunk, key))
        for key in ("choices", "candidates"):
            self._reasons(field(chunk, key))
        if field(chunk, "object") == "chat.completion.chunk":
            # A mapping of another kind is asked like anything that is not known.
            self._openai = None if isinstance(chunk, Mapping) and type(chunk) is not dict else type(chunk)
        if self._raw and (read := extract(chunk)) is not None:
            self._provider, self._cost = read.provider or self._provider, read.cost or self._cost
            for index, reason in enumerate(read.response.finish_reasons):
                self._finish.setdefault(index, reason)

    def _reasons(self, parts: object) -> None:
        if type(parts) is list or (isinstance(parts, Sequence) and not isinstance(parts, str)):
            for index, part in enumerate(parts[:_FINISH_LIMIT]):
                self._reason(index, part)

    def _facts(self, part: object) -> None:
        self._id = first_text(part, "id", "response_id", "responseId") or self._id
        self._model = first_text(part, "model", "model_version", "modelVersion") or self._model

    def _reason(self, index: int, part: object) -> None:
        names = ("finish_reason",) if self._openai else ("finish_reason", "finishReason", "stop_reason", "stopReason")
        reason = first_text(part, *names)
        if reason is not None and len(self._finish) < _FINISH_LIMIT:
            own = field(part, "index")
            self._finish[own if isinstance(own, int) else index] = reason

    def _merge(self, usage: object) -> None:
        for name, value in _reported(usage).items():
            self._raw[name] = value


@lru_cache(maxsize=256)
def _speaks(shape: type) -> bool:
    """True for the types whose instances must be asked: mappings, and classes that say something themselves or by `__getattr__`."""
    return issubclass(shape, Mapping) or hasattr(shape, "__getattr__") or not _FIELDS.isdisjoint(dir(shape))


def _says(chunk: object) -> bool:
    return not _FIELDS.isdisjoint(getattr(chunk, "__dict__", ()))


def _reported(usage: object) -> dict[str, object]:
    """The figures of one usage object under the names `tokens` reads; fields it leaves out stay as they were."""
    if usage is None:
        return {}
    counted = tokens(usage, beside=False)
    if counted is None:
        return {}
    if counted.details:
        return dict(counted.details)
    total = replace(counted, details={}).total_tokens
    figures = {
        "input_tokens": counted.input_tokens,
        "output_tokens": counted.output_tokens,
        "cache_read_input_tokens": counted.cache_read,
        "cache_creation_input_tokens": counted.cache_write,
        "reasoning_tokens": counted.reasoning,
        "total_tokens": total
        if field(usage, "total_tokens") or field(usage, "totalTokenCount") or field(usage, "total_token_count")
        else None,
    }
    return {name: value for name, value in figures.items() if value is not None}
