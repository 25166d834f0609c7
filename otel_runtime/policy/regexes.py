"""Regular expressions that take linear time: the only place that knows RE2. There is no other engine to fall back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import re2

from otel_runtime.policy.truth import Tri
from otel_runtime.values.re2_gate import through, watch_exit

__all__ = ["MAX_INPUT", "Regex", "compile_regex", "quote"]

MAX_INPUT = 64 << 10
_MAX_MEMORY = 4 << 20
# Where RE2's automaton gets too large it walks all states of the expression at each byte, at some 4 ns each: 40 ms at this product.
_MAX_WORK = 10_000_000
# Expressions of so few states are what people write for secrets and numbers, and their automatons stay small. Of larger ones each try is
# counted as if its automaton did not.
_LIGHT = 96


@dataclass(frozen=True, slots=True)
class Regex:
    """A compiled expression; text above 64 KiB (less for expressions of many states), or text that is not Unicode, is unknown.

    Args:
        pattern: As it was written.
        compiled: RE2's own object, which has no types.
        most: Bytes of the longest text it is tried on.
        weight: Microseconds that 256 characters may take at worst; 0 where that is next to nothing.
    """

    pattern: str
    compiled: Any
    most: int = MAX_INPUT
    weight: int = 0

    def full(self, text: str) -> Tri:
        """Whether the whole text fits."""
        encoded = _encoded(text, self.most)
        return None if encoded is None else through(self.compiled.fullmatch, encoded) is not None

    def search(self, text: str) -> Tri:
        """Whether a part of the text fits."""
        encoded = _encoded(text, self.most)
        return None if encoded is None else through(self.compiled.search, encoded) is not None


def compile_regex(pattern: str) -> Regex:
    """Compile an expression.

    Raises:
        ValueError: RE2 does not take it; the message says why.
    """
    watch_exit()
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    try:
        compiled = through(re2.compile, pattern.encode(), options)
    except re2.error as error:
        said = error.args[0] if error.args else "not accepted"
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"not a regular expression of RE2 ({text}); look-around and back-references do not exist there") from None
    states: int = compiled.programsize
    return Regex(pattern, compiled, min(MAX_INPUT, _MAX_WORK // max(states, 1)), 0 if states <= _LIGHT else states)


def quote(text: str) -> str:
    """An expression that means exactly this text."""
    return str(re2.escape(text))


def _encoded(text: str, most: int) -> bytes | None:
    if len(text) > most:
        return None
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return None
    return encoded if len(encoded) <= most else None
