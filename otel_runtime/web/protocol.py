"""What the inbox asks of the approvals room; `ApprovalService` fulfils it. Every method may wait for a disk."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Protocol

from otel_runtime.values.approval import ApprovalRequest, ApprovalState

__all__ = ["Inbox"]


class Inbox(Protocol):
    """Reads requests and takes answers."""

    def get(self, request_id: str) -> ApprovalRequest | None:
        """The request as it stands; None when there is none of that id."""
        ...

    def list(self, states: Sequence[ApprovalState] = (), limit: int = 100) -> builtins.list[ApprovalRequest]:
        """Requests, newest first; all states when none is given."""
        ...

    def missing(self, request: ApprovalRequest) -> Mapping[str, int]:
        """Approvals a request still needs, by rule id."""
        ...

    def answer(self, request_id: str, *, approver: str, approved: bool, reason: str = "") -> object:
        """Take one person's answer.

        Raises:
            AnswerRefused: It did not count; the error says why, and who was first.
        """
        ...
