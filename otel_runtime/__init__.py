"""OpenTelemetry tracing and policy middleware for AI agents.

Wrap the agent code you have: `@rt.agent`, `@rt.model`, `@rt.tool`, `@rt.workflow`. `rt.configure()` puts a runtime in force; without it
decorated functions behave as undecorated ones. Importing this package starts nothing and loads no OpenTelemetry.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from otel_runtime._version import __version__
from otel_runtime.errors import (
    ApprovalDenied,
    ApprovalExpired,
    ApprovalPending,
    ArgumentsChanged,
    Blocked,
    CapabilityNotFound,
    ConfigError,
    OtelRuntimeError,
    PolicyDenied,
    PolicyUnavailable,
    ReservedKind,
    RetryableFailure,
    RuntimeStateError,
    StoreError,
)
from otel_runtime.values.approval import ApprovalDecision, ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.host import CapabilityHandle, HostContext
from otel_runtime.values.trace import EventEnvelope, TraceEvent
from otel_runtime.values.usage import UsageRecord
from otel_runtime.wrap.ambient import capability, decide, notify, on, on_event, publish, record_usage, wait_until
from otel_runtime.wrap.decorators import agent, model, tool, workflow
from otel_runtime.wrap.scope import call, session
from otel_runtime.wrap.threads import install_thread_propagation, propagate, uninstall_thread_propagation
from otel_runtime.wrap.toolcalls import arun_tool, run_tool

if TYPE_CHECKING:
    from otel_runtime.runtime.configuring import configure
    from otel_runtime.runtime.endings import handle_sigterm
    from otel_runtime.runtime.ingesting import aingest, feed, ingest
    from otel_runtime.runtime.runtime import Runtime, UsageTotals
    from otel_runtime.settings.model import Settings

__all__ = [
    "ApprovalDecision",
    "ApprovalDenied",
    "ApprovalExpired",
    "ApprovalPending",
    "ApprovalRequest",
    "ArgumentsChanged",
    "Blocked",
    "CapabilityHandle",
    "CapabilityNotFound",
    "ConfigError",
    "Decision",
    "EventEnvelope",
    "HostContext",
    "OtelRuntimeError",
    "PolicyDenied",
    "PolicyUnavailable",
    "ReservedKind",
    "RetryableFailure",
    "Runtime",
    "RuntimeStateError",
    "Settings",
    "StoreError",
    "TraceEvent",
    "UsageRecord",
    "UsageTotals",
    "__version__",
    "agent",
    "aingest",
    "arun_tool",
    "call",
    "capability",
    "configure",
    "decide",
    "feed",
    "handle_sigterm",
    "ingest",
    "install_thread_propagation",
    "model",
    "notify",
    "on",
    "on_event",
    "propagate",
    "publish",
    "record_usage",
    "run_tool",
    "session",
    "tool",
    "uninstall_thread_propagation",
    "wait_until",
    "workflow",
]

# What needs pydantic, OpenTelemetry or a database is loaded when it is first named.
_LAZY = {
    "Runtime": "otel_runtime.runtime.runtime",
    "Settings": "otel_runtime.settings.model",
    "UsageTotals": "otel_runtime.runtime.runtime",
    "aingest": "otel_runtime.runtime.ingesting",
    "configure": "otel_runtime.runtime.configuring",
    "feed": "otel_runtime.runtime.ingesting",
    "handle_sigterm": "otel_runtime.runtime.endings",
    "ingest": "otel_runtime.runtime.ingesting",
}


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
