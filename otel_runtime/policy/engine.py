"""The engine behind the protocol: immutable, never raises, fails closed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from otel_runtime.policy.decide import CompiledPolicy, decide, needs_of
from otel_runtime.policy.protocol import FactsView, Needs, Ruling
from otel_runtime.policy.verdicts import refuse
from otel_runtime.values.action import Action, Kind

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["PolicyEngine"]


class PolicyEngine:
    """Decides by one compiled policy.

    Args:
        policy: The rules; a reload makes another engine.
    """

    __slots__ = ("policy",)

    def __init__(self, policy: CompiledPolicy) -> None:
        self.policy: CompiledPolicy = policy

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the normalised rules."""
        return self.policy.defaults.digest

    @property
    def watches_values(self) -> bool:
        """True when a rule asks where values were seen, so that the store must be told of them (`Witness.saw`)."""
        return any(rule.uses_origin for rule in self.policy.rules)

    def governs(self, kind: Kind, name: str) -> bool:
        """True when a decision can be anything but a plain allow.

        Tools always are: their arguments are checked against the catalogue before any rule.
        """
        if kind == "tool" or (kind == "capability" and self.policy.defaults.verdict != "allow"):
            return True
        return bool(self.policy.index.named(kind, name).rules)

    def needs(self, action: Action, now: datetime) -> Needs | None:
        """What to read before deciding; None when no fact matters for this action."""
        try:
            return needs_of(action, self.policy, now)
        except Exception:  # noqa: BLE001  # the decision that follows meets the same failure and refuses
            _log().exception("policy: cannot tell which facts `%s` needs", action.name)
            return None

    def decide(self, action: Action, facts: FactsView | None, now: datetime, attempt: int = 1) -> Ruling:
        """Decide one action; a failure inside is a `deny` with code `policy.error`."""
        try:
            return decide(action, self.policy, facts, now, attempt)
        except Exception as error:  # noqa: BLE001  # whatever fails while deciding, nothing runs because of it
            _log().exception("policy: deciding on `%s` failed", action.name)
            return Ruling(refuse(f"the policy could not decide ({type(error).__name__})", "policy.error", self.policy.defaults))


def _log() -> Logger:
    # Most processes never meet such a failure, and a hook process has no other use for it.
    import logging

    return logging.getLogger(__name__)
