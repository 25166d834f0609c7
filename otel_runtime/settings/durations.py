"""Durations as people write them in files: `10s`, `5min`, `30m`, `4h`, `1d`, `500ms`."""

from __future__ import annotations

import re

__all__ = ["parse_duration"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SHAPE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|min|m|h|d)")


def parse_duration(value: object) -> float:
    """Seconds of a duration.

    Args:
        value: Text such as `10s`, or a number of seconds. A bool is no number.

    Raises:
        ValueError: It is neither, or is negative or not finite; the message says what is expected.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value < 1e10:
            return float(value)
    elif isinstance(value, str) and (shape := _SHAPE.fullmatch(value)):
        return float(shape.group(1)) * _UNITS[shape.group(2)]
    raise ValueError(f"expected a duration such as `10s`, `5min`, `4h` or `1d`, got `{value}`")
