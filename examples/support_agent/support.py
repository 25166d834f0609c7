"""The application: works through the support inbox, or through the tickets named on the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agent import handle
from shop import Ticket
from workspace import find_policy, program, surroundings

import otel_runtime as rt

__all__ = ["CLERK", "work_inbox"]

CLERK = "carla"


@rt.workflow(name="support_inbox")
def work_inbox(tickets: Sequence[Ticket], tell: Callable[[str], None]) -> dict[str, str]:
    """Let the agent work on each ticket; returns its answers by ticket id.

    Args:
        tickets: In the order they are worked on.
        tell: Called with one line per step.
    """
    answers = {}
    for ticket in tickets:
        tell(f"\n{ticket.id} from {ticket.sender}: {ticket.text}")
        answers[ticket.id] = handle(ticket.id, f"From {ticket.sender}: {ticket.text}", CLERK, lambda line: tell(f"  {line}"))
        tell(f"  answer: {answers[ticket.id]}")
    return answers


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Work on the inbox of a new workspace; 2 when the policy does not load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("support-workspace"), help="a new folder to work in (default: %(default)s)")
    parser.add_argument("--policy", type=Path, help="policy file (default: support-agent.yaml beside this file, or the repository's)")
    parser.add_argument("--ticket", action="append", metavar="ID", help="only this ticket; may be repeated")
    parser.add_argument("--wait", type=int, default=60, metavar="SECONDS", help="how long to wait for an approval (default: %(default)s)")
    options = parser.parse_args()
    root = options.workspace.resolve()
    rt.on("approval")(lambda request, _context: _say(f"  waits: cd {shlex.quote(str(root))} && {program()} approvals approve {request.id}"))
    try:
        with surroundings(root, find_policy(options.policy), options.wait) as workspace, rt.configure():
            tickets = [ticket for ticket in workspace.shop.tickets() if not options.ticket or ticket.id in options.ticket]
            work_inbox(tickets, _say)
    except rt.ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
