"""The decision log: every refusal, whatever sampling and exporters do to its span."""

from __future__ import annotations

from collections.abc import Mapping

from otel_runtime.audit.log import AuditLog
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision, RuleMatch
from otel_runtime.values.trace import TraceRef

__all__ = ["DecisionLog"]


class DecisionLog:
    """Records decisions that are not a plain allow.

    Args:
        database: A database opened with the migration `AUDIT`.
        log: The record in it.
        every: True records plain allows too.
    """

    def __init__(self, database: Database, log: AuditLog, *, every: bool = False) -> None:
        self._database = database
        self._log = log
        self._every = every

    def record(self, action: Action, decision: Decision, trace: TraceRef | None = None) -> int | None:
        """Record one decision, without its arguments: their digest names them.

        Returns:
            The event's sequence number; None when the decision is a plain allow.

        Raises:
            StoreError: It could not be stored.
        """
        if not self._every and decision.value == "allow" and decision.would_be in (None, "allow"):
            return None
        payload = {**_what(action, decision), **_where(action, trace)}
        with self._database.writing() as connection:
            return self._log.append(connection, "decision", action.name, payload)

    def declassified(self, session: str, label: str, why: str, facts: Mapping[str, object], trace: TraceRef | None = None) -> int:
        """Record that a label is taken off a session: an event `session.declassified` about the session.

        Args:
            session: Session id.
            label: The label.
            why: The reason that was given.
            facts: Who did it and what had added the label, as plain data.
            trace: Where it happened; None outside of a trace.

        Returns:
            The event's sequence number.

        Raises:
            StoreError: It could not be stored.
        """
        where = {"trace_id": trace.id if trace else None, "span_id": trace.parent_id if trace else None}
        with self._database.writing() as connection:
            return self._log.append(connection, "session.declassified", session, {"label": label, "why": why, **facts, **where})


def _what(action: Action, decision: Decision) -> dict[str, object]:
    return {
        "kind": action.kind,
        "decision": decision.value,
        "would_be": decision.would_be,
        "code": decision.code,
        "reason": decision.reason,
        "rule": decision.rule,
        "place": decision.place,
        "matched": [_match(match) for match in decision.matched],
        "policy_digest": decision.policy_digest,
        "input_digest": decision.input_digest,
    }


def _match(match: RuleMatch) -> dict[str, object]:
    return {"rule": match.rule, "verdict": match.verdict, "outcome": match.outcome, "why": match.why, "shadow": match.shadow}


def _where(action: Action, trace: TraceRef | None) -> dict[str, object]:
    return {
        "user": action.user,
        "agents": list(action.agents),
        "session": action.session,
        "run": action.run,
        "call_id": action.call_id,
        "trace_id": trace.id if trace else None,
        "span_id": trace.parent_id if trace else None,
    }
