"""From the setting `instrument` to functions that are wrapped."""

from __future__ import annotations

from otel_runtime.runtime.engines import has_policy
from otel_runtime.settings.model import Settings, Target
from otel_runtime.wrap.patching import Patches, PatchTarget
from otel_runtime.wrap.plan import Options

__all__ = ["patch_targets", "patches_for"]


def patches_for(settings: Settings, elsewhere: frozenset[str] = frozenset()) -> Patches:
    """The patches that settings ask for, not yet installed.

    Args:
        settings: The settings.
        elsewhere: Modules whose targets somebody else wraps.
    """
    return Patches(patch_targets(settings), strict=has_policy(settings), elsewhere=elsewhere)


def patch_targets(settings: Settings) -> tuple[PatchTarget, ...]:
    """The targets that settings name, in their order."""
    return tuple(PatchTarget(target.target, target.kind, _options(target)) for target in settings.instrument)


def _options(target: Target) -> Options:
    is_model = target.kind == "model"
    return Options(
        # As with `@rt.model("gpt-4o-mini")`, the name of a model is the requested model.
        name=None if is_model else target.name,
        model=target.name if is_model else None,
        model_from=target.model_from,
        provider=target.provider,
        tags=frozenset(target.tags),
        guard=target.guard,
        session=target.session,
        user=target.user,
        capture_input=target.capture,
        capture_output=target.capture,
    )
