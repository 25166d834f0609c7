"""Looks afterwards whether what the demo tells really happened: in the trace file, the shop, the outbox and the approval store."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from approver import command
from supplier_site import ATTACKER
from trace_file import Span, read_spans
from workspace import Workspace

import otel_runtime as rt

__all__ = ["Check", "checks"]

_REFUNDS = [(1042, 35.0), (1077, 480.0)]
_AGENTS = 4
_ALLOWED = {"get_order": 2, "refund": 2, "send_email": 3, "web_fetch": 1, "find_customers": 1, "check_stock": 5}
_CALL_ID = "gen_ai.tool.call.id"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must have happened.

    Args:
        what: A sentence.
        ok: Whether it did.
        found: What was found instead.
    """

    what: str
    ok: bool
    found: str = ""


def checks(workspace: Workspace, requests: Sequence[str], totals: rt.UsageTotals) -> Iterator[Check]:
    """Every check, in the order of the story.

    Args:
        workspace: Where it happened.
        requests: Ids of the approval requests that were seen.
        totals: Tokens and cost as the runtime summed them up.
    """
    spans = read_spans(workspace.trace_file) if workspace.trace_file.is_file() else []
    yield _one_tree(spans)
    yield _allowed(spans)
    yield from _denied(spans, workspace.outbox)
    yield from _approved(spans, workspace, requests)
    yield from _retried(spans)
    yield from _models(spans, totals)
    yield _refunds(workspace)


def _named(spans: Sequence[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def _one_tree(spans: Sequence[Span]) -> Check:
    ids = {span.id for span in spans}
    roots = [span for span in spans if span.parent not in ids]
    agents = [span for span in _named(spans, "invoke_agent support") if roots and span.parent == roots[0].id]
    names, traces = [span.name for span in roots], {span.trace for span in spans}
    ok = names == ["invoke_workflow support_inbox"] and len(agents) == _AGENTS and len(traces) == 1
    found = f"{len(spans)} spans, roots {names}, {len(agents)} agents under it"
    return Check("the trace file holds one tree: the inbox with four agent runs", ok, found)


def _allowed(spans: Sequence[Span]) -> Check:
    counts = {tool: len(_decided(spans, f"execute_tool {tool}", "allow")) for tool in _ALLOWED}
    # The large refund ran on an approval, not on a plain allow.
    counts["refund"] += len(_decided(spans, "execute_tool refund", "require-approval"))
    return Check("every allowed call ran under a span of its own, with its decision on it", counts == _ALLOWED, f"{counts}")


def _decided(spans: Sequence[Span], name: str, decision: str) -> list[Span]:
    return [span for span in _named(spans, name) if span.attributes.get("otel_runtime.policy.decision") == decision]


def _denied(spans: Sequence[Span], outbox: Path) -> Iterator[Check]:
    denied = _named(spans, "policy deny send_email")
    calls = {span.attributes.get(_CALL_ID) for span in denied}
    ran = [span for span in _named(spans, "execute_tool send_email") if span.attributes.get(_CALL_ID) in calls]
    rules = [span.attributes.get("otel_runtime.policy.rule") for span in denied]
    yield Check(
        "the mail to the stranger was denied and its tool never ran",
        rules == ["mail.after-untrusted"] and not ran,
        f"{rules}, ran {len(ran)}",
    )
    sent = sorted(_recipients(outbox))
    wanted = ["jonas.weber@inbox.example", "maya.okafor@mailbox.example", "warehouse@corp.example"]
    yield Check(f"the outbox holds three mails and none to {ATTACKER}", sent == wanted, f"{sent}")


def _recipients(outbox: Path) -> Iterator[str]:
    for file in outbox.glob("*.eml"):
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        yield str(message["To"])


def _approved(spans: Sequence[Span], workspace: Workspace, requests: Sequence[str]) -> Iterator[Check]:
    asked, answered = _named(spans, "approval requested refund"), _named(spans, "approval approved refund")
    linked = len(asked) == len(answered) == 1 and asked[0].id in answered[0].links
    yield Check("the large refund asked for approval and got it", linked, f"{len(asked)} asked, {len(answered)} approved")
    refunds = _named(spans, "execute_tool refund")
    after = [span for span in refunds if answered and answered[0].id in span.links and span.start >= answered[0].end]
    yield Check("it ran after the approval and points to it", len(after) == 1, f"{len(after)} of {len(refunds)} refunds")
    states = [_state(workspace, request) for request in requests]
    yield Check("the approval store says it is completed", states == ["completed"], f"{states}")


def _state(workspace: Workspace, request: str) -> str:
    shown = command(workspace.root, "approvals", "show", request, "--json")
    return str(json.loads(shown.stdout)["state"]) if shown.returncode == 0 else shown.stderr.strip()


def _retried(spans: Sequence[Span]) -> Iterator[Check]:
    refused = _named(spans, "policy retryable-failure check_stock")
    yield Check("the warehouse's limit stopped a call for a moment", bool(refused), "no such decision")
    calls = {span.attributes.get(_CALL_ID) for span in refused}
    ran = [span for span in _named(spans, "execute_tool check_stock") if span.attributes.get(_CALL_ID) in calls]
    attempts = sum(span.events.count("otel_runtime.attempt") for span in ran)
    ok = len(ran) == len(calls) > 0 and attempts == len(refused) and not any("error.type" in span.attributes for span in ran)
    yield Check("the same call was tried again and went through", ok, f"{len(ran)} of {len(calls)} ran, after {attempts} attempts")


def _models(spans: Sequence[Span], totals: rt.UsageTotals) -> Iterator[Check]:
    models = [span.attributes for span in spans if span.name.startswith("chat ")]
    used = [(span.get("gen_ai.usage.input_tokens"), span.get("gen_ai.usage.output_tokens")) for span in models]
    total = tuple(sum(value for value in column if isinstance(value, int)) for column in zip(*used, strict=True))
    ok = total == (totals.input_tokens, totals.output_tokens) and all(isinstance(value, int) for pair in used for value in pair)
    yield Check("every model call carries its tokens, and they add up to the total", ok, f"{len(models)} calls, {total} tokens")
    cost = sum((Decimal(str(span.get("otel_runtime.usage.cost.exact", 0))) for span in models), Decimal(0))
    yield Check("and its cost, to the last digit", cost == totals.cost.get("USD"), f"{cost} on spans, {dict(totals.cost)} in total")


def _refunds(workspace: Workspace) -> Check:
    paid = sorted((order, amount) for order, amount, _ in workspace.shop.refunds())
    return Check("the shop paid each refund exactly once: 35.00 and 480.00 EUR", paid == _REFUNDS, f"{paid}")
