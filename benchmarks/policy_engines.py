"""One decision at 1, 100, 1,000 and 10,000 rules, beside agent-os-kernel, cedarpy and casbin in the same run: `make bench ARGS=--policy=engines`.

The question is the same for everybody: of N rules each of which allows one tool up to an amount, the last is about this call. Every engine is
given its policy parsed beforehand. Rules of agent-os-kernel have one condition and those of casbin are text, so these two are
asked the name alone.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.measure import Case, Effort, measure
from benchmarks.policies import policy_file
from otel_runtime.policy.explain import explain
from otel_runtime.policy.loading import load_policy
from otel_runtime.policy.protocol import FactsView
from otel_runtime.values.action import Action, Parameter, ToolSignature

__all__ = ["main"]

SIZES = (1, 100, 1_000, 10_000)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
ACTION = Action("tool", "refund", {"amount": 50}, ToolSignature((Parameter("amount", "number"),)), session="s", user="u", roles=frozenset())
FACTS = FactsView(labels={}, history=frozenset())
Decide = Callable[[], object]


def repeated(decide: Decide) -> Callable[[int], None]:
    """The decision, many times."""

    def run(times: int) -> None:
        for _ in range(times):
            decide()

    return run


def ours(folder: Path, rules: int) -> Mapping[str, Decide]:
    """Our engine, and the same with its explanation of every rule."""
    engine = load_policy([policy_file(folder, rules)]).engine
    decide, explained = partial(engine.decide, ACTION, None, NOW), partial(explain, ACTION, engine.policy, None, NOW)
    assert decide().decision.value == explained().decision.value == "allow"
    return {"ours": decide, "ours, explained": explained}


def with_cedarpy(folder: Path, rules: int) -> Mapping[str, Decide]:
    """Cedarpy by itself, with its policies parsed, and behind our engine."""
    import cedarpy

    from otel_runtime.policy.engine_cedar import load_cedar

    one = 'permit (principal, action, resource == Tool::"{tool}") when {{ context.args.amount <= {most} }};\n'
    text = "".join(one.format(tool=f"other_{at}", most=at) for at in range(rules - 1)) + one.format(tool="refund", most=100)
    (folder / f"{rules}.cedar").write_text(text)
    engine, policies = load_cedar([folder / f"{rules}.cedar"]), cedarpy.PolicySet.from_str(text)
    plain = Action("tool", "refund", {"amount": 50}, session="s", user="u", roles=frozenset())
    request = {"principal": 'User::"u"', "action": 'Action::"call"', "resource": 'Tool::"refund"', "context": {"args": {"amount": 50}}}
    bare, behind = partial(cedarpy.is_authorized, request, policies, "[]"), partial(engine.decide, plain, FACTS, NOW)
    assert bare().allowed
    assert behind().decision.value == "allow"
    return {"cedarpy": bare, "cedarpy behind our engine": behind}


def with_casbin(folder: Path, rules: int) -> Mapping[str, Decide]:
    """casbin; its policies are text, so its rules ask the name alone."""
    import casbin

    (folder / "model.conf").write_text(
        "[request_definition]\nr = sub, obj\n[policy_definition]\np = sub, obj\n[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = r.sub == p.sub && r.obj == p.obj\n"
    )
    enforcer = casbin.Enforcer(str(folder / "model.conf"))
    enforcer.add_policies([["u", f"other_{at}"] for at in range(rules - 1)])
    enforcer.add_policy("u", "refund")
    decide = partial(enforcer.enforce, "u", "refund")
    assert decide()
    return {"casbin": decide}


def with_agent_os(folder: Path, rules: int) -> Mapping[str, Decide]:
    """agent-os-kernel's evaluator of policy documents."""
    from agent_os.policies.evaluator import PolicyEvaluator
    from agent_os.policies.schema import PolicyDocument

    def rule(tool: str) -> dict[str, object]:
        return {"name": tool, "condition": {"field": "tool_name", "operator": "eq", "value": tool}, "action": "allow"}

    named = [*(rule(f"other_{at}") for at in range(rules - 1)), rule("refund")]
    document = PolicyDocument.model_validate({"name": "b", "rules": named, "defaults": {"action": "deny"}})
    evaluator = PolicyEvaluator([document])
    decide = partial(evaluator.evaluate, {"tool_name": "refund", "amount": 50})
    assert decide().matched_rule == "refund"
    return {"agent-os-kernel": decide}


OTHERS = {"cedarpy": ("cedarpy", with_cedarpy), "casbin": ("casbin", with_casbin), "agent-os-kernel": ("agent_os", with_agent_os)}


def measured(*, short: bool) -> dict[int, dict[str, float]]:
    """Microseconds of one decision, by number of rules and engine."""
    found: dict[int, dict[str, float]] = {}
    there = {name: make for name, (module, make) in OTHERS.items() if importlib.util.find_spec(module) is not None}
    for name in OTHERS.keys() - there.keys():
        print(f"{name} is not installed and not measured: pip install 'otel-runtime[bench]'", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        decisions: dict[tuple[int, str], Decide] = {}
        for rules in SIZES:
            print(f"preparing: {rules:,} rules", file=sys.stderr, flush=True)
            for make in (ours, *there.values()):
                decisions |= {(rules, engine): decide for engine, decide in make(Path(name), rules).items()}
        # All sizes take turns too: the ratio between them is one of the aims.
        cases = [Case(f"{rules} {engine}", repeated(decide)) for (rules, engine), decide in decisions.items()]
        times = measure(cases, Effort(rounds=3, turn_ms=1.0) if short else Effort(rounds=25, turn_ms=4.0))
    for rules, engine in decisions:
        found.setdefault(rules, {})[engine] = times[f"{rules} {engine}"]
    return found


def table(found: Mapping[int, Mapping[str, float]]) -> str:
    """Microseconds, and how many times our plain decision at the same number of rules."""
    lines = [
        "",
        "One decision, microseconds of CPU time (times ours), by number of rules",
        "",
        f"{'':<28}" + "".join(f"{n:>22,}" for n in found),
    ]
    for engine in next(iter(found.values())):
        cells = (f"{at[engine]:>12,.2f} ({at[engine] / at['ours']:>6,.1f}x)" for at in found.values())
        lines.append(f"{engine:<28}" + "".join(f"{cell:>22}" for cell in cells))
    sizes = list(found)
    flat = found[sizes[-1]]["ours"] / found[sizes[0]]["ours"]
    lines += ["", f"ours at {sizes[-1]:,} rules: {flat:.2f}x of ours at {sizes[0]} (aim: at most 1.5x)"]
    if "agent-os-kernel" in found[100]:
        plain, explained = (found[100][name] / found[100]["agent-os-kernel"] for name in ("ours", "ours, explained"))
        lines.append(f"ours at 100 rules: {plain:.3f}x of agent-os-kernel (aim: at most 0.1x)")
        lines.append(f"with every rule and condition explained: {explained:.3f}x of agent-os-kernel (aim: at most 0.2x)")
    lines.append(f"with every rule and condition explained: {found[100]['ours, explained'] / found[100]['ours']:.2f}x of ours without")
    return "\n".join(lines)


def main(*, short: bool = False, out: Path | None = None) -> None:
    """Measure and print.

    Args:
        short: Few rounds.
        out: File for the figures, or None.
    """
    found = measured(short=short)
    print(table(found))
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n")
