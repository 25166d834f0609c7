"""The seam between a call that wants to run and whatever decides on it.

`Engine` is pure: no clock, no store, no OpenTelemetry. Everything it reads besides the action comes in a `FactsView` that the caller
fetched from a `FactsStore` for exactly the `Needs` the engine named. The order of one admission:

    needs -> peek -> decide -> begin (atomic) -> the body -> settle, or release when the body never started
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

from otel_runtime.values.action import Action, Kind
from otel_runtime.values.decision import Decision
from otel_runtime.values.making import quickly_made

__all__ = [
    "CounterKey",
    "Engine",
    "FactsStore",
    "FactsView",
    "Hold",
    "Needs",
    "Reservation",
    "Ruling",
    "Spent",
    "Start",
    "Unasked",
    "Use",
    "Witness",
]


class CounterKey(NamedTuple):
    """One counter. A tuple, because it is looked up several times a call.

    Args:
        name: Which rule's counter it is (rule id and what it counts).
        scope: Whose it is, such as `session:s1` or `user:carla`.
        window: `sliding:60` (seconds) or a calendar window's own start, such as `day:2026-11-20:UTC`.
    """

    name: str
    scope: str
    window: str


@quickly_made
@dataclass(frozen=True, slots=True)
class Needs:
    """What the engine must know to decide one action.

    Args:
        counters: Counters to read.
        session: Session whose labels and history matter; None when none do.
        values: Values whose origin matters, as `provenance.key_of` spells them.
        around: Sessions out of which that one was opened (a sub-agent's has its caller's around it): their labels, history and sightings
            count as well, so a view is the union over `session` and `around`, and unknown where one of them is.
        ask: Asks another program what it says to the facts that were read; blocks up to a bound of its own and never raises. Whoever
            reads the facts calls it off the event loop and hands back what it returns as `FactsView.answer`. None where nobody is asked.
    """

    counters: tuple[CounterKey, ...] = ()
    session: str | None = None
    values: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    ask: Callable[[FactsView], object] | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class FactsView:
    """The facts as they stood when they were read.

    Args:
        counters: Sum of settled and reserved amounts; a key that is missing is unknown.
        labels: Labels on the session and the sources that added them; None when unknown (no session, store failed).
        history: Names of tools whose body started in the session; None when unknown.
        failure: Why facts are unknown; empty when they are not.
        origins: For each value that was asked, the sources it was seen in (`user`, `config`, `tool:NAME`; `lost:` before one of which it
            cannot be told); a value that is missing, or None, is unknown.
        answer: What `Needs.ask` returned; None when nobody was asked.
        tried: True when this call's attempt was counted already, as when it comes back with an approval: limits of `attempts` were asked then,
            and neither hold nor count again.
    """

    counters: Mapping[CounterKey, Decimal] = field(default_factory=dict)
    labels: Mapping[str, frozenset[str]] | None = None
    history: frozenset[str] | None = None
    failure: str = ""
    origins: Mapping[str, frozenset[str]] | None = None
    answer: object = None
    tried: bool = False


@dataclass(frozen=True, slots=True)
class Unasked:
    """Stands as `FactsView.answer` where another program should have been asked and was not.

    Args:
        reason: Why.
    """

    reason: str


@quickly_made
@dataclass(frozen=True, slots=True)
class Reservation:
    """An amount to hold on a counter, refused when it would pass the limit.

    Args:
        key: The counter.
        amount: What is held now.
        limit: The most the counter may reach.
        unit: `calls` and `sum` amounts are final; `usd` and `tokens` are replaced by the real figure at settle; `attempts` stand even when
            the body never started, where all others are given back.
    """

    key: CounterKey
    amount: Decimal
    limit: Decimal
    unit: str = "calls"


@quickly_made
@dataclass(frozen=True, slots=True)
class Start:
    """What becomes true when the body starts, all in one transaction.

    Args:
        reservations: Amounts to hold.
        session: Session that is marked; None when there is none.
        tool: Name that enters the session's history; None when no rule asks for it.
        labels: Labels that come onto the session.
        around: Sessions out of which it was opened; they are marked like it, in the same transaction.
    """

    reservations: tuple[Reservation, ...] = ()
    session: str | None = None
    tool: str | None = None
    labels: frozenset[str] = frozenset()
    around: tuple[str, ...] = ()


class Use(NamedTuple):
    """How far a limit is used, for whoever watches; nothing is decided by it.

    Args:
        rule: Id of the rule whose limit it is.
        window: `rate` (a sliding window of at most a minute), `sliding`, `day` or `month`.
        unit: What is counted: `calls`, `attempts`, `tokens`, `usd` or `sum`.
        used: What stood on the counter when it was read; the fullest one where a call counts on several.
        amount: What the call holds of it when it runs.
        limit: The limit as the rule states it.
    """

    rule: str
    window: str
    unit: str
    used: Decimal
    amount: Decimal
    limit: Decimal


@quickly_made
@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision, and what must be begun when it lets the body run.

    Args:
        decision: The decision.
        start: None when nothing must be recorded.
        uses: How far the limits are used that were looked at.
        tried: The attempts alone: to be begun where the decision does not let the body run, also for a refusal; None when nothing counts
            them. (`start` holds them too.)
    """

    decision: Decision
    start: Start | None = None
    uses: tuple[Use, ...] = ()
    tried: Start | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class Hold:
    """What `begin` took; hand it back to `settle` or `release` exactly once (more often does nothing).

    Args:
        id: Unique within the store.
        start: What was begun.
    """

    id: str
    start: Start


@quickly_made
@dataclass(frozen=True, slots=True)
class Spent:
    """What the call really used; None leaves the reserved amount standing.

    Args:
        usd: Money.
        tokens: Input and output tokens together.
    """

    usd: Decimal | None = None
    tokens: int | None = None


class Engine(Protocol):
    """Decides. Immutable: a reload makes another one."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the normalised rules."""
        ...

    def governs(self, kind: Kind, name: str) -> bool:
        """True when a decision can be anything but a plain allow; False lets the caller skip binding and deciding."""
        ...

    def needs(self, action: Action, now: datetime) -> Needs | None:
        """What to read before deciding; None when no fact matters for this action."""
        ...

    def decide(self, action: Action, facts: FactsView | None, now: datetime, attempt: int = 1) -> Ruling:
        """Decide one action. Never raises: a failure inside is a `deny` with code `policy.error`.

        Args:
            action: The snapshot.
            facts: What `needs` asked for; None when it asked for nothing.
            now: Time of the decision, timezone-aware UTC.
            attempt: Which attempt of the call this is, starts at 1.
        """
        ...


class FactsStore(Protocol):
    """Counters, labels and history, shared by every call of a runtime."""

    @property
    def blocking(self) -> bool:
        """True when calls may wait for a disk or network; an async caller then runs them in a thread."""
        ...

    def peek(self, needs: Needs, now: datetime) -> FactsView:
        """Read, reserve nothing. Never raises: a failure is a view with `failure` set."""
        ...

    def begin(self, start: Start, now: datetime) -> Hold | None:
        """Record the start of a body, all or nothing; None when a limit was reached meanwhile, so decide again."""
        ...

    def settle(self, hold: Hold, spent: Spent, now: datetime) -> None:
        """Replace reserved amounts by the real ones."""
        ...

    def release(self, hold: Hold) -> None:
        """Give back what was reserved, because the body never started."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """One transaction for `begin` and the claim of an approval where both lie in one database; else nothing.

        A block that raises has begun nothing where there is such a transaction; elsewhere `release` gives back what was begun.
        """
        ...

    def declassify(self, session: str, label: str, now: datetime) -> frozenset[str]:
        """Take one label off one session, in one transaction; history and sightings stay. A later start that adds it puts it on again.

        The caller has written down who vouches and why before this is called; the store only removes.

        Returns:
            The sources that had added it; empty when it was not on the session, and then nothing changed.

        Raises:
            StoreError: The labels of the session are unknown (its marks were dropped) or the store cannot be written: the label stays.
        """
        ...


class Witness(Protocol):
    """A facts store that also remembers where values were seen."""

    def saw(self, session: str, source: str, value: object) -> None:
        """Note what a session saw; bounded, never raises for its size.

        Args:
            session: Session id.
            source: `user` for the words of the person (never a model's), `config`, or `tool:NAME` for a tool's result.
            value: Text, number, or lists and mappings of them; anything else in it is passed over.
        """
        ...
