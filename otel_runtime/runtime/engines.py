"""Which engine decides, from the settings: rules of our own, Cedar, OPA, or several of them, of which the strictest counts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_runtime.policy.catalogue import ToolEntry
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.policy.protocol import Engine
    from otel_runtime.settings.model import Settings

__all__ = ["configured_engine", "describe_engines", "has_policy"]

_log = logging.getLogger("otel_runtime")
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


def has_policy(settings: Settings) -> bool:
    """True when the settings name something that decides."""
    return bool(settings.policy or settings.cedar or settings.opa)


def configured_engine(settings: Settings, policy: LoadedPolicy | None) -> Engine | None:
    """The engine of these settings; None when nothing decides.

    Args:
        settings: The settings.
        policy: Rules of our own that they name; None without.

    Raises:
        ConfigError: Cedar policies or the settings of OPA cannot be used.
    """
    tools: Mapping[str, ToolEntry] = {} if policy is None else policy.tools_catalogue
    engines: list[Engine] = [] if policy is None else [policy.engine]
    if settings.cedar:
        from otel_runtime.policy.engine_cedar import load_cedar

        engines.append(load_cedar(settings.cedar, tools, shadow=settings.cedar_mode == "shadow"))
    if settings.opa is not None:
        engines.append(_opa(settings, settings.opa, tools))
    if not engines:
        return None
    engine = engines[0]
    for other in engines[1:]:
        from otel_runtime.policy.engine_joint import JointEngine

        engine = JointEngine(engine, other)
    return engine


def describe_engines(settings: Settings) -> tuple[str, ...]:
    """What decides beside the rules of our own, for people."""
    cedar = (f"Cedar policies in {', '.join(map(str, settings.cedar))}{_mode(settings.cedar_mode)}",) if settings.cedar else ()
    return (*cedar, f"OPA at {settings.opa}{_mode(settings.opa_mode)}") if settings.opa is not None else cedar


def _mode(mode: str) -> str:
    return "; mode shadow: recorded, never enforced" if mode == "shadow" else ""


def _opa(settings: Settings, url: str, tools: Mapping[str, ToolEntry]) -> Engine:
    from otel_runtime.policy.engine_opa import OpaEngine
    from otel_runtime.policy.engine_opa_http import OpaClient

    try:
        client = OpaClient(url, settings.opa_timeout, _token(settings))
    except ValueError as error:
        raise ConfigError.of("S001", f"setting `opa`: {error}", "opa") from None
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in _HERE:
        _log.warning("policy decisions of `%s` come over plain HTTP: whoever is on the way can answer `allow`; use https", url)
    return OpaEngine(client, url, frozenset(settings.opa_kinds), tools, shadow=settings.opa_mode == "shadow")


def _token(settings: Settings) -> str | None:
    if settings.opa_token_file is None:
        return None
    try:
        token = settings.opa_token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not plain text"
        raise ConfigError.of("S004", f"cannot read the token of OPA: {why.lower()}", str(settings.opa_token_file)) from None
    if not token or not token.isprintable() or " " in token:
        raise ConfigError.of("S004", "expected one token in this file, without blanks", str(settings.opa_token_file))
    return token
