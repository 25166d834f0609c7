"""Operators on one value. Each has three values: what cannot be proven is unknown, never false.

Types are strict: a bool is no number, "500" is not 500, nothing is converted. Numbers compare as exact decimals; a float stands for its
shortest decimal text, so 0.1 is one tenth.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import TypeAlias

from otel_runtime.policy.addresses import MAX_ADDRESS, domain_of
from otel_runtime.policy.names import compile_glob
from otel_runtime.policy.numbers import number
from otel_runtime.policy.operators_apart import APART
from otel_runtime.policy.regexes import compile_regex
from otel_runtime.policy.scope import Scope, State, read
from otel_runtime.policy.terms import Ref
from otel_runtime.policy.truth import Tri, any_of, negate

__all__ = ["OPERATORS", "ValueCheck", "equal", "number"]

ValueCheck: TypeAlias = Callable[[object, Scope], Tri]
_Relation: TypeAlias = Callable[[object, object], Tri]


def equal(left: object, right: object) -> Tri:
    """Equality of two texts, two booleans or two numbers; of anything else it is unknown."""
    if type(left) is str and type(right) is str:
        return left == right
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right if isinstance(left, bool) and isinstance(right, bool) else None
    one, other = number(left), number(right)
    return None if one is None or other is None else one == other


def _different(left: object, right: object) -> Tri:
    return negate(equal(left, right))


def _ordered(compare: Callable[[int | Decimal, int | Decimal], bool]) -> _Relation:
    def relation(left: object, right: object) -> Tri:
        one, other = number(left), number(right)
        return None if one is None or other is None else compare(one, other)

    return relation


def _compared(compare: Callable[[int | Decimal, int | Decimal], bool]) -> Callable[[object], ValueCheck]:
    """A comparison of order; with a constant on the right, a whole number is compared at once."""
    bind = _binary(_ordered(compare))

    def bind_one(operand: object) -> ValueCheck:
        exact, limit = bind(operand), number(operand)
        if limit is None:
            return exact
        constant = limit
        return lambda value, scope: compare(value, constant) if type(value) is int else exact(value, scope)

    return bind_one


def _among(value: object, options: object) -> Tri:
    if not isinstance(options, list | tuple):
        return None
    results = [equal(value, option) for option in options]
    if True in results:
        return True
    # A reference that leads to nothing plain could be the very value.
    if any(option is not None and not isinstance(option, str | bool | int | float | Decimal) for option in options):
        return None
    # One comparable option settles it: "a" is provably not 1 and not "b" when both stand in the list.
    return False if False in results else None


def _membership(*, wanted: bool) -> Callable[[object], ValueCheck]:
    """`in` and `not_in`: constants are looked up, so that a long list of them costs as much as a short one."""

    def bind(operand: object) -> ValueCheck:
        many = isinstance(operand, tuple)
        if isinstance(operand, tuple) and not any(isinstance(item, Ref) for item in operand):
            among = _found_in(operand)
            return (lambda value, _scope: among(value)) if wanted else (lambda value, _scope: negate(among(value)))

        def check(value: object, scope: Scope) -> Tri:
            options = [_resolve(item, scope) for item in operand] if isinstance(operand, tuple) else _resolve(operand, scope)
            # Elements of one list against the elements of another: nothing but this bounds their product.
            scope.effort -= len(options) // 4 if isinstance(options, list | tuple) and not many else 0
            found = _among(value, options) if scope.effort >= 0 else None
            return found if wanted else negate(found)

        return check

    return bind


def _found_in(options: tuple[object, ...]) -> Callable[[object], Tri]:
    texts = frozenset(option for option in options if type(option) is str)
    switches = frozenset(option for option in options if isinstance(option, bool))
    numbers = frozenset(exact for option in options if not isinstance(option, bool) and (exact := number(option)) is not None)

    def found(value: object) -> Tri:
        if type(value) is str:
            return value in texts if texts else None
        if isinstance(value, bool):
            return value in switches if switches else None
        exact = number(value)
        return None if exact is None or not numbers else exact in numbers

    return found


def _contains(value: object, part: object) -> Tri:
    if type(value) is str:
        return part in value if isinstance(part, str) else None
    if isinstance(value, list | tuple):
        return any_of(equal(element, part) for element in value)
    return None


def _containing(operand: object) -> ValueCheck:
    """`contains`, counted: under many rules a long text, or a list of thousands, must not make a decision slow."""
    bound = _binary(_contains)(operand)

    def check(value: object, scope: Scope) -> Tri:
        scope.effort -= len(value) >> 10 if isinstance(value, str) else len(value) >> 4 if isinstance(value, list | tuple) else 0
        return bound(value, scope) if scope.effort >= 0 else None

    return check


def _starts(value: object, part: object) -> Tri:
    return value.startswith(part) if isinstance(value, str) and isinstance(part, str) else None


def _ends(value: object, part: object) -> Tri:
    return value.endswith(part) if isinstance(value, str) and isinstance(part, str) else None


def _binary(relation: _Relation) -> Callable[[object], ValueCheck]:
    """Bind a relation to its right-hand side, which is a constant or read at decision time."""

    def bind(operand: object) -> ValueCheck:
        if not isinstance(operand, Ref):
            constant = number(operand) if isinstance(operand, float | Decimal) else operand
            return lambda value, _scope: relation(value, constant)

        def check(value: object, scope: Scope) -> Tri:
            other = read(scope, operand)
            return None if isinstance(other, State) else relation(value, other)

        return check

    return bind


def _resolve(item: object, scope: Scope) -> object:
    # A State is of no comparable type, so every comparison with it is unknown.
    return read(scope, item) if isinstance(item, Ref) else item


def _any_text(relation: _Relation) -> Callable[[object], ValueCheck]:
    """Several texts on the right, one of which must fit."""
    bind = _binary(relation)

    def bind_all(operand: object) -> ValueCheck:
        checks = [bind(item) for item in (operand if isinstance(operand, tuple) else (operand,))]
        if len(checks) == 1:
            return checks[0]
        return lambda value, scope: any_of(check(value, scope) for check in checks)

    return bind_all


def _glob(operand: object) -> ValueCheck:
    tests = [compile_glob(pattern) for pattern in operand] if isinstance(operand, tuple) else []

    def check(value: object, scope: Scope) -> Tri:
        if not isinstance(value, str):
            return None
        scope.effort -= (len(value) >> 8) * len(tests)
        return any_of(test(value) for test in tests) if scope.effort >= 0 else None

    return check


def _pattern(method: str) -> Callable[[object], ValueCheck]:
    def bind(operand: object) -> ValueCheck:
        expressions = [compile_regex(text) for text in operand] if isinstance(operand, tuple) else []
        tests: list[Callable[[str], Tri]] = [getattr(expression, method) for expression in expressions]
        heavy = [expression.weight for expression in expressions if expression.weight]

        def check(value: object, scope: Scope) -> Tri:
            if not isinstance(value, str):
                return None
            scope.effort -= 2 + (len(value) >> 9) + (sum(heavy) * len(value) >> 8 if heavy else 0)
            return any_of(test(value) for test in tests) if scope.effort >= 0 else None

        return check

    return bind


def _email_domain(operand: object) -> ValueCheck:
    domains = frozenset(operand) if isinstance(operand, tuple) else frozenset()

    def check(value: object, scope: Scope) -> Tri:
        if not isinstance(value, str):
            return None
        domain = scope.once(("address", value), 1 + (min(len(value), MAX_ADDRESS) >> 3), partial(domain_of, value))
        return None if domain is None else domain in domains

    return check


def size(value: object) -> int | None:
    """Characters, elements or keys; None where neither is meant."""
    return len(value) if isinstance(value, str | list | tuple | Mapping) else None


# How each operator's right-hand side becomes a check. `exists`, `length` and the composing ones live in `probes`.
OPERATORS: Mapping[str, Callable[[object], ValueCheck]] = {
    "eq": _binary(equal),
    "ne": _binary(_different),
    "in_": _membership(wanted=True),
    "not_in": _membership(wanted=False),
    "gt": _compared(operator.gt),
    "gte": _compared(operator.ge),
    "lt": _compared(operator.lt),
    "lte": _compared(operator.le),
    "glob": _glob,
    "regex": _pattern("full"),
    "search": _pattern("search"),
    "contains": _containing,
    "starts_with": _any_text(_starts),
    "ends_with": _any_text(_ends),
    "email_domain": _email_domain,
    **APART,
}
