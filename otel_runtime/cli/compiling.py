"""A program compiled with some of its functions decorated, its lines where they were."""

from __future__ import annotations

import ast
import builtins
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType
from typing import Any

from otel_runtime.errors import ConfigError
from otel_runtime.wrap.finding import near
from otel_runtime.wrap.patching import PatchTarget, patched
from otel_runtime.wrap.plan import plan_of

__all__ = ["compile_with"]

_NAME = "__otel_runtime_targets__"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def compile_with(source: bytes, file: str, targets: Sequence[PatchTarget]) -> CodeType:
    """Compile a program.

    Args:
        source: Its text.
        file: What tracebacks call it.
        targets: Functions of it to decorate; a decorator above every other.

    Raises:
        ConfigError: A target is not defined in it.
        SyntaxError: It is no Python program.
    """
    tree = ast.parse(source, file)
    faults = []
    for at, target in enumerate(targets):
        found = _functions(tree.body, target.path)
        if not found:
            known = _known(tree.body, target.path[:-1])
            faults.append(target.fault(f"`{file}` has no function `{'.'.join(target.path)}`{near(target.path[-1], known)}"))
        for function in found:
            function.decorator_list.insert(0, _decorator(at, function))
    if faults:
        raise ConfigError(faults)
    if targets:
        # Not in the program's own names, which it may list, copy or export.
        vars(builtins)[_NAME] = tuple(_wrapping(target) for target in targets)
    return compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True)


def _wrapping(target: PatchTarget) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        decorated = plan_of(original) is not None or plan_of(getattr(original, "__func__", None)) is not None
        return original if decorated else patched(target, original)

    return wrap


def _functions(body: list[ast.stmt], path: tuple[str, ...]) -> list[_Function]:
    """Definitions that a path fits; of several under one name (`if`, overloads) every one."""
    first, rest = path[0], path[1:]
    if rest:
        return [
            found
            for node in _definitions(body)
            if isinstance(node, ast.ClassDef) and node.name == first
            for found in _functions(node.body, rest)
        ]
    return [node for node in _definitions(body) if isinstance(node, _Function) and _fits(node.name, first)]


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) and (not name.startswith("_") or pattern.startswith("_"))


def _definitions(body: Iterable[ast.AST]) -> Iterator[_Function | ast.ClassDef]:
    """Functions and classes of a body, also those inside `if`, `try` and `with`, but not inside one another."""
    for node in body:
        if isinstance(node, _Function | ast.ClassDef):
            yield node
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(ast.iter_child_nodes(node))


def _known(body: list[ast.stmt], owner: tuple[str, ...]) -> list[str]:
    for name in owner:
        body = next((node.body for node in _definitions(body) if isinstance(node, ast.ClassDef) and node.name == name), [])
    return [node.name for node in _definitions(body)]


def _decorator(at: int, function: _Function) -> ast.expr:
    # On the line where the definition began, so that no line of a traceback moves.
    line = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    name = ast.Subscript(ast.Name(_NAME, ast.Load()), ast.Constant(at), ast.Load())
    for node in ast.walk(name):
        if isinstance(node, ast.expr):
            node.lineno = node.end_lineno = line
            node.col_offset = node.end_col_offset = function.col_offset
    return name
