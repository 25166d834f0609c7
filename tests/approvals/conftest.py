"""A store with a clock that stands still, and questions to put in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.schema import MIGRATIONS
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.action import Action
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement

KEY = b"k" * 32
PEOPLE = {"alice": frozenset({"finance"}), "bob": frozenset({"finance", "lead"}), "carla": frozenset({"finance"})}


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def step(self, **parts: float) -> None:
        self.now += timedelta(**parts)


@dataclass
class House:
    """One database, and services on it as several processes would have."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    opened: list[ApprovalService] = field(default_factory=list)

    def service(self, people: Mapping[str, frozenset[str]] | None = None) -> ApprovalService:
        made = ApprovalService(Database(self.path, MIGRATIONS), KEY, PEOPLE if people is None else people, self.clock)
        self.opened.append(made)
        return made

    def close(self) -> None:
        for service in self.opened:
            service.close()
            service.database.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home" / "state.db")
    yield made
    made.close()


@pytest.fixture
def clock(house: House) -> Clock:
    return house.clock


@pytest.fixture
def service(house: House) -> ApprovalService:
    return house.service()


@pytest.fixture
def make_ask() -> Callable[..., Ask]:
    def make(
        args: Mapping[str, object] | None = None,
        *,
        approvers: tuple[str, ...] = ("role:finance",),
        quorum: int = 1,
        terms: ApprovalTerms | None = None,
        key: str | None = None,
        explicit: bool = False,
        user: str | None = "dave",
        expires_s: float = 3600.0,
        use_within_s: float | None = None,
        edit: tuple[str, ...] = (),
    ) -> Ask:
        given = {"order": "A-1", "amount": 250} if args is None else args
        asked = terms or ApprovalTerms((Requirement("refund.large", approvers, quorum, "large"),), expires_s, use_within_s, frozenset(edit))
        action = Action("tool", "refund", given, user=user, agents=("support",), session="s1", run="r1", call_id="c1")
        decision = Decision("require-approval", "a large refund", rule="refund.large", place="p.yaml:3", policy_digest="pd", approval=asked)
        digest = hashlib.sha256(repr(sorted(given.items())).encode()).hexdigest()
        return Ask(action, decision, digest, dedupe_key=key, explicit_call=explicit, facts={"roles": frozenset({"agent"})})

    return make
