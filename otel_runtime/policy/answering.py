"""Asking another program what it says to a call, where an engine wants that: the one step between reading facts and deciding that may wait."""

from __future__ import annotations

from dataclasses import replace

from otel_runtime.policy.protocol import FactsView, Needs

__all__ = ["answered"]


def answered(needs: Needs | None, facts: FactsView | None) -> FactsView | None:
    """The facts with what the other program says to them; blocks as long as it takes to ask.

    Args:
        needs: What the engine named.
        facts: What was read of it so far.
    """
    if needs is None or needs.ask is None:
        return facts
    view = facts if facts is not None else FactsView()
    return replace(view, answer=needs.ask(view))
