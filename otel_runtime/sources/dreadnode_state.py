"""What is open in the turns of one Dreadnode stream: the generation, calls, questions and refusals. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import Final

__all__ = ["OWN_IDS", "Turn", "Turns"]

_TURNS: Final = 1024
_CALLS: Final = 1024
# They carry a fresh id where an agent's would stand: they start nothing, and speak of whichever agent is at work.
OWN_IDS: Final = frozenset({"reactstep", "compaction", "compactionevent", "heartbeat"})


class Turn:
    """One turn, or one agent where there are no turns."""

    __slots__ = (
        *("_counted", "_ended", "_heard_of", "agent", "asking", "begun", "calls", "delegates", "generation", "heard", "model", "over"),
        *("refused", "session", "starting", "thinking"),
    )

    def __init__(self) -> None:
        self.generation: str | None = None
        self.thinking: str | None = None
        # The call whose start was the last thing heard, and its tool.
        self.starting: tuple[str, str | None] | None = None
        self.asking: Bounded = Bounded()
        # Open calls, and how many of that id; and ids of calls that have ended.
        self.calls: dict[str, int] = {}
        self._ended: set[str] = set()
        # Refused calls: what is still said of them is no execution.
        self.refused: Bounded = Bounded()
        self._counted = Bounded()
        # Id of the agent that the turn began with.
        self.agent: str | None = None
        # The model that it names at its start, and whether another program runs its loop.
        self.model: str | None = None
        self.delegates = False
        # The session that it names at its start; its other events name none.
        self.session: str | None = None
        # Whether its start and its end were heard, and when anything was heard last.
        self.begun = False
        self.over = False
        self.heard: datetime | None = None
        self._heard_of = Bounded()

    def other_agent(self, agent: str | None, kind: str) -> str | None:
        """The agent's id when it is not the one that the turn began with."""
        if agent is None or kind in OWN_IDS:
            return None
        if self.agent is None:
            self.agent = agent
        return None if agent == self.agent else agent

    def place(self) -> str | None:
        """The step under which another agent works: the last open call, else the generation."""
        return next(reversed(self.calls), None) or self.generation

    def accept(self, call: str, tool: str | None) -> None:
        """A call runs, whatever was said of an earlier one of that id."""
        if self.refused:
            self.refused.pop(call, None)
        calls = self.calls
        calls[call] = calls.get(call, 0) + 1
        if len(calls) > _CALLS:
            del calls[next(iter(calls))]
        self.starting = (call, tool)

    def end(self, call: str, *, failed: bool) -> bool:
        """A call ended; True when it had ended before, and this is a failure that came after."""
        number = self.calls.pop(call, 0)
        if number > 1:
            self.calls[call] = number - 1
        after = failed and not number and call in self._ended
        if len(self._ended) >= _CALLS:
            self._ended.clear()
        self._ended.add(call)
        return after

    def is_before(self, start: datetime | None) -> bool:
        """True when a start at this time is that of another run; the same start again, or one that comes too late, is not."""
        if start is None or self.heard is None:
            return self.over
        return start > self.heard

    def first_word_of(self, what: str) -> bool:
        """True the first time that something is spoken of which nobody announced: a generation, or its end."""
        if what in self._heard_of:
            return False
        self._heard_of[what] = None
        return True

    def counts(self, step: str) -> bool:
        """True the first time that a generation tells its usage."""
        if step in self._counted:
            return False
        self._counted[step] = None
        return True


class Bounded(OrderedDict[str, str | None]):
    """A dict that forgets its oldest entries."""

    def __setitem__(self, key: str, value: str | None) -> None:
        """Keep an entry."""
        super().__setitem__(key, value)
        if len(self) > _CALLS:
            self.popitem(last=False)


class Turns(OrderedDict[str, Turn]):
    """The turns of one stream by run id, made when first asked for and forgotten when they end."""

    def __missing__(self, run: str) -> Turn:
        """A turn that nothing is known of yet."""
        turn = self[run] = Turn()
        if len(self) > _TURNS:
            self.popitem(last=False)
        return turn

    def forget(self, run: str) -> None:
        """The turn is over."""
        self.pop(run, None)
