"""`configure`: settings from everywhere, one runtime per name, refused when anything about it is wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from otel_runtime.errors import OtelRuntimeError, RuntimeStateError
from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.engines import describe_engines
from otel_runtime.runtime.instrumenting import patches_for
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.loading import load_settings
from otel_runtime.settings.model import Settings
from otel_runtime.values.action import Kind
from otel_runtime.wrap.active import forget_failure, register_failure

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["configure", "configure_from"]

_log = logging.getLogger("otel_runtime")
_lock = threading.Lock()
_configured: dict[str, tuple[Settings, _Parts, Runtime]] = {}
_PathLike = str | PathLike[str]


def configure(
    *,
    settings_file: _PathLike | None = None,
    name: str | None = None,
    policy: _PathLike | list[_PathLike] | tuple[_PathLike, ...] | None = None,
    cedar: _PathLike | list[_PathLike] | tuple[_PathLike, ...] | None = None,
    cedar_mode: Literal["enforce", "shadow"] | None = None,
    opa: str | None = None,
    opa_kinds: Sequence[Kind] | None = None,
    opa_mode: Literal["enforce", "shadow"] | None = None,
    opa_timeout: float | str | None = None,
    opa_token_file: _PathLike | None = None,
    state: _PathLike | None = None,
    wait_at_most: float | str | None = None,
    people: Mapping[str, Mapping[str, object]] | None = None,
    otlp: Literal["auto", "on", "off"] | None = None,
    console: bool | None = None,
    trace_file: _PathLike | None = None,
    trace_url: str | None = None,
    decision_spans: Literal["non-allow", "all"] | None = None,
    metric_names: Literal["both", "legacy", "latest"] | None = None,
    resume_trace: Literal["auto", "same", "new"] | None = None,
    capture: Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"] | None = None,
    redact_keys: tuple[str, ...] | list[str] | None = None,
    redact_patterns: tuple[str, ...] | list[str] | None = None,
    flush_timeout: float | str | None = None,
    facts: str | None = None,
    facts_timeout: float | str | None = None,
    policy_reload: bool | None = None,
    queue_spans: int | None = None,
    queue_bytes: int | None = None,
    spool: _PathLike | None = None,
    instrument: Sequence[str | Mapping[str, object]] | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capabilities: Mapping[str, object] | None = None,
) -> Runtime:
    """Configure a runtime and put it in force for the process.

    Settings: argument > `OTEL_RUNTIME_*` variable > `otel-runtime.yaml` or `[tool.otel-runtime]` in pyproject.toml > default. The meaning of
    each is in `Settings`. Called again with equal settings it returns the same runtime.

    Args:
        settings_file: Settings file to read instead of searching for one.
        name: Name of the runtime; another name makes another runtime, which `with runtime.use():` puts in force.
        policy: Policy files or directories.
        cedar: Cedar policies, files or directories.
        cedar_mode: `shadow` records what the Cedar policies say and enforces nothing.
        opa: URL of a decision of OPA.
        opa_kinds: What OPA is asked about: `tool` and `capability` unless said otherwise.
        opa_mode: `shadow` records what OPA says and enforces nothing.
        opa_timeout: Seconds, or text such as `1s`, that a question to OPA may take.
        opa_token_file: File with the bearer token for OPA.
        state: SQLite file of approvals and audit log.
        wait_at_most: Seconds, or text such as `60s`, that a call waits for an approval.
        people: Who may answer approvals: `{"alice": {"roles": ["finance"]}}`.
        otlp: `auto`, `on` or `off`.
        console: Print finished runs as trees.
        trace_file: OTLP-JSON file to write.
        trace_url: Page of a trace, with `{trace_id}` in it.
        decision_spans: `non-allow` or `all`.
        metric_names: `both`, `legacy` or `latest`.
        resume_trace: `auto`, `same` or `new`.
        capture: Content on spans.
        redact_keys: More key names whose values never leave.
        redact_patterns: More patterns (RE2) whose matches never leave.
        flush_timeout: Seconds, or text, that a flush at exit may take.
        facts: `auto`, `memory`, `sqlite`, or the URL of a PostgreSQL database.
        facts_timeout: Seconds, or text, that a facts store may take.
        policy_reload: Put a changed policy in force while the program runs.
        queue_spans: Most spans that wait for export.
        queue_bytes: Most bytes that they may take.
        spool: Directory that keeps spans which cannot be sent.
        instrument: Functions to wrap without touching their code: `package.module:Class.method`, or mappings with the fields of `Target`.
        tracer_provider: The application's provider, used and never replaced.
        meter_provider: The application's provider, used and never replaced.
        capabilities: What `capability(name)` hands out, by name.

    Raises:
        ConfigError: A setting, the policy or a file that was configured is wrong; every fault with its place.
        StoreError: The state database cannot be used.
        RuntimeStateError: A runtime of this name has other settings.
    """
    given = {
        "name": name, "policy": policy, "cedar": cedar, "cedar_mode": cedar_mode, "opa": opa, "opa_kinds": opa_kinds,
        "opa_mode": opa_mode, "opa_timeout": opa_timeout,
        "opa_token_file": opa_token_file, "state": state, "wait_at_most": wait_at_most, "people": people, "otlp": otlp, "console": console,
        "trace_file": trace_file, "trace_url": trace_url, "decision_spans": decision_spans, "metric_names": metric_names, "resume_trace": resume_trace,
        "capture": capture, "redact_keys": redact_keys, "redact_patterns": redact_patterns, "flush_timeout": flush_timeout,
        "facts": facts, "facts_timeout": facts_timeout, "policy_reload": policy_reload, "queue_spans": queue_spans, "queue_bytes": queue_bytes, "spool": spool, "instrument": instrument,
    }  # fmt: skip
    parts = _Parts(tracer_provider, meter_provider, dict(capabilities) if capabilities is not None else None)
    return _put_in_force(lambda: load_settings(None if settings_file is None else Path(settings_file), **given), name or "", parts)


def configure_from(settings: Settings, *, elsewhere: frozenset[str] = frozenset()) -> Runtime:
    """Put a runtime with finished settings in force; one of that name and with these settings stays, whatever its providers.

    Args:
        settings: As `runtime.settings` gives them, in this process or another.
        elsewhere: Modules whose targets of `instrument` somebody else wraps.

    Raises:
        ConfigError: The policy or a file that was configured is wrong.
        StoreError: The state database cannot be used.
        RuntimeStateError: A runtime of this name has other settings.
    """
    return _put_in_force(lambda: settings, settings.name, None, elsewhere)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the application hands over as objects, which no file can say."""

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    capabilities: Mapping[str, object] | None = None


def _put_in_force(load: Callable[[], Settings], name: str, parts: _Parts | None, elsewhere: frozenset[str] = frozenset()) -> Runtime:
    with _lock:
        try:
            settings = load()
            if (known := _known(settings, parts)) is not None:
                return known
            runtime = _built(settings, parts or _Parts(), elsewhere)
        except RuntimeStateError:
            raise
        except BaseException as error:
            # Whatever was wanted is not in force: nothing may run as if it were not wanted at all.
            first = str(error).partition("\n")[0] if isinstance(error, OtelRuntimeError) else type(error).__name__
            register_failure(name, f"`configure` failed: {first}")
            raise
        forget_failure(name)
        runtime.register()
        _configured[settings.name] = (settings, parts or _Parts(), runtime)
        _say_what_guards(runtime)
        return runtime


def _built(settings: Settings, parts: _Parts, elsewhere: frozenset[str]) -> Runtime:
    patches = patches_for(settings, elsewhere)
    patches.check()
    runtime = build_runtime(
        settings, tracer_provider=parts.tracer_provider, meter_provider=parts.meter_provider, capabilities=parts.capabilities
    )
    try:
        runtime.instrument(patches)
    except BaseException:
        runtime.shutdown()
        raise
    return runtime


def _known(settings: Settings, parts: _Parts | None) -> Runtime | None:
    entry = _configured.get(settings.name)
    if entry is None or entry[2].stopped:
        return None
    if entry[0] != settings or parts not in (None, entry[1]):
        changed = [field for field in Settings.model_fields if getattr(entry[0], field) != getattr(settings, field)] or [
            "providers or capabilities"
        ]
        raise RuntimeStateError(
            f"runtime `{settings.name}` is already configured with other settings ({', '.join(changed)}); "
            "shut it down first, or give this one another name"
        )
    return entry[2]


def _say_what_guards(runtime: Runtime) -> None:
    policy = runtime.policy
    for engine in describe_engines(runtime.settings):
        _log.info("runtime `%s` is guarded by %s", runtime.name, engine)
    if policy is None:
        if runtime.guarded:
            return
        _log.warning("runtime `%s` has no policy: calls are traced and nothing is guarded; set `policy` to guard them", runtime.name)
        return
    _log.info("runtime `%s` is guarded by %d rules, mode `%s`", runtime.name, policy.rules, policy.mode)
    for fault in policy.warnings:
        _log.info("%s", fault)
