"""What no rule can open, whatever it says: the state of approvals and audit, and the settings that say who may answer."""

from __future__ import annotations

from pathlib import Path

from otel_runtime.audit.key import key_path_for
from otel_runtime.settings.model import Settings

__all__ = ["protected_paths"]


def protected_paths(settings: Settings) -> tuple[Path, ...]:
    """The state database with its key and side files, the settings file, and what engines of other languages are given."""
    state = settings.state
    beside = [state.with_name(state.name + ending) for ending in ("-wal", "-shm", "-journal")]
    named = [path for path in (settings.file, settings.opa_token_file) if path is not None]
    return (state, key_path_for(state), *beside, *named, *settings.cedar)
