"""Calls that still run when their process ends: their spans are ended now, because nobody will come back to do it.

Theory of operation. A list of running calls would cost every call something, for the one moment at which it is read. So there is none: at
the end of the process the interpreter's own list of objects is searched, wherever the calls stand (a thread, a task, a block left open).
A million objects take 60 ms.

What the policy must record is left alone: a body that was cut off may or may not have had its effect, and that is what `unknown` says.
"""

from __future__ import annotations

import gc
import logging

from otel_runtime.wrap.call import Call
from otel_runtime.wrap.streams import interrupted_streams

__all__ = ["interrupt_calls"]

_log = logging.getLogger("otel_runtime")


def interrupt_calls() -> None:
    """End the span of every call of this process that still runs, as `interrupted`; only for the end of the process."""
    # What their items told of usage so far is recorded with that.
    streams = interrupted_streams()
    found = (call for call in gc.get_objects() if type(call) is Call)
    # One that another thread is just making has no attributes yet, and one without a span has nothing to end.
    running = {id(call): call for call in (*found, *streams) if getattr(call, "span", None) is not None}
    # A child ends before its parent does.
    for call in sorted(running.values(), key=_depth, reverse=True):
        try:
            _interrupt(call)
        except Exception:  # noqa: BLE001  # the other calls must end all the same
            _log.exception("a call could not be ended at the end of its process")


def _interrupt(call: Call) -> None:
    if call.span is None:
        return
    if call.sums is not None:
        call.span.totals(call.sums.tokens)
    call.span.end("interrupted")


def _depth(call: Call) -> int:
    depth, around = 0, call.scope.operation
    while around is not None:
        depth, around = depth + 1, around.scope.operation
    return depth
