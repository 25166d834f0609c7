"""Celery workers: `flush_workers()` sends the spans of every pool process when it leaves.

A process of the prefork pool ends without `atexit`, so it is Celery's own signal that must be heard.
"""

from __future__ import annotations

from collections.abc import Callable

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.runtime.endings import end_process, flush_all

__all__ = ["flush_workers"]


def flush_workers(setup: Callable[[], object] | None = None) -> None:
    """Hear Celery's signals; call it once where the Celery application is made.

    Args:
        setup: Called first in every new pool process: `runtime.worker_setup()`, or a function that calls `configure`. None when the
            runtime is configured before the pool forks, which is enough for the prefork pool.

    Raises:
        OtelRuntimeError: Celery is not installed.
    """
    try:
        from celery import signals  # type: ignore[import-untyped]  # it ships no types
    except ModuleNotFoundError as error:
        raise OtelRuntimeError(f"flush_workers() needs Celery (no module `{error.name}`); pip install celery") from None

    def started(**_: object) -> None:
        if setup is not None:
            setup()

    def process_left(**_: object) -> None:
        end_process()

    def worker_left(**_: object) -> None:
        # The pools `solo`, `threads` and `gevent` run their tasks in this process.
        flush_all()

    # Celery keeps weak references to receivers unless it is told otherwise.
    signals.worker_process_init.connect(started, weak=False, dispatch_uid="otel-runtime-started")
    signals.worker_process_shutdown.connect(process_left, weak=False, dispatch_uid="otel-runtime-process-left")
    signals.worker_shutdown.connect(worker_left, weak=False, dispatch_uid="otel-runtime-worker-left")
