"""`runs_only`, `reads_only` and `may_run`: questions about the programs of a shell command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from otel_runtime.policy.shell import read_commands
from otel_runtime.policy.shell_programs import QUIET
from otel_runtime.policy.shell_reading import programs_of
from otel_runtime.policy.truth import Tri, all_of, any_of

if TYPE_CHECKING:
    from otel_runtime.policy.scope import Scope
    from otel_runtime.policy.shell import Command

__all__ = ["may_run", "reads_only", "runs_only"]


def _asking(question: Callable[[Command], Tri], fold: Callable[[list[Tri]], Tri]) -> Callable[[object, Scope], Tri]:
    def check(value: object, _scope: Scope) -> Tri:
        commands = read_commands(value) if isinstance(value, str) else None
        return None if commands is None else fold([question(command) for command in commands])

    return check


def runs_only(operand: object) -> Callable[[object, Scope], Tri]:
    """Every command is a plain call of one of these programs."""
    listed = frozenset(operand) if isinstance(operand, tuple) else frozenset()
    return _asking(lambda command: command[0] in listed, all_of)


def reads_only(operand: object) -> Callable[[object, Scope], Tri]:
    """Every command is a call of one of these programs with options that only read."""
    listed = frozenset(operand) if isinstance(operand, tuple) else frozenset()

    def question(command: Command) -> Tri:
        programs = programs_of(command)
        return True if programs is not None and programs <= listed else None

    return _asking(question, all_of)


def may_run(operand: object) -> Callable[[object, Scope], Tri]:
    """One of these programs could run: by its name, by its path, or out of a program that is not known to run nothing else."""
    listed = frozenset(operand) if isinstance(operand, tuple) else frozenset()

    def question(command: Command) -> Tri:
        if command[0].rpartition("/")[2] in listed:
            return True
        programs = frozenset({command[0]}) if command[0] in QUIET else programs_of(command)
        return None if programs is None else not programs.isdisjoint(listed)

    return _asking(question, any_of)
