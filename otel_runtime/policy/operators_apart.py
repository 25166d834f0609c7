"""Operators that need a reader of their own (paths, URLs, shell commands, queries, origins): loaded by the first rule that uses one.

Their tables and expressions are most of what deciding has to load, and most policies use none or one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from otel_runtime.policy.truth import Tri

if TYPE_CHECKING:
    from otel_runtime.policy.scope import Scope

__all__ = ["APART"]

_Bound: TypeAlias = "Callable[[object, Scope], Tri]"


def _under(operand: object) -> _Bound:
    from otel_runtime.policy.paths import under

    return under(operand)


def _file_name(operand: object) -> _Bound:
    from otel_runtime.policy.paths import file_name

    return file_name(operand)


def _url(operand: object) -> _Bound:
    from otel_runtime.policy.urls import url

    return url(operand)


def _runs_only(operand: object) -> _Bound:
    from otel_runtime.policy.commands import runs_only

    return runs_only(operand)


def _reads_only(operand: object) -> _Bound:
    from otel_runtime.policy.commands import reads_only

    return reads_only(operand)


def _may_run(operand: object) -> _Bound:
    from otel_runtime.policy.commands import may_run

    return may_run(operand)


def _sql(operand: object) -> _Bound:
    from otel_runtime.policy.queries import sql

    return sql(operand)


def _origin(operand: object) -> _Bound:
    from otel_runtime.policy.origins import origin

    return origin(operand)


APART: Mapping[str, Callable[[object], _Bound]] = {
    "under": _under,
    "file_name": _file_name,
    "url": _url,
    "runs_only": _runs_only,
    "reads_only": _reads_only,
    "may_run": _may_run,
    "sql": _sql,
    "origin": _origin,
}
