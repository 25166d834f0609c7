"""What a module that is not imported yet declares: found on disk, nothing is run."""

from __future__ import annotations

import ast
import importlib.machinery
import pkgutil
import sys
from collections.abc import Iterable, Sequence

__all__ = ["declared_names", "module_fault", "near"]

_DYNAMIC = frozenset({"exec", "eval", "globals", "locals", "setattr", "vars"})


def near(name: str, known: Iterable[str]) -> str:
    """Text to append to a message: the nearest known name, or nothing."""
    from otel_runtime.settings.nearest import did_you_mean  # only a mistake pays for it

    return did_you_mean(name, known)


def module_fault(name: str) -> str | None:
    """Why there is no such module, naming the nearest; None when there is one. No package is imported for it."""
    path: Sequence[str] | None = None
    parts = name.split(".")
    for depth, part in enumerate(parts):
        full = ".".join(parts[: depth + 1])
        found = _search_path(full, path)
        if found is _ABSENT:
            known = sorted({info.name for info in pkgutil.iter_modules(path)} | ({*sys.modules} if path is None else set()))
            inside = f" in package `{'.'.join(parts[:depth])}`" if depth else ""
            return f"there is no module `{part}`{inside}{near(part, known)}"
        path = found
    return None


def declared_names(module: str, owner: tuple[str, ...]) -> frozenset[str] | None:
    """Names that a module's source declares at its top, or in one of its classes; None when only running it could tell.

    Args:
        module: Name of an existing module.
        owner: Classes from the module inwards.
    """
    source = _source(module)
    if source is None:
        return None
    try:
        body: list[ast.stmt] = ast.parse(source).body
    except (SyntaxError, ValueError):
        # Importing it will say so better.
        return None
    for name in owner:
        node = _class(body, name)
        found = None if node is None else _with_bases(node, body)
        if found is None:
            return None
        body = found
    return None if _is_dynamic(body) else frozenset(_names(body))


def _class(body: Sequence[ast.stmt], name: str) -> ast.ClassDef | None:
    return next((item for item in body if isinstance(item, ast.ClassDef) and item.name == name), None)


def _with_bases(node: ast.ClassDef, around: Sequence[ast.stmt]) -> list[ast.stmt] | None:
    """What a class and its bases hold, where those are plain classes before it; None where something may bring any name."""
    if node.keywords or node.decorator_list or _is_added_to(node.name, around):
        return None
    held = list(node.body)
    for base in node.bases:
        name = base.id if isinstance(base, ast.Name) else ""
        before = _class([item for item in around if item.lineno < node.lineno], name)
        found = [] if name == "object" else None if before is None else _with_bases(before, around)
        if found is None:
            return None
        held += found
    return held


def _is_added_to(name: str, around: Sequence[ast.stmt]) -> bool:
    """True when something like `Class.method = function` stands beside the class."""
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == name
        for statement in around
        for node in _flat(statement)
    )


_ABSENT: Sequence[str] = ("absent",)


def _search_path(full: str, path: Sequence[str] | None) -> Sequence[str] | None:
    """Where submodules of `full` lie; `_ABSENT` when there is no such module."""
    if (known := sys.modules.get(full)) is not None:
        found: Sequence[str] | None = getattr(known, "__path__", None)
        return [] if found is None else found
    spec = _spec(full, path)
    if spec is None:
        return _ABSENT
    return [] if spec.submodule_search_locations is None else spec.submodule_search_locations


def _spec(full: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: importlib.machinery.ModuleSpec | None = None if find is None else find(full, path, None)
        if spec is not None:
            return spec
    return None


def _source(module: str) -> str | None:
    path: Sequence[str] | None = None
    parts = module.split(".")
    for depth in range(1, len(parts)):
        path = _search_path(".".join(parts[:depth]), path)
    spec = _spec(module, path)
    get = getattr(spec.loader, "get_source", None) if spec is not None else None
    try:
        source: str | None = None if get is None else get(module)
    except (ImportError, SyntaxError, UnicodeError, OSError):
        # Importing it will say so better.
        return None
    return source


def _is_dynamic(body: list[ast.stmt]) -> bool:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if statement.name == "__getattr__":
                return True
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                return True
            if isinstance(node, ast.Name) and node.id in _DYNAMIC:
                return True
    return False


def _names(body: list[ast.stmt]) -> Iterable[str]:
    for statement in body:
        for node in _flat(statement):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Import | ast.ImportFrom):
                yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _flat(node: ast.AST) -> Iterable[ast.AST]:
    """A statement and what is inside it, but not inside functions and classes."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for child in ast.iter_child_nodes(node):
            yield from _flat(child)
