"""`otel-runtime policy explain`: what the policy decides on one call, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_runtime.cli.policy_opening import OK, add_app, add_json, configured_engines, json_object, known_tools, open_policy, read_json
from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from otel_runtime.policy.catalogue import ToolEntry
    from otel_runtime.policy.explain import Explanation
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.policy.protocol import Engine, FactsView, Needs, Ruling
    from otel_runtime.settings.model import Settings
    from otel_runtime.values.action import Action, ToolSignature

__all__ = ["register"]

_KEYS: Final = frozenset({"session", "labels", "history", "used", "user", "roles", "user_said", "seen", "origins"})
_SESSION_HELP: Final = (
    "JSON file with what the session did; a fresh session when left out: "
    '{"session": "s1", "user": "carla", "roles": [...], "labels": [...], "history": [...], "used": {"RULE": 3}, "user_said": "...", '
    '"seen": {"tool:NAME": "..."}, "origins": {"VALUE": ["tool:NAME"]}}'
)


def register(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = inner.add_parser(
        "explain",
        help="say what the policy decides on one call, and why",
        description="Decide one call without running it, and show every rule about it: true, false or unknown, and why.",
        epilog="Example: otel-runtime policy explain --policy policy/ --tool refund --args '{\"amount\": 250}'. "
        "Exit codes: 0 whatever is decided, 2 the policy or an option cannot be used.",
    )
    parser.add_argument(
        "--policy",
        metavar="FILE|DIR|pack:NAME",
        type=Path,
        action="append",
        help="what is configured, Cedar and OPA included, else `policy/`, when left out",
    )
    parser.add_argument("--tool", metavar="NAME", required=True, help="name of the tool, or of another --kind")
    parser.add_argument("--kind", default="tool", choices=["tool", "capability", "model", "agent", "workflow"], help="what is called")
    parser.add_argument("--args", metavar="JSON", default="{}", help="arguments by name")
    parser.add_argument("--user", metavar="NAME", help="acting user; unknown when left out")
    parser.add_argument("--role", metavar="NAME", action="append", help="role of the user; may be repeated; unknown when left out")
    parser.add_argument("--agent", metavar="NAME", action="append", default=[], help="calling agent; repeat from the outermost inwards")
    parser.add_argument("--tenant", metavar="NAME", help="tenant; unknown when left out")
    parser.add_argument("--context", metavar="JSON", default="{}", help="facts of the application by name")
    parser.add_argument("--session", "--session-facts", metavar="FILE", type=Path, dest="session_facts", help=_SESSION_HELP)
    parser.add_argument("--attempt", metavar="N", type=int, default=1, help="which attempt it is, starts at 1")
    add_app(parser)
    add_json(parser)
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.explain import explain

    settings = None if arguments.policy else configured_engines()
    loaded = None if settings is not None and not settings.policy else open_policy(arguments.policy or [], arguments.app)
    told = {} if arguments.session_facts is None else read_json(arguments.session_facts, _KEYS)
    action = _action(arguments, told, known_tools(arguments.app))
    now = datetime.now(UTC)
    engine = loaded.engine if loaded is not None and settings is None else _joined(settings, loaded)
    facts = _facts(action, told, engine, now, {} if loaded is None else loaded.tools_catalogue)
    ours = None if loaded is None else explain(action, loaded.engine.policy, facts, now, arguments.attempt)
    explanation = (
        ours if settings is None and ours is not None else _with_others(engine.decide(action, facts, now, arguments.attempt), ours)
    )
    if not action.registered:
        explanation = explanation._replace(hints=(*explanation.hints, *_meant(action.name, known_tools(arguments.app))))
    if arguments.json:
        print(json.dumps(_spelled(explanation), indent=2, default=_plain))
    else:
        from otel_runtime.cli.policy_view import console, print_explanation

        print_explanation(console(), action, explanation, told=arguments.session_facts is not None)
    return OK


def _meant(name: str, known: Mapping[str, ToolSignature]) -> tuple[str, ...]:
    from otel_runtime.settings.nearest import did_you_mean

    hint = did_you_mean(name, known)
    return (f"the program decorates no tool `{name}`{hint}",) if hint else ()


def _joined(settings: Settings | None, loaded: LoadedPolicy | None) -> Engine:
    """What decides by the settings: our own rules, Cedar, OPA, or several of them."""
    from otel_runtime.runtime.engines import configured_engine

    engine = None if settings is None else configured_engine(settings, loaded)
    if engine is None:
        raise ConfigError.of("P001", "the settings name nothing that decides", "policy")
    return engine


def _with_others(ruling: Ruling, ours: Explanation | None) -> Explanation:
    """What was decided with policies in other languages: of those, the ones that held or are in doubt."""
    from otel_runtime.policy.explain import Explanation, RuleExplanation

    known = () if ours is None else ours.rules
    ids = {rule.rule for rule in known}
    theirs = tuple(
        RuleExplanation(match.rule, match.verdict, True if match.outcome == "true" else None, match.place, match.shadow, None, ())
        for match in ruling.decision.matched
        if match.rule not in ids
    )
    return Explanation(ruling.decision, (*known, *theirs), 0 if ours is None else ours.others, () if ours is None else ours.hints)


def _spelled(node: object) -> object:
    """Plain data, with outcomes as words: null would read as "nothing"."""
    if isinstance(node, tuple) and hasattr(node, "_asdict"):
        node = node._asdict()
    elif is_dataclass(node) and not isinstance(node, type):
        node = asdict(node)
    if isinstance(node, list | tuple):
        return [_spelled(item) for item in node]
    if not isinstance(node, dict):
        return node
    words = {True: "true", False: "false", None: "unknown"}
    return {key: words.get(value, value) if key == "outcome" else _spelled(value) for key, value in node.items()}


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _texts(told: Mapping[str, object], key: str) -> frozenset[str]:
    value = told.get(key, ())
    if isinstance(value, dict):
        return frozenset(value)
    if isinstance(value, list | tuple):
        return frozenset(str(item) for item in value)
    raise ConfigError.of("P005", f"`{key}`: expected a list of texts", "--session")


def _action(arguments: argparse.Namespace, told: Mapping[str, object], known: Mapping[str, ToolSignature]) -> Action:
    from otel_runtime.policy.cases import assumed_signature
    from otel_runtime.values.action import Action

    args = json_object(arguments.args, "--args")
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
        context=json_object(arguments.context, "--context"),
    )


def _facts(
    action: Action, told: Mapping[str, object], engine: Engine, now: datetime, catalogue: Mapping[str, ToolEntry]
) -> FactsView | None:
    from otel_runtime.policy.answering import answered

    needs = engine.needs(action, now)
    return None if needs is None else answered(needs, _view(action, told, needs, catalogue))


def _view(action: Action, told: Mapping[str, object], needs: Needs, catalogue: Mapping[str, ToolEntry]) -> FactsView:
    from otel_runtime.policy.cases import labels_after
    from otel_runtime.policy.protocol import FactsView

    amounts = _mapping(told, "used")
    counters = {key: _amount(amounts.get(key.name.rpartition(":")[0], 0)) for key in needs.counters}
    if action.session is None:
        return FactsView(counters)
    history = _texts(told, "history")
    given = _texts(told, "labels") if "labels" in told else labels_after(history, catalogue)
    labels = {label: frozenset({"told"}) for label in given}
    return FactsView(counters, labels, history, origins=_origins(told, needs))


def _origins(told: Mapping[str, object], needs: Needs) -> dict[str, frozenset[str]]:
    """Where the values of the call were seen: in the texts that were told, and where somebody says so outright."""
    from otel_runtime.policy.provenance import Sightings, key_of

    seen = Sightings()
    seen.add("user", told.get("user_said", ""))
    for source, value in _mapping(told, "seen").items():
        seen.add(source, value)
    said = _mapping(told, "origins")
    outright = {key_of(value): _texts(said, value) for value in said}
    return {key: seen.of(key) | outright.get(key, frozenset()) for key in needs.values}


def _mapping(told: Mapping[str, object], key: str) -> dict[str, object]:
    value = told.get(key, {})
    if isinstance(value, dict):
        return {str(name): item for name, item in value.items()}
    raise ConfigError.of("P005", f"`{key}`: expected a mapping", "--session")


def _amount(value: object) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise ConfigError.of("P005", f"`used`: expected numbers, got `{value}`", "--session")
    return amount
