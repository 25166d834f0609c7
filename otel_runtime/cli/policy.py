"""`otel-runtime policy`: check rules, try their cases, explain a decision, replay what was recorded, begin a policy.

Each command is a module of its own; here they are joined.
"""

from __future__ import annotations

import argparse

from otel_runtime.cli import policy_check, policy_explain, policy_init, policy_pack, policy_replay, policy_try

__all__ = ["register"]

_EPILOG = (
    "Exit codes of all: 0 done, 1 a case failed or a limit that was asked for is passed, 2 the policy, a file or an option cannot be used."
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = commands.add_parser(
        "policy", help="check, test, explain, try and begin rules", description="Work with policy files.", epilog=_EPILOG
    )
    inner = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (policy_check, policy_try, policy_explain, policy_replay, policy_init, policy_pack):
        module.register(inner)
