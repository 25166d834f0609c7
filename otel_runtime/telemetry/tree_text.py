"""One span -> one line for a person: what it was, how long it took, what was decided, what it used, what went wrong. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from rich.text import Text

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.span_view import EventView, SpanView

__all__ = ["Sums", "clean", "duration_text", "event_line", "span_line", "sums_of"]

_OUTCOMES = {"approved": "green", "denied": "red", "expired": "red", "cancelled": "yellow"}
_DECISIONS = {"deny": "bold red", "require-approval": "yellow", "retryable-failure": "yellow", "allow": "green"}
_REASON_LIMIT = 160
_NAME_LIMIT = 200
# Larger sums of money are nobody's bill, and take a screen to write down.
_MONEY_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Sums:
    """What the model calls below a span used.

    Args:
        calls: Model calls.
        input_tokens: Input tokens; None when no call told.
        output_tokens: Output tokens; None when no call told.
        cost: Money by ISO 4217 code.
        estimated: True when any of it is an estimate.
    """

    calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost: Mapping[str, Decimal]
    estimated: bool


def sums_of(spans: Iterable[SpanView]) -> Sums:
    """Sums over leaf spans: an agent's own totals are sums already."""
    leaves = [span for span in spans if span.attributes.get(c.OPERATION) == "chat"]
    cost: dict[str, Decimal] = {}
    for span in leaves:
        amount = _decimal(span.attributes.get(c.COST_EXACT))
        if amount is not None:
            currency = str(span.attributes.get(c.COST_CURRENCY, "USD"))
            cost[currency] = cost.get(currency, Decimal(0)) + amount
    given, put_out = (_sum(span.attributes.get(key) for span in leaves) for key in (c.INPUT_TOKENS, c.OUTPUT_TOKENS))
    return Sums(len(leaves), given, put_out, cost, any(span.attributes.get(c.COST_ESTIMATED) is True for span in leaves))


def duration_text(seconds: float) -> str:
    """A duration as a person says it."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def span_line(span: SpanView, sums: Sums | None = None) -> Text:
    """The line of one span.

    Args:
        span: The span.
        sums: Given for spans whose model calls are summed up on their line.
    """
    if c.APPROVAL_OUTCOME in span.attributes:
        return _shown(_resolved(span))
    if span.name.startswith("approval requested"):
        return _shown(_requested(span))
    if span.name.startswith("policy "):
        return _shown(_decision(span))
    return _shown(_operation(span, sums))


def event_line(event: EventView) -> Text | None:
    """The line of an event; None for the exception event, which the span's own line tells."""
    if event.name == c.EVENT_EXCEPTION:
        return None
    if event.name == c.EVENT_ATTEMPT:
        return _shown(_attempt(event))
    parts = [f"{key.removeprefix('otel_runtime.')}={clean(value, 60)}" for key, value in list(event.attributes.items())[:6]]
    return _shown(Text.assemble((event.name.removeprefix("otel_runtime."), "dim"), ("  " + " ".join(parts) if parts else "", "dim")))


def _shown(line: Text) -> Text:
    """The line without control characters: names, rules, roles and whatever else is in it were written by others."""
    if not line.plain.isprintable():
        # One for one, so that styles stay where they are.
        line.plain = _printable(line.plain)
    return line


def _attempt(event: EventView) -> Text:
    found = event.attributes
    after = found.get(c.ATTEMPT_RETRY_AFTER)
    parts = [
        f"attempt {found.get(c.ATTEMPT_NUMBER, '?')} did not run"
        if c.DECISION_RULE in found
        else f"attempt {found.get(c.ATTEMPT_NUMBER, '?')}",
        clean(found.get(c.ATTEMPT_CLASS, ""), 32),
        f"by {clean(found[c.DECISION_RULE], 60)}" if c.DECISION_RULE in found else "",
        f"again after {duration_text(after)}" if isinstance(after, int | float) else "",
    ]
    return Text("  ".join(part for part in parts if part), "dim")


def _operation(span: SpanView, sums: Sums | None) -> Text:
    failed = span.status == "error"
    line = Text.assemble((clean(span.name, _NAME_LIMIT), "bold red" if failed else "bold"), ("  " + duration_text(span.duration_s), "cyan"))
    for part, style in _facts(span, sums):
        line.append("  ")
        line.append(part, style)
    if failed:
        line.append("  ")
        line.append(_failure(span), "red")
    return line


def _facts(span: SpanView, sums: Sums | None) -> Iterable[tuple[str, str]]:
    found = span.attributes
    if found.get(c.GUARDED) is False:
        yield "unguarded: no policy is configured", "yellow"
    # An allow that no rule gave is what happens by default, and would only repeat itself on every line.
    if rule := found.get(c.DECISION_RULE):
        yield f"{found.get(c.DECISION)} by {rule}", _DECISIONS.get(str(found.get(c.DECISION)), "")
    if c.DECISION_WOULD_BE in found:
        yield f"shadow: would be {found[c.DECISION_WOULD_BE]}", "yellow"
    if c.APPROVAL_ID in found:
        yield f"with approval {clean(found[c.APPROVAL_ID], 8)}", "green"
    yield from _usage(found) if sums is None else _summed(sums)
    if c.FIRST_CHUNK in found:
        first = found[c.FIRST_CHUNK]
        yield f"first chunk {duration_text(first)}" if isinstance(first, float) else "streamed", "dim"
    if c.OUTCOME in found:
        yield str(found[c.OUTCOME]), "yellow"


def _usage(found: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    if found.get(c.OPERATION) != "chat":
        return
    if c.INPUT_TOKENS in found or c.OUTPUT_TOKENS in found:
        cached = f" ({_count(found[c.CACHE_READ])} cached)" if found.get(c.CACHE_READ) else ""
        yield f"{_count(found.get(c.INPUT_TOKENS))} in{cached}, {_count(found.get(c.OUTPUT_TOKENS))} out", "magenta"
    amount = _decimal(found.get(c.COST_EXACT))
    if amount is not None:
        yield _money(amount, str(found.get(c.COST_CURRENCY, "USD")), estimated=found.get(c.COST_ESTIMATED) is True), "magenta"


def _summed(sums: Sums) -> Iterable[tuple[str, str]]:
    if sums.calls:
        calls = "1 model call" if sums.calls == 1 else f"{sums.calls} model calls"
        counts = ((sums.input_tokens, "in"), (sums.output_tokens, "out"))
        yield ", ".join([calls, *(f"{count:,} {word}" for count, word in counts if count is not None)]), "magenta"
    for currency, amount in sums.cost.items():
        yield _money(amount, currency, estimated=sums.estimated), "magenta"


def _decision(span: SpanView) -> Text:
    found = span.attributes
    value = str(found.get(c.DECISION, "?"))
    words = {"deny": "DENIED", "require-approval": "needs approval", "retryable-failure": "not now"}
    line = Text.assemble((words.get(value, value), _DECISIONS.get(value, "")), "  ", (clean(found.get(c.OWN_TOOL, ""), 60), "bold"))
    if rule := found.get(c.DECISION_RULE):
        line.append(f"  by {rule}", "dim")
    if place := found.get(c.DECISION_PLACE):
        # The last two parts find the file; a whole path pushes the reason off the screen.
        line.append(f" ({'/'.join(str(place).replace(chr(92), '/').split('/')[-2:])})", "dim")
    if reason := found.get(c.DECISION_REASON):
        line.append(f"  {clean(reason, _REASON_LIMIT)}", "italic")
    after = found.get(c.RETRY_AFTER)
    if isinstance(after, int | float):
        line.append(f"  retry after {duration_text(after)}, attempt {found.get(c.RETRY_ATTEMPT)} of {found.get(c.RETRY_MAX)}", "dim")
    return line


def _requested(span: SpanView) -> Text:
    found = span.attributes
    who = found.get(c.APPROVAL_APPROVERS)
    names = ", ".join(str(name) for name in who) if isinstance(who, tuple | list) else ""
    line = Text.assemble(("waits for approval", "yellow"), "  ", (clean(found.get(c.OWN_TOOL, ""), 60), "bold"))
    line.append(f"  by {names}" if names else "", "dim")
    line.append(f"  {clean(found.get(c.APPROVAL_REASON, ''), _REASON_LIMIT)}", "italic")
    line.append(f"  request {found.get(c.APPROVAL_ID)}", "dim")
    return line


def _resolved(span: SpanView) -> Text:
    found = span.attributes
    outcome = str(found.get(c.APPROVAL_OUTCOME))
    line = Text.assemble((outcome, _OUTCOMES.get(outcome, "")), "  ", (clean(found.get(c.OWN_TOOL, ""), 60), "bold"))
    line.append(f"  waited {duration_text(span.duration_s)}", "cyan")
    if who := found.get(c.APPROVAL_APPROVER):
        line.append(f"  by {who}")
    if rule := found.get(c.APPROVAL_RULE):
        line.append(f"  asked by {rule}", "dim")
    if answer := found.get(c.APPROVAL_ANSWER):
        line.append(f"  {clean(answer, _REASON_LIMIT)}", "italic")
    return line


def _failure(span: SpanView) -> str:
    kind = str(span.attributes.get(c.ERROR_TYPE, "error"))
    message = clean(span.message, _REASON_LIMIT)
    # The status text begins with the class name already.
    return message if message.startswith(kind.rpartition(".")[2]) else f"{kind}: {message}" if message else kind


def clean(given: object, limit: int) -> str:
    """The text as a terminal may show it: no control characters of a tool's or model's, cut with a mark.

    Args:
        given: Any value.
        limit: Most characters.
    """
    plain = _printable(str(given)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _printable(given: str) -> str:
    return "".join(char if char.isprintable() else " " for char in given)


def _money(amount: Decimal, currency: str, *, estimated: bool) -> str:
    shown = f"{amount:.6f}".rstrip("0").rstrip(".") if amount < 1 else f"{amount:,.2f}"
    return f"{'~' if estimated else ''}{shown or '0'} {currency}"


def _decimal(given: object) -> Decimal | None:
    try:
        amount = Decimal(given) if isinstance(given, str) else Decimal("NaN")
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount.adjusted() < _MONEY_DIGITS else None


def _sum(given: Iterable[object]) -> int | None:
    # What no provider reported is absent, never 0.
    known = [count for count in given if isinstance(count, int)]
    return sum(known) if known else None


def _count(given: object) -> str:
    return f"{given:,}" if isinstance(given, int) else "?"
