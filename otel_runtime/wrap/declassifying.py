"""Take a label off a session because a person or a check vouches for what is in it: recorded first, then done.

The label comes back when a tool that adds it starts again. What an earlier record says is never changed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from otel_runtime.errors import RuntimeStateError, StoreError
from otel_runtime.hooks.native import Place, declassified_event
from otel_runtime.policy.names import is_name
from otel_runtime.policy.protocol import Needs
from otel_runtime.telemetry import conventions as c
from otel_runtime.values.host import HostContext
from otel_runtime.wrap.active import Active, Guard, Unavailable, current_active
from otel_runtime.wrap.effects import Effects, blocking
from otel_runtime.wrap.guarding import peek
from otel_runtime.wrap.scope import Scope

__all__ = ["declassify"]

_MAX_WHY = 1000


def declassify(session: str, label: str, why: str, scope: Scope) -> Effects[Exception | None]:
    """Take one label off one session.

    Args:
        session: Session id.
        label: A label it carries.
        why: One sentence; at most 1,000 characters.
        scope: Who does it, and where.

    Returns:
        None when it is done; else the error to raise.
    """
    wrong = _wrong(label, why)
    if wrong is not None:
        return wrong
    active = current_active()
    if isinstance(active, Unavailable):
        return active.refuse("session.declassify")
    if active is None or active.guard is None:
        return RuntimeStateError("no policy is configured, so sessions carry no labels; pass policy=... to configure()")
    try:
        return (yield from _taken_off(active, active.guard, session, label, why.strip(), scope))
    except StoreError as error:
        return error


def _wrong(label: object, why: object) -> Exception | None:
    if not isinstance(label, str) or not is_name(label):
        return ValueError(f"expected the name of a label such as `untrusted`, got `{label!r}`")
    if not isinstance(why, str) or not why.strip():
        return ValueError(f"expected the reason why `{label}` comes off, got `{why!r}`; it is written into the audit log")
    if len(why) > _MAX_WHY:
        return ValueError(f"expected a reason of at most {_MAX_WHY} characters, got {len(why)}")
    return None


def _taken_off(active: Active, guard: Guard, session: str, label: str, why: str, scope: Scope) -> Effects[Exception | None]:
    now = active.clock()
    around = scope.around if scope.session == session else ()
    view = yield from peek(guard, Needs((), session), now)
    if view is None or view.labels is None:
        said = view.failure if view is not None and view.failure else "they were dropped to make room; begin a new session"
        return StoreError(f"the labels of session `{session}` are not known, so `{label}` stays on it: {said}")
    if label not in view.labels:
        wider = yield from peek(guard, Needs((), session, (), around), now)
        inherited = wider is not None and wider.labels is not None and label in wider.labels
        return ValueError(_not_there(session, label, sorted(view.labels), around if inherited else ()))
    facts = {"user": scope.user, "agents": list(scope.agents), "run": scope.run.id if scope.run is not None else None}
    sources = {"sources": sorted(view.labels[label])}
    trace = active.tracing.current()
    # Written down before it is done: a label that is off without a record would be worse than a record of what failed.
    yield from blocking(lambda: guard.decisions.declassified(session, label, why, {**facts, **sources}, trace))
    yield from blocking(lambda: guard.facts.declassify(session, label, now))
    _say(active, session, label, why, scope)
    return None


def _not_there(session: str, label: str, carried: list[str], around: tuple[str, ...]) -> str:
    if around:
        names = ", ".join(f"`{name}`" for name in around)
        return f"session `{session}` has the label `{label}` from the sessions around it ({names}); take it off there"
    known = f"it carries {', '.join(f'`{name}`' for name in carried)}" if carried else "it carries none"
    return f"session `{session}` does not carry the label `{label}`; {known}"


def _say(active: Active, session: str, label: str, why: str, scope: Scope) -> None:
    operation = scope.operation
    if operation is not None and operation.span is not None:
        operation.span.event(c.EVENT_DECLASSIFIED, {c.DECLASSIFIED_LABEL: label, c.DECLASSIFIED_WHY: why})
    if active.hooks.wants("trace"):
        run = scope.run.id if scope.run is not None else None
        trace = active.tracing.current()
        place = Place(datetime.now(UTC), trace, run, session, scope.agents[-1] if scope.agents else None)
        active.hooks.trace(declassified_event(place, label, why), _context(active, session, scope))


def _context(active: Active, session: str, scope: Scope) -> HostContext:
    return HostContext(
        runtime=active.name,
        request="session.declassify",
        session=session,
        user=scope.user,
        attributes=scope.context,
        wait_until=active.wait_until,
        memo=scope.run.memo if scope.run is not None else {},
        capabilities=tuple(active.capabilities),
        trace=active.tracing.current(),
        run=scope.run.id if scope.run is not None else None,
    )
