"""An action as OPA sees it: one JSON document, `input`. Numbers keep every digit; what could not be read is never left out in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from otel_runtime.policy.engine_outside import Opaque, Untold, as_text, spelled
from otel_runtime.policy.protocol import FactsView
from otel_runtime.values.action import Action, Unreadable

__all__ = ["question"]


def question(action: Action, agent: str | None, facts: FactsView, now: datetime) -> bytes:
    """The body of the request, from the point of view of one agent of the chain.

    Raises:
        Untold: An argument or fact could not be read.
    """
    known: dict[str, object] = {
        "user": action.user,
        "roles": None if action.roles is None else sorted(action.roles),
        "tenant": action.tenant,
        "session": action.session,
        "labels": None if facts.labels is None else sorted(facts.labels),
        "history": None if facts.history is None else sorted(facts.history),
    }
    document: dict[str, object] = {
        "kind": action.kind,
        "name": action.name,
        "args": dict(action.args),
        "tags": sorted(action.tags),
        "agent": agent,
        "agents": list(action.agents),
        "context": dict(action.context),
        "now": now.isoformat(),
        **known,
        "opaque": sorted(name for name, value in action.args.items() if isinstance(value, Unreadable)),
        # Null in Rego is a value like any other, so a rule that must not overlook a gap asks here.
        "unknown": sorted(name for name, value in known.items() if value is None),
    }
    return f'{{"input": {_json(document)}}}'.encode()


def _json(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_json, value))}]"
    text = as_text(value)
    if isinstance(text, Opaque):
        return json.dumps({"$opaque": text.type_name})
    if text is None:
        raise Untold(f"holds a value of type `{type(value).__name__}`, which JSON does not know")
    return json.dumps(text)


def _number(value: float | Decimal) -> str:
    exact = Decimal(spelled(value))
    # Far exponents are short to write and long to work with.
    if not exact.is_finite() or abs(exact.adjusted()) > 400 or len(exact.as_tuple().digits) > 400:
        raise Untold("holds a number that is too long, too large or too small to be sent")
    return spelled(value)
