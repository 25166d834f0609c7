"""What the hook processes of one Claude Code session tell each other: a small private file, locked while it is used.

Only the standard library is imported here: most events need nothing else, and every one of them is waited for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Closed", "Session", "Sessions", "new_span_id"]

_MAX_OPEN: Final = 256
_MAX_CLOSED: Final = 1024
_MAX_NOTES: Final = 50
_MAX_AGE_S: Final = 7 * 86400.0
_SEND_EVERY_NS: Final = 5_000_000_000


@dataclass(slots=True)
class Closed:
    """A span that can be written.

    Args:
        kind: `tool`, `agent`, `turn`, `session` or `policy`.
        name: Name of the tool or sub-agent; empty for the others.
        span: Span id, 16 hex digits.
        parent: Parent's span id; empty for the session's own span.
        start: Nanoseconds since 1970.
        end: Nanoseconds since 1970.
        facts: What else is known, plain data.
        notes: Moments inside: name, nanoseconds and facts.
    """

    kind: str
    name: str
    span: str
    parent: str
    start: int
    end: int
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Session:
    """The state of one session.

    Args:
        id: Session id as the host gives it.
        trace: Trace id, the same in every process: 32 hex digits.
        root: Span id of the session's own span.
        started: Nanoseconds since 1970.
        turn: The running turn (`span`, `started`, `notes`), or None.
        open: Tools that run, by call id (`name`, `span`, `started`, `parent`, `facts`).
        agents: Sub-agents that run, by their id (the same).
        notes: What happened outside of any turn.
        model: Model the session asks, as far as the host said; empty otherwise.
        closed: Spans that wait to be written.
        dropped: Spans that no room was left for.
        sent: When spans were last handed over to be sent, in nanoseconds since 1970.
    """

    id: str
    trace: str
    root: str
    started: int
    turn: dict[str, Any] | None = None
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[Any] = field(default_factory=list)
    model: str = ""
    closed: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0
    sent: int = 0

    @classmethod
    def new(cls, id: str, now: int) -> Session:
        """A session that starts now; its trace id is a function of its id."""
        return cls(id, hashlib.sha256(b"otel-runtime/claude-code/" + id.encode()).hexdigest()[:32], new_span_id(), now)

    def around(self, agent: str = "") -> str:
        """Span id that something hangs under.

        Args:
            agent: Id of the sub-agent it happens in; empty for the main one.
        """
        known = self.agents.get(agent)
        return known["span"] if known is not None else self.turn["span"] if self.turn is not None else self.root

    def start_turn(self, now: int) -> None:
        """A prompt was given; a turn that had not ended ends here."""
        self.end_turn(now)
        self.turn = {"span": new_span_id(), "started": now, "notes": []}

    def end_turn(self, now: int, **facts: object) -> None:
        """The host has finished its answer; a tool of it that has not ended was refused by a person or interrupted."""
        if self.turn is not None:
            self._cancel_below(self.turn["span"], now)
            facts = {**facts, "model": self.model} if self.model else facts
            self.close(Closed("turn", "", self.turn["span"], self.root, self.turn["started"], now, facts, self.turn["notes"]))
            self.turn = None

    def note(self, name: str, now: int, **facts: object) -> None:
        """Something happened in the running turn, or outside of any."""
        notes = self.turn["notes"] if self.turn is not None else self.notes
        if len(notes) < _MAX_NOTES:
            notes.append([name, now, facts])

    def start_tool(self, key: str, name: str, now: int, facts: Mapping[str, object], agent: str = "") -> None:
        """A tool may run now."""
        self._start(self.open, key, name, now, facts, agent)

    def end_tool(self, key: str, name: str, now: int, *, took: int | None = None, agent: str = "", **facts: object) -> None:
        """A tool has ended; one whose start nobody saw gets a span without duration.

        Args:
            key: Call id.
            name: Its name, where nobody saw the start.
            now: Nanoseconds since 1970.
            took: Nanoseconds it ran, without the time people took to let it; None when the host does not say.
            agent: Id of the sub-agent it ran in.
            facts: How it ended.
        """
        known = self.open.pop(key, None) or self._unseen(name, now, agent)
        if took is not None:
            known["started"] = max(known["started"], now - took) if "orphan" not in known["facts"] else now - took
        self._finish("tool", known, now, facts)

    def refuse_tool(self, key: str, name: str, now: int, agent: str = "", **facts: object) -> None:
        """The host refused a tool that the policy had let pass: it never ran."""
        known = self.open.pop(key, None) or self._unseen(name, now, agent)
        self.close(Closed("policy", known["name"], new_span_id(), known["parent"], now, now, {**known["facts"], **facts}))

    def start_agent(self, agent: str, name: str, now: int) -> None:
        """A sub-agent begins, or begins again."""
        if agent not in self.agents:
            self._start(self.agents, agent, name, now, {}, "")

    def end_agent(self, agent: str, name: str, now: int, **facts: object) -> None:
        """A sub-agent has finished, and with it whatever it still ran."""
        known = self.agents.pop(agent, None) or self._unseen(name, now, "")
        self._cancel_below(known["span"], now)
        self._finish("agent", known, now, facts)

    def end(self, now: int, **facts: object) -> None:
        """The session is over, and with it whatever still ran."""
        for agent in list(self.agents):
            self.end_agent(agent, "", now, outcome="cancelled")
        for key in list(self.open):
            self.end_tool(key, "", now, outcome="cancelled")
        self.end_turn(now, outcome="closed")
        self.close(Closed("session", "", self.root, "", self.started, now, dict(facts), self.notes))

    def _start(self, running: dict[str, dict[str, Any]], key: str, name: str, now: int, facts: Mapping[str, object], agent: str) -> None:
        while len(running) >= _MAX_OPEN:
            del running[next(iter(running))]
            self.dropped += 1
        running[key] = {"name": name, "span": new_span_id(), "started": now, "parent": self.around(agent), "facts": dict(facts)}

    def _unseen(self, name: str, now: int, agent: str) -> dict[str, Any]:
        return {"name": name, "span": new_span_id(), "started": now, "parent": self.around(agent), "facts": {"orphan": True}}

    def _finish(self, kind: str, known: Mapping[str, Any], now: int, facts: Mapping[str, object]) -> None:
        self.close(Closed(kind, known["name"], known["span"], known["parent"], known["started"], now, {**known["facts"], **facts}))

    def _cancel_below(self, span: str, now: int) -> None:
        for key in [key for key, known in self.open.items() if known["parent"] == span]:
            self.end_tool(key, "", now, outcome="cancelled")

    def due(self, now: int) -> bool:
        """True when finished spans may be sent now, and not with the next ones or at the end of the turn.

        A process that sends takes longer than one that decides, and would be in the way of the hooks that come right after it.
        """
        if now - self.sent < _SEND_EVERY_NS:
            return False
        self.sent = now
        return True

    def close(self, span: Closed) -> None:
        """Keep a span until somebody writes it."""
        if len(self.closed) >= _MAX_CLOSED:
            del self.closed[0]
            self.dropped += 1
        self.closed.append(asdict(span))

    def take(self) -> list[Closed]:
        """The spans to write; nobody else gets them."""
        taken, self.closed = self.closed, []
        return [Closed(**item) for item in taken]


class Sessions:
    """The files of every session.

    Args:
        directory: Where they lie; created private.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def opened(self, id: str, now: int) -> Iterator[Session]:
        """One session, nobody else's until the block ends; what the block changed is stored.

        Raises:
            OSError: The file cannot be used.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = _locked(self._path(id))
        try:
            session = _read(handle, id) or Session.new(id, now)
            yield session
            _write(self._path(id), session)
        finally:
            os.close(handle)

    def forget(self, id: str) -> None:
        """Remove a session that is over."""
        self._path(id).unlink(missing_ok=True)

    def prune(self, now_s: float) -> None:
        """Remove what sessions left behind that never ended."""
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                # Another process may put a new file in its place, or forget its session, at any moment.
                with suppress(FileNotFoundError):
                    if now_s - path.stat().st_mtime > _MAX_AGE_S:
                        path.unlink()

    def _path(self, id: str) -> Path:
        # Never the id itself: it comes from outside and is no file name.
        return self._directory / f"{hashlib.sha256(id.encode()).hexdigest()[:32]}.json"


def new_span_id() -> str:
    """16 hex digits, never all zero."""
    return os.urandom(8).hex().replace("0" * 16, "0" * 15 + "1")


def _locked(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, path):
            return handle
        os.close(handle)
        time.sleep(0)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        # The session was forgotten while this waited for the lock, which is on a file that is gone.
        return False


def _read(handle: int, id: str) -> Session | None:
    content = os.pread(handle, os.fstat(handle).st_size, 0)
    try:
        session = Session(**json.loads(content)) if content else None
    except (ValueError, TypeError):
        # Of another version, or written by something else: the session goes on in the same trace, without what was open.
        return None
    return session if session is not None and session.id == id else None


def _write(path: Path, session: Session) -> None:
    # Whole or not at all, whenever this process is killed. Whoever waits for the lock sees that the file was replaced.
    content = json.dumps(asdict(session)).encode()
    with os.fdopen(os.open(_aside(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
    _aside(path).replace(path)


def _aside(path: Path) -> Path:
    return path.with_suffix(".new")
