"""A stretch of code that no `OTEL_*` variable of the machine reaches. Loads nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_variables"]


@contextmanager
def without_variables() -> Iterator[None]:
    """Take the standard variables and ours away inside of a `with` block: the SDK reads its part of them as its providers are made."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OTEL_")}
    try:
        yield
    finally:
        os.environ.update(taken)
