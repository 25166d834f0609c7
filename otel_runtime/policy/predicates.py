"""`when: package.module:function`: the operator's own code, asked with a copy and trusted with nothing but True or False."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import replace

from otel_runtime.policy.protocol import FactsView
from otel_runtime.policy.truth import Tri
from otel_runtime.values.action import Action

__all__ = ["load_predicate"]

_NO_FACTS = FactsView()


def load_predicate(target: str) -> Callable[[Action, FactsView | None], Tri]:
    """Import a predicate, called as `function(action, facts)`.

    Args:
        target: `package.module:function`.

    Raises:
        ValueError: It cannot be imported or is not callable.
    """
    module_name, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # noqa: BLE001  # importing runs code of others, which may raise anything
        raise ValueError(f"cannot load `{target}`: {type(error).__name__}: {error}") from None
    if not callable(function):
        raise ValueError(f"`{target}` is not a function; expected function(action, facts) -> bool")  # noqa: TRY004  # the text in the file is wrong

    def ask(action: Action, facts: FactsView | None) -> Tri:
        # A copy: what the function does to the arguments must not reach the conditions after it.
        mine = replace(action, args=copy.deepcopy(dict(action.args)), context=copy.deepcopy(dict(action.context)))
        try:
            answer = function(mine, facts if facts is not None else _NO_FACTS)
        except Exception:  # whatever fails in it, its answer is unknown
            # Loaded when it is needed: most predicates do not fail.
            import logging

            logging.getLogger(__name__).warning("policy predicate `%s` failed; its answer counts as unknown", target, exc_info=True)
            return None
        return answer if isinstance(answer, bool) else None

    return ask
