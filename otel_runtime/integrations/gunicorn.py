"""Hooks for `gunicorn.conf.py`: `from otel_runtime.integrations.gunicorn import worker_abort, worker_exit`."""

from __future__ import annotations

from otel_runtime.runtime.endings import flush_all, shutdown_all

__all__ = ["worker_abort", "worker_exit"]


def worker_exit(server: object, worker: object) -> None:  # noqa: ARG001  # as gunicorn calls it
    """Send a worker's spans when it leaves: stopped, reloaded, or after `max_requests`.

    Args:
        server: gunicorn's arbiter.
        worker: The worker.
    """
    shutdown_all()


def worker_abort(worker: object) -> None:  # noqa: ARG001  # as gunicorn calls it
    """Send a worker's spans when gunicorn gives it up because a request took longer than `timeout`.

    Args:
        worker: The worker.
    """
    flush_all()
