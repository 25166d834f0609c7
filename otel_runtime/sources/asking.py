"""Questions of foreign systems, answered by ours: the rules of who answers, and once.

A foreign event that asks (`approval.request`) opens a durable request at a desk; whoever answers there is handed back through the
responder that the application gave. A desk that judges is asked first: what its rules allow or refuse is answered at once, and only what
they want people for becomes a request. Their own answer or timeout, or the end of the run, closes ours. Whichever comes first takes the
question from the table, under one lock: the other finds it gone. An approval is claimed at the desk before it is handed back, so that
it counts once over all processes, and for exactly the arguments that were shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol

from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceEvent, TraceRef

__all__ = ["Asking", "Desk", "Judged", "Question", "Responder", "Verdict"]

_EMPTY: Mapping[str, object] = MappingProxyType({})
_OPEN: Final = 256
_DEFAULT_S: Final = 3600.0
_CLOSE_S: Final = 5.0
# Stands for the request of a question that the rules are still looking at.
_UNOPENED: Final = ""
_log = logging.getLogger("otel_runtime.sources")

Verdict = Literal["approved", "denied"]


@dataclass(frozen=True, slots=True)
class Question:
    """What a foreign system asks.

    Args:
        source: Vocabulary.
        id: Its id there.
        tool: The tool that waits; empty when the event names none.
        arguments: What it would be called with, as far as the event says.
        kind: `permission`, or `input` when words are wanted rather than a yes.
        timeout_s: Seconds that they wait.
        run: Run id.
        session: Session id.
        call_id: The tool call.
        trace: Where it belongs.
        decision: What our rules say of it; None when they were not asked.
        asked_as: Their own name of the event that asked, where one vocabulary has several.
        step: Id by which its events are known here, where it is not `id`.
    """

    source: str
    id: str
    tool: str
    arguments: Mapping[str, object] = field(default_factory=lambda: _EMPTY)
    kind: str = "permission"
    timeout_s: float = _DEFAULT_S
    run: str | None = None
    session: str | None = None
    call_id: str | None = None
    trace: TraceRef | None = None
    decision: Decision | None = None
    asked_as: str = ""
    step: str = ""


class Judged(NamedTuple):
    """What the rules of a desk say of a question.

    Args:
        decision: Their decision.
        done: Told whether the answer reached them; gives back what the decision reserved when it did not.
    """

    decision: Decision
    done: Callable[[bool], None]


Responder = Callable[[Question, Verdict], object]


class Desk(Protocol):
    """Where durable requests are opened and answered."""

    def judge(self, question: Question) -> Judged | None:
        """Ask the rules first; None when they are not to be asked. May block; never raises: what cannot be decided is denied."""
        ...

    def open(self, question: Question) -> str:
        """Open a request, or find the open one of this very question; returns its id."""
        ...

    def wait(self, request_id: str, timeout_s: float) -> Verdict | None:
        """Block until it is answered; None when it ended without an answer of ours, or the time is up."""
        ...

    def claim(self, request_id: str) -> bool:
        """Take the right to hand an approval back, once over all processes."""
        ...

    def finish(self, request_id: str, *, delivered: bool) -> None:
        """Record whether the answer reached them."""
        ...

    def withdraw(self, request_id: str, why: str) -> None:
        """Close a request that nobody has answered."""
        ...


class Asking:
    """Opens and closes questions as the events of one stream say.

    Args:
        desk: Where they are answered.
        respond: Hands an answer back to the foreign system.
        judges: True when the desk's rules are asked before people are.
        told: Told each answer that was handed back.
    """

    def __init__(
        self, desk: Desk, respond: Responder, *, judges: bool = False, told: Callable[[Question, Verdict], None] = lambda *_: None
    ) -> None:
        self._desk = desk
        self._told = told
        self._judges = judges
        self._respond = respond
        self._open: OrderedDict[tuple[str | None, str], tuple[Question, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._waiters: list[threading.Thread] = []
        self.problems: Counter[str] = Counter()

    @property
    def open_questions(self) -> int:
        """Questions that neither side has answered."""
        return len(self._open)

    def observe(self, event: TraceEvent) -> None:
        """Act on one event. Never raises: a question that cannot be opened here is still answered there."""
        try:
            if event.name == "approval.request":
                self._ask(event)
            elif event.type == "approval":
                self._close(_run(event), _id(event), str(event.attributes.get("approval.outcome", "answered")))
            elif event.attributes.get("run.outcome") is not None or event.name == "finish":
                self._close_where(lambda key, _: key[0] == _run(event), "the run has ended")
            elif event.attributes.get("session.ended") is True:
                session = _text(event.attributes.get("session.id"))
                self._close_where(lambda _, question: session is not None and question.session == session, "the session was deleted")
        except Exception as error:  # noqa: BLE001  # the store may fail in any way; the stream must go on
            self._problem("could not be opened here", error)

    def close(self, wait_s: float = _CLOSE_S) -> None:
        """Withdraw what is open: nobody listens to an answer any more. Waits until no thread of it reads the store.

        Args:
            wait_s: Seconds that it waits at most.
        """
        for run, name in list(self._open):
            try:
                self._close(run, name, "the stream has ended")
            except Exception as error:  # noqa: BLE001  # as above
                self._problem("could not be withdrawn here", error)
        # The store may be closed right after this; a thread that is still reading it would read freed memory.
        deadline = time.monotonic() + wait_s
        for waiter in list(self._waiters):
            if waiter is not threading.current_thread():
                waiter.join(max(0.0, deadline - time.monotonic()))

    def _ask(self, event: TraceEvent) -> None:
        question = _question(event)
        if question is None:
            self._problem("has no id, by which an answer could name it")
            return
        key = (question.run, _id(event))
        if self._judges and question.kind == "permission":
            self._ask_rules(key, question)
            return
        request_id = self._desk.open(question)
        if self._keep(key, question, request_id):
            self._start(self._await, key, question, request_id)

    def _ask_rules(self, key: tuple[str | None, str], question: Question) -> None:
        known = self._open.get(key)
        if known is not None and (known[0].tool, known[0].arguments) != (question.tool, question.arguments):
            self._close(*key, "asked again for another call")
            known = None
        if known is None and self._keep(key, question, _UNOPENED):
            self._start(self._judge, key, question)

    def _keep(self, key: tuple[str | None, str], question: Question, request_id: str) -> bool:
        with self._lock:
            known = self._open.get(key)
            if known is not None and known[1] == request_id:
                return False
            kept = len(self._open) < _OPEN
            if kept:
                self._open[key] = (question, request_id)
        if not kept:
            self._problem(f"came while {_OPEN} others were open, the most that are kept")
            if request_id != _UNOPENED:
                self._desk.withdraw(request_id, "too many questions are open")
        return kept

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        waiter = threading.Thread(target=work, args=arguments, name="otel-runtime-question", daemon=True)
        with self._lock:
            self._waiters = [known for known in self._waiters if known.is_alive()] + [waiter]
            waiter.start()

    def _judge(self, key: tuple[str | None, str], question: Question) -> None:
        """On a thread of its own: rules may read facts from a store, and a responder may need the event loop."""
        asked = question
        try:
            judged = self._desk.judge(question)
            if judged is not None:
                question = replace(question, decision=judged.decision)
            if judged is None or judged.decision.value == "require-approval":
                request_id = self._desk.open(question)
                if self._opened(key, asked, question, request_id):
                    self._await(key, question, request_id)
                else:
                    self._desk.withdraw(request_id, "answered there meanwhile")
                return
            delivered = False
            try:
                if self._take(key, asked, _UNOPENED):
                    verdict: Verdict = "approved" if judged.decision.value == "allow" else "denied"
                    self._respond(question, verdict)
                    delivered = True
                    self._told(question, verdict)
            finally:
                judged.done(delivered)
        except Exception as error:  # noqa: BLE001  # as in `_await`; they still have their own timeout
            self._problem("could not be answered from here", error)

    def _opened(self, key: tuple[str | None, str], asked: Question, question: Question, request_id: str) -> bool:
        with self._lock:
            known = self._open.get(key)
            if known is None or known[0] is not asked:
                return False
            self._open[key] = (question, request_id)
            return True

    def _await(self, key: tuple[str | None, str], question: Question, request_id: str) -> None:
        try:
            verdict = self._desk.wait(request_id, question.timeout_s)
            if not self._take(key, question, request_id):
                return
            if verdict is None:
                # They wait no longer, whatever time the rule gives people.
                self._desk.withdraw(request_id, "nobody answered in time")
            elif verdict == "denied" or self._desk.claim(request_id):
                self._deliver(question, request_id, verdict)
        except Exception as error:  # noqa: BLE001  # as above; this thread has no caller
            self._problem("could not be answered from here", error)

    def _deliver(self, question: Question, request_id: str, verdict: Verdict) -> None:
        delivered = False
        try:
            self._respond(question, verdict)
            delivered = True
            self._told(question, verdict)
        finally:
            if verdict == "approved":
                self._desk.finish(request_id, delivered=delivered)

    def _take(self, key: tuple[str | None, str], question: Question, request_id: str) -> bool:
        """True for the one who may answer: the question is off the table then."""
        with self._lock:
            known = self._open.get(key)
            # By identity: a question that was asked again for another call has the same key, and none has a request yet.
            if known is None or known[0] is not question or known[1] != request_id:
                return False
            del self._open[key]
            return True

    def _close(self, run: str | None, name: str, why: str) -> None:
        known = self._open.get((run, name))
        if known is not None and self._take((run, name), *known) and known[1] != _UNOPENED:
            self._desk.withdraw(known[1], why)

    def _close_where(self, meant: Callable[[tuple[str | None, str], Question], bool], why: str) -> None:
        for key in [key for key, (question, _) in list(self._open.items()) if meant(key, question)]:
            self._close(*key, why)

    def _problem(self, what: str, error: Exception | None = None) -> None:
        self.problems[what] += 1
        if self.problems[what] == 1:
            _log.warning("a foreign question %s; it can still be answered there; later ones are only counted", what, exc_info=error)


def _run(event: TraceEvent) -> str | None:
    run = event.attributes.get("run.id")
    return run if isinstance(run, str) else None


def _id(event: TraceEvent) -> str:
    return str(event.attributes.get("approval.id", ""))


def _question(event: TraceEvent) -> Question | None:
    facts = event.attributes
    if not _id(event):
        return None
    arguments, timeout = facts.get("approval.arguments"), facts.get("approval.timeout_ms")
    return Question(
        source=str(facts.get("event.source", "")),
        # Where the event's own id is ours to tell steps apart, theirs stands beside it.
        id=_text(facts.get("approval.asked_id")) or _id(event),
        tool=str(facts.get("tool.name", "")),
        arguments=arguments if isinstance(arguments, Mapping) else _EMPTY,
        kind=str(facts.get("approval.kind", "permission")),
        timeout_s=timeout / 1000 if isinstance(timeout, int) and timeout > 0 else _DEFAULT_S,
        run=_run(event),
        session=_text(facts.get("session.id")),
        call_id=_text(facts.get("tool.call_id")),
        asked_as=_text(facts.get("approval.asked_as")) or "",
        step=_id(event),
        trace=event.trace,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
