"""Decide a call that an approver changed, from what was stored with the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from otel_runtime.approvals.answers import Redecide, Redecided
from otel_runtime.policy.answering import answered
from otel_runtime.policy.protocol import Engine, FactsView, Needs
from otel_runtime.values.action import Action, Kind, Parameter, ToolSignature
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.digest import call_digest

__all__ = ["redecide_with"]


def redecide_with(engine: Engine, clock: Callable[[], datetime]) -> Redecide:
    """A function that decides edited calls.

    Counters are those of the waiting process and not known here, so limits are asked as if nothing had been used; the waiting process decides
    again with what they stand at before anything runs.

    Args:
        engine: The rules in force.
        clock: Current time in UTC.
    """

    def redecide(request: ApprovalRequest, edits: Mapping[str, object]) -> Redecided:
        args = {**request.input, **edits}
        action = _edited_action(request, args)
        now = clock()
        needs = engine.needs(action, now)
        facts = None if needs is None else answered(needs, _stored_facts(request, needs))
        decision = engine.decide(action, facts, now).decision
        return Redecided(args, call_digest(action), decision)

    return redecide


def _edited_action(request: ApprovalRequest, args: Mapping[str, object]) -> Action:
    facts = request.facts
    roles, tags = facts.get("roles"), facts.get("tags")
    return Action(
        kind=cast("Kind", request.kind),
        name=request.capability,
        args=args,
        signature=_signature(facts.get("signature")),
        registered=bool(facts.get("registered", True)),
        tags=frozenset(tags) if isinstance(tags, list | tuple) else frozenset(),
        agents=request.agents,
        session=request.session,
        user=request.user,
        roles=frozenset(roles) if isinstance(roles, list | tuple) else None,
        tenant=_text(facts.get("tenant")),
        context=cast("Mapping[str, object]", facts.get("context") or {}),
        run=request.run,
        call_id=request.call_id,
        receiver=_text(facts.get("receiver")),
    )


def _signature(stored: Any) -> ToolSignature | None:  # Any: authenticated JSON that `wrap.approval` wrote
    if not isinstance(stored, Mapping):
        return None
    parameters = tuple(Parameter(name, kind, required, nullable) for name, kind, required, nullable in stored["parameters"])
    return ToolSignature(parameters, stored["open"], stored["variadic"], stored["description"])


def _stored_facts(request: ApprovalRequest, needs: Needs) -> FactsView:
    labels, history, origins = (request.facts.get(name) for name in ("labels", "history", "origins"))
    return FactsView(
        dict.fromkeys(needs.counters, Decimal(0)),
        labels={name: frozenset(sources) for name, sources in labels.items()} if isinstance(labels, Mapping) else None,
        history=frozenset(history) if isinstance(history, list | tuple) else None,
        # What an approver wrote was seen nowhere: it is not known where it comes from.
        origins={key: frozenset(sources) for key, sources in origins.items()} if isinstance(origins, Mapping) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
