"""Where values were seen, for a policy that may change: noted while a rule asks, and said to be unknown where none did.

A policy that is reloaded may ask for the origin of values of a session that began under one that did not. To note everything in case would
cost a write per call; so a session that nobody noted for is marked once, and all its values are of unknown origin from then on: what
depends on them fails closed until the session ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_runtime.values.action import Unreadable

if TYPE_CHECKING:
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.policy.protocol import Witness

__all__ = ["LiveWitness"]

_REMEMBERED: Final = 100_000
# Read as a value that could not be read: whatever is asked may have been in it.
_ANYTHING: Final = Unreadable("", "cap")
_EVERYWHERE: Final = "*"


class LiveWitness:
    """Notes what sessions see while the policy in force asks for it.

    Args:
        facts: The store that remembers.
        policy: The first policy; None without rules of our own.
    """

    def __init__(self, facts: Witness, policy: LoadedPolicy | None) -> None:
        self._facts = facts
        self._asks = _asks(policy)
        self._marked: set[str] = set()

    def follow(self, policy: LoadedPolicy | None) -> None:
        """Another policy comes into force; called before it does, so that nothing is missed in between."""
        self._asks = _asks(policy)

    def saw(self, session: str, source: str, value: object) -> None:
        """Note what a session saw, or once that nobody noted it."""
        if self._asks:
            self._facts.saw(session, source, value)
            return
        if session in self._marked:
            return
        # No lock: each step is whole by itself, and marking a session twice changes nothing.
        if len(self._marked) >= _REMEMBERED:
            self._marked.clear()
        self._marked.add(session)
        self._facts.saw(session, _EVERYWHERE, _ANYTHING)


def _asks(policy: LoadedPolicy | None) -> bool:
    return policy is not None and policy.engine.watches_values
