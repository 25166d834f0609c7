"""`runs_only`, `reads_only` and `may_run`: questions about the programs of a shell command."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from otel_runtime.policy.shell import read_commands
from otel_runtime.policy.shell_programs import QUIET
from otel_runtime.policy.shell_reading import programs_of
from otel_runtime.policy.truth import Tri, all_of, any_of

if TYPE_CHECKING:
    from otel_runtime.policy.scope import Scope
    from otel_runtime.policy.shell import Command

__all__ = ["may_run", "reads_only", "runs_only"]


def _asking(question: Callable[[Command, frozenset[str] | None], Tri], fold: Callable[[list[Tri]], Tri]) -> Callable[[object, Scope], Tri]:
    """Ask each command, given with the programs it runs when it only reads."""

    def check(value: object, scope: Scope) -> Tri:
        commands = scope.once(("shell", value), 20 + len(value), partial(_read, value)) if isinstance(value, str) else None
        scope.effort -= 0 if commands is None else len(commands) >> 3
        return None if commands is None or scope.effort < 0 else fold([question(*command) for command in commands])

    return check


def _read(text: str) -> list[tuple[Command, frozenset[str] | None]] | None:
    # cmd.exe and PowerShell read quotes and % in another way.
    commands = read_commands(text) if os.name == "posix" else None
    return None if commands is None else [(command, programs_of(command)) for command in commands]


def runs_only(operand: object) -> Callable[[object, Scope], Tri]:
    """Every command is a plain call of one of these programs."""
    listed = frozenset(operand) if isinstance(operand, tuple) else frozenset()
    return _asking(lambda command, _programs: command[0] in listed, all_of)


def reads_only(operand: object) -> Callable[[object, Scope], Tri]:
    """Every command is a call of one of these programs with options that only read."""
    listed = frozenset(operand) if isinstance(operand, tuple) else frozenset()

    def question(command: Command, programs: frozenset[str] | None) -> Tri:
        if command[0] not in listed:
            return False
        return None if programs is None else programs <= listed

    return _asking(question, all_of)


def may_run(operand: object) -> Callable[[object, Scope], Tri]:
    """One of these programs could run: by its name, by its path, or out of a program that is not known to run nothing else."""
    listed = frozenset(operand) if isinstance(operand, tuple) else frozenset()

    def question(command: Command, programs: frozenset[str] | None) -> Tri:
        if command[0].rpartition("/")[2] in listed:
            return True
        known = frozenset({command[0]}) if command[0] in QUIET else programs
        return None if known is None else not known.isdisjoint(listed)

    return _asking(question, any_of)
