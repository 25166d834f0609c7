"""`otel-runtime doctor`: what is configured, what can be reached, what was lost."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_runtime.audit.chain import Event
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.settings.loading import FoundSettings
    from otel_runtime.settings.model import Settings

__all__ = ["register"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@dataclass(frozen=True, slots=True)
class _Finding:
    state: str
    what: str
    detail: str


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="say what is configured, reachable and lost",
        description="Say what is configured, reachable and lost.",
        epilog="Exit codes: 0 nothing is broken, whatever it warns of, 2 something configured cannot be used.",
    )
    parser.add_argument("--settings", type=Path, default=None, metavar="FILE", help="settings file; searched for from here when left out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from otel_runtime.settings.loading import find_settings  # only this command pays for it

    found = find_settings(arguments.settings)
    findings = [*_settings(found)]
    for check in (_policy, _state, _facts, _instrument, _trace_file, _telemetry):
        findings.extend(_checked(check, found.settings))
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    return 2 if any(finding.state == "fault" for finding in findings) else 0


def _checked(check: Callable[[Settings], list[_Finding]], settings: Settings) -> list[_Finding]:
    from otel_runtime.errors import OtelRuntimeError

    try:
        return check(settings)
    except OtelRuntimeError as error:
        return [_Finding("fault", check.__name__.lstrip("_"), str(error))]


def _settings(found: FoundSettings) -> list[_Finding]:
    where = str(found.file) if found.file is not None else "no settings file here; defaults, variables and arguments apply"
    findings = [_Finding("ok", "settings", where)]
    findings.extend(
        _Finding("info", f"setting {name}", f"from {origin}") for name, origin in sorted(found.origins.items()) if origin != str(found.file)
    )
    return findings


def _policy(settings: Settings) -> list[_Finding]:
    from otel_runtime.runtime.build import load_configured_policy

    policy = load_configured_policy(settings)
    beside = _engines(settings, policy)
    if policy is None and beside:
        return beside
    if policy is None:
        return [_Finding("warning", "policy", "none: calls are traced and nothing is guarded; set `policy: policy/` in otel-runtime.yaml")]
    files = ", ".join(str(path) for path in policy.files)
    findings = [_Finding("ok", "policy", f"{policy.rules} rules from {files}; mode {policy.mode}"), *beside]
    findings.extend(_Finding("warning", "policy", str(fault).partition("\n")[0]) for fault in policy.warnings)
    # On a developer's machine that is so; where agents run, whoever may rewrite the rules is not held by them.
    hint = "may be rewritten by this user; where agents run, give them another user or mount it read-only"
    findings.extend(_Finding("info", "policy file", f"{path} {hint}") for path in policy.files if os.access(path, os.W_OK))
    return findings


def _engines(settings: Settings, policy: LoadedPolicy | None) -> list[_Finding]:
    from otel_runtime.runtime.engines import configured_engine, describe_engines

    configured_engine(settings, policy)
    return [_Finding("ok", "policy", engine) for engine in describe_engines(settings)]


def _state(settings: Settings) -> list[_Finding]:
    from otel_runtime.runtime.build import open_approvals
    from otel_runtime.runtime.engines import has_policy
    from otel_runtime.runtime.telling import past_reloads

    if not settings.state.exists():
        needed = "made at the first start" if has_policy(settings) else "not needed without a policy"
        return [_Finding("info", "state", f"{settings.state} does not exist yet; {needed}")]
    service = open_approvals(settings)
    try:
        waiting = len(service.list(["awaiting-approval"], limit=1_000))
        unknown = service.list(["unknown"], limit=10)
        damaged = service.damaged()
        verified = service.audit.verify()
        reloads = list(past_reloads(service, settings.name))
    finally:
        service.close()
        service.database.close()
    findings = [_Finding("ok", "state", f"{settings.state}: requests waiting for a person: {waiting}")]
    findings.extend(
        _Finding("warning", "state", f"approval {item.id} (`{item.capability}`) was interrupted; whether it took effect is unknown")
        for item in unknown
    )
    findings.extend(_Finding("fault", "state", f"approval {name} was changed by something else and will not be used") for name in damaged)
    findings.append(_Finding("ok", "audit", "the record is sound") if verified.sound else _Finding("fault", "audit", str(verified)))
    return [*findings, *(_reload(event) for event in reloads[-1:])]


def _reload(event: Event) -> _Finding:
    said = json.loads(event.payload)
    where = f"process {said['pid']}, {event.at:%Y-%m-%d %H:%M:%S} UTC"
    if event.kind == "policy.rejected":
        return _Finding("warning", "policy reload", f"refused by {where}, which goes on with digest {said['digest'][:12]}: {said['fault']}")
    return _Finding("ok", "policy reload", f"put in force by {where}: digest {said['digest'][:12]}, before {said['before'][:12]}")


def _facts(settings: Settings) -> list[_Finding]:
    from otel_runtime.errors import ConfigError
    from otel_runtime.runtime.build import load_configured_policy
    from otel_runtime.runtime.engines import has_policy
    from otel_runtime.runtime.facts import describe_facts

    if not has_policy(settings):
        return []
    try:
        policy = load_configured_policy(settings)
    except ConfigError:
        policy = None  # said above; a policy that cannot be read may ask people
    return [_Finding("ok", "facts", describe_facts(settings, policy))]


def _instrument(settings: Settings) -> list[_Finding]:
    from otel_runtime.errors import ConfigError
    from otel_runtime.runtime.instrumenting import patches_for

    if not settings.instrument:
        return []
    # As a program that is started here would look for them; `__main__` is another program's.
    sys.path.insert(0, str(Path.cwd()))
    try:
        patches_for(settings, elsewhere=frozenset({"__main__"})).check()
    except ConfigError as error:
        # A program elsewhere may find modules that are not found from here.
        return [_Finding("warning" if fault.code == "S020" else "fault", "instrument", fault.message) for fault in error.faults]
    finally:
        del sys.path[0]
    return [_Finding("ok", "instrument", f"{len(settings.instrument)} targets")]


def _trace_file(settings: Settings) -> list[_Finding]:
    path = settings.trace_file
    if path is None:
        return []
    # Not tried out: nobody asked for the file yet.
    place = next(place for place in (path, *path.absolute().parents) if os.access(place, os.F_OK))
    writable = os.access(place, os.W_OK) and (place.is_file() if place == path else place.is_dir())
    return [_Finding("ok" if writable else "fault", "trace file", str(path) if writable else f"{path}: `{place}` cannot be written")]


def _telemetry(settings: Settings) -> list[_Finding]:
    from otel_runtime.telemetry.loss_file import loss_directory, past_losses
    from otel_runtime.telemetry.provider import build_tracing

    tracing = build_tracing(settings.model_copy(update={"console": False, "trace_file": None}))
    report = tracing.report()
    tracing.shutdown(settings.flush_timeout)
    findings = [_Finding(_state_of(name, value), f"telemetry {name}", _words(value)) for name, value in report.items()]
    if "(listening)" in _words(report["exporters"]):
        # Not before `build_tracing`, which loads the SDK so that a bad variable does not break it.
        from otel_runtime.telemetry.otlp_probe import ask_collector

        reply = ask_collector(os.environ)
        findings.append(_Finding("ok" if reply.takes else "warning", "telemetry collector", reply.said))
    kept = loss_directory(settings.state, settings.spool)
    past = past_losses(kept)
    if kept is None:
        findings.append(_Finding("info", "lost before", "unknown: without a spool or a state folder processes leave no count; set `spool`"))
    elif past:
        findings.append(_Finding("warning", "lost before", f"by earlier processes: {_words(past)}"))
    return findings


def _state_of(name: str, value: object) -> str:
    # Without a configured endpoint it is no fault that nobody listens: a collector on this machine is used when there is one.
    unheard = name == "exporters" and "nobody listens" in _words(value) and any(os.environ.get(variable) for variable in _ENDPOINTS)
    return "warning" if unheard or (name in ("problems", "lost") and value) else "ok"


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)


def _print(findings: list[_Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "info": ("info", "dim"), "warning": ("warn", "yellow"), "fault": ("FAULT", "bold red")}
    console = Console()
    if not console.is_terminal:
        # One line each, for `grep` and for logs.
        widest = max(len(finding.what) for finding in findings)
        for finding in findings:
            start = f"{marks[finding.state][0]:<5}  {finding.what:<{widest}}  "
            # `Text` takes out what would act on a terminal; the lines of a fault stay below each other.
            print(start + Text(finding.detail).plain.replace("\n", "\n" + " " * len(start)))
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column()
    # A path that is longer than the column goes on in the next line; it is never cut.
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = marks[finding.state]
        table.add_row(Text(mark, style=style), finding.what, Text(finding.detail))
    console.print(table)
