"""`otel-runtime policy`: check rules, try their cases, explain a decision, print the schema for editors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from otel_runtime.errors import ConfigError, Fault

if TYPE_CHECKING:
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.policy.protocol import FactsView
    from otel_runtime.values.action import Action, ToolSignature

__all__ = ["register"]

_FAILING_CASE = "P020"
_FACTS_HELP = 'JSON file with what the session did; a fresh session when left out: {"session": "s1", "labels": [...], "history": [...], "used": {"RULE": 3}, "user_said": "...", "seen": {"tool:NAME": "..."}}'


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = commands.add_parser("policy", help="check rules, explain a decision", description="Work with policy files.")
    inner = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_check(inner)
    _add_test(inner)
    _add_explain(inner)
    schema = inner.add_parser(
        "schema", help="print the JSON Schema of policy files", description="Print the JSON Schema of policy files, for editors."
    )
    schema.set_defaults(run=_schema)


def _add_check(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = inner.add_parser(
        "check",
        help="find faults and doubtful rules",
        description="Load policies, try their cases, and print every fault and warning. Exit code 0 when they can be used, 2 when not.",
    )
    check.add_argument(
        "paths", metavar="FILE|DIR", type=Path, nargs="*", help="all paths together are one policy; the configured one when left out"
    )
    check.add_argument("--app", metavar="MODULE", help="module to import, so that decorated tools give their signatures")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_check)


def _add_test(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    test = inner.add_parser(
        "test",
        help="try the cases, and say how well they cover the rules",
        description="Try `match`, `no_match` and `cases`, and show for every rule how many of them it applies to and how many not. "
        "Exit code 0 when all pass, 1 when a case fails or too few rules are covered, 2 when the policy cannot be used.",
    )
    test.add_argument(
        "paths", metavar="FILE|DIR", type=Path, nargs="*", help="all paths together are one policy; the configured one when left out"
    )
    test.add_argument("--app", metavar="MODULE", help="module to import, so that decorated tools give their signatures")
    test.add_argument(
        "--require-coverage",
        metavar="PERCENT",
        type=_percent,
        nargs="?",
        const=100.0,
        help="fail when fewer rules are seen both to apply and not to; 100 when no number is given",
    )
    test.add_argument("--json", action="store_true", help="print JSON")
    test.set_defaults(run=_test)


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"expected a percentage from 0 to 100, got `{text}`")
    return number


def _add_explain(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    explain = inner.add_parser(
        "explain",
        help="say what the policy decides on one call, and why",
        description="Decide one call without running it, and show every rule about it: true, false or unknown, and why.",
        epilog="example: otel-runtime policy explain --policy policy/ --tool refund --args '{\"amount\": 250}'",
    )
    explain.add_argument(
        "--policy", metavar="FILE|DIR", type=Path, action="append", help="the configured policy, else `policy/`, when left out"
    )
    explain.add_argument("--tool", metavar="NAME", required=True, help="name of the tool, or of another --kind")
    explain.add_argument("--kind", default="tool", choices=["tool", "capability", "model", "agent", "workflow"], help="what is called")
    explain.add_argument("--args", metavar="JSON", default="{}", help="arguments by name")
    explain.add_argument("--user", metavar="NAME", help="acting user; unknown when left out")
    explain.add_argument("--role", metavar="NAME", action="append", help="role of the user; may be repeated; unknown when left out")
    explain.add_argument("--agent", metavar="NAME", action="append", default=[], help="calling agent; repeat from the outermost inwards")
    explain.add_argument("--tenant", metavar="NAME", help="tenant; unknown when left out")
    explain.add_argument("--context", metavar="JSON", default="{}", help="facts of the application by name")
    explain.add_argument("--session-facts", metavar="FILE", type=Path, help=_FACTS_HELP)
    explain.add_argument("--attempt", metavar="N", type=int, default=1, help="which attempt it is, starts at 1")
    explain.add_argument("--app", metavar="MODULE", help="module to import, so that decorated tools give their signatures")
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.set_defaults(run=_explain)


def _schema(_arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.schema import schema_text

    print(schema_text(), end="")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    loaded: LoadedPolicy | None = None
    try:
        loaded = _load(arguments.paths, arguments.app)
        faults = loaded.warnings
    except ConfigError as error:
        faults = error.faults
    if arguments.json:
        print(
            json.dumps(
                {"ok": loaded is not None, "rules": loaded.rules if loaded else None, "faults": [asdict(one) for one in faults]}, indent=2
            )
        )
    else:
        _print_check(loaded, faults)
    return 0 if loaded is not None else 2


def _test(arguments: argparse.Namespace) -> int:
    loaded: LoadedPolicy | None = None
    faults: Sequence[Fault] = ()
    try:
        loaded = _load(arguments.paths, arguments.app)
    except ConfigError as error:
        faults = error.faults
    whole = sum(cover.whole for cover in loaded.coverage) if loaded is not None else 0
    percent = 100 * whole / len(loaded.coverage) if loaded is not None and loaded.coverage else 0.0
    short = loaded is not None and arguments.require_coverage is not None and percent < arguments.require_coverage
    if arguments.json:
        told = [{**asdict(cover), "whole": cover.whole} for cover in loaded.coverage] if loaded is not None else []
        cases = loaded.cases if loaded is not None else None
        document = {"ok": loaded is not None and not short, "cases": cases, "coverage_percent": percent, "rules": told}
        print(json.dumps({**document, "faults": [asdict(fault) for fault in faults]}, indent=2))
    else:
        from otel_runtime.cli.policy_view import console, print_coverage, print_fault

        out = console()
        for fault in faults:
            print_fault(out, fault)
        if loaded is not None:
            print_coverage(out, loaded.coverage, loaded.cases, arguments.require_coverage)
        else:
            out.print(
                f"{_count(len(faults), 'fault')}; no coverage is told for a policy that cannot be used", style="bold red", highlight=False
            )
    if loaded is None:
        return 1 if all(fault.code == _FAILING_CASE for fault in faults) else 2
    return 1 if short else 0


def _print_check(loaded: LoadedPolicy | None, faults: Sequence[Fault]) -> None:
    from otel_runtime.cli.policy_view import console, print_fault

    out = console()
    for fault in faults:
        print_fault(out, fault)
    if loaded is None:
        out.print(f"the policy cannot be used: {_count(len(faults), 'fault')}", style="bold red", highlight=False)
        return
    kept = f"{_count(loaded.rules, 'rule')} in {_count(len(loaded.files), 'file')}"
    noted = f", {_count(len(faults), 'warning')}" if faults else ""
    shadow = ", in shadow mode (nothing is blocked)" if loaded.mode == "shadow" else ""
    out.print(f"the policy can be used: {kept}{noted}{shadow}", style="bold green", highlight=False)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _explain(arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.explain import explain

    loaded = _load(arguments.policy or [], arguments.app)
    told = _session_facts(arguments.session_facts)
    action = _action(arguments, told, _signatures(arguments.app))
    now = datetime.now(UTC)
    facts = _facts(action, told, loaded, now)
    explanation = explain(action, loaded.engine.policy, facts, now, arguments.attempt)
    if arguments.json:
        print(json.dumps(_spelled(asdict(explanation)), indent=2, default=_plain))
    else:
        from otel_runtime.cli.policy_view import console, print_explanation

        print_explanation(console(), action, explanation, told=bool(told) or arguments.session_facts is not None)
    return 0


def _spelled(node: object) -> object:
    """Outcomes as words: null would read as "nothing"."""
    if isinstance(node, list | tuple):
        return [_spelled(item) for item in node]
    if not isinstance(node, dict):
        return node
    words = {True: "true", False: "false", None: "unknown"}
    return {key: words.get(value, value) if key == "outcome" else _spelled(value) for key, value in node.items()}


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _load(paths: Sequence[Path], app: str | None) -> LoadedPolicy:
    from otel_runtime.policy.loading import load_policy

    found, roles = (list(paths), None) if paths else _configured()
    return load_policy(found, _signatures(app), roles)


def _configured() -> tuple[list[Path], frozenset[str] | None]:
    from otel_runtime.settings.loading import load_settings

    settings = load_settings()
    roles = frozenset(role for person in settings.people.values() for role in person.roles) if settings.people else None
    if settings.policy:
        return list(settings.policy), roles
    beside = Path("policy")
    if beside.is_dir():
        return [beside], roles
    raise ConfigError.of("P001", "no policy is configured and there is no directory `policy/` here; name a file or directory", "policy")


def _signatures(app: str | None) -> Mapping[str, ToolSignature]:
    if app is None:
        return {}
    import importlib

    from otel_runtime.wrap.registry import known_signatures

    # A console script does not have the working directory on its path; `python -m` does.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(app)
    except Exception as error:  # noqa: BLE001  # importing an application runs anything
        raise ConfigError.of("P001", f"cannot import `{app}`: {type(error).__name__}: {error}", "--app") from None
    return known_signatures()


def _json(text: str, option: str) -> dict[str, object]:
    """An option's JSON object, read as strictly as a policy: no key twice, no NaN."""
    from otel_runtime.settings.documents import read_document

    plain = read_document(text, option).plain()
    if not isinstance(plain, dict):
        raise ConfigError.of("P005", 'expected a JSON object such as `{"amount": 250}`', option)
    return plain


def _session_facts(path: Path | None) -> Mapping[str, object]:
    if path is None:
        return {}
    try:
        told = _json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of("P001", f"cannot read the session's facts: {error}", str(path)) from None
    known = {"session", "labels", "history", "used", "user", "roles", "user_said", "seen"}
    if unknown := sorted(set(told) - known):
        raise ConfigError.of("P003", f"unknown key `{unknown[0]}`; known keys: {', '.join(sorted(known))}", str(path))
    return told


def _texts(told: Mapping[str, object], key: str) -> frozenset[str]:
    value = told.get(key, ())
    if isinstance(value, dict):
        return frozenset(value)
    if isinstance(value, list | tuple):
        return frozenset(str(item) for item in value)
    raise ConfigError.of("P005", f"`{key}`: expected a list of texts", "--session-facts")


def _action(arguments: argparse.Namespace, told: Mapping[str, object], known: Mapping[str, ToolSignature]) -> Action:
    from otel_runtime.policy.cases import assumed_signature
    from otel_runtime.values.action import Action

    args = _json(arguments.args, "--args")
    roles = frozenset(arguments.role) if arguments.role is not None else _texts(told, "roles") if "roles" in told else None
    user = arguments.user or told.get("user")
    session = told.get("session", "explained")
    return Action(
        kind=arguments.kind,
        name=arguments.tool,
        args=args,
        signature=known.get(arguments.tool) or assumed_signature(args),
        registered=arguments.tool in known or not known,
        agents=tuple(arguments.agent),
        session=None if session is None else str(session),
        user=None if user is None else str(user),
        roles=roles,
        tenant=arguments.tenant,
        context=_json(arguments.context, "--context"),
    )


def _facts(action: Action, told: Mapping[str, object], loaded: LoadedPolicy, now: datetime) -> FactsView | None:
    from otel_runtime.policy.protocol import FactsView
    from otel_runtime.policy.provenance import Sightings

    needs = loaded.engine.needs(action, now)
    if needs is None:
        return None
    used = told.get("used", {})
    amounts = used if isinstance(used, dict) else {}
    counters = {key: _amount(amounts.get(key.name.rpartition(":")[0], 0)) for key in needs.counters}
    if action.session is None:
        return FactsView(counters)
    seen = Sightings()
    seen.add("user", told.get("user_said", ""))
    others = told.get("seen", {})
    for source, value in (others if isinstance(others, dict) else {}).items():
        seen.add(str(source), value)
    labels = {label: frozenset({"told"}) for label in _texts(told, "labels")}
    return FactsView(counters, labels, _texts(told, "history"), origins={key: seen.of(key) for key in needs.values})


def _amount(value: object) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise ConfigError.of("P005", f"`used`: expected numbers, got `{value}`", "--session-facts") from None
