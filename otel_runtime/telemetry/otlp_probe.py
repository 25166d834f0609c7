"""What a collector says to an export without spans: whether address, certificate and credential would let spans through, before any is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExportResult

from otel_runtime.telemetry import otlp
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.otlp_sender import misdirected
from otel_runtime.telemetry.quiet import install, quietly
from otel_runtime.telemetry.worker import run_bounded

if TYPE_CHECKING:
    from otel_runtime.telemetry.otlp_watch import Answer

__all__ = ["Reply", "ask_collector"]

_TAKES = "takes spans"
_CREDENTIAL = frozenset({401, 403, 407})
_NO_PLACE = frozenset({404, 405})


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of an export without spans.

    Args:
        takes: True when the collector takes spans.
        said: The reason in words.
    """

    takes: bool
    said: str


def ask_collector(environ: Mapping[str, str], timeout_s: float = 5.0) -> Reply:
    """Export nothing through the SDK's exporter, as OTEL_EXPORTER_OTLP_* configure it; blocks, never raises.

    Args:
        environ: Where the protocol is named; the exporter reads the process' own.
        timeout_s: Seconds to wait for an answer.
    """
    from otel_runtime.telemetry.otlp_watch import Watch

    heard, watch, taken = Losses(), Watch(), False
    protocol = otlp.protocol_of(environ, "TRACES", Losses())

    def export() -> None:
        nonlocal taken
        with quietly(heard):
            try:
                exporter = otlp.span_exporter(protocol, watch)
                taken = exporter.export(()) is SpanExportResult.SUCCESS
                exporter.shutdown()
            except Exception as error:  # noqa: BLE001 - a bad variable; older exporters also raise what they cannot send
                heard.problem("otlp", error)

    install()
    ended = run_bounded(export, timeout_s)
    # Before the cut, of which the exporter complains too.
    why = next(iter(heard.problems.values()), "it accepted the connection and said nothing")
    watch.cut()
    if watch.answer is not None:
        return _reply(watch.answer)
    if taken:
        return Reply(True, _TAKES)  # through a session that cannot be watched
    return Reply(False, f"no answer{'' if ended else f' within {timeout_s:g} s'}: {why}")


def _reply(answer: Answer) -> Reply:
    if answer.took:
        return Reply(True, f"{_TAKES}; it says: {answer.message}" if answer.message else _TAKES)
    elsewhere = misdirected(answer)
    if elsewhere:
        return Reply(False, elsewhere)
    status = answer.message or f"HTTP {answer.status}"
    if answer.status in _CREDENTIAL:
        return Reply(False, f"refuses the credential ({status}); correct OTEL_EXPORTER_OTLP_HEADERS")
    if answer.status in _NO_PLACE:
        return Reply(
            False,
            f"takes no spans at this address ({status}); `/v1/traces` is added to OTEL_EXPORTER_OTLP_ENDPOINT "
            "and not to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        )
    return Reply(False, f"refuses an export without spans ({status})")
