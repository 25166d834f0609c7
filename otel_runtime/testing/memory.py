"""A runtime whose spans and metrics stay in memory, and what a test asks of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_runtime.errors import Blocked, RuntimeStateError
from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.instrumenting import patches_for
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry import conventions as names
from otel_runtime.testing.expecting import Tree, difference, outline
from otel_runtime.testing.variables import without_variables
from otel_runtime.values.decision import Verdict

__all__ = ["DecisionSeen", "MemoryRuntime", "Tree"]


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
        self._reader = InMemoryMetricReader()
        # Waiting is for people; a test that wants to wait says how long.
        given = {"name": "test", "otlp": "off", "wait_at_most": 0, "state": state, "policy": tuple(policy), **(settings or {})}
        checked = Settings.model_validate(given)
        patches = patches_for(checked)
        patches.check()
        # OTEL_SDK_DISABLED or a limit would hide spans and attributes from the test.
        with without_variables():
            self._tracers = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
            self._tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
            self._meters = MeterProvider([self._reader], shutdown_on_exit=False)
            self.runtime: Runtime = build_runtime(
                checked, tracer_provider=self._tracers, meter_provider=self._meters, capabilities=capabilities
            )
        self.runtime.instrument(patches)

    def use(self) -> AbstractContextManager[None]:
        """Put it in force for the code inside a `with` block."""
        return self.runtime.use()

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, in the order they started."""
        self.runtime.flush()
        return tuple(sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0))

    def tree(self) -> tuple[Tree, ...]:
        """Finished spans as nested tuples of names: `(("invoke_agent a", ("chat m",), ("execute_tool t",)),)`."""
        return _forest(self.spans())

    def decisions(self) -> tuple[DecisionSeen, ...]:
        """Decisions in the order they were made; an allow is seen on the span of what it let run."""
        return tuple(seen for span in self.spans() if (seen := _decision(span.attributes or {})) is not None)

    def assert_tree(self, expected: str) -> None:
        """The finished spans are exactly these: one name per line, children two spaces deeper than their parent.

        Args:
            expected: The outline; the indentation of the whole does not matter.

        Raises:
            AssertionError: They are not; the message shows which lines differ.
        """
        __tracebackhide__ = True
        self._compare("spans", expected, outline(self.tree()))

    def assert_decisions(self, *expected: tuple[str, Verdict, str | None]) -> None:
        """The decisions so far are exactly these, in order: tool, decision, id of the deciding rule (None for the default).

        Raises:
            AssertionError: They are not; the message shows which differ.
        """
        __tracebackhide__ = True
        self._compare("decisions", _decision_lines(expected), _decision_lines(self.decisions()))

    def assert_decided(self, call: Callable[[], object], decision: Verdict, *, rule: str | None = None, span: str | None = None) -> object:
        """A call is decided so, by this rule, and leaves this span.

        Args:
            call: Makes the call, such as `lambda: refund(1, 900)`; a coroutine it returns is run to its end. Not inside of a running event
                loop: there await the call, and use `assert_decisions` and `assert_tree`.
            decision: What must be decided, by the last decision that the call led to.
            rule: Id of the rule that must have decided; None does not look at it.
            span: Outline of the spans that the call must leave, as for `assert_tree`; None does not look at them.

        Returns:
            What the call returned, or the `Blocked` error that it raised.

        Raises:
            AssertionError: It was decided otherwise, by another rule, or left other spans; the message shows what happened.
            RuntimeStateError: It is asynchronous, and an event loop is running.
        """
        __tracebackhide__ = True
        before = {item.context.span_id for item in self.spans() if item.context}
        result = _outcome(call)
        new = [item for item in self.spans() if item.context and item.context.span_id not in before]
        seen = [found for item in new if (found := _decision(item.attributes or {})) is not None]
        got = seen[-1] if seen else DecisionSeen("", "nothing", None)
        expected = DecisionSeen(got.tool, decision, rule if rule is not None else got.rule)
        self._compare("decisions", _decision_lines([expected]), _decision_lines([got]))
        if span is not None:
            self._compare("spans", span, outline(_forest(new)))
        return result

    def _compare(self, what: str, expected: str, got: str) -> None:
        __tracebackhide__ = True
        differing = difference(what, expected, got)
        if differing is not None:
            raise AssertionError(differing)

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
        """Stop the runtime and its providers; what was instrumented is itself again."""
        self.runtime.uninstrument()
        self.runtime.shutdown()
        self._tracers.shutdown()
        self._meters.shutdown()


def _outcome(call: Callable[[], object]) -> object:
    try:
        result = call()
        return _run(result) if inspect.isawaitable(result) else result
    except Blocked as blocked:
        return blocked


def _run(awaitable: Awaitable[object]) -> object:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_finished(awaitable))
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    raise RuntimeStateError(
        "assert_decided() was given a coroutine while an event loop is running; await the call in the test, "
        "then use `assert_decisions` and `assert_tree`"
    )


async def _finished(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _decision_lines(decisions: Iterable[tuple[str, str, str | None]]) -> str:
    return "\n".join(f"{tool or '(no tool)'}: {decision} by {rule or 'no rule'}" for tool, decision, rule in decisions)


def _forest(spans: Sequence[ReadableSpan]) -> tuple[Tree, ...]:
    known = {span.context.span_id for span in spans if span.context}
    return _trees(spans, [span for span in spans if span.parent is None or span.parent.span_id not in known])


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
