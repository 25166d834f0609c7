"""Figures -> the table that `make bench` prints. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["render"]

Found = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Args:
        text: What was measured.
        scenario: State of the runtime.
        case: Which case of it.
        base: Case that is taken off, so that overhead remains; empty for none.
        aim: As the design has it.
    """

    text: str
    scenario: str
    case: str
    base: str = "plain call"
    aim: str = ""


ROWS = (
    Row("guarded tool call, 20 rules", "guarded", "tool", aim="<= 2x now, 0.5x next"),
    Row("guarded model call, usage, cost, budget", "guarded", "model", aim="<= 2x now, 0.5x next"),
    Row("traced tool call, no policy", "traced", "tool", aim="<= 2x now, 1.3x next"),
    Row("traced model call, usage and cost", "traced", "model", aim="<= 2x now, 1.3x next"),
    Row("traced stream, one item", "traced", "streamed item", "plain item", aim="<= 0.5 us"),
    Row("traced async stream, one item", "traced", "streamed async item", "plain async item", aim="<= 0.5 us"),
    Row("traced iterator returned, one item", "traced", "streamed returned item", "plain returned item", aim="<= 1 us"),
    Row("traced client's stream object, one chunk", "traced", "streamed chunk", "plain chunk", aim="<= 1 us"),
    Row("guarded stream, one item", "guarded", "streamed item", "plain item", aim="<= 0.5 us"),
    Row("off: tool call", "off", "tool", aim="<= 0.05x, 0.3 us"),
    Row("off: model call", "off", "model", aim="<= 0.05x, 0.3 us"),
    Row("off: stream, one item", "off", "streamed item", "plain item", aim="<= 0.5 us"),
    Row("off: async stream, one item", "off", "streamed async item", "plain async item", aim="<= 0.5 us"),
    Row("sampled out: tool call", "sampled out", "tool", aim="<= 0.3x of its raw span, next"),
    Row("one decision, 1 rule", "decisions", "1", base=""),
    Row("one decision, 100 rules", "decisions", "100", base="", aim="<= 4.1 us, next"),
    Row("one decision, 1,000 rules", "decisions", "1000", base="", aim="as with 1 rule"),
    Row("one decision, 10,000 rules", "decisions", "10000", base="", aim="as with 1 rule"),
)


def _call(row: Row, found: Found) -> str:
    figures = found[row.scenario]
    spent = max(0.0, figures[row.case] - (figures[row.base] if row.base else 0.0))
    reference = figures["raw span"] - figures["plain call"]
    return f"{row.text:<42}{spent:>9.2f} us {reference:>9.2f} us {spent / reference:>7.2f}x   {row.aim}"


def _argument(text: str, found: Found, scenario: str, aim: str) -> str:
    figures = found[scenario]
    spent, whole = figures["large argument"] - figures["small argument"], figures["json.dumps"]
    return f"{text:<42}{spent:>9.2f} us {whole:>9.2f} us {spent / whole:>7.2f}x   {aim}"


def _start(name: str, startup: Mapping[str, Mapping[str, float]], aim: str) -> str:
    bare, sdk, this = startup["bare interpreter"], startup["import opentelemetry.sdk.trace"], startup[name]
    times = [one["ms"] - bare["ms"] for one in (this, sdk)]
    sizes = [one["mib"] - bare["mib"] for one in (this, sdk)]
    return f"{name:<34}{times[0]:>9.1f} ms {times[0] / times[1]:>6.2f}x {sizes[0]:>9.1f} MiB {sizes[0] / sizes[1]:>6.2f}x   {aim}"


def render(found: Found) -> str:
    """The table.

    Args:
        found: Microseconds by scenario and case, and `startup` with `ms` and `mib` by name.
    """
    startup = cast("Mapping[str, Mapping[str, float]]", found["startup"])
    return "\n".join(
        [
            "",
            "Overhead above an undecorated call; thread CPU time, medians of interleaved rounds, each beside its raw SDK span",
            "",
            f"{'':<42}{'overhead':>12}{'raw span':>13}{'ratio':>9}   aim",
            *(_call(row, found) for row in ROWS),
            "",
            "What an argument of 10 kB costs above a small one, beside one json.dumps of it",
            "",
            _argument("capture off", found, "traced", "nothing"),
            _argument("capture on", found, "captured", "<= 2x"),
            "",
            "A fresh interpreter, above a bare one; CPU time and resident memory, beside the SDK's",
            "",
            _start("import opentelemetry.sdk.trace", startup, "the reference"),
            _start("import otel_runtime", startup, "<= 2x"),
            _start("import otel_runtime, configure", startup, ""),
        ]
    )
