"""What a rule says, read and found sound: the plain data that conditions, limits and terms are compiled from.

`model` says what may be written and refuses the rest; these are the same words without the machinery that checks them, so that a policy
whose soundness is known already is compiled without loading it. A test holds both to the same names.
"""

from __future__ import annotations

from collections.abc import Collection, KeysView, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias

from otel_runtime.values.action import Kind
from otel_runtime.values.decision import RetryClass, Verdict

if TYPE_CHECKING:
    from otel_runtime.policy.case_model import Case

__all__ = ["After", "Approval", "Conditions", "Origins", "Over", "Ref", "Retry", "Rule", "SqlTerms", "Test", "UrlParts", "Written", "plain"]


@dataclass(frozen=True, slots=True)
class Ref:
    """A value that is read when the call is decided.

    Args:
        root: Where it is.
        name: Which one.
    """

    root: Literal["args", "session", "context"]
    name: str


Texts: TypeAlias = tuple[str, ...]


class Written:
    """One block of a policy file: immutable; what was not written reads as its default, which the class holds.

    Args:
        written: Values by name, in the order of the class; a name that is a Python keyword ends in `_`.
    """

    def __init__(self, **written: object) -> None:
        vars(self).update(written)

    @property
    def written(self) -> KeysView[str]:
        """Names of what was written."""
        return vars(self).keys()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: rules do not change."""
        raise AttributeError(f"`{type(self).__name__}` is immutable; `{name}` cannot be set")

    def __eq__(self, other: object) -> bool:
        """Equal when the same was written."""
        return type(other) is type(self) and vars(self) == vars(other)

    def __hash__(self) -> int:
        """By what is cheap and equal for equal blocks."""
        return hash((type(self), tuple(vars(self))))

    def __repr__(self) -> str:
        """What was written."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def __str__(self) -> str:
        """As a file spells it, on one line."""
        return f"{{{', '.join(f'{_key(name)}: {_spelled(value)}' for name, value in vars(self).items())}}}"


def plain(block: Written, names: Collection[str] | None = None) -> dict[str, object]:
    """A block as dicts and lists under the keys of the file.

    Args:
        block: What was written.
        names: Which of its names; None for all.
    """
    return {_key(name): _plain(value) for name, value in vars(block).items() if names is None or name in names}


def _plain(value: object) -> object:
    if isinstance(value, Written):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _key(name: str) -> str:
    return name.rstrip("_")


def _spelled(value: object) -> str:
    if isinstance(value, tuple) and len(value) != 1:
        return f"[{', '.join(map(str, value))}]"
    return str(value[0] if isinstance(value, tuple) else value)


class UrlParts(Written):
    """What is asked of a URL."""

    scheme: Texts | None = None
    host: Texts | None = None
    port: tuple[int, ...] | None = None
    path: Texts | None = None


class SqlTerms(Written):
    """What a query may be."""

    dialect: str = ""
    schemas: Texts = ()
    functions: Texts | None = None

    def __str__(self) -> str:
        """As a file spells it; no functions are said too."""
        return f"{{dialect: {self.dialect}, schemas: {_spelled(self.schemas)}, functions: {_spelled(self.functions or ('none',))}}}"


class Origins(Written):
    """Where a value was seen."""

    any_of: Texts | None = None
    none_of: Texts | None = None
    only: Texts | None = None


class Test(Written):
    """What is asked of one value; all operators written here must hold."""

    # pytest collects classes named Test*; this one is no test.
    __test__ = False

    eq: object = None
    ne: object = None
    in_: tuple[object, ...] | Ref | None = None
    not_in: tuple[object, ...] | Ref | None = None
    gt: object = None
    gte: object = None
    lt: object = None
    lte: object = None
    glob: Texts | None = None
    regex: Texts | None = None
    search: Texts | None = None
    contains: object = None
    starts_with: tuple[object, ...] | None = None
    ends_with: tuple[object, ...] | None = None
    exists: bool | None = None
    length: Test | None = None
    email_domain: Texts | None = None
    under: Texts | None = None
    file_name: Texts | None = None
    url: UrlParts | None = None
    runs_only: Texts | None = None
    reads_only: Texts | None = None
    may_run: Texts | None = None
    sql: SqlTerms | None = None
    origin: Origins | None = None
    some: Test | None = None
    every: Test | None = None
    none: Test | None = None
    all_of: tuple[Test, ...] | None = None
    any_of: tuple[Test, ...] | None = None
    not_: Test | None = None


class After(Written):
    """What happened earlier in the session."""

    label: Texts = ()
    tool: Texts = ()


class Over(Written):
    """A limit the call would pass."""

    calls: int | None = None
    attempts: int | None = None
    tokens: int | None = None
    usd: Decimal | None = None
    sum: str | None = None
    max: Decimal | None = None
    by: Literal["session", "user", "agent", "tenant", "all"] = "all"
    per: str = ""
    tz: str | None = None
    reserve: Decimal | None = None


class Conditions(Written):
    """What must hold; everything written together must hold."""

    tool: Texts | None = None
    name: Texts | None = None
    tags: Texts | None = None
    agent: Texts | None = None
    user: Texts | None = None
    role: Texts | None = None
    session: Mapping[str, Test] | None = None
    context: Mapping[str, Test] | None = None
    args: Mapping[str, Test] | None = None
    only_args: Texts | None = None
    after: After | None = None
    when: str | None = None
    all_of: tuple[Conditions, ...] | None = None
    any_of: tuple[Conditions, ...] | None = None
    not_: Conditions | None = None
    unless: Conditions | None = None


class Approval(Written):
    """Who must agree, how many, and until when (seconds)."""

    approvers: Texts = ()
    quorum: int = 1
    expires: float = 3600.0
    use_within: float | None = None
    edit: Texts = ()


class Retry(Written):
    """When the call may be tried again (seconds)."""

    after: float = 1.0
    max_attempts: int = 3
    class_: RetryClass | None = None


_NO_CONDITIONS: Final = frozenset({"id", "kind", "tool", "name", "decision", "mode", "reason", "approval", "retry", "match", "no_match"})


class Rule(Conditions):
    """One rule."""

    id: str = ""
    kind: Kind = "tool"
    decision: Verdict = "deny"
    mode: Literal["enforce", "shadow"] = "enforce"
    reason: str = ""
    over: Over | None = None
    approval: Approval | None = None
    retry: Retry | None = None
    match: tuple[Case, ...] = ()
    no_match: tuple[Case, ...] = ()

    @property
    def patterns(self) -> Texts | None:
        """Names or globs the rule is about; None means every name of its kind. `tool` names any kind, `name` another kind than tool."""
        return self.tool if self.tool is not None else self.name

    @property
    def conditions(self) -> frozenset[str]:
        """What it asks besides the name: the rest of what was written says what the rule is and what follows from it."""
        return frozenset(self.written - _NO_CONDITIONS)
