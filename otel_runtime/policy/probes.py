"""Tests on one value, compiled: operators, `exists`, `length`, `some`/`every`/`none` and their composition.

A probe carries its check and the parts it is made of, so that an explanation runs the very closures that decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from otel_runtime.policy.operators import OPERATORS, ValueCheck, size
from otel_runtime.policy.scope import Scope, State
from otel_runtime.policy.terms import Ref, Test
from otel_runtime.policy.truth import Tri, all_of, any_of, negate
from otel_runtime.values.action import Unreadable

__all__ = ["Probe", "compile_test", "spell_operand", "written"]

# A member of an enumeration is found by a descriptor, which takes as long as the comparison.
_ABSENT: Final = State.ABSENT
_UNKNOWN: Final = State.UNKNOWN
_SPELLED = {"in_": "in", "not_": "not", "class_": "class"}


@dataclass(frozen=True, slots=True)
class Probe:
    """A compiled test.

    Args:
        label: How the rule spells it.
        check: Its value for an argument's value (or State) in a scope.
        parts: What it is made of, where each part asks the same value.
        bare: The same check for values that are there and can be read; None where `check` is more than that.
    """

    label: str
    check: ValueCheck
    parts: tuple[Probe, ...] = ()
    bare: ValueCheck | None = None


def compile_test(test: Test) -> Probe:
    """Compile what is asked of one value; all its operators must hold."""
    probes = tuple(_operator(name, operand) for name, operand in written(test))
    if len(probes) == 1:
        return probes[0]
    bare = [probe.bare for probe in probes if probe.bare is not None]
    # What guards each of several operators guards all of them.
    check = _guarded(_all(bare)) if len(bare) == len(probes) else _all([probe.check for probe in probes])
    return Probe("all of", check, probes)


def written(model: Test) -> Iterator[tuple[str, object]]:
    """The operators that were written, in the order of the model."""
    for name in model.written:
        yield name, getattr(model, name)


def spell_operand(operand: object) -> str:
    """An operand as the file spells it."""
    if isinstance(operand, Ref):
        return f"{operand.root}.{operand.name}"
    if isinstance(operand, tuple | list):
        return f"[{', '.join(spell_operand(item) for item in operand)}]"
    return str(operand).lower() if isinstance(operand, bool) else str(operand)


def _operator(name: str, operand: object) -> Probe:
    if name in _COMPOSED and isinstance(operand, Test | tuple):
        return _COMPOSED[name](operand)
    label = f"{_SPELLED.get(name, name)} {spell_operand(operand)}"
    if name == "exists":
        return Probe(label, _exists(wanted=bool(operand)))
    bare = OPERATORS[name](operand)
    return Probe(label, _guarded(bare), bare=bare)


def _guarded(check: ValueCheck) -> ValueCheck:
    """Absent values fail every operator; unreadable ones leave it unknown."""

    def guarded(value: object, scope: Scope) -> Tri:
        if value is _ABSENT or value is None:
            return False
        if value is _UNKNOWN or type(value) is Unreadable:
            return None
        return check(value, scope)

    return guarded


def _exists(*, wanted: bool) -> ValueCheck:
    def check(value: object, _scope: Scope) -> Tri:
        if value is State.UNKNOWN:
            return None
        return (value is not State.ABSENT and value is not None) is wanted

    return check


def _all(checks: list[ValueCheck]) -> ValueCheck:
    if len(checks) == 2:  # a range, mostly
        return _both(*checks)

    def check(value: object, scope: Scope) -> Tri:
        result: Tri = True
        for one in checks:
            got = one(value, scope)
            if got is False:
                return False
            if got is None:
                result = None
        return result

    return check


def _both(one: ValueCheck, other: ValueCheck) -> ValueCheck:
    def check(value: object, scope: Scope) -> Tri:
        first = one(value, scope)
        if first is False:
            return False
        second = other(value, scope)
        return second if first is True or second is False else None

    return check


def _all_of(tests: object) -> Probe:
    parts = tuple(compile_test(test) for test in tests if isinstance(test, Test)) if isinstance(tests, tuple) else ()
    return Probe("all_of", _all([part.check for part in parts]), parts)


def _any_of(tests: object) -> Probe:
    parts = tuple(compile_test(test) for test in tests if isinstance(test, Test)) if isinstance(tests, tuple) else ()
    return Probe("any_of", lambda value, scope: any_of(part.check(value, scope) for part in parts), parts)


def _not(test: object) -> Probe:
    part = _compiled(test)
    return Probe(f"not {part.label}", lambda value, scope: negate(part.check(value, scope)), (part,))


def _length(test: object) -> Probe:
    part = _compiled(test)

    def check(value: object, scope: Scope) -> Tri:
        length = size(value)
        return None if length is None else part.check(length, scope)

    return Probe(f"length {part.label}", _guarded(check))


def _elements(name: str, fold: Callable[[list[Tri]], Tri]) -> Callable[[object], Probe]:
    def compose(test: object) -> Probe:
        part = _compiled(test)

        def check(value: object, scope: Scope) -> Tri:
            if not isinstance(value, list | tuple):
                return None
            # Counted as every reading is: a long list under many rules must not make a decision slow.
            scope.effort -= len(value)
            if scope.effort < 0:
                return None
            return fold([part.check(element, scope) for element in value])

        return Probe(f"{name} {part.label}", _guarded(check))

    return compose


def _compiled(test: object) -> Probe:
    if not isinstance(test, Test):
        raise TypeError(f"expected a test, got {type(test).__name__}")
    return compile_test(test)


def _every(results: list[Tri]) -> Tri:
    # Nothing is never all: an empty list of recipients must not pass as "everyone is inside".
    return all_of(results) if results else False


_COMPOSED: dict[str, Callable[[object], Probe]] = {
    "all_of": _all_of,
    "any_of": _any_of,
    "not_": _not,
    "length": _length,
    "some": _elements("some", any_of),
    "every": _elements("every", _every),
    "none": _elements("none", lambda results: negate(any_of(results))),
}
