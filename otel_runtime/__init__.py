"""OpenTelemetry tracing and policy middleware for AI agents.

Wrap the agent code you have: `@rt.agent`, `@rt.model`, `@rt.tool`, `@rt.workflow`. `rt.configure()` puts a runtime in force; without it
decorated functions behave as undecorated ones. Importing this package starts nothing and loads no OpenTelemetry.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from otel_runtime._version import __version__

if TYPE_CHECKING:
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
    from otel_runtime.runtime.configuring import configure
    from otel_runtime.runtime.endings import handle_sigterm
    from otel_runtime.runtime.ingesting import aingest, feed, ingest
    from otel_runtime.runtime.runtime import Runtime, UsageTotals
    from otel_runtime.settings.model import Settings
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

# Every name is loaded when it is first used: a command or a hook pays only for what it needs.
_HOME = {
    "ApprovalDenied": "otel_runtime.errors",
    "ApprovalExpired": "otel_runtime.errors",
    "ApprovalPending": "otel_runtime.errors",
    "ArgumentsChanged": "otel_runtime.errors",
    "Blocked": "otel_runtime.errors",
    "CapabilityNotFound": "otel_runtime.errors",
    "ConfigError": "otel_runtime.errors",
    "OtelRuntimeError": "otel_runtime.errors",
    "PolicyDenied": "otel_runtime.errors",
    "PolicyUnavailable": "otel_runtime.errors",
    "ReservedKind": "otel_runtime.errors",
    "RetryableFailure": "otel_runtime.errors",
    "RuntimeStateError": "otel_runtime.errors",
    "StoreError": "otel_runtime.errors",
    "configure": "otel_runtime.runtime.configuring",
    "handle_sigterm": "otel_runtime.runtime.endings",
    "aingest": "otel_runtime.runtime.ingesting",
    "feed": "otel_runtime.runtime.ingesting",
    "ingest": "otel_runtime.runtime.ingesting",
    "Runtime": "otel_runtime.runtime.runtime",
    "UsageTotals": "otel_runtime.runtime.runtime",
    "Settings": "otel_runtime.settings.model",
    "ApprovalDecision": "otel_runtime.values.approval",
    "ApprovalRequest": "otel_runtime.values.approval",
    "Decision": "otel_runtime.values.decision",
    "CapabilityHandle": "otel_runtime.values.host",
    "HostContext": "otel_runtime.values.host",
    "EventEnvelope": "otel_runtime.values.trace",
    "TraceEvent": "otel_runtime.values.trace",
    "UsageRecord": "otel_runtime.values.usage",
    "capability": "otel_runtime.wrap.ambient",
    "decide": "otel_runtime.wrap.ambient",
    "notify": "otel_runtime.wrap.ambient",
    "on": "otel_runtime.wrap.ambient",
    "on_event": "otel_runtime.wrap.ambient",
    "publish": "otel_runtime.wrap.ambient",
    "record_usage": "otel_runtime.wrap.ambient",
    "wait_until": "otel_runtime.wrap.ambient",
    "agent": "otel_runtime.wrap.decorators",
    "model": "otel_runtime.wrap.decorators",
    "tool": "otel_runtime.wrap.decorators",
    "workflow": "otel_runtime.wrap.decorators",
    "call": "otel_runtime.wrap.scope",
    "session": "otel_runtime.wrap.scope",
    "install_thread_propagation": "otel_runtime.wrap.threads",
    "propagate": "otel_runtime.wrap.threads",
    "uninstall_thread_propagation": "otel_runtime.wrap.threads",
    "arun_tool": "otel_runtime.wrap.toolcalls",
    "run_tool": "otel_runtime.wrap.toolcalls",
}

if not TYPE_CHECKING:  # type checkers read the imports above, and tell a misspelt name

    def __getattr__(name: str) -> object:
        module = _HOME.get(name)
        if module is None:
            raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
