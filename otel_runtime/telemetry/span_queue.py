"""The queue in front of an exporter, bounded in spans and bytes. Never locks: the end of a span may come from a finaliser."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otel_runtime.telemetry.losses import LossReason

__all__ = ["SpanQueue", "estimated_bytes"]

# What ids, times and names of a span come to in OTLP, roughly, and a key with a short value.
_SPAN_BYTES = 320
_FIELD_BYTES = 80
_SHORT = 48


def estimated_bytes(span: ReadableSpan) -> int:
    """About how many bytes the span takes: flat for what is short, counted where it matters. It runs on the caller's thread."""
    size = _SPAN_BYTES + len(span.name) + _attribute_bytes(span.attributes)
    if span.status.description:
        size += len(span.status.description)
    for event in span.events:
        size += _FIELD_BYTES + len(event.name) + _attribute_bytes(event.attributes)
    return size + 64 * len(span.links)


def _attribute_bytes(given: Mapping[str, Any] | None) -> int:
    if not given:
        return 0
    # The SDK's own mapping asks for a lock and a look-up per value; its copy is a plain dict.
    values = given.copy().values() if isinstance(given, MappingProxyType) else given.values()
    size = _FIELD_BYTES * len(values)
    for value in values:
        kind = type(value)
        if kind is str:
            if len(value) > _SHORT:
                size += _text_bytes(value)
        elif kind is tuple or kind is list:
            size += sum(_SHORT + (len(part) if isinstance(part, str | bytes) else 0) for part in value)
        elif kind is bytes:
            size += len(value)
    return size


def _text_bytes(value: str) -> int:
    # Not encoded: text outside of ASCII takes two to four bytes a character.
    return len(value) if value.isascii() else 3 * len(value)


class SpanQueue:
    """Finished spans that wait.

    Args:
        most: Most spans.
        most_bytes: Most estimated bytes in all.
        span_bytes: Most estimated bytes of one span.
    """

    def __init__(self, most: int, most_bytes: int, span_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._span_bytes = min(span_bytes, most_bytes)
        self._waiting: deque[tuple[ReadableSpan, int]] = deque()
        # Two threads may write it at once and lose an addition; `take` counts anew, so the error never grows old.
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """Estimated bytes that wait."""
        return self._bytes

    def put(self, span: ReadableSpan) -> LossReason | None:
        """Take a span; the reason when it is not taken."""
        if len(self._waiting) >= self._most:
            return "queue_full"
        size = estimated_bytes(span)
        if size > self._span_bytes:
            return "too_large"
        if self._bytes + size > self._most_bytes:
            return "queue_full"
        self._waiting.append((span, size))
        self._bytes += size
        return None

    def take(self, most: int, most_bytes: int) -> list[ReadableSpan]:
        """The oldest spans, as many as one batch may hold; at least one when any waits."""
        batch: list[ReadableSpan] = []
        room = most_bytes
        while self._waiting and len(batch) < most:
            try:
                span, size = self._waiting.popleft()
            except IndexError:
                # `clear` came between the two looks.
                break
            if batch and size > room:
                self._waiting.appendleft((span, size))
                break
            batch.append(span)
            room -= size
        self._recount()
        return batch

    def put_back(self, spans: Sequence[ReadableSpan]) -> None:
        """Put a batch in front again. It was counted in before, so it may go over the bound for as long as new spans came meanwhile."""
        self._waiting.extendleft((span, estimated_bytes(span)) for span in reversed(spans))
        self._recount()

    def clear(self) -> int:
        """Drop everything; how many that were."""
        count = len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return count

    def _recount(self) -> None:
        # One copy under the interpreter's lock, so that nobody changes it meanwhile.
        self._bytes = sum(size for _, size in self._waiting.copy())
