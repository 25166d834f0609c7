"""uWSGI workers: call `flush_at_exit()` once where the application is loaded, with `lazy-apps` and `enable-threads`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.runtime.endings import end_process

__all__ = ["flush_at_exit"]


def flush_at_exit() -> None:
    """Have uWSGI send a worker's spans when the worker leaves; an exit function of the application's own is called first.

    uWSGI does not run Python's `atexit` in workers unless it is told to; it calls `uwsgi.atexit`.

    Raises:
        OtelRuntimeError: This process does not run under uWSGI, uWSGI would fork its workers from it without telling Python, or it lets no
            threads run.
    """
    try:
        uwsgi: Any = importlib.import_module("uwsgi")  # Any: a module that exists inside of uWSGI only
    except ModuleNotFoundError:
        raise OtelRuntimeError("flush_at_exit() was called outside of uWSGI; call it in the module that uWSGI loads") from None
    if uwsgi.worker_id() == 0 and (uwsgi.masterpid() or uwsgi.numproc > 1):
        # Its forks run no fork hooks of Python's: threads would be missing, locks and database connections be the master's.
        raise OtelRuntimeError(
            "uWSGI would fork its workers from this process without Python hearing of it; set `lazy-apps = true`, "
            "so that each worker loads the application itself"
        )
    if not {"enable-threads", "threads"} & set(uwsgi.opt):
        raise OtelRuntimeError("uWSGI runs no threads but its own, and spans are sent by one of ours; set `enable-threads = true`")
    uwsgi.atexit = _after(getattr(uwsgi, "atexit", None))


def _after(first: Callable[[], object] | None) -> Callable[[], None]:
    def at_exit() -> None:
        try:
            if callable(first):
                first()
        finally:
            end_process()

    return at_exit
