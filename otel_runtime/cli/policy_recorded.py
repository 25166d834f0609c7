"""Spans -> recorded calls: which spans together are one call, and what they tell of it.

One call leaves up to four spans: `policy DECISION TOOL` (its content, with capture on), `approval requested TOOL`, `approval OUTCOME TOOL`, and
`execute_tool TOOL` when it ran. A call that waited and tried again leaves one `policy retryable-failure` per attempt.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, cast, get_args

from otel_runtime.cli import policy_span_facts as facts
from otel_runtime.policy.recorded import CONTEXT_CUT, RecordedCall, Seen, read_captured
from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.span_view import SpanView
from otel_runtime.values.action import Kind
from otel_runtime.values.decision import Verdict

__all__ = ["recorded"]

_KINDS: Final[Mapping[str, Kind]] = {
    "execute_tool": "tool",
    "chat": "model",
    "invoke_agent": "agent",
    "invoke_workflow": "workflow",
}
_NAMES: Final[Mapping[Kind, str]] = {
    "tool": c.TOOL_NAME,
    "model": c.REQUEST_MODEL,
    "agent": c.AGENT_NAME,
    "workflow": c.WORKFLOW_NAME,
}
_REQUESTED: Final = "approval requested "
_VERDICTS: Final = frozenset(get_args(Verdict))

_Group = tuple[str, str | None, str, str]


def recorded(spans: Sequence[SpanView]) -> tuple[list[RecordedCall], list[Seen]]:
    """The calls of a trace and what its sessions saw, in the order of their times."""
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.end_ns))
    return _Reading(ordered).calls(), list(_seen(ordered))


class _Reading:
    """The spans of all traces on their way to calls."""

    def __init__(self, spans: Sequence[SpanView]) -> None:
        self._spans = spans
        self._by_id = {(span.trace_id, span.span_id): span for span in spans}
        self._calls: list[RecordedCall] = []
        # Decisions whose body may follow, by where and what; and by the approval they asked for.
        self._waiting: defaultdict[_Group, deque[int]] = defaultdict(deque)
        self._asked: dict[str, int] = {}
        self._tries: defaultdict[_Group, deque[int]] = defaultdict(deque)
        self._dropped: set[int] = set()

    def calls(self) -> list[RecordedCall]:
        """Every call, once."""
        for span in self._spans:
            if c.DECISION in span.attributes and c.OWN_TOOL in span.attributes and c.OPERATION not in span.attributes:
                self._decided(span)
            elif span.name.startswith(_REQUESTED):
                self._requested(span)
            elif (kind := _KINDS.get(str(span.attributes.get(c.OPERATION)))) is not None:
                self._ran(span, kind)
        return [call for at, call in enumerate(self._calls) if at not in self._dropped]

    def _decided(self, span: SpanView) -> None:
        attributes = span.attributes
        verdict = attributes[c.DECISION]
        if verdict not in _VERDICTS:
            return
        kind = cast("Kind", str(attributes.get(c.OWN_KIND, "tool")))
        name = str(attributes[c.OWN_TOOL])
        args, gaps = facts.arguments(attributes.get(c.ARGUMENTS))
        caller, agents, lost = facts.caller(attributes.get(c.CALLER))
        group = _group(span, kind, name)
        at = len(self._calls)
        self._calls.append(
            RecordedCall(
                kind,
                name,
                facts.moment(span.end_ns),
                args,
                gaps | lost,
                caller,
                self._agents(span) if agents is None else agents,
                facts.session(span),
                registered=not span.name.endswith(f" {c.OTHER}"),
                decided=cast("Verdict", verdict),
                digest=str(attributes.get(c.DECISION_DIGEST, "")),
                attempt=facts.attempt(attributes),
                # A capability has no span of its own.
                ran=verdict == "allow" and kind == "capability",
                place=facts.place(span),
            )
        )
        if verdict in {"allow", "require-approval"}:
            self._waiting[group].append(at)
        elif verdict == "retryable-failure":
            self._tries[group].append(at)
        elif attributes.get(c.DECISION_CODE) == "policy.exhausted":
            self._forget_tries(group)

    def _forget_tries(self, group: _Group) -> None:
        """The attempts before the last one are the same call."""
        tries = self._tries[group]
        while tries:
            at = tries.pop()
            self._dropped.add(at)
            if self._calls[at].attempt == 1:
                return

    def _requested(self, span: SpanView) -> None:
        attributes = span.attributes
        waiting = self._waiting[_group(span, str(attributes.get(c.OWN_KIND, "tool")), str(attributes.get(c.OWN_TOOL, "")))]
        for at in waiting:
            if self._calls[at].decided == "require-approval":
                waiting.remove(at)
                self._asked[str(attributes.get(c.APPROVAL_ID))] = at
                self._calls[at] = replace(self._calls[at], approvers=facts.texts(attributes.get(c.APPROVAL_APPROVERS)))
                return

    def _ran(self, span: SpanView, kind: Kind) -> None:
        name = str(span.attributes.get(_NAMES[kind], ""))
        group = _group(span, kind, name)
        asked = span.attributes.get(c.APPROVAL_ID)
        attempts = sum(event.name == c.EVENT_ATTEMPT for event in span.events)
        for _ in range(attempts):
            # The attempts before this one are the same call.
            if self._tries[group]:
                self._dropped.add(self._tries[group].popleft())
        decided = self._asked.pop(str(asked), None) if asked is not None else self._allowed(group)
        body = self._body(span, kind, name)
        if decided is None:
            self._calls.append(body)
            return
        known = self._calls[decided]
        whole = known if known.args is not None else replace(known, args=body.args, gaps=body.gaps | (known.gaps & {CONTEXT_CUT}))
        self._calls[decided] = replace(whole, attempt=attempts + 1, ran=True, usd=body.usd, tokens=body.tokens, place=body.place)

    def _allowed(self, group: _Group) -> int | None:
        waiting = self._waiting[group]
        return waiting.popleft() if waiting and self._calls[waiting[0]].decided == "allow" else None

    def _body(self, span: SpanView, kind: Kind, name: str) -> RecordedCall:
        attributes = span.attributes
        given = facts.content(span, c.TOOL_ARGUMENTS if kind == "tool" else c.ARGUMENTS)
        args, gaps = facts.arguments(given) if kind != "model" else ({}, frozenset[str]())
        agents = self._agents(span)
        decided = attributes.get(c.DECISION)
        return RecordedCall(
            kind,
            name,
            facts.moment(span.start_ns),
            args,
            gaps,
            None,
            agents if agents is None or kind != "agent" else (*agents, name),
            facts.session(span),
            decided="require-approval" if c.APPROVAL_ID in attributes else cast("Verdict", decided) if decided in _VERDICTS else None,
            digest=str(attributes.get(c.DECISION_DIGEST, "")),
            ran=True,
            usd=facts.decimal(attributes.get(c.COST_EXACT)) if attributes.get(c.COST_CURRENCY, "USD") == "USD" else None,
            tokens=facts.whole_number(attributes.get(c.TOTAL_TOKENS)),
            place=facts.place(span),
        )

    def _agents(self, span: SpanView) -> tuple[str, ...] | None:
        """The chain of agents around a span; None when a part of it is not in the trace."""
        found: list[str] = []
        passed: set[str] = set()
        parent = span.parent_id
        while parent is not None:
            around = self._by_id.get((span.trace_id, parent))
            if around is None or parent in passed:
                return None
            passed.add(parent)
            if around.attributes.get(c.OPERATION) == "invoke_agent":
                found.append(str(around.attributes.get(c.AGENT_NAME, "")))
            parent = around.parent_id
        return tuple(reversed(found))


def _seen(spans: Sequence[SpanView]) -> Iterator[Seen]:
    """The words of users, facts of applications and results of tools."""
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    for span in spans:
        session = facts.session(span)
        operation = span.attributes.get(c.OPERATION)
        if session is None:
            continue
        if operation == "execute_tool":
            value, gaps = read_captured(facts.content(span, c.TOOL_RESULT))
            yield Seen(session, f"tool:{span.attributes.get(c.TOOL_NAME)}", facts.moment(span.end_ns), value, whole=not gaps)
        elif operation == "invoke_agent" and not _inside_agent(span, by_id):
            value, gaps = read_captured(facts.content(span, c.ARGUMENTS))
            yield Seen(session, "user", facts.moment(span.start_ns), value, whole=not gaps)
        elif c.CALLER in span.attributes:
            caller, _, lost = facts.caller(span.attributes[c.CALLER])
            context = None if caller is None else dict(caller.context)
            yield Seen(session, "config", facts.moment(span.start_ns), context, whole=context is not None and not lost)


def _inside_agent(span: SpanView, by_id: Mapping[tuple[str, str], SpanView]) -> bool:
    passed: set[str] = set()
    parent = span.parent_id
    while parent is not None and parent not in passed:
        passed.add(parent)
        around = by_id.get((span.trace_id, parent))
        if around is None or around.attributes.get(c.OPERATION) == "invoke_agent":
            # What is around may be an agent; its words would be a model's.
            return True
        parent = around.parent_id
    return False


def _group(span: SpanView, kind: str, name: str) -> _Group:
    return span.trace_id, span.parent_id, kind, name
