"""Attributes of a span's start, built only when somebody looks: a sampler that drops every span, or goes by the trace id, never does."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView

from opentelemetry import trace
from opentelemetry.context import Context

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.operations import Attributes, AttributeValues, Plan, start_attributes
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.sanitize import name as clean_name

__all__ = ["LazyAttributes"]


class LazyAttributes(Mapping[str, AttributeValues]):
    """What a sampler and the SDK are handed.

    Args:
        start: What is known at the start.
        plan: What kind and name determine.
        parent: The context around the span.
    """

    __slots__ = ("_found", "_parent", "_plan", "_start")

    def __init__(self, start: SpanStart, plan: Plan, parent: Context) -> None:
        self._start = start
        self._plan = plan
        self._parent = parent
        self._found: Attributes | None = None

    def __getitem__(self, key: str) -> AttributeValues:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    # The mixins of Mapping would ask for every value one by one.
    def keys(self) -> KeysView[str]:
        """The names."""
        return self._all().keys()

    def values(self) -> ValuesView[AttributeValues]:
        """The values."""
        return self._all().values()

    def items(self) -> ItemsView[str, AttributeValues]:
        """Both."""
        return self._all().items()

    def _all(self) -> Attributes:
        found = self._found
        if found is None:
            found = self._found = self._built()
        return found

    def _built(self) -> Attributes:
        start, plan = self._start, self._plan
        found = start_attributes(start, plan)
        if plan.operation == "chat" and c.REQUEST_MODEL not in found:
            found[c.REQUEST_MODEL] = clean_name(start.name)
        if start.unguarded and not trace.get_current_span(self._parent).get_span_context().is_valid:
            found[c.GUARDED] = False
        return found
