"""A runtime whose spans and metrics stay in memory, and what a test asks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry import conventions as names

__all__ = ["DecisionSeen", "MemoryRuntime", "Tree"]

# A span's name, then its children's trees in the order they started.
Tree = tuple["str | Tree", ...]


class DecisionSeen(NamedTuple):
    """One decision, as it stands in the trace.

    Args:
        tool: Name of the tool.
        decision: `allow`, `deny`, `require-approval` or `retryable-failure`.
        rule: Id of the deciding rule; None when none decided.
    """

    tool: str
    decision: str
    rule: str | None


class MemoryRuntime:
    """A runtime of its own: no setting, variable or file of the machine reaches it, and nothing leaves it.

    Args:
        state: SQLite file for approvals, in a folder of the test's own.
        policy: Policy files or directories; none means that nothing is guarded.
        capabilities: Values or `CapabilityHandle`s by name.
        settings: More settings by name, such as `people` or `wait_at_most`.

    Raises:
        ConfigError: The policy cannot be loaded.
        ValidationError: A setting is unknown or has a bad value.
    """

    def __init__(
        self,
        state: Path,
        policy: Sequence[Path] = (),
        capabilities: Mapping[str, object] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._exporter = InMemorySpanExporter()
        # Not the sampler of OTEL_TRACES_SAMPLER: a test must see every span.
        self._tracers = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        self._tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader], shutdown_on_exit=False)
        # Waiting is for people; a test that wants to wait says how long.
        given = {"name": "test", "otlp": "off", "wait_at_most": 0, "state": state, "policy": tuple(policy), **(settings or {})}
        self.runtime: Runtime = build_runtime(
            Settings.model_validate(given), tracer_provider=self._tracers, meter_provider=self._meters, capabilities=capabilities
        )

    def use(self) -> AbstractContextManager[None]:
        """Put it in force for the code inside a `with` block."""
        return self.runtime.use()

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, in the order they started."""
        self.runtime.flush()
        return tuple(sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0))

    def tree(self) -> tuple[Tree, ...]:
        """Finished spans as nested tuples of names: `(("invoke_agent a", ("chat m",), ("execute_tool t",)),)`."""
        spans = self.spans()
        known = {span.context.span_id for span in spans if span.context}
        return _trees(spans, [span for span in spans if span.parent is None or span.parent.span_id not in known])

    def decisions(self) -> tuple[DecisionSeen, ...]:
        """Decisions in the order they were made; an allow is seen on the span of what it let run."""
        return tuple(seen for span in self.spans() if (seen := _decision(span.attributes or {})) is not None)

    def metrics(self) -> Mapping[str, list[tuple[Mapping[str, object], object]]]:
        """Data points (attributes, value) by metric name; of a histogram the value is its sum."""
        found: dict[str, list[tuple[Mapping[str, object], object]]] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else []:
            for metric in [metric for scope in resource.scope_metrics for metric in scope.metrics]:
                points = [(dict(point.attributes or {}), _value(point)) for point in metric.data.data_points]
                found.setdefault(metric.name, []).extend(points)
        return found

    def shutdown(self) -> None:
        """Stop the runtime and its providers."""
        self.runtime.shutdown()
        self._tracers.shutdown()
        self._meters.shutdown()


def _trees(spans: Sequence[ReadableSpan], roots: Iterable[ReadableSpan]) -> tuple[Tree, ...]:
    return tuple((root.name, *_trees(spans, _children(spans, root))) for root in roots)


def _children(spans: Sequence[ReadableSpan], parent: ReadableSpan) -> list[ReadableSpan]:
    own = parent.context.span_id if parent.context else None
    return [span for span in spans if span.parent is not None and span.parent.span_id == own]


def _decision(attributes: Mapping[str, object]) -> DecisionSeen | None:
    decision = attributes.get(names.DECISION)
    if decision is None:
        return None
    tool = attributes.get(names.OWN_TOOL) or attributes.get(names.TOOL_NAME) or attributes.get(names.AGENT_NAME) or ""
    rule = attributes.get(names.DECISION_RULE)
    return DecisionSeen(str(tool), str(decision), None if rule is None else str(rule))


def _value(point: object) -> object:
    return getattr(point, "value", getattr(point, "sum", None))
