"""Runtimes for the tests of wrapping: real policy, real SQLite, an in-memory exporter."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_runtime.approvals.service import ApprovalService
from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.model import Settings

POLICY = """
version: 1
name: test
default: deny
tools:
  fetch: {adds: [untrusted]}
  mail: {args: {to: str, body: str}}
rules:
  - {id: open, tool: [read, "read*", "list*", fetch, plain, slow, echo], decision: allow}
  - {id: small, tool: refund, args: {amount: {gt: 0, lte: 100}}, decision: allow}
  - {id: large, tool: refund, args: {amount: {gt: 100}}, decision: require-approval, reason: "Much money.",
     approval: {approvers: ["role:finance"], expires: 1h, edit: [amount]}}
  - {id: mail, tool: mail, decision: allow}
  - {id: mail.tainted, tool: mail, after: {label: untrusted}, decision: deny, reason: "The session read something untrusted."}
  - {id: rate, tool: limited, over: {calls: 1, by: session, per: 200ms}, decision: retryable-failure, retry: {after: 100ms, max_attempts: 9}}
  - {id: limited, tool: limited, decision: allow}
  - {id: vault, kind: capability, name: vault, decision: allow}
  - {id: budget, kind: model, over: {usd: "0.0002", by: session, per: 1h, reserve: "0.0001"}, decision: deny, reason: "The budget is spent."}
"""


@dataclass(frozen=True)
class World:
    """A runtime in force, and what it left behind."""

    runtime: Runtime
    exporter: InMemorySpanExporter
    provider: TracerProvider

    @property
    def approvals(self) -> ApprovalService:
        """The approvals service of the runtime."""
        assert self.runtime.approvals is not None
        return self.runtime.approvals

    def spans(self) -> list[ReadableSpan]:
        """Finished spans, in the order of their start; those of streams that were dropped are ended by the runtime's own thread."""
        self.runtime.flush()
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def names(self) -> list[str]:
        """Names of the finished spans, in the order of their start."""
        return [span.name for span in self.spans()]

    def tree(self) -> dict[str, Any]:
        """Names of finished spans by parent; equal siblings are numbered."""
        spans = self.spans()
        return _below(None, spans, {span.context.span_id for span in spans if span.context})

    def one(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (span,) = [span for span in self.spans() if span.name == name]
        return span


def _below(parent: int | None, spans: list[ReadableSpan], known: set[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for span in spans:
        above = span.parent.span_id if span.parent is not None and span.parent.span_id in known else None
        if above == parent and span.context is not None:
            count = sum(1 for name in found if name.partition(" #")[0] == span.name)
            found[span.name if not count else f"{span.name} #{count + 1}"] = _below(span.context.span_id, spans, known)
    return found


MakeWorld = Callable[..., World]
Clock = Callable[[], datetime]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    """A factory of runtimes in force for the test; `policy=None` traces only."""
    with ExitStack() as stack:

        def make(
            policy: str | None = POLICY, *, capabilities: dict[str, object] | None = None, clock: Clock | None = None, **settings: Any
        ) -> World:
            exporter = InMemorySpanExporter()
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            values: dict[str, Any] = {
                "state": tmp_path / "state" / "state.db",
                "people": {"alice": {"roles": ["finance"]}},
                "wait_at_most": 0.2,
                # Only tests of these bounds set short ones: a busy machine or a slow disk is no store that is away.
                "facts_timeout": 60.0,
                "flush_timeout": 60.0,
            }
            if policy is not None:
                (tmp_path / "policy.yaml").write_text(policy)
                values["policy"] = tmp_path / "policy.yaml"
            runtime = build_runtime(Settings(**{**values, **settings}), tracer_provider=provider, capabilities=capabilities, clock=clock)
            stack.callback(runtime.shutdown)
            stack.enter_context(runtime.use())
            return World(runtime, exporter, provider)

        yield make


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_by_others() -> None:
    """What the tests of other files left is collected now, and says nothing in the logs of a test that looks at its own."""
    gc.collect()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A guarded runtime with the policy above."""
    return make_world()


@pytest.fixture
def traced(make_world: MakeWorld) -> World:
    """A runtime without a policy."""
    return make_world(policy=None)
