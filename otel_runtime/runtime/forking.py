"""Before a fork: let the exporters' threads finish what they are importing.

The lock of a module that another thread imports at the moment of the fork stays locked in the child for good, and the exporter of the child
would wait for it: OTLP exporters, and `requests` with its first request, import when they are first used, on a thread of their own.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Collection
from typing import Final

__all__ = ["EXPORTERS_IMPORT", "import_early", "wait_for_imports"]

# Top-level names of what exporters import late.
EXPORTERS_IMPORT: Final = frozenset(
    "certifi charset_normalizer email google grpc http idna netrc opentelemetry otel_runtime requests socket ssl urllib3".split()
)
# What `requests` and the look-up of a host import with the first span, and so at about the moment at which a server forks.
_WITH_FIRST_SPAN: Final = ("encodings.idna", "netrc")
_LONGEST_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.002


def import_early() -> None:
    """Import now, in this thread, the little that exporters import with their first span: two milliseconds."""
    for name in _WITH_FIRST_SPAN:
        importlib.import_module(name)


def wait_for_imports(names: Collection[str] = EXPORTERS_IMPORT, longest_s: float = _LONGEST_S) -> bool:
    """Wait until none of these modules is being imported; False when one still was in the end.

    Args:
        names: Top-level names.
        longest_s: Seconds to wait at most: the forking thread may itself be inside such an import.
    """
    deadline = time.monotonic() + longest_s
    while _importing(names):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def _importing(names: Collection[str]) -> bool:
    for name, module in list(sys.modules.items()):
        # The import system keeps this mark while it runs a module; it has no public name.
        if name.partition(".")[0] in names and getattr(getattr(module, "__spec__", None), "_initializing", False):
            return True
    return False
