"""Hooks for `gunicorn.conf.py`: `from otel_runtime.integrations.gunicorn import worker_abort, worker_exit`."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from otel_runtime.runtime.endings import end_process, flush_aside

__all__ = ["worker_abort", "worker_exit"]


class _Worker(Protocol):
    """What is used of gunicorn's workers."""

    def notify(self) -> object: ...


def worker_exit(server: object, worker: object) -> None:  # noqa: ARG001  # as gunicorn calls it
    """Send a worker's spans when it leaves: stopped, reloaded, or after `max_requests`.

    Args:
        server: gunicorn's arbiter.
        worker: The worker.
    """
    end_process()


def worker_abort(worker: _Worker) -> None:
    """Send a worker's spans when gunicorn gives it up because a request took longer than `timeout`.

    Args:
        worker: The worker. It gets `timeout` once more: gunicorn looks every second, and kills an aborted worker that it has not heard of.
    """
    # A worker that is leaving already has closed what it would say it with.
    with suppress(OSError, ValueError):
        worker.notify()
    flush_aside()
