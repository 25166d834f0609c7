"""Attributes of a span's start, built only when somebody looks: a sampler that drops every span, or goes by the trace id, never does."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView

from opentelemetry.trace import Span

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.operations import Attributes, AttributeValues, Plan, start_attributes
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.sanitize import name as clean_name

__all__ = ["LazyAttributes", "first_attributes"]


def first_attributes(start: SpanStart, plan: Plan, around: Span) -> Attributes:
    """What a span begins with.

    Args:
        start: What is known at the start.
        plan: What kind and name determine.
        around: The span that is current where it starts.
    """
    found = start_attributes(start, plan)
    if plan.operation == "chat" and c.REQUEST_MODEL not in found:
        found[c.REQUEST_MODEL] = clean_name(start.name)
    if start.unguarded and not around.get_span_context().is_valid:
        found[c.GUARDED] = False
    return found


class LazyAttributes(Mapping[str, AttributeValues]):
    """What a sampler and the SDK are handed.

    Args:
        build: Makes the attributes; called at the first look.
    """

    __slots__ = ("_build", "_found")

    def __init__(self, build: Callable[[], Attributes]) -> None:
        self._build = build
        self._found: Attributes | None = None

    def all(self) -> Attributes:
        """The attributes themselves."""
        found = self._found
        if found is None:
            found = self._found = self._build()
        return found

    def is_in(self, answer: Mapping[str, object] | None) -> bool:
        """True when a sampler's answer carries these very attributes, however it has wrapped them."""
        # A mapping proxy hands the comparison on to what it stands for.
        return answer is not None and bool(answer == _Same(self))

    def __getitem__(self, key: str) -> AttributeValues:
        return self.all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())

    # The mixins of Mapping would ask for every value one by one.
    def keys(self) -> KeysView[str]:
        """The names."""
        return self.all().keys()

    def values(self) -> ValuesView[AttributeValues]:
        """The values."""
        return self.all().values()

    def items(self) -> ItemsView[str, AttributeValues]:
        """Both."""
        return self.all().items()

    def copy(self) -> Attributes:
        """A dictionary of its own."""
        # The SDK before 1.43 wants one of what its sampler hands back, though no Mapping has to have it.
        return self.all().copy()


class _Same:
    """Equal to one object only, by identity: a mapping leaves the answer to the other side when that is none."""

    __slots__ = ("_of",)
    __hash__ = None  # type: ignore[assignment]  # compared, never kept

    def __init__(self, of: object) -> None:
        self._of = of

    def __eq__(self, other: object) -> bool:
        return other is self._of
