"""Builds `Tracing` from settings and the standard OTEL_* variables; the application's own providers come first.

A bad OTEL_* value never raises here: the SDK itself may already raise while it is imported, so even that is guarded, and the problem is
shown by `doctor`. Our own settings were checked before; what was configured by them and cannot work (a trace file that cannot be written,
a redaction pattern that is none) is a `ConfigError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from otel_runtime.errors import ConfigError
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.log_masking import mask_logs
from otel_runtime.telemetry.noop import NoopTracing
from otel_runtime.telemetry.protocol import Tracing
from otel_runtime.telemetry.variables import wrong_values

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["build_tracing"]


def build_tracing(
    settings: Settings,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    environ: Mapping[str, str] | None = None,
) -> Tracing:
    """The tracing of one runtime.

    Args:
        settings: Checked settings.
        tracer_provider: The application's; None for its global one, or else one of our own. Never set globally, never shut down.
        meter_provider: The same for metrics.
        environ: Variables that decide what is built; None for the process' own. The SDK reads its part from the process itself.

    Raises:
        ConfigError: The trace file cannot be written, or a redaction pattern is no RE2 expression.
    """
    variables = os.environ if environ is None else environ
    mask_logs(settings.redact_keys, settings.redact_patterns)
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return NoopTracing("OTEL_SDK_DISABLED is true")
    try:
        # Not at the top: a bad OTEL_* value raises while the SDK is imported.
        from otel_runtime.telemetry.assembly import assemble

        return assemble(settings, tracer_provider, meter_provider, variables)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - telemetry fails open, whatever the SDK or a plug-in of it does
        # Most of these come from a variable, which the SDK does not always name.
        bad = "".join(f"; {name}: {why}" for name, why in wrong_values(variables).items())
        return NoopTracing(f"{type(error).__name__}: {error}{bad}", problem=True)
