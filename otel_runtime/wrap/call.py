"""One call while it runs: its permit, its span, its usage and its end."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextvars import Token
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from otel_runtime.errors import RetryableFailure
from otel_runtime.hooks.native import Place, native_event, usage_event
from otel_runtime.policy.protocol import Hold, Spent, Use
from otel_runtime.telemetry.losses import describe
from otel_runtime.telemetry.protocol import NOTHING, AttributeValue, OpenSpan, Outcome, SpanStart
from otel_runtime.values.decision import Decision
from otel_runtime.values.host import HostContext
from otel_runtime.values.trace import TraceEvent, TraceRef
from otel_runtime.values.usage import UsageRecord
from otel_runtime.wrap.active import Active, Sums
from otel_runtime.wrap.binding import NO_RECEIVER
from otel_runtime.wrap.invocation import Invocation
from otel_runtime.wrap.plan import CallPlan
from otel_runtime.wrap.scope import RunState, Scope, current_scope, enter_scope, leave_scope
from otel_runtime.wrap.taking import Taking

__all__ = ["Call", "Permit"]


class Permit(NamedTuple):
    """The right to run the body once.

    Args:
        decision: The decision that allowed it.
        hold: What was reserved; None when nothing was.
        request_id: The approval that was claimed; None when none was needed.
        links: Spans that led here.
        uses: How far limits were used, for a measurement once it is known what the call cost.
    """

    decision: Decision
    hold: Hold | None = None
    request_id: str | None = None
    links: tuple[TraceRef, ...] = ()
    uses: tuple[Use, ...] = ()


_NO_PERMIT: tuple[None, None, None, tuple[TraceRef, ...], tuple[Use, ...]] = (None, None, None, (), ())


class Call(Invocation):
    """The state of one call.

    Args:
        plan: Of the function.
        active: The running parts.
        args: Positional arguments as the caller gave them.
        kwargs: Keyword arguments as the caller gave them.
        scope: Surroundings; those of the running code when None.
        parent: Span to use as parent instead of the current one (a resumed call).
        named: Arguments by name, when they come from a model or a `with` block; they need not fit the signature.
        registered: False when nobody declared the tool.
    """

    __slots__ = (
        "_dedupe_key",
        "_refused",
        "_run_started",
        "_tokens",
        "look",
        "parent",
        "permit",
        "span",
        "spent_tokens",
        "spent_usd",
        "sums",
        "taking",
    )

    def __init__(
        self,
        plan: CallPlan,
        active: Active,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        scope: Scope | None = None,
        parent: TraceRef | None = None,
        named: Mapping[str, Any] | None = None,
        registered: bool = True,
    ) -> None:
        self.plan = plan
        self.active = active
        self.args = args
        self.kwargs: dict[str, Any] = {} if kwargs is None else kwargs
        self.scope: Scope = current_scope() if scope is None else scope
        self.bound: dict[str, Any] | None = None if named is None else dict(named)
        self.registered = registered
        self._receiver = NO_RECEIVER
        self._fixed = False
        self.parent: TraceRef | None = parent
        # What a first look found, for the admission that follows at once.
        self.look: object = None
        self.permit: Permit | None = None
        # What is being taken for the permit, until that is there.
        self.taking: Taking[Any] | None = None
        self.span: OpenSpan | None = None
        self.sums: Sums | None = None
        self.spent_usd: Decimal | None = None
        self.spent_tokens: int | None = None
        self._dedupe_key: str | None = None
        self._refused: tuple[RetryableFailure, ...] = ()
        self._run_started = False
        self._tokens: tuple[Token[Scope], object] | None = None
        if plan.adopts:
            self._adopt_names()

    def open(self) -> OpenSpan:
        """Open the span of the body; a call that is retried keeps the one it has."""
        if self.span is not None:
            return self.span
        if self.plan.kind in ("agent", "workflow"):
            self._begin_run()
        tracing, permit = self.active.tracing, self.permit
        span = tracing.unrecorded(self.plan.kind, self.plan.name) if self.parent is None and (permit is None or not permit.links) else None
        if span is None:
            span = tracing.open(self._span_start())
        self.span = span
        for failure in self._refused:
            self._attempt_event(failure)
        hooks = self.active.hooks
        if hooks.watched:
            if self._run_started and hooks.wants("request"):
                hooks.request(self.context())
            self.announce(lambda place: native_event(self.plan.kind, self.name, place))
        return span

    def enter(self) -> None:
        """Attach span and scope; always followed by `leave` in the same stretch of code."""
        if self.span is not None:
            self._tokens = (enter_scope(self.inner_scope()), self.span.enter())

    def leave(self) -> None:
        """Detach span and scope."""
        if self._tokens is not None and self.span is not None:
            scope_token, span_token = self._tokens
            self._tokens = None
            self.span.leave(span_token)
            leave_scope(scope_token)

    def refused_attempt(self, failure: RetryableFailure) -> None:
        """Remember an attempt that will be made again."""
        self._refused = (*self._refused, failure)
        if self.span is not None:
            self._attempt_event(failure)

    @property
    def attempt(self) -> int:
        """The attempt under way, starts at 1."""
        return len(self._refused) + 1

    def dedupe_key(self, digest: str) -> str | None:
        """What names this very call over restarts of its run: the provider's call id, else how often the run made it; None without a run.

        Args:
            digest: Digest of the call as it was first asked about.
        """
        run = self.scope.run
        if self._dedupe_key is None and run is not None:
            nth = f"nth:{run.occurrence(digest)}" if self.scope.call_id is None else f"call:{self.scope.call_id}"
            self._dedupe_key = f"{run.id}\x1f{digest}\x1f{nth}"
        return self._dedupe_key

    def record_usage(self, response: object) -> UsageRecord | None:
        """Add a response's or a record's usage to this call, the run and the runtime; None when it has none."""
        record = self.active.usage_of(response)
        if record is None:
            return None
        if self.span is not None:
            self.span.usage(record)
        (self.sums or self._sums_around()).add(record)
        if record.cost is not None and record.cost.currency == "USD":
            self.spent_usd = (self.spent_usd or Decimal(0)) + record.cost.amount
        used = record.usage
        if used.input_tokens is not None or used.output_tokens is not None:
            self.spent_tokens = (self.spent_tokens or 0) + (used.input_tokens or 0) + (used.output_tokens or 0)
        return record

    @property
    def must_settle(self) -> bool:
        """True when the end of the body is to be recorded: a budget was held or an approval claimed."""
        permit = self.permit
        return permit is not None and (permit.hold is not None or permit.request_id is not None)

    def spent(self) -> Spent:
        """What the call used, for budgets."""
        return Spent(self.spent_usd, self.spent_tokens)

    def end(self, outcome: Outcome, error: BaseException | None = None, result: object = NOTHING) -> None:
        """End the span and tell the hooks; what the policy must record is `settle`'s."""
        if self.span is not None:
            if self.sums is not None:
                self.span.totals(self.sums.tokens)
            self.span.end(outcome, error, result if self.plan.options.capture_output else NOTHING)
        if self.active.hooks.watched:
            self._announce_end(outcome, error)
            if self._run_started:
                self._finish_run(error if outcome == "error" else None)

    def announce(self, build: Callable[[Place], TraceEvent]) -> None:
        """Tell trace observers, if there are any; what they are told is built only then.

        Args:
            build: Makes the event from where the call stands.
        """
        if self.active.hooks.wants("trace"):
            context = self.context()
            agent = self.scope.agents[-1] if self.scope.agents else None
            place = Place(datetime.now(UTC), context.trace, context.run, self.scope.session, agent, self.scope.call_id)
            self.active.hooks.trace(build(place), context)

    def context(self) -> HostContext:
        """What hooks are told."""
        run = self.scope.run
        return HostContext(
            runtime=self.active.name,
            request=f"{self.plan.kind} {self.name}",
            session=self.scope.session,
            user=self.scope.user,
            attributes=self.scope.context,
            wait_until=self.active.wait_until,
            memo=run.memo if run is not None else {},
            capabilities=tuple(self.active.capabilities),
            trace=self.span.ref() if self.span is not None else self.active.tracing.current(),
            run=run.id if run is not None else None,
        )

    def inner_scope(self) -> Scope:
        """The surroundings of the body."""
        return self.scope.inside(self, agent=self.plan.name if self.plan.kind == "agent" else None)

    def _announce_end(self, outcome: Outcome, error: BaseException | None) -> None:
        # Of the run, not of an agent inside of it: its tokens are among those of the run.
        used = self.sums.tokens if self.sums is not None and self._run_started else None
        if used is not None and (used.input_tokens is not None or used.output_tokens is not None):
            self.announce(lambda place: usage_event(place, used))
        facts: dict[str, object] = {} if error is None else {"error.type": type(error).__name__, "error.message": describe(error)}
        self.announce(lambda place: native_event(self.plan.kind, self.name, place, outcome=outcome, facts=facts))

    def _span_start(self) -> SpanStart:
        plan, scope, active = self.plan, self.scope, self.active
        options, kind = plan.options, plan.kind
        model = options.model if options.model is not None or kind != "model" else self.requested_model()
        decision, _, request_id, links, _ = self.permit or _NO_PERMIT
        # As `SpanStart(...)` makes it, but for a call.
        return tuple.__new__(
            SpanStart,
            (
                kind,
                plan.name if kind != "model" else model or plan.name,
                scope.agents[-1] if scope.agents else None,
                scope.session,
                scope.run.id if scope.run is not None else None,
                scope.call_id,
                model,
                options.provider,
                decision,
                request_id,
                links,
                self.parent,
                # What binds them, not they themselves: a span that is not recorded never asks.
                self._arguments_or_none if options.capture_input and active.tracing.captures else None,
                options.attributes,
                active.guard is None,
            ),
        )

    def _arguments_or_none(self) -> dict[str, Any] | None:
        try:
            return self.arguments()
        except TypeError:
            return None  # the call itself will say what is wrong with it

    def _begin_run(self) -> None:
        scope = self.scope
        self.sums = self.active.sums_within(self._sums_around())
        self._run_started = scope.run is None or scope.operation is None
        if scope.run is None:
            run = RunState(uuid.uuid4().hex)
            self.scope = scope.for_run(run)

    def _sums_around(self) -> Sums:
        operation = self.scope.operation
        while operation is not None:
            if operation.sums is not None and operation.active is self.active:
                return operation.sums
            operation = operation.scope.operation
        return self.active.sums

    def _finish_run(self, error: BaseException | None) -> None:
        self._run_started = False
        hooks = self.active.hooks
        if error is not None and hooks.wants("error"):
            hooks.error(error, self.context())
        if hooks.wants("finish"):
            hooks.finish(self.context())

    def _attempt_event(self, failure: RetryableFailure) -> None:
        if self.span is None:
            return
        attributes: dict[str, AttributeValue] = {
            "otel_runtime.attempt.number": failure.attempt,
            "otel_runtime.attempt.retry_after": failure.retry_after_s,
            "otel_runtime.attempt.class": failure.retry_class,
        }
        if failure.rule is not None:
            attributes["otel_runtime.policy.rule"] = failure.rule
        self.span.event("otel_runtime.attempt", attributes)
