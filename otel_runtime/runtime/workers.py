"""Runtimes of worker processes: the same settings, in force before the first task."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from otel_runtime.runtime.configuring import configure_from
from otel_runtime.runtime.endings import handle_sigterm, sigterm_heard
from otel_runtime.runtime.nudging import nudge_until
from otel_runtime.settings.model import Settings

__all__ = ["WorkerSetup"]


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker process calls when it starts; it pickles, so it reaches spawned workers too.

    `multiprocessing.Pool(initializer=runtime.worker_setup())`, and the same for `ProcessPoolExecutor`.

    Args:
        settings: The settings of the parent's runtime.
        sigterm: True flushes at SIGTERM as well: `Pool.terminate()`, which leaving a `with Pool()` block calls, ends its workers with it.
    """

    settings: Settings
    sigterm: bool = True

    def __call__(self) -> None:
        """Put a runtime with these settings in force; a forked worker keeps the one it inherited.

        Raises:
            ConfigError: The policy or a file cannot be used here.
            StoreError: The state database cannot be used here.
        """
        configure_from(self.settings)
        # Only while nobody else has taken the signal: a pool of another library may have its own idea of it.
        if self.sigterm and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            handle_sigterm()
            nudge_until(sigterm_heard)
