"""Metric labels of model calls, one dictionary for each combination: what is queued is shared, so nothing is copied per measurement.

Labels come from bounded sets, but their combinations are many: beyond a number of them the remembered ones are forgotten.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.metrics import Labels
from otel_runtime.values.usage import UsageRecord

__all__ = ["ModelLabels", "Told"]

_REMEMBERED = 1024
V = TypeVar("V")
_Key = tuple[str | None, ...]


class Told(NamedTuple):
    """Labels of a call whose answer is known; none of them may be changed.

    Args:
        full: Of its duration.
        chat: Of its tokens.
        given: Of its input tokens.
        answered: Of its output tokens.
    """

    full: dict[str, str]
    chat: dict[str, str]
    given: dict[str, str]
    answered: dict[str, str]


class ModelLabels:
    """Remembers them."""

    def __init__(self) -> None:
        self._values = Labels()
        self._asked: dict[_Key, dict[str, str]] = {}
        self._told: dict[_Key, Told] = {}
        self._money: dict[_Key, dict[str, str]] = {}

    def asked(self, model: str | None, provider: str | None, labels: dict[str, str]) -> dict[str, str]:
        """Labels of a model call, as far as they are known at its start.

        Args:
            model: The requested model.
            provider: Its provider.
            labels: What the operation's name determines.
        """
        key = (labels.get(c.OPERATION), self._label(model), self._label(provider))
        found = self._asked.get(key)
        if found is None:
            found = {**labels, **_said({c.REQUEST_MODEL: key[1], c.PROVIDER_NAME: key[2]})}
            _keep(self._asked, key, found)
        return found

    def told(self, record: UsageRecord, labels: dict[str, str]) -> Told:
        """The same with what the answer told."""
        operation, requested, responded = labels.get(c.OPERATION), labels.get(c.REQUEST_MODEL), labels.get(c.RESPONSE_MODEL)
        # Who was asked is known before the answer says so.
        provider = labels.get(c.PROVIDER_NAME) or self._label(record.provider)
        key = (operation, requested, responded, provider, self._label(record.model))
        found = self._told.get(key)
        if found is None:
            own = {c.REQUEST_MODEL: requested, c.PROVIDER_NAME: provider}
            full = _said({c.OPERATION: operation, **own, c.RESPONSE_MODEL: key[4] or responded})
            chat = _said({c.OPERATION: "chat", **own, c.RESPONSE_MODEL: key[4]})
            found = Told(full, chat, {**chat, c.TOKEN_TYPE: "input"}, {**chat, c.TOKEN_TYPE: "output"})
            _keep(self._told, key, found)
        return found

    def money(self, currency: str, chat: dict[str, str]) -> dict[str, str]:
        """Labels of a cost: the model that was asked for, else the one that answered."""
        key = (self._values.of(currency), chat.get(c.REQUEST_MODEL) or chat.get(c.RESPONSE_MODEL) or c.OTHER)
        found = self._money.get(key)
        if found is None:
            found = {c.CURRENCY: key[0], c.REQUEST_MODEL: key[1]}
            _keep(self._money, key, found)
        return found

    def _label(self, given: str | None) -> str | None:
        return None if given is None else self._values.of(given)


def _said(labels: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value is not None}


def _keep(known: dict[_Key, V], key: _Key, value: V) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
