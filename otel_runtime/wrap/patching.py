"""Wrapping by configuration: functions that are named in settings are decorated where they stand, their code untouched.

A module that is imported already is patched at once, and so are the names that other modules took from it (`from shop import refund`).
Any other is patched right after its import, by a hook of wrapt. Out of reach are references that lie elsewhere when the patch comes: in
lists and dicts, closures, default values, `functools.partial`.

INVARIANT: a target that cannot be found is a fault before the program goes on, or, where a policy should have decided on it, the end of
the import that should have brought it. It is never skipped without a word.
"""

from __future__ import annotations

import builtins
import fnmatch
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.values.action import Kind
from otel_runtime.wrap.decorating import decorate
from otel_runtime.wrap.finding import declared_names, module_fault, near
from otel_runtime.wrap.plan import Options, plan_of

__all__ = ["PatchTarget", "Patches", "patched"]

_log = logging.getLogger("otel_runtime")
_MISSING: object = object()


@dataclass(frozen=True, slots=True)
class PatchTarget:
    """What to decorate, and how.

    Args:
        text: As it was written, `package.module:Class.method`.
        kind: Which decorator.
        options: What the decorator is told.
        source: Where it was written, for messages.
    """

    text: str
    kind: Kind
    options: Options
    source: str = "instrument"

    @property
    def module(self) -> str:
        """Name of the module."""
        return self.text.partition(":")[0]

    @property
    def path(self) -> tuple[str, ...]:
        """Attributes from the module inwards; the last may be a glob."""
        return tuple(self.text.partition(":")[2].split("."))

    def fault(self, message: str, code: str = "S021") -> Fault:
        """A mistake in this target."""
        return Fault(code, f"target `{self.text}`: {message}", self.source)


@dataclass(frozen=True, slots=True)
class _Done:
    owner: object
    name: str
    before: object
    after: object


class Patches:
    """The targets of one runtime.

    Args:
        targets: What to decorate.
        strict: True when a policy decides: a tool that is not found then ends the import.
        elsewhere: Modules that are patched by somebody else while they are compiled (`otel-runtime run` does so with `__main__`).
    """

    def __init__(self, targets: Iterable[PatchTarget], *, strict: bool, elsewhere: frozenset[str] = frozenset()) -> None:
        self._targets: tuple[PatchTarget, ...] = tuple(target for target in targets if target.module not in elsewhere)
        self._strict = strict
        self._lock = threading.RLock()
        self._done: list[_Done] = []
        self._undone = False
        self._missing: dict[str, str] = {}

    @property
    def missing(self) -> dict[str, str]:
        """Why, by target, for those that were not found when their module was imported."""
        return dict(self._missing)

    def check(self) -> None:
        """Look for every target, importing nothing.

        Raises:
            ConfigError: One or more do not exist; every fault names the nearest that does.
        """
        faults = [fault for target in self._targets for fault in _faults(target)]
        if faults:
            raise ConfigError(faults)

    def install(self) -> None:
        """Patch what is imported, and have the rest patched when it is.

        Raises:
            ConfigError: A target is no function or cannot be replaced.
        """
        waiting: dict[str, list[PatchTarget]] = {}
        faults: list[Fault] = []
        for target in self._targets:
            module = sys.modules.get(target.module)
            if module is None:
                waiting.setdefault(target.module, []).append(target)
            else:
                faults.extend(self._patch(module, target))
        if faults:
            self.undo()
            raise ConfigError(faults)
        for name, targets in waiting.items():
            self._wait_for(name, targets)

    def undo(self) -> None:
        """Put everything back that nobody has replaced since; for tests."""
        with self._lock:
            self._undone = True
            for done in reversed(self._done):
                if inspect.getattr_static(done.owner, done.name, None) is done.after:
                    _put(done.owner, done.name, done.before)
            self._done.clear()

    def _wait_for(self, name: str, targets: Sequence[PatchTarget]) -> None:
        import wrapt  # a program without targets never pays for it

        wrapt.register_post_import_hook(lambda module: self._imported(module, targets), name)

    def _imported(self, module: ModuleType, targets: Sequence[PatchTarget]) -> None:
        if self._undone:
            return
        faults: list[Fault] = []
        for target in targets:
            found = self._patch(module, target, finished=True)
            if found and not (self._strict and target.kind == "tool"):
                # Telemetry fails open: the program goes on without these spans.
                self._missing[target.text] = found[0].message
                _log.error("%s", found[0])
                found = []
            faults.extend(found)
        if faults:
            raise ConfigError(faults)

    def _patch(self, module: ModuleType, target: PatchTarget, *, finished: bool = False) -> list[Fault]:
        if module is builtins:
            # Every module's, ours included: a wrapped `len` would call itself.
            return [target.fault("functions of `builtins` cannot be wrapped; wrap the function that calls it", "S022")]
        with self._lock:
            try:
                for owner, name in _matches(module, target, finished=finished):
                    self._replace(owner, name, target)
            except _NotFoundError as error:
                return [target.fault(str(error))]
            except (TypeError, AttributeError, ValueError) as error:
                return [target.fault(f"it cannot be wrapped: {error}", "S022")]
        return []

    def _replace(self, owner: object, name: str, target: PatchTarget) -> None:
        original = inspect.getattr_static(owner, name)
        if plan_of(original) is not None or plan_of(getattr(original, "__func__", None)) is not None:
            return  # decorated in the code, or by an earlier runtime: one span for one call
        before = original if name in getattr(owner, "__dict__", {}) else _MISSING
        after = patched(target, original)
        setattr(owner, name, after)
        self._done.append(_Done(owner, name, before, after))
        if isinstance(owner, ModuleType):
            self._done.extend(_rebound(original, after))


def patched(target: PatchTarget, original: Any) -> Any:
    """The decorated function.

    Raises:
        TypeError: It is no function.
    """
    if inspect.isclass(original):
        raise TypeError("it is a class; name one of its methods, such as `Class.run`")
    return decorate(target.kind, target.options, original)


class _NotFoundError(Exception):
    pass


def _faults(target: PatchTarget) -> list[Fault]:
    module = sys.modules.get(target.module)
    if module is None:
        message = module_fault(target.module)
        if message is not None:
            return [target.fault(message, "S020")]
        for depth, part in enumerate(target.path):
            names = declared_names(target.module, target.path[:depth])
            if names is not None and not any(fnmatch.fnmatchcase(name, part) for name in names):
                return [target.fault(_no_such(".".join((target.module, *target.path[:depth])), part, names))]
        return []
    try:
        return [] if list(_matches(module, target)) else [target.fault("it fits no function")]
    except _NotFoundError as error:
        return [target.fault(str(error))]


def _matches(module: ModuleType, target: PatchTarget, *, finished: bool = False) -> Iterator[tuple[object, str]]:
    owner: object = module
    where = module.__name__
    # A hook after an import is called while the module still carries the import system's mark.
    unfinished = not finished and _unfinished(module)
    for name in target.path[:-1]:
        found = getattr(owner, name, _MISSING)
        if found is _MISSING:
            raise _NotFoundError(_no_such(where, name, dir(owner), unfinished=unfinished))
        owner, where = found, f"{where}.{name}"
    last = target.path[-1]
    if not _is_glob(last):
        if inspect.getattr_static(owner, last, _MISSING) is _MISSING:
            raise _NotFoundError(_no_such(where, last, dir(owner), unfinished=unfinished))
        return iter([(owner, last)])
    fitting = [name for name, value in list(vars(owner).items()) if _fits(name, last) and _own_function(owner, value)]
    if not fitting:
        raise _NotFoundError(_no_such(where, last, [name for name, value in vars(owner).items() if _own_function(owner, value)]))
    return iter([(owner, name) for name in fitting])


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _fits(name: str, pattern: str) -> bool:
    # Private functions are meant only by a pattern that says so.
    return fnmatch.fnmatchcase(name, pattern) and (not name.startswith("_") or pattern.startswith("_"))


def _own_function(owner: object, value: object) -> bool:
    inner = getattr(value, "__func__", value)
    if not isinstance(inner, FunctionType):
        return False
    return not isinstance(owner, ModuleType) or inner.__module__ == owner.__name__


def _unfinished(module: ModuleType) -> bool:
    return module.__name__ == "__main__" or bool(getattr(module.__spec__, "_initializing", False))


def _no_such(where: str, name: str, known: Iterable[str], *, unfinished: bool = False) -> str:
    hint = "; the module is still being run, so call configure() below the definitions" if unfinished else ""
    return f"`{where}` has no function `{name}`{near(name, known)}{hint}"


def _rebound(original: object, after: object) -> list[_Done]:
    """Give the wrapper to every module that had taken the function by name."""
    done: list[_Done] = []
    for module in list(sys.modules.values()):
        names = [name for name, value in list(getattr(module, "__dict__", {}).items()) if value is original]
        for name in names:
            _put(module, name, after)
            done.append(_Done(module, name, original, after))
    return done


def _put(owner: object, name: str, value: object) -> None:
    change: Callable[[], None] = (lambda: delattr(owner, name)) if value is _MISSING else (lambda: setattr(owner, name, value))
    change()
