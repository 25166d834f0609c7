"""Secrets do not leave by our own log records either: messages and tracebacks of the `otel_runtime` loggers are masked like spans."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_runtime.telemetry.redaction import Redactor

__all__ = ["mask_logs"]

# A filter of a logger sees its own records only, not those of the loggers below it.
_LOGGERS: Final = (
    "", ".events", ".hooks", ".integrations", ".policy.engine", ".policy.engine_cedar", ".policy.engine_opa", ".policy.facts_owed",
    ".policy.facts_sql", ".policy.predicates", ".runtime", ".sources", ".telemetry", ".telemetry.direct_span", ".wrap",
)  # fmt: skip
_PLAIN: Final = logging.Formatter()


class _Masking(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.keys: tuple[str, ...] = ()
        self.patterns: tuple[str, ...] = ()
        self._made: tuple[object, Redactor] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, masked."""
        try:
            redactor = self._redactor()
            record.msg, record.args = redactor.mask(record.getMessage()), None
            if record.exc_info and record.exc_info[0] is not None:
                # Formatters take this text instead of making one.
                record.exc_text = redactor.mask(record.exc_text or _PLAIN.formatException(record.exc_info))
        except Exception:  # noqa: BLE001 - an exception that cannot be shown: the handlers say what they can of it
            return True
        return True

    def _redactor(self) -> Redactor:
        asked = (self.keys, self.patterns)
        if self._made is None or self._made[0] != asked:
            from otel_runtime.telemetry.redaction import Redactor  # only a record pays for it

            self._made = asked, Redactor(*asked)
        return self._made[1]


_masking = _Masking()


def mask_logs(keys: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    """Mask our log records from now on; the newest runtime's own keys and patterns count.

    Args:
        keys: The setting `redact_keys`.
        patterns: The setting `redact_patterns`.
    """
    _masking.keys, _masking.patterns = keys, patterns
    for name in _LOGGERS:
        logging.getLogger(f"otel_runtime{name}").addFilter(_masking)
