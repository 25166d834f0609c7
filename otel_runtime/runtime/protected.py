"""What no rule can open, whatever it says: approvals and audit, what hooks have counted, and the settings that say who may answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from otel_runtime.audit.key import key_path_for

if TYPE_CHECKING:
    from otel_runtime.settings.model import Settings

__all__ = ["hook_facts", "protected_paths"]


def hook_facts(state: Path) -> Path:
    """The file in which the hook processes of a project keep what limits have used, labels, and what ran.

    Args:
        state: The project's state database.
    """
    return state.parent / "hooks" / "facts.jsonl"


def protected_paths(settings: Settings) -> tuple[Path, ...]:
    """The state database with its key and side files, the settings file, and what engines of other languages are given."""
    state = settings.state
    beside = [state.with_name(state.name + ending) for ending in ("-wal", "-shm", "-journal")]
    named = [path for path in (settings.file, settings.opa_token_file) if path is not None]
    return (state, key_path_for(state), *beside, hook_facts(state), *named, *settings.cedar)
