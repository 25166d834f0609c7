"""The examples of a policy file as pydantic models: a call, what stands around it, and what must come of it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from otel_runtime.policy.budgets import CALENDAR, window_of
from otel_runtime.policy.names import is_name
from otel_runtime.policy.operands import Amount, Approver, Duration, Lasting, Name, SomeTexts, amount, refusal
from otel_runtime.policy.strict_model import Given, Strict
from otel_runtime.values.action import Kind
from otel_runtime.values.decision import RetryClass, Verdict

__all__ = ["EVERY", "NOW", "Asked", "Call", "Case", "FileCase", "Retried", "limit_named"]

# Cases know no clock: windows are looked at in this moment.
NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
# Key of `used` for the limits that no other key names.
EVERY: Final = "every"
_UNITS: Final = frozenset({"calls", "attempts", "tokens", "usd", "sum"})
_OWNERS: Final = frozenset({"session", "user", "agent", "tenant", "all"})


def _source(value: str) -> str:
    kind, _, name = value.partition(":")
    if value not in {"user", "config"} and not (kind == "tool" and is_name(name)):
        raise refusal("P016", f"expected `user`, `config` or `tool:NAME`, got `{value}`")
    return value


def limit_named(text: str) -> tuple[str, str, str]:
    """What a limit counts, whose calls it counts together, and the name of its window in the moment of the cases, without the zone.

    Args:
        text: `UNIT/OWNER/WINDOW`, such as `calls/session/1h` or `usd/user/day`.

    Raises:
        ValueError: There is no such unit, owner or window.
    """
    unit, _, rest = text.partition("/")
    owner, _, per = rest.partition("/")
    if unit not in _UNITS or owner not in _OWNERS:
        raise ValueError(f"expected `every`, or a limit such as `calls/session/1h` or `usd/user/day`, got `{text}`")
    return unit, owner, per if per in CALENDAR else window_of(per, None)(NOW)


def _limit(text: str) -> str:
    if text != EVERY:
        try:
            limit_named(text)
        except ValueError as error:
            raise refusal("P016", str(error)) from None
    return text


def _used(value: object) -> object:
    return value if isinstance(value, dict) else {EVERY: amount(value)}


_AMOUNT_SCHEMA: Final = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}
Used = Annotated[
    dict[Annotated[str, AfterValidator(_limit)], Amount],
    BeforeValidator(_used),
    WithJsonSchema({"anyOf": [*_AMOUNT_SCHEMA["anyOf"], {"type": "object", "additionalProperties": _AMOUNT_SCHEMA}]}),
]


class Around(Strict):
    """What a case says of the surroundings of its call. Left out: user `case-user`, session `case`, no roles, no labels, nothing called before."""

    user: str | None = Field("case-user", description="Acting user; null when unknown.")
    role: SomeTexts = Field((), description="Role or roles of the user.")
    roles: SomeTexts = Field((), description="The same.")
    session: str | None = Field("case", description="Session id; null when there is none.")
    agent: SomeTexts = Field((), description="Chain of agents, outermost first.")
    tenant: str | None = Field("case-tenant", description="Tenant; null when unknown.")
    context: dict[str, Any] = Field(default_factory=dict, description="Facts of the application.")
    labels: SomeTexts = Field((), description="Labels on the session; those that the tools of `history` add when left out.")
    history: SomeTexts = Field((), description="Tools whose body started in the session.")
    used: Used = Field({EVERY: Decimal(0)}, description="What all limits stand at, or each: {calls/session/1h: 2, every: 0}.")
    user_said: SomeTexts = Field((), description="What the user said in the session; for `origin`.")
    seen: dict[Annotated[str, AfterValidator(_source)], Any] = Field(
        default_factory=dict, description="What else was seen, by source such as tool:find_contact; for `origin`."
    )


class Case(Around):
    """One call to try a rule on. What is left out: user `case-user`, session `case`, no roles, no labels, nothing called before."""

    example: ClassVar[str] = "{args: {amount: 50}}"

    tool: Given[str] = Field(None, description="Name; needed where the rule names several.")
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments by name.")
    tags: SomeTexts = Field((), description="Tags the decorator gives.")


class Call(Strict):
    """The call of a case for the whole file."""

    example: ClassVar[str] = "{tool: refund, args: {amount: 50}}"

    tool: str = Field(description="Name of the tool, capability, model, agent or workflow.")
    kind: Kind = Field("tool", description="What is called.")
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments by name.")
    tags: SomeTexts = Field((), description="Tags the decorator gives.")


class Asked(Strict):
    """What a case expects of the request for approval. What is left out is not looked at."""

    example: ClassVar[str] = '{approvers: ["role:finance"], quorum: 2}'

    approvers: Given[list[Approver]] = Field(None, min_length=1, description="Exactly these are asked, by all rules together.")
    quorum: Given[int] = Field(None, ge=1, le=100, description="The most people that one rule asks for.")
    expires: Given[Lasting] = Field(None, description="Time in which people can answer.")
    use_within: Given[Lasting] = Field(None, description="Time in which the call must run once approved.")
    edit: Given[list[str]] = Field(None, description="Exactly these arguments may be changed.")


class Retried(Strict):
    """What a case expects of the retry. What is left out is not looked at."""

    example: ClassVar[str] = "{after: 10s, max_attempts: 3}"

    after: Given[Duration] = Field(None, description="Time to wait.")
    max_attempts: Given[int] = Field(None, ge=1, le=1000, description="Attempts in all, the first included.")
    class_: Given[RetryClass] = Field(None, alias="class", description="Why it failed.")


class FileCase(Around):
    """A call and what the whole policy must say to it."""

    example: ClassVar[str] = "{call: {tool: refund, args: {amount: 50}}, expect: allow}"

    call: Call
    expect: Verdict = Field(description="The decision.")
    rule: Given[Name] = Field(None, description="The rule by which it is decided so.")
    approval: Given[Asked] = Field(None, description="Who is asked; with require-approval.")
    retry: Given[Retried] = Field(None, description="When it may be tried again; with retryable-failure.")
