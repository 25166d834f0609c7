"""What one decision reads, and the states a value can be in when it is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from otel_runtime.policy.argtypes import ArgType
from otel_runtime.policy.catalogue import Shape, ToolEntry
from otel_runtime.policy.places import Places
from otel_runtime.policy.protocol import FactsView
from otel_runtime.policy.terms import Ref
from otel_runtime.values.action import Action, Unreadable

if TYPE_CHECKING:
    from otel_runtime.policy.budgets import Charge

__all__ = ["MAX_EFFORT", "Scope", "State", "read", "read_argument", "read_context", "read_session", "show"]

# Ten thousand list elements of the longest allowed size must not make a decision slow: what is left over is unknown.
MAX_EFFORT: Final = 40_000
_MISSING = object()
T = TypeVar("T")


class State(Enum):
    """Why there is no value.

    INAPPLICABLE: the signature has no such argument; conditions on it are false.
    ABSENT: declared and left out, or null; `exists` is false and so is every other operator.
    UNKNOWN: it cannot be known.
    """

    INAPPLICABLE = "inapplicable"
    ABSENT = "absent"
    UNKNOWN = "unknown"


# A member of an enumeration is found by a descriptor, which takes as long as the reading.
_ABSENT: Final = State.ABSENT


class Scope:
    """Everything the conditions of one action read; made for one decision and thrown away."""

    __slots__ = (
        "_known",
        "action",
        "agent",
        "args",
        "catalogue",
        "charges",
        "context_types",
        "effort",
        "facts",
        "now",
        "places",
        "shape",
        "tags",
    )

    def __init__(
        self,
        action: Action,
        facts: FactsView | None,
        now: datetime,
        shape: Shape | None,
        context_types: Mapping[str, ArgType],
        tags: frozenset[str],
        places: Places,
        catalogue: Mapping[str, ToolEntry] = MappingProxyType({}),
    ) -> None:
        self.action: Action = action
        self.args: Mapping[str, object] = action.args
        self.facts: FactsView | None = facts
        self.now: datetime = now
        self.shape: Shape | None = shape
        self.context_types: Mapping[str, ArgType] = context_types
        self.tags: frozenset[str] = tags
        self.places: Places = places
        self.catalogue: Mapping[str, ToolEntry] = catalogue
        # The caller whose point of view is taken; None outside of an agent.
        self.agent: str | None = action.agents[0] if action.agents else None
        # Counters this call counts on if it runs; filled while rules are tried.
        self.charges: list[Charge] = []
        # What reading of paths, URLs, commands and queries may still cost, in microseconds or so; counted, never timed.
        self.effort: int = MAX_EFFORT
        self._known: dict[object, object] | None = None

    def once(self, key: object, cost: int, compute: Callable[[], T]) -> T | None:
        """A costly reading, made once per decision; None when the decision has read too much already.

        Args:
            key: What is read and how.
            cost: About how many microseconds it takes.
            compute: Reads it.
        """
        known = self._known
        if known is None:
            known = self._known = {}
        if key not in known:
            self.effort -= cost
            if self.effort < 0:
                return None
            known[key] = compute()
        return known[key]  # type: ignore[return-value]  # keys name one kind of reading


def read_argument(scope: Scope, name: str) -> object:
    """An argument's value or the State it is in."""
    value = scope.args.get(name, _MISSING)
    if value is not _MISSING:
        return _ABSENT if value is None else value
    shape = scope.shape
    if shape is None:
        return State.UNKNOWN
    return State.ABSENT if shape.open or name in shape.names else State.INAPPLICABLE


def read_context(scope: Scope, name: str) -> object:
    """A fact of the application; missing or of another type than declared is unknown."""
    kind = scope.context_types.get(name)
    value = scope.action.context.get(name)
    if kind is None:
        return State.UNKNOWN
    if value is None:
        return State.ABSENT if kind.optional else State.UNKNOWN
    return value if kind.check(value) is True else State.UNKNOWN


def read_session(scope: Scope, name: str) -> object:
    """A fact of the session; one that is not set is unknown."""
    action = scope.action
    value = action.session if name == "id" else getattr(action, name)
    return State.UNKNOWN if value is None else value


def read(scope: Scope, ref: Ref) -> object:
    """What a reference points at."""
    if ref.root == "args":
        return read_argument(scope, ref.name)
    return read_context(scope, ref.name) if ref.root == "context" else read_session(scope, ref.name)


def show(value: object) -> str:
    """A value for an explanation, on one line and short."""
    if isinstance(value, State):
        return value.value
    if isinstance(value, Unreadable):
        return f"unreadable {value.type_name} ({value.why})"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
