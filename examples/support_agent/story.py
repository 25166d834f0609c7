"""The story that `demo.py` tells: the inbox is worked on, someone approves, and then everything is checked."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from approver import Approver
from support import CLERK, work_inbox
from trace_file import read_spans
from verify import checks
from workspace import APPROVER_ROLE, Workspace, approver, find_policy, program, surroundings

import otel_runtime as rt

__all__ = ["main"]

# Longer with a person, who is asked for 25 seconds before the demo answers by itself.
_WAIT_S = {True: 90, False: 60}
_LOOKS = 4


def main() -> int:
    """Run the demo; 0 when everything it shows really happened, 1 when something did not, 2 when the policy does not load."""
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__)
    parser.add_argument("--workspace", type=Path, help="a new folder to work in (default: .demo/TIME)")
    parser.add_argument("--policy", type=Path, help="policy file (default: support-agent.yaml beside this file, or the repository's)")
    parser.add_argument("--unattended", action="store_true", help="ask nobody")
    options = parser.parse_args()
    root = (options.workspace or Path(".demo") / time.strftime("%Y%m%d-%H%M%S")).resolve()
    attended = not options.unattended and sys.stdin.isatty() and sys.stdout.isatty()
    policy = find_policy(options.policy)
    with surroundings(root, policy, _WAIT_S[attended]) as workspace:
        _introduce(workspace, policy)
        try:
            requests, totals, page = _play(workspace, attended)
        except rt.ConfigError as error:
            print(error, file=sys.stderr)
            return 2
        return _judge(workspace, requests, totals, page)


def _say(line: str) -> None:
    print(line, flush=True)


def _introduce(workspace: Workspace, policy: Path) -> None:
    _say(f"workspace  {workspace.root}")
    _say(f"policy     {policy}")
    if workspace.scripted:
        _say(f"model      scripted, at {workspace.model}; it answers as gpt-5-mini so that its tokens have a price. Nothing is bought.")
        _say("           Set OPENAI_API_KEY (and OPENAI_BASE_URL, OPENAI_MODEL) to use a real one.")
    else:
        _say(f"model      {os.environ.get('OPENAI_MODEL', 'gpt-5-mini')} at {workspace.model}; a real model may tell another story")
    _say(f"approver   you, {approver()}: the settings file of the workspace gives you the role {APPROVER_ROLE}")
    _say(f"clerk      {CLERK}: the agent acts for her, so she cannot approve")


def _play(workspace: Workspace, attended: bool) -> tuple[tuple[str, ...], rt.UsageTotals, str]:
    second = Approver(workspace.root, _say, ask_person=attended)

    def tell(line: str) -> None:
        second.agent_goes_on()
        _say(line)

    rt.on("approval")(lambda request, _context: second.on_request(request.id))
    with rt.configure() as runtime:
        work_inbox(workspace.shop.tickets(), tell)
        second.finish()
        runtime.flush(5)
        return second.asked, _totals(runtime.totals()), _page(runtime, workspace)


def _page(runtime: rt.Runtime, workspace: Workspace) -> str:
    """Where the trace can be looked at, when a server has it; one that has just taken it may need a moment."""
    trace_id = read_spans(workspace.trace_file)[0].trace
    for _ in range(_LOOKS):
        if page := runtime.trace_page(trace_id):
            return page
        time.sleep(0.3)
    return ""


def _totals(totals: rt.UsageTotals) -> rt.UsageTotals:
    cost = ", ".join(f"{amount} {currency}" for currency, amount in totals.cost.items()) or "unknown"
    _say(f"\ntotals: {totals.input_tokens} input tokens, {totals.output_tokens} output tokens, estimated cost {cost}")
    return totals


def _judge(workspace: Workspace, requests: tuple[str, ...], totals: rt.UsageTotals, page: str) -> int:
    _say("\nDid it really happen?")
    failed = 0
    for check in checks(workspace, requests, totals):
        failed += not check.ok
        missed = "not seen" if not workspace.scripted else "MISSING"
        _say(f"  {'✓' if check.ok else '✗'} {check.what}" + ("" if check.ok else f"  [{missed}: {check.found}]"))
    _say(f"\ntrace file: {workspace.trace_file}")
    if page:
        _say(f"  this run:  {page}")
    else:
        _say("  in Jaeger: docker run --rm -p 127.0.0.1:16686:16686 -p 127.0.0.1:4318:4318 jaegertracing/jaeger:2.20.0")
        _say("  then open http://localhost:16686, choose Upload, and give it that file;")
        _say("  or run `make demo` again: it finds that Jaeger by itself and prints the link")
    _say(f"approvals:  cd {shlex.quote(str(workspace.root))} && {program()} approvals list --all")
    _say(f"\n{'everything above happened' if not failed else f'{failed} of these did not happen'}")
    return 1 if failed else 0
