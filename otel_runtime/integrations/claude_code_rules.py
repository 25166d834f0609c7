"""The rules of a project for one hook process: as an earlier process found them sound, or read and checked anew.

Reading a policy takes pydantic, a YAML reader and a trial of every case; a hook that is waited for before each tool pays it once per change of the
files. Both ways end in the same `RuleSet.compiled`, so they decide alike; whatever is odd about what was kept leads to the whole reading,
with its own faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otel_runtime.errors import ConfigError
from otel_runtime.integrations.claude_code_sources import Sources, policy_files, sources_of

if TYPE_CHECKING:
    from otel_runtime.policy.engine import PolicyEngine
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.policy.protocol import Engine
    from otel_runtime.settings.model import Settings

__all__ = ["Rules", "rules_for"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides in a project.

    Args:
        engine: None where the project has no policy.
        state: The project's state database.
        kept: True when they were not read from the policy files.
    """

    engine: Engine | None
    state: Path
    kept: bool = False


def rules_for(tool: str, load: Callable[[], Settings], given: Path | None = None, *, keep: bool = True) -> Rules:
    """The rules that decide on a tool.

    Args:
        tool: Its name, as policies name it; with kept rules no other can be decided on.
        load: Reads the settings, when they are needed.
        given: The settings file that was named; None searches.
        keep: False reads every file, and leaves nothing behind.

    Raises:
        ConfigError: The settings or the policy cannot be used.
    """
    sources = sources_of(given) if keep else None
    return (_kept(sources, tool) if sources is not None else None) or _read(sources, given, load)


def _kept(sources: Sources, tool: str) -> Rules | None:
    from otel_runtime.integrations.claude_code_kept import Kept

    body = Kept(sources.state).read()
    if body is None:
        return None
    head, _, rules = body.partition(b"\n")
    try:
        found = json.loads(head)
        paths = [Path(path) for path in found["policy"]]
        if found["of"] != sources.fingerprint:
            return None
        if not paths:
            return Rules(None, sources.state, kept=True)
        if policy_files(paths) != found["files"]:
            return None
        protected = [*paths, *(Path(file) for file, _ in found["files"]), *(Path(path) for path in found["protected"])]
        return Rules(_compiled(rules.decode(), protected, tool), sources.state, kept=True)
    except (ValueError, KeyError, TypeError, OSError, ConfigError):
        # A package or predicate is gone, a file cannot be read: the whole reading says what is wrong.
        return None


def _compiled(rules: str, protected: list[Path], tool: str) -> PolicyEngine:
    from otel_runtime.policy.engine import PolicyEngine
    from otel_runtime.policy.preserving import ruleset_from

    return PolicyEngine(ruleset_from(rules).compiled(protected, tool))


def _read(sources: Sources | None, given: Path | None, load: Callable[[], Settings]) -> Rules:
    settings = load()
    if settings.cedar or settings.opa is not None:
        return Rules(_with_others(settings), settings.state)
    if not settings.policy:
        if sources is not None and sources == sources_of(given):
            _keep(sources, settings, (), [], None)
        return Rules(None, settings.state)
    from otel_runtime.policy.loading import load_policy
    from otel_runtime.runtime.protected import protected_paths

    protected = protected_paths(settings)
    before = policy_files(settings.policy) if sources is not None else []
    loaded = load_policy(settings.policy, protected=protected)
    # Kept is what was read from exactly these contents: a file that changed meanwhile keeps nothing.
    if sources is not None and before == policy_files(settings.policy) and sources == sources_of(given):
        _keep(sources, settings, protected, before, loaded)
    return Rules(loaded.engine, settings.state)


def _with_others(settings: Settings) -> Engine | None:
    """Policies in another language are read each time; nothing of them is kept."""
    from otel_runtime.policy.loading import load_policy
    from otel_runtime.runtime.engines import configured_engine
    from otel_runtime.runtime.protected import protected_paths

    own = load_policy(settings.policy, protected=protected_paths(settings)) if settings.policy else None
    return configured_engine(settings, own)


def _keep(sources: Sources, settings: Settings, protected: tuple[Path, ...], files: list[list[str]], loaded: LoadedPolicy | None) -> None:
    if settings.state != sources.state or (loaded is not None and loaded.ruleset.asks_predicates):
        # Code of the operator's own is part of such a policy, and its content is known to nobody here.
        return
    from otel_runtime.integrations.claude_code_kept import Kept
    from otel_runtime.policy.preserving import ruleset_json

    head = {
        "of": sources.fingerprint,
        "policy": [str(path) for path in settings.policy],
        "files": files,
        "protected": [str(path) for path in protected],
    }
    rules = "" if loaded is None else ruleset_json(loaded.ruleset)
    Kept(sources.state).write(json.dumps(head).encode() + b"\n" + rules.encode())
