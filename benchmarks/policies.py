"""Policies of any size, with the rules that matter at the end."""

from __future__ import annotations

from pathlib import Path

__all__ = ["policy_file"]

HEAD = """version: 1
name: benchmark
default: deny
rules:
"""
OTHER = "  - {{id: other.{number}, tool: other_{number}, args: {{amount: {{lte: {number}}}}}, decision: allow}}\n"
LAST = "  - {id: refund.small, tool: refund, args: {amount: {gt: 0, lte: 100}}, decision: allow}\n"
SPEND = "  - {id: spend.day, kind: model, over: {usd: '1000000.00', by: session, per: day, tz: UTC, reserve: '0.20'}, decision: deny}\n"


def policy_file(folder: Path, rules: int, *, budget: bool = False) -> Path:
    """Write a policy of so many rules, of which the last ones decide.

    Args:
        folder: Where to put it.
        rules: How many, at least 1, or 2 with a budget.
        budget: Hold model calls to a daily sum, which reserves and settles at every call.
    """
    last = LAST + (SPEND if budget else "")
    others = "".join(OTHER.format(number=number) for number in range(rules - last.count("\n")))
    path = folder / f"policy-{rules}.yaml"
    path.write_text(HEAD + others + last)
    return path
