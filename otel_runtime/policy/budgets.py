"""Limits over time: which counters a call counts on, by how much, and whether it would pass one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Final, Literal

from otel_runtime.policy.numbers import number
from otel_runtime.policy.protocol import CounterKey, Reservation, Use
from otel_runtime.policy.scope import Scope, State, read_argument
from otel_runtime.policy.terms import Over
from otel_runtime.policy.truth import Tri, any_of
from otel_runtime.settings.durations import parse_duration
from otel_runtime.values.action import Action

__all__ = ["CALENDAR", "MAX_SECONDS", "NO_LIMIT", "Budget", "Charge", "compile_over", "kind_of", "passes", "window_of"]

# Ten years: moments further off than that could leave what a calendar can name.
MAX_SECONDS: Final = 3650 * 86400
NO_LIMIT = Decimal("Infinity")
_RATE_S = 60.0
# Units of which a call counts one, and units whose real figure is known after the call.
_ONE_EACH = frozenset({"calls", "attempts"})
_LATER = frozenset({"tokens", "usd"})
# How windows of the calendar are told apart, here and where amounts are kept.
CALENDAR: Final = {"day": "%Y-%m-%d", "month": "%Y-%m"}

Window = Callable[[datetime], str]


def passes(current: Decimal, amount: Decimal, limit: Decimal) -> bool:
    """True when adding the amount would pass the limit; a limit that is used up lets nothing more through."""
    return current + amount > limit or (current >= limit and amount >= 0)


def window_of(per: str, tz: str | None) -> Window:
    """The name of the window a moment falls into.

    Args:
        per: A duration (sliding), `day` or `month`.
        tz: Time zone of a calendar window.

    Raises:
        ValueError: The window or zone does not exist; the message says what is expected.
    """
    if per in CALENDAR:
        if tz is None:
            raise ValueError(f"`per: {per}` is a calendar window and needs `tz`, such as `tz: UTC`")
        return _calendar(per, tz)
    seconds = _seconds(per)
    if tz is not None:
        raise ValueError(f"`tz` belongs to `day` and `month`; `per: {per}` is a sliding window")
    name = f"sliding:{seconds:g}"
    return lambda _now: name


def kind_of(window: str) -> str:
    """`day`, `month`, `sliding`, or `rate` for a sliding window of at most a minute, which is over before anybody could look.

    Args:
        window: A window's name.
    """
    kind, _, rest = window.partition(":")
    return "rate" if kind == "sliding" and float(rest) <= _RATE_S else kind


def _seconds(per: str) -> float:
    try:
        seconds = parse_duration(per)
    except ValueError:
        raise ValueError(f"expected a duration such as `1min`, or `day` or `month`, got `{per}`") from None
    if seconds <= 0:
        raise ValueError(f"expected a duration above zero, got `{per}`")
    if seconds > MAX_SECONDS:
        raise ValueError(f"expected at most ten years, `{MAX_SECONDS // 86400}d`, got `{per}`")
    return seconds


def _calendar(per: str, tz: str) -> Window:
    zone = _zone(tz)
    form = CALENDAR[per]
    known: tuple[date, str] = (date.min, "")

    def window(now: datetime) -> str:
        nonlocal known
        day = (now if now.tzinfo is zone else now.astimezone(zone)).date()
        # Asked several times a call, and the same all day; racing threads compute the same.
        last = known
        if day != last[0]:
            known = last = (day, f"{per}:{day.strftime(form)}:{tz}")
        return last[1]

    return window


def _zone(tz: str) -> tzinfo:
    if tz == "UTC":
        return UTC
    # Finding its tables is most of what loading this module would cost.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(tz)
    except (OSError, ValueError, KeyError):
        hint = "expected a name such as `UTC` or `Europe/Berlin`, known to this machine (`pip install tzdata` adds them)"
        raise ValueError(f"unknown time zone `{tz}`; {hint}") from None


@dataclass(frozen=True, slots=True)
class Budget:
    """A compiled limit.

    Args:
        rule: Id of the rule it belongs to.
        unit: What is counted.
        limit: The most the counter may reach.
        by: Whose calls are counted together.
        window: Names the window of a moment.
        reserve: Amount held for a call whose real figure is not known yet.
        argument: Argument that is summed up; empty for other units.
        shadow: True when the limit is only recorded.
    """

    rule: str
    unit: Literal["calls", "attempts", "tokens", "usd", "sum"]
    limit: Decimal
    by: str
    window: Window
    reserve: Decimal = Decimal(0)
    argument: str = ""
    shadow: bool = False

    def keys(self, action: Action, now: datetime) -> tuple[CounterKey, ...]:
        """The counters of an action; none when it is not known whose they are."""
        window = self.window(now)
        name = f"{self.rule}:{self.unit}"
        return tuple(CounterKey(name, owner, window) for owner in self._owners(action))

    def _owners(self, action: Action) -> tuple[str, ...]:
        if self.by == "all":
            return ("all",)
        if self.by == "agent":
            # Every ancestor is charged for what its sub-agents do.
            return tuple(f"agent:{agent}" for agent in dict.fromkeys(action.agents))
        owner = getattr(action, self.by)
        return () if owner is None else (f"{self.by}:{owner}",)

    def amount(self, scope: Scope) -> Decimal | None:
        """What this call adds; None when it cannot be known."""
        if self.unit in _ONE_EACH:
            return Decimal(1)
        if self.unit in _LATER:
            return self.reserve
        value = read_argument(scope, self.argument)
        if value is State.ABSENT:
            return Decimal(0)
        exact = number(value)
        # A negative amount would make room for the next call.
        return None if exact is None or exact < 0 else Decimal(exact)

    def charge(self, scope: Scope) -> Charge:
        """Look at the counters."""
        if self.unit == "attempts" and scope.facts is not None and scope.facts.tried:
            # Asked and counted when the call was first decided; what others attempted since then is not its own doing.
            return Charge(self, (), None, over=False)
        if self.argument and read_argument(scope, self.argument) is State.INAPPLICABLE:
            # A tool without such an argument is no part of the sum.
            return Charge(self, (), None, over=False)
        keys = self.keys(scope.action, scope.now)
        amount = self.amount(scope)
        counters = scope.facts.counters if scope.facts is not None else {}
        if not keys or amount is None:
            return Charge(self, keys, amount, None)
        found = [counters.get(key) for key in keys]
        return Charge(self, keys, amount, any_of(self._passed(current, amount) for current in found), found)

    def _passed(self, current: Decimal | None, amount: Decimal) -> Tri:
        return None if current is None else passes(current, amount, self.limit)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one call would do to one limit.

    Args:
        budget: The limit.
        keys: Its counters.
        amount: What is added; None when unknown.
        over: Whether the limit would be passed.
        found: What stands on its counters; None where that is unknown.
    """

    budget: Budget
    keys: tuple[CounterKey, ...]
    amount: Decimal | None
    over: Tri
    found: Sequence[Decimal | None] = ()

    def use(self) -> Use | None:
        """How far the limit is used; None when it is not known."""
        known = [current for current in self.found if current is not None]
        if self.amount is None or not known:
            return None
        budget = self.budget
        return Use(budget.rule, kind_of(self.keys[0].window), budget.unit, max(known), self.amount, budget.limit)

    def reservations(self, *, enforce: bool) -> list[Reservation]:
        """What to hold when the call runs.

        Args:
            enforce: False counts the call but refuses nothing, for policies in shadow mode.
        """
        if self.amount is None:
            return []
        # A call that people approve although it passes the limit still counts on it.
        bound = enforce and not self.budget.shadow and self.over is False
        limit = self.budget.limit if bound else NO_LIMIT
        return [Reservation(key, self.amount, limit, self.budget.unit) for key in self.keys]


def compile_over(rule: str, over: Over, *, shadow: bool = False) -> Budget:
    """Compile a limit.

    Raises:
        ValueError: The window does not exist.
    """
    window = window_of(over.per, over.tz)
    if over.sum is not None and over.max is not None:
        return Budget(rule, "sum", over.max, over.by, window, argument=over.sum.removeprefix("args."), shadow=shadow)
    if over.calls is not None:
        return Budget(rule, "calls", Decimal(over.calls), over.by, window, shadow=shadow)
    if over.attempts is not None:
        return Budget(rule, "attempts", Decimal(over.attempts), over.by, window, shadow=shadow)
    if over.tokens is not None:
        return Budget(rule, "tokens", Decimal(over.tokens), over.by, window, reserve=over.reserve or Decimal(0), shadow=shadow)
    if over.usd is not None:
        return Budget(rule, "usd", over.usd, over.by, window, reserve=over.reserve or Decimal(0), shadow=shadow)
    raise ValueError("expected exactly one of `calls`, `attempts`, `tokens`, `usd` and `sum` with `max`")
