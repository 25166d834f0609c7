"""What is open in the sessions of one a3s stream: the current run, turn and tools, and which session is whose child. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["Session", "Sessions"]

_SESSIONS: Final = 1024
_TOOLS: Final = 256


class Session:
    """One session.

    Args:
        id: Its id; None for a stream whose events name none.
        key: What its run ids begin with.
    """

    __slots__ = ("_begun", "_over", "_runs", "child", "doubtful", "id", "key", "parent", "run", "tools", "turn")

    def __init__(self, id: str | None, key: str) -> None:
        self.id: str | None = id
        self.key: str = key
        self.child: bool = False
        # True while its last run may turn out to be a sub-agent's.
        self.doubtful: bool = False
        self.parent: str | None = None
        self.turn: str | None = None
        self.tools: dict[str, None] = {}
        # Id of the current run; after its end, of the last one, until another begins.
        self.run: str = f"{key}-1"
        self._runs = 1
        self._begun = False
        self._over = False

    def begin(self) -> str | None:
        """A run starts; returns the id of one that never ended."""
        left = self.run if self._begun and not self.child else None
        if self._over or left is not None:
            self.end()
            self._runs += 1
            self.run = f"{self.key}-{self._runs}"
        self._begun, self._over = True, False
        return left

    @property
    def open(self) -> bool:
        """True while a run has begun and not ended."""
        return self._begun and not self._over

    def resume(self) -> None:
        """Work goes on; after an end that is another run, whose start was lost."""
        if self._over:
            self.begin()

    def adopt(self) -> None:
        """It is a sub-agent's session: the run that was in doubt is its work, and goes on until the sub-agent ends; any other is another run."""
        if self._over and self.doubtful:
            self._begun, self._over = True, False
        self.doubtful = False
        self.resume()

    def end(self) -> None:
        """The run is over."""
        self._begun, self._over = False, True
        self.turn = None
        self.tools.clear()

    def innermost(self) -> str | None:
        """Id of the step under which new work stands: the last open tool, else the turn."""
        while len(self.tools) > _TOOLS:
            del self.tools[next(iter(self.tools))]
        return next(reversed(self.tools), None) or self.turn


class Sessions:
    """The sessions of one stream.

    Args:
        stream: Id of the stream, for events that name no session.
    """

    def __init__(self, stream: str) -> None:
        self._default = Session(None, stream)
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._bare = False

    def of(self, told: str | None, own: str | None) -> Session:
        """The session of an event.

        Args:
            told: What the subscription put beside it.
            own: What the variant itself says; it is the stream's only session when nothing else names any.
        """
        if told is None and own is None:
            self._bare = True
            return self._default
        if told is None and self._bare and own not in self._known:
            self._default.id = self._default.id or own
            return self._default
        return self._named(told or own or "")

    def child(self, session: str, parent: str | None) -> Session:
        """The session of a sub-agent.

        Args:
            session: Its id.
            parent: Id of the session that started it, when that is told.
        """
        found = self._named(session)
        found.child = True
        if parent is not None and parent != session:
            found.parent = parent
        return found

    def above(self, child: Session) -> Session | None:
        """The session under which a sub-agent works; None when it is unknown."""
        if child.parent is None:
            return None
        return self._known.get(child.parent) or (self._default if self._bare or not self._known else None)

    def busy_elsewhere(self, session: Session) -> bool:
        """True when another session of the stream has an open run: what starts now may be a sub-agent's."""
        others = (self._default, *self._known.values())
        return not session.child and any(each.open for each in others if each is not session)

    def _named(self, session: str) -> Session:
        found = self._known.get(session)
        if found is None:
            found = self._known[session] = Session(session, session)
            if len(self._known) > _SESSIONS:
                self._known.popitem(last=False)
        return found
