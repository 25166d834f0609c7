"""Whole policies in Rego, evaluated by an Open Policy Agent that is asked over HTTP.

Theory of operation. Deciding must not wait for a network, so OPA's answer is a fact like labels and counters: `needs` names the question,
the admission asks it as a blocking effect (in a thread for asynchronous calls) and `decide` reads what came back. One question per agent of
the chain, all within one deadline; the strictest answer counts.

Whatever is no plain answer is a denial with its reason: no connection, no time, a redirect, another content type, an answer that is too
large, broken off, malformed, undefined, of an unknown verdict or with a key nobody knows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.engine_opa_http import OpaClient, OpaFailure
from otel_runtime.policy.engine_opa_view import question
from otel_runtime.policy.engine_outside import ASKED, Untold, callers, catalogue_refusal, rule_on, session_needs, shortened, tagged
from otel_runtime.policy.engine_terms import approval_from, known_keys, retry_from, verdict_from
from otel_runtime.policy.names import is_name
from otel_runtime.policy.protocol import FactsView, Needs, Ruling, Unasked
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.verdicts import Defaults, Outcome, refuse
from otel_runtime.values.action import Action, Kind

__all__ = ["OpaEngine"]

_log = logging.getLogger(__name__)
_RESULT_KEYS: Final = ("decision", "reason", "rule", "approval", "retry")


@dataclass(frozen=True, slots=True)
class _Answers:
    """What OPA said, one value per caller, and which rules it said it by."""

    values: tuple[Any, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why there is no answer."""

    reason: str


class OpaEngine:
    """Decides by the document at one URL of OPA's data API.

    Args:
        client: Asks it.
        url: The URL, for reasons and the digest.
        kinds: What is asked about; other kinds of calls are allowed, as where no rule speaks of them.
        tools: The catalogue beside it: which tools there are besides the registered ones, and tags.
        shadow: True asks and records, and lets everything run.
    """

    __slots__ = ("_client", "_defaults", "_kinds", "_tools", "_url")

    def __init__(
        self,
        client: OpaClient,
        url: str,
        kinds: frozenset[Kind] = frozenset({"tool", "capability"}),
        tools: Mapping[str, ToolEntry] = MappingProxyType({}),
        *,
        shadow: bool = False,
    ) -> None:
        self._client = client
        self._url = url
        self._kinds = kinds
        self._tools = tools
        self._defaults = Defaults("deny", shadow=shadow, digest=_digest(url, None))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of where is asked; a decision's own digest also names the bundles OPA had loaded."""
        return self._defaults.digest

    def governs(self, kind: Kind, name: str) -> bool:
        """True for the kinds that are asked about."""
        return kind in self._kinds

    def needs(self, action: Action, now: datetime) -> Needs | None:
        """Labels and history of the session, and OPA's answer to them; None where nothing must be asked."""
        if action.kind not in self._kinds or catalogue_refusal(action, self._tools, self._defaults) is not None:
            return None
        return replace(session_needs(action) or Needs(), ask=partial(self._ask, tagged(action, self._tools), now))

    def decide(self, action: Action, facts: FactsView | None, now: datetime, attempt: int = 1) -> Ruling:
        """Decide by what OPA answered; anything else is a denial."""
        try:
            return self._decided(action, facts, attempt)
        except Exception as error:  # noqa: BLE001  # whatever fails while deciding, nothing runs because of it
            _log.exception("policy: the answer of OPA on `%s` could not be read", action.name)
            return Ruling(refuse(f"the answer of OPA could not be read ({type(error).__name__})", "policy.error", self._defaults))

    def _decided(self, action: Action, facts: FactsView | None, attempt: int) -> Ruling:
        if action.kind not in self._kinds:
            return rule_on(action, [[]], self._defaults, None, attempt)
        refusal = catalogue_refusal(action, self._tools, self._defaults)
        if refusal is not None:
            return Ruling(refusal)
        answer = facts.answer if facts is not None else None
        if not isinstance(answer, _Answers):
            reason = answer.reason if isinstance(answer, _Failed | Unasked) else "it was not asked"
            return Ruling(refuse(f"OPA did not decide: {reason}", "policy.error", self._defaults))
        defaults = replace(self._defaults, digest=answer.digest)
        try:
            views = [[Outcome(_rule(action.kind, value, self._url), holds=True)] for value in answer.values]
        except ValueError as error:
            return Ruling(refuse(f"OPA did not decide: {shortened(str(error))}", "policy.error", defaults))
        return rule_on(action, views, defaults, facts, attempt)

    def _ask(self, action: Action, now: datetime, facts: FactsView) -> object:
        deadline = time.monotonic() + self._client.timeout_s
        values: list[Any] = []
        revisions: list[object] = []
        try:
            for agent in callers(action):
                answer = self._client.ask(question(action, agent, facts, now), deadline)
                if not isinstance(answer, dict) or "result" not in answer:
                    return _Failed(f"there is no document at {self._url}, or it is undefined for this call; give it a default")
                values.append(answer["result"])
                revisions.append(answer.get("provenance"))
        except Untold as untold:
            return _Failed(f"it cannot be told what `{action.name}` is called with: {untold}")
        except OpaFailure as failure:
            return _Failed(shortened(str(failure)))
        except Exception as error:  # noqa: BLE001  # asking never raises; without an answer nothing runs
            _log.exception("policy: asking OPA about `%s` failed", action.name)
            return _Failed(f"{type(error).__name__} while it was asked")
        return _Answers(tuple(values), _digest(self._url, revisions[-1]))


def _digest(url: str, provenance: object) -> str:
    bundles = provenance.get("bundles") if isinstance(provenance, Mapping) else None
    return hashlib.sha256(f"opa\n{url}\n{json.dumps(bundles, sort_keys=True)}".encode()).hexdigest()


def _rule(kind: Kind, value: object, url: str) -> CompiledRule:
    """The answer as a rule that holds.

    Raises:
        ValueError: It is not understood.
    """
    if isinstance(value, bool | str):
        value = {"decision": ("allow" if value else "deny") if isinstance(value, bool) else value}
    if not isinstance(value, dict):
        raise ValueError(f"expected `true`, `false`, a verdict or an object with `decision`, got `{str(value)[:60]}`")  # noqa: TRY004  # one kind of error
    known_keys(value, _RESULT_KEYS)
    if "decision" not in value:
        raise ValueError("its answer has no `decision`")
    verdict = verdict_from(value["decision"])
    reason, name = value.get("reason", ""), value.get("rule", "opa")
    if not isinstance(reason, str) or not is_name(name):
        raise ValueError("`reason` must be text and `rule` a name of letters, digits, `_`, `.`, `:` and `-`")
    for term, owner in (("approval", "require-approval"), ("retry", "retryable-failure")):
        if term in value and (verdict != owner or not isinstance(value[term], dict)):
            raise ValueError(f"`{term}` must be an object beside `decision: {owner}`")
    reason = shortened(reason)
    approval = approval_from(str(name), value.get("approval", {}), reason) if verdict == "require-approval" else None
    retry = retry_from(value.get("retry", {})) if verdict == "retryable-failure" else None
    return CompiledRule(str(name), kind, verdict, ASKED, reason=reason, place=url, approval=approval, retry=retry)
