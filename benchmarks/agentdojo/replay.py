"""Play ground-truth calls through guarded tools in one session, and see what became of each.

The suite's own functions run behind `rt.tool`, its own runtime checks and fills their arguments, and what they return is witnessed, as in any
program that uses the decorators. A question to a person is answered by whoever the run says: in benign runs the acting user agrees, and
the call is made again, as an application would after `ApprovalPending`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import otel_runtime as rt
from otel_runtime.errors import ApprovalPending, Blocked
from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.model import Settings

__all__ = ["USER", "Guarded", "Played", "Step"]

USER = "emma"
Fate = Literal["ran", "failed", "asked", "denied"]


@dataclass(frozen=True, slots=True)
class Step:
    """One call and what became of it.

    Args:
        call: The suite's own call.
        fate: `ran` (after a question, too), `failed` (the tool itself), `asked` and nobody agreed, or `denied`.
        questions: How often a person was asked about it.
        why: Rule and reason of a question or refusal, or the tool's error.
        result: What the tool returned.
    """

    call: Any
    fate: Fate
    questions: int = 0
    why: str = ""
    result: Any = None


@dataclass(slots=True)
class Played:
    """The calls of one run, in order.

    Args:
        steps: What became of each.
    """

    steps: list[Step] = field(default_factory=list)

    @property
    def ran(self) -> list[Any]:
        """The calls whose body ran."""
        return [step.call for step in self.steps if step.fate in ("ran", "failed")]

    @property
    def questions(self) -> int:
        """How often a person was asked."""
        return sum(step.questions for step in self.steps)


class Guarded:
    """A suite's tools behind a policy.

    Args:
        module: AgentDojo's `functions_runtime` module.
        tools: The suite's functions.
        policy: Policy file.
        state: SQLite file for the approvals, in a folder of this run's own.
    """

    def __init__(self, module: Any, tools: Iterable[Any], policy: Path, state: Path) -> None:
        settings = {"policy": (policy,), "state": state, "otlp": "off", "wait_at_most": 0, "people": {USER: {"roles": []}}}
        self._runtime: Runtime = build_runtime(Settings.model_validate(settings))
        self._functions: Any = module.FunctionsRuntime([_guarded(tool) for tool in tools])
        self._ids = itertools.count(1)

    def close(self) -> None:
        """Stop the runtime."""
        self._runtime.shutdown()

    def play(self, said: str, calls: Iterable[Any], hijacked: Iterable[Any], environment: Any) -> tuple[Played, Played]:
        """One session: the user's calls, whose questions the user answers with yes, then those of the attacker, whom nobody answers.

        Args:
            said: The user's words.
            calls: The calls that do what the user wants.
            hijacked: The calls that a model would make which obeys what it read.
            environment: What the tools work on; changed by them.
        """
        name = f"run-{next(self._ids)}"
        with self._runtime.use(), rt.session(name, user=USER) as session:
            session.user_said(said)
            with rt.agent("assistant"):
                own = Played([self._step(f"{name}-own-{at}", call, environment, agrees=True) for at, call in enumerate(calls)])
                other = Played([self._step(f"{name}-other-{at}", call, environment, agrees=False) for at, call in enumerate(hijacked)])
        return own, other

    def _step(self, id: str, call: Any, environment: Any, *, agrees: bool) -> Step:
        with rt.call(id=id):
            step = self._made(call, environment, agrees=agrees)
            return step if step.fate != "asked" or not agrees else self._again(step, environment)

    def _made(self, call: Any, environment: Any, *, agrees: bool) -> Step:
        try:
            result, _ = self._functions.run_function(environment, call.function, call.args, raise_on_error=True)
        except ApprovalPending as pending:
            if agrees and self._runtime.approvals is not None:
                self._runtime.approvals.answer(pending.request_id, approver=f"os:{USER}", approved=True)
            return Step(call, "asked", 1, f"{pending.rule}: {pending.reason}")
        except Blocked as refusal:
            return Step(call, "denied", 0, f"{refusal.rule}: {refusal.reason}")
        except Exception as error:  # noqa: BLE001  # whatever a tool of the suite raises is its own answer to the model
            return Step(call, "failed", 0, f"{type(error).__name__}: {error}")
        # Its own objects go on changing with the environment.
        return Step(call, "ran", result=copy.deepcopy(result))

    def _again(self, asked: Step, environment: Any) -> Step:
        done = self._made(asked.call, environment, agrees=False)
        return Step(done.call, done.fate, asked.questions + done.questions, asked.why, done.result)


def _guarded(tool: Any) -> Any:
    """The suite's function behind the decorator; what its environment fills in enters decisions by type name only."""
    return tool.model_copy(update={"run": rt.tool(name=tool.name, opaque=tuple(tool.dependencies))(tool.run)})
