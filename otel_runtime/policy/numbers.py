"""Numbers of arguments, exact: a float stands for its shortest decimal text, so 0.1 is one tenth."""

from __future__ import annotations

import math
from decimal import Decimal

__all__ = ["number"]


def number(value: object) -> int | Decimal | None:
    """The exact number; None for anything else, NaN and infinities included."""
    kind = type(value)
    if kind is int and isinstance(value, int):
        return value
    if kind is float and isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return None
