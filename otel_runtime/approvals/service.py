"""The approvals service: what calls and surfaces talk to. Every method is one or two short transactions.

Theory of operation: a request is a row whose question and state are sealed with a key outside the database. Each change reads the row
under the write lock, checks the seals, changes it on condition that it stands as read, and records an event, all in one transaction.
Time is read inside the transaction, because waiting for the lock takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, get_args

from otel_runtime.approvals import store
from otel_runtime.approvals.answering import Ballot, Teller, edited_ballot
from otel_runtime.approvals.answers import Answer, AnswerRefused, Redecide
from otel_runtime.approvals.claiming import claimed
from otel_runtime.approvals.ledger import Ledger, RowChanged
from otel_runtime.approvals.owner import gone, this_process
from otel_runtime.approvals.protocol import Ask, Claim, ClaimRefused
from otel_runtime.approvals.records import Seals, trace_text
from otel_runtime.approvals.reopening import find_again, terms_of
from otel_runtime.approvals.waiters import Waiters
from otel_runtime.audit.chain import microseconds
from otel_runtime.audit.log import AuditLog
from otel_runtime.errors import RuntimeStateError, StoreError
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.approval import OPEN_STATES, TERMINAL_STATES, ApprovalRequest, ApprovalState
from otel_runtime.values.trace import TraceRef

__all__ = ["ApprovalService"]

_STATES = frozenset(get_args(ApprovalState))
_AT_ONCE = 200
# The class has a method `list`, as the protocol names it.
_Requests = list[ApprovalRequest]
_Names = list[str]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ApprovalService:
    """Questions to people, kept in SQLite, answered once and used once.

    Args:
        database: Opened with `approvals.schema.MIGRATIONS`.
        key: The secret from `audit.key.load_or_create_key`.
        people: Role names by plain name (`alice`, not `os:alice`).
        clock: Says what time it is, in UTC.
    """

    def __init__(
        self, database: Database, key: bytes, people: Mapping[str, frozenset[str]] | None = None, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = AuditLog(database, key, clock)
        self._seals = Seals(key)
        self._ledger = Ledger(str(database.path), self._seals, self._audit)
        self._teller = Teller(self._ledger, people if people is not None else {})
        self._waiters = Waiters(database, self._must_get, clock)

    @property
    def audit(self) -> AuditLog:
        """The record that every change is written to."""
        return self._audit

    @property
    def database(self) -> Database:
        """The database underneath."""
        return self._database

    def open(self, ask: Ask) -> tuple[ApprovalRequest, bool]:
        """Find the open request of this very call or store a new one; True when it is new.

        An open request under the same dedupe key whose call differs is superseded by the new one.

        Raises:
            CannotEncode: An argument or fact cannot be stored; nothing was.
            StoreError: The database failed.
        """
        terms = terms_of(ask)
        with self._database.writing() as connection:
            now = self._clock()
            found, outdated = find_again(connection, self._ledger, ask, terms, now)
            if found is not None:
                return self._ledger.view(connection, found), False
            if outdated is not None:
                ask = replace(ask, supersedes=outdated.id)
            request = self._ledger.view(connection, self._ledger.create(connection, ask, terms, now))
        if outdated is not None:
            self._waiters.ring(outdated.id)
        return request, True

    def get(self, request_id: str) -> ApprovalRequest | None:
        """The request as it stands; expired ones are marked so first.

        Raises:
            RowChanged: The row was changed by something else.
            StoreError: The database failed.
        """
        with self._database.reading() as connection:
            row = self._ledger.load(connection, request_id)
            if row is None:
                return None
            if row.state not in OPEN_STATES or row.due_us > microseconds(self._clock()):
                return self._ledger.view(connection, row)
        with self._database.writing() as connection:
            row = self._ledger.current(connection, request_id, self._clock())
            return None if row is None else self._ledger.view(connection, row)

    def waits(self, request_id: str) -> bool:
        """True while nobody has answered the request and it has not expired. Only reads.

        Raises:
            StoreError: The database failed.
        """
        return self._waiters.waits(request_id)

    def list(self, states: Sequence[ApprovalState] = (), limit: int = 100) -> list[ApprovalRequest]:
        """Requests, newest first; all states when none is given. Rows that something else changed are left out (`damaged` names them).

        Raises:
            ValueError: A state that does not exist.
            StoreError: The database failed.
        """
        if unknown := sorted(set(states) - _STATES):
            raise ValueError(f"expected states out of {', '.join(sorted(_STATES))}; got `{unknown[0]}`")
        self._expire_due()
        with self._database.reading() as connection:
            rows = [row for row in store.newest(connection, states, limit) if self._seals.sound(row)]
            return [self._ledger.view(connection, row) for row in rows]

    def damaged(self, limit: int = 100) -> _Names:
        """Ids, newest first, of requests that something else changed."""
        with self._database.reading() as connection:
            return [row.id for row in store.newest(connection, (), limit) if not self._seals.sound(row)]

    def find(self, prefix: str, limit: int = 10) -> _Names:
        """Ids that begin with these hex digits."""
        with self._database.reading() as connection:
            return store.ids_starting(connection, prefix, limit)

    def attach_trace(self, request_id: str, trace: TraceRef) -> None:
        """Remember the span `approval requested`, for links."""
        with self._database.writing() as connection:
            store.attach_trace(connection, request_id, trace_text(trace))

    def answer(
        self,
        request_id: str,
        *,
        approver: str,
        approved: bool,
        reason: str = "",
        edits: Mapping[str, object] | None = None,
        redecide: Redecide | None = None,
    ) -> Answer:
        """Answer a request; of several at once exactly one decides it.

        Args:
            request_id: The request.
            approver: Identity the surface established, such as `os:alice`; never something the person typed.
            approved: Yes or no.
            reason: What the person wrote.
            edits: New values of arguments that the terms allow to edit, only with an approval.
            redecide: Decides the edited call; needed with edits.

        Raises:
            AnswerRefused: It did not count; the error says why, and who was first.
            StoreError: The database failed; nothing was stored.
        """
        try:
            ballot = Ballot(approver, approved, reason)
            if edits:
                ballot = edited_ballot(self._must_get(request_id), ballot, edits, redecide)
            with self._database.writing() as connection:
                outcome = self._teller.take(connection, request_id, ballot, self._clock())
        except RowChanged as error:
            raise AnswerRefused(str(error), request_id=request_id, why="authentication") from error
        if isinstance(outcome, AnswerRefused):
            raise outcome
        self._waiters.ring(request_id)
        return outcome

    def missing(self, request: ApprovalRequest) -> Mapping[str, int]:
        """Approvals a request still needs, by rule id."""
        return self._teller.missing(request)

    def wait(self, request_id: str, timeout_s: float) -> ApprovalRequest:
        """Block until the request is no longer `awaiting-approval` or the time is up; returns it either way.

        Raises:
            StoreError: There is no such request, or the database failed.
        """
        return self._waiters.wait(request_id, timeout_s)

    async def wait_async(self, request_id: str, timeout_s: float) -> ApprovalRequest:
        """The same without a blocked thread; all waiters of a loop share one poller. Cancelling it leaves the request open."""
        return await self._waiters.wait_async(request_id, timeout_s)

    def claim(self, request_id: str, call_digest: str, requirement_digest: str, now: datetime | None = None) -> Claim | ClaimRefused:
        """Take the right to run, exactly once over all processes.

        Args:
            request_id: The request.
            call_digest: Digest of the call that would run now.
            requirement_digest: What policy asks for now; refused as `votes` when the votes were given for something else.
            now: Time of the claim; None asks the clock.

        Raises:
            StoreError: The database failed; the body must not run.
        """
        try:
            with self._database.writing() as connection:
                moment = now if now is not None else self._clock()
                return claimed(connection, self._ledger, self._teller, request_id, call_digest, requirement_digest, moment)
        except RowChanged:
            return ClaimRefused(None, "authentication", None)

    def finish(self, request_id: str, outcome: Literal["completed", "failed"]) -> None:
        """Record how the claimed body ended; a request that ended already stays as it is.

        Raises:
            RuntimeStateError: It was never claimed.
            StoreError: The database failed.
        """
        with self._database.writing() as connection:
            row = self._ledger.load(connection, request_id)
            if row is not None and row.state == "executing":
                self._ledger.change(connection, row, outcome, self._clock(), {})
            elif row is None or row.state not in TERMINAL_STATES:
                raise RuntimeStateError(f"approval request `{request_id}` was never claimed, so it cannot be `{outcome}`; claim it first")

    def supersede(self, request_id: str, ask: Ask) -> ApprovalRequest:
        """Replace a request whose terms no longer hold by a new one, linked.

        Returns:
            The new request; the one that another process put there first; or, when it ended or was used meanwhile, itself.

        Raises:
            StoreError: There is no such request, or the database failed.
        """
        with self._database.writing() as connection:
            now = self._clock()
            row = self._ledger.current(connection, request_id, now)
            if row is None:
                raise self._no_request(request_id)
            if row.state in OPEN_STATES:
                self._ledger.change(connection, row, "superseded", now, {}, decided_us=row.decided_us or microseconds(now))
                row = self._ledger.create(connection, replace(ask, supersedes=request_id), terms_of(ask), now)
            elif row.state == "superseded" and (next_row := store.successor(connection, request_id)) is not None:
                row = self._ledger.settled(connection, self._ledger.checked(next_row), now)
            request = self._ledger.view(connection, row)
        self._waiters.ring(request_id)
        return request

    def cancel(self, request_id: str, why: str) -> ApprovalRequest | None:
        """Withdraw a question that nobody has answered; one that was answered stays as it is. None when there is none."""
        with self._database.writing() as connection:
            now = self._clock()
            row = self._ledger.current(connection, request_id, now)
            if row is not None and row.state == "awaiting-approval":
                row = self._ledger.change(connection, row, "cancelled", now, {"why": why}, decided_us=microseconds(now))
            request = None if row is None else self._ledger.view(connection, row)
        self._waiters.ring(request_id)
        return request

    def sweep(self) -> _Requests:
        """Mark as `unknown` what processes of this host were executing when they died. Nothing is ever repeated because of it.

        Returns:
            The requests marked now.
        """
        here = this_process()
        with self._database.reading() as connection:
            lost = [row.id for row in store.newest(connection, ("executing",), _AT_ONCE) if row.owner and gone(row.owner, here)]
        return [request for request in map(self._mark_unknown, lost) if request is not None]

    def close(self) -> None:
        """Stop the polling thread; the database stays open."""
        self._waiters.close()

    def _mark_unknown(self, request_id: str) -> ApprovalRequest | None:
        with self._database.writing() as connection:
            row = store.load(connection, request_id)
            # Another process may have swept it meanwhile.
            if row is None or row.state != "executing" or not self._seals.sound(row):
                return None
            return self._ledger.view(connection, self._ledger.change(connection, row, "unknown", self._clock(), {"owner": row.owner}))

    def _expire_due(self) -> None:
        with self._database.reading() as connection:
            # Rows that something else changed cannot run anyway, and stay as evidence.
            overdue = [row.id for row in store.due(connection, microseconds(self._clock()), _AT_ONCE) if self._seals.sound(row)]
        if overdue:
            with self._database.writing() as connection:
                for request_id in overdue:
                    self._ledger.current(connection, request_id, self._clock())

    def _must_get(self, request_id: str) -> ApprovalRequest:
        request = self.get(request_id)
        if request is None:
            raise self._no_request(request_id)
        return request

    def _no_request(self, request_id: str) -> StoreError:
        return StoreError(f"there is no approval request `{request_id}` in `{self._database.path}`", path=str(self._database.path))
