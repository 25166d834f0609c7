"""Make a reload of the policy seen: the counter, an event on the bus, and a record in the audit that `doctor` reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, cast

from otel_runtime.approvals.service import ApprovalService

if TYPE_CHECKING:
    from otel_runtime.audit.chain import Event
    from otel_runtime.runtime.reloading import Reload
    from otel_runtime.wrap.active import Active, Guard

__all__ = ["past_reloads", "subject_of", "tell_reload"]


def tell_reload(active: Active, guard: Guard, reload: Reload) -> None:
    """Tell telemetry, subscribers of `component.policy.*`, and the audit.

    Raises:
        StoreError: The audit could not be written; the rest was told.
    """
    payload = {"digest": reload.digest, "before": reload.before, "fault": reload.fault, "files": list(reload.files), "pid": os.getpid()}
    active.tracing.policy_reloaded(cast("Literal['loaded', 'rejected']", reload.outcome))
    active.bus.emit(f"component.policy.{reload.outcome}", payload)
    if isinstance(guard.approvals, ApprovalService):
        with guard.approvals.database.writing() as connection:
            guard.approvals.audit.append(connection, f"policy.{reload.outcome}", subject_of(active.name), payload)


def subject_of(name: str) -> str:
    """What the audit calls the policy of a runtime."""
    return f"policy of {name}"


def past_reloads(approvals: ApprovalService, name: str) -> Iterator[Event]:
    """Every reload of a runtime's policy in the record, oldest first.

    Raises:
        StoreError: The record cannot be read.
    """
    return approvals.audit.events(subject_of(name))
