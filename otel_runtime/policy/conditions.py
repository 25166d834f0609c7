"""The conditions of a rule, compiled: who calls, with what, after what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from otel_runtime.policy.names import Globs
from otel_runtime.policy.predicates import load_predicate
from otel_runtime.policy.probes import Probe, compile_test, spell_operand
from otel_runtime.policy.scope import Scope, State, read, read_argument
from otel_runtime.policy.terms import After, Conditions, Ref
from otel_runtime.policy.truth import Tri, any_of, negate
from otel_runtime.values.action import Unreadable

__all__ = ["Condition", "ScopeCheck", "compile_conditions", "conjunction"]

ScopeCheck: TypeAlias = Callable[[Scope], Tri]


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition.

    Args:
        label: How the rule spells it.
        check: Its value in a scope.
        field: What it looks at, for "cannot be known" messages; empty for composed ones.
        parts: What it is composed of.
        subject: Reads what is tested; None where there is no single value.
        probe: The test on that value.
    """

    label: str
    check: ScopeCheck
    field: str = ""
    parts: tuple[Condition, ...] = ()
    subject: Callable[[Scope], object] | None = None
    probe: Probe | None = None


def compile_conditions(model: Conditions, *, top: bool) -> Condition:
    """Compile everything written together; all of it must hold.

    Args:
        model: What was written.
        top: True for a rule itself, whose `tool` and `name` are the index's business.

    Raises:
        ValueError: A `when` predicate cannot be loaded.
    """
    return conjunction("all of", tuple(_written(model, top=top)))


def conjunction(label: str, parts: tuple[Condition, ...]) -> Condition:
    """All parts hold."""
    if len(parts) == 1:
        return parts[0]
    return Condition(label, _all([part.check for part in parts]), parts=parts)


def _all(checks: list[ScopeCheck]) -> ScopeCheck:
    if not checks:
        return lambda _scope: True

    def check(scope: Scope) -> Tri:
        result: Tri = True
        for one in checks:
            got = one(scope)
            if got is False:
                return False
            if got is None:
                result = None
        return result

    return check


def _written(model: Conditions, *, top: bool) -> Iterator[Condition]:
    """Cheap conditions first; code of the operator's own last."""
    given = model.written
    if not top and given & {"tool", "name"}:
        yield _name((*(model.tool or ()), *(model.name or ())))
    for name, compile_one in _IDENTITY.items():
        if name in given:
            yield compile_one(getattr(model, name))
    yield from _values(model)
    if model.after is not None:
        yield from _after(model.after)
    yield from _composed(model)
    if model.when is not None:
        yield _when(model.when)


def _composed(model: Conditions) -> Iterator[Condition]:
    if model.all_of is not None:
        yield conjunction("all_of", tuple(compile_conditions(part, top=False) for part in model.all_of))
    if model.any_of is not None:
        parts = tuple(compile_conditions(part, top=False) for part in model.any_of)
        yield Condition("any_of", lambda scope: any_of(part.check(scope) for part in parts), parts=parts)
    if model.not_ is not None:
        yield _negated("not", model.not_)
    if model.unless is not None:
        yield _negated("unless", model.unless)


def _negated(label: str, model: Conditions) -> Condition:
    inner = compile_conditions(model, top=False)
    return Condition(label, lambda scope: negate(inner.check(scope)), parts=(inner,))


def _name(patterns: tuple[str, ...]) -> Condition:
    globs = Globs(patterns)
    return Condition(f"name {spell_operand(patterns)}", lambda scope: globs.fits(scope.action.name), "name")


def _tags(tags: tuple[str, ...]) -> Condition:
    wanted = frozenset(tags)
    return Condition(f"tags {spell_operand(tags)}", lambda scope: not wanted.isdisjoint(scope.tags), "tags")


def _agent(patterns: tuple[str, ...]) -> Condition:
    globs = Globs(patterns)

    def check(scope: Scope) -> Tri:
        # Outside of any agent it is known that no agent calls.
        return scope.agent is not None and globs.fits(scope.agent)

    return Condition(f"agent {spell_operand(patterns)}", check, "agent", subject=lambda scope: scope.agent)


def _user(users: tuple[str, ...]) -> Condition:
    wanted = frozenset(users)

    def check(scope: Scope) -> Tri:
        user = scope.action.user
        return None if user is None else user in wanted

    return Condition(f"user {spell_operand(users)}", check, "user", subject=lambda scope: scope.action.user)


def _role(roles: tuple[str, ...]) -> Condition:
    wanted = frozenset(roles)

    def check(scope: Scope) -> Tri:
        held = scope.action.roles
        return None if held is None else not wanted.isdisjoint(held)

    def subject(scope: Scope) -> object:
        return State.UNKNOWN if scope.action.roles is None else sorted(scope.action.roles)

    return Condition(f"role {spell_operand(roles)}", check, "role", subject=subject)


def _only_args(names: tuple[str, ...]) -> Condition:
    allowed = frozenset(names)

    def check(scope: Scope) -> Tri:
        return all(name in allowed or value is None or _receiver(value) for name, value in scope.args.items())

    return Condition(f"only_args {spell_operand(names)}", check, "args")


def _receiver(value: object) -> bool:
    return isinstance(value, Unreadable) and value.why == "opaque"


_IDENTITY: dict[str, Callable[..., Condition]] = {
    "tags": _tags,
    "agent": _agent,
    "user": _user,
    "role": _role,
    "only_args": _only_args,
}


def _values(model: Conditions) -> Iterator[Condition]:
    for field, test in (model.session or {}).items():
        yield _tested(f"session.{field}", _reader("session", field), compile_test(test))
    for name, test in (model.context or {}).items():
        yield _tested(f"context.{name}", _reader("context", name), compile_test(test))
    for name, test in (model.args or {}).items():
        subject = _pooled(tuple(name.split("|"))) if "|" in name else _reader("args", name)
        yield _tested(f"args.{name}", subject, compile_test(test))


def _reader(root: str, name: str) -> Callable[[Scope], object]:
    if root == "args":
        return lambda scope: read_argument(scope, name)
    ref = Ref("session" if root == "session" else "context", name)
    return lambda scope: read(scope, ref)


def _tested(field: str, subject: Callable[[Scope], object], probe: Probe) -> Condition:
    test = probe.check

    def check(scope: Scope) -> Tri:
        value = subject(scope)
        return False if value is State.INAPPLICABLE else test(value, scope)

    return Condition(f"{field} {probe.label}", check, field, subject=subject, probe=probe)


def _pooled(names: tuple[str, ...]) -> Callable[[Scope], object]:
    def subject(scope: Scope) -> object:
        values = [read_argument(scope, name) for name in names]
        if all(value is State.INAPPLICABLE for value in values):
            return State.INAPPLICABLE
        pool: list[object] = []
        for value in values:
            if isinstance(value, list | tuple):
                pool.extend(value)
            elif value not in (State.INAPPLICABLE, State.ABSENT, "", {}):
                # An unknown argument is one unknown element: it could hold anything.
                pool.append(value)
        return pool

    return subject


def _after(after: After) -> Iterator[Condition]:
    if "label" in after.written:
        yield _after_label(after.label)
    if "tool" in after.written:
        yield _after_tool(after.tool)


def _after_label(labels: tuple[str, ...]) -> Condition:
    wanted = frozenset(labels)

    def check(scope: Scope) -> Tri:
        present = scope.facts.labels if scope.facts is not None else None
        return None if present is None else not wanted.isdisjoint(present)

    def subject(scope: Scope) -> object:
        present = scope.facts.labels if scope.facts is not None else None
        return State.UNKNOWN if present is None else sorted(present)

    return Condition(f"after label {spell_operand(labels)}", check, "labels of the session", subject=subject)


def _after_tool(patterns: tuple[str, ...]) -> Condition:
    globs = Globs(patterns)

    def check(scope: Scope) -> Tri:
        history = scope.facts.history if scope.facts is not None else None
        return None if history is None else any(globs.fits(name) for name in history)

    def subject(scope: Scope) -> object:
        history = scope.facts.history if scope.facts is not None else None
        return State.UNKNOWN if history is None else sorted(history)

    return Condition(f"after tool {spell_operand(patterns)}", check, "history of the session", subject=subject)


def _when(target: str) -> Condition:
    predicate = load_predicate(target)
    return Condition(f"when {target}", lambda scope: predicate(scope.action, scope.facts), f"predicate {target}")
