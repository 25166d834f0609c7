"""`otel-runtime policy replay`: yesterday's calls under tomorrow's rules."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_runtime.cli.policy_opening import FAILED, OK, add_app, add_json, json_object, known_tools, open_policy
from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.policy.recorded import Caller
    from otel_runtime.policy.replay import Replayed
    from otel_runtime.policy.replay_report import Report

__all__ = ["register"]

_FAIL_ON: Final = ("denied", "asked", "delayed", "allowed", "unreplayable")
_CALLER_KEYS: Final = frozenset({"user", "roles", "tenant", "tags", "context"})
_DESCRIPTION: Final = (
    "Decide recorded calls again under another policy, and say what changes: newly denied, asked, delayed and allowed, and how often people "
    "would be asked. What the trace does not tell is never guessed: such calls are counted with the reason. To record all that is needed, set "
    "`capture: SPAN_ONLY` and `decision_spans: all`."
)


def register(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = inner.add_parser(
        "replay",
        help="decide recorded calls again under another policy",
        description=_DESCRIPTION,
        epilog="Exit codes: 0 replayed, 1 no decided call was found or --fail-on met one, 2 a file, server, policy or option cannot be used.",
    )
    parser.add_argument(
        "traces",
        metavar="TRACES",
        nargs="+",
        help="OTLP-JSON of the setting `trace_file` or of the Collector's file exporter (one document per line; .gz is fine), a directory of "
        "such files, or the address of a Jaeger or Tempo, such as http://127.0.0.1:16686",
    )
    policy = "FILE|DIR|pack:NAME"
    parser.add_argument("--policy", metavar=policy, type=Path, action="append", required=True, help="the rules to try; may be repeated")
    parser.add_argument(
        "--against", metavar=policy, type=Path, action="append", help="rules to compare with; what was decided at the time, when left out"
    )
    parser.add_argument("--since", metavar="DURATION", default="24h", help="how far back a server is asked (default: 24h)")
    parser.add_argument("--service", metavar="NAME", default="", help="only this service.name")
    parser.add_argument("--limit", metavar="N", type=int, default=1_000, help="traces a server is asked for, per service (default: 1000)")
    parser.add_argument("--header", metavar="NAME:VALUE", action="append", default=[], help="sent to the server; may be repeated")
    parser.add_argument(
        "--assume",
        metavar="JSON",
        help='who is taken to have asked where the trace does not tell: {"user": "carla", "roles": [...], "tenant": ..., "context": {...}}',
    )
    parser.add_argument(
        "--all-words",
        action="store_true",
        help="the inputs of agents are all that users said; without it, where `origin` asks for the user's words they are not known to be complete",
    )
    parser.add_argument(
        "--fail-on",
        metavar="WHAT",
        choices=_FAIL_ON,
        action="append",
        default=[],
        help=f"exit with 1 on a call that is newly so: {', '.join(_FAIL_ON)}",
    )
    add_app(parser)
    add_json(parser)
    parser.set_defaults(run=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    from otel_runtime.cli.policy_recorded import recorded
    from otel_runtime.cli.policy_traces import spans_of
    from otel_runtime.cli.trace import header, window
    from otel_runtime.policy.replay import guarded, replay
    from otel_runtime.policy.replay_report import compared

    known = known_tools(arguments.app)
    assumed = _assumed(arguments.assume)
    new = open_policy(arguments.policy, arguments.app)
    old = open_policy(arguments.against, arguments.app) if arguments.against else None
    spans = spans_of(arguments.traces, window(arguments), dict(map(header, arguments.header)))
    calls, seen = recorded(spans)
    kept = guarded(calls, [policy.engine for policy in (new, old) if policy is not None])

    def tried(policy: LoadedPolicy) -> list[Replayed]:
        return replay(kept, seen, policy.engine, known, assumed=assumed, all_words=arguments.all_words)

    report = compared(tried(new), None if old is None else tried(old))
    _show(report, arguments, len(spans))
    if not report.calls:
        return FAILED
    return FAILED if any(_met(report, what) for what in arguments.fail_on) else OK


def _met(report: Report, what: str) -> bool:
    if what == "unreplayable":
        return report.unreplayable > 0
    return any(change.kind == what for change in report.changes)


def _show(report: Report, arguments: argparse.Namespace, spans: int) -> None:
    from otel_runtime.cli.policy_replay_view import as_data, print_report

    if arguments.json:
        print(json.dumps(as_data(report, spans), indent=2))
        return
    from otel_runtime.cli.policy_view import console

    against = " ".join(map(str, arguments.against)) if arguments.against else "what was decided"
    print_report(console(), report, spans, " ".join(map(str, arguments.policy)), against)


def _assumed(text: str | None) -> Caller | None:
    from otel_runtime.policy.recorded import Caller

    if text is None:
        return None
    given = json_object(text, "--assume")
    if unknown := sorted(set(given) - _CALLER_KEYS):
        raise ConfigError.of("P003", f"unknown key `{unknown[0]}`; known keys: {', '.join(sorted(_CALLER_KEYS))}", "--assume")
    lists = {key: given.get(key, []) for key in ("roles", "tags")}
    context = given.get("context", {})
    if not all(isinstance(value, list) for value in lists.values()) or not isinstance(context, dict):
        raise ConfigError.of("P005", "expected lists for `roles` and `tags` and a mapping for `context`", "--assume")
    user, tenant = given.get("user"), given.get("tenant")
    return Caller(
        None if user is None else str(user),
        frozenset(map(str, _items(lists["roles"]))) if "roles" in given else None,
        None if tenant is None else str(tenant),
        frozenset(map(str, _items(lists["tags"]))),
        {str(name): value for name, value in context.items()},
    )


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
