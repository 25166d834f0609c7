"""Finding a source by the name of its vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import uuid4

from otel_runtime.errors import ConfigError
from otel_runtime.sources.a3s import A3S
from otel_runtime.sources.dreadnode import Dreadnode
from otel_runtime.sources.protocol import Source
from otel_runtime.sources.vitehub import ViteHub

__all__ = ["known_sources", "source"]

_SOURCES: Final[dict[str, Callable[[str], Source]]] = {"a3s": A3S, "dreadnode": Dreadnode, "vitehub": ViteHub}


def known_sources() -> tuple[str, ...]:
    """Names of the vocabularies, sorted."""
    return tuple(sorted(_SOURCES))


def source(name: str, stream: str | None = None) -> Source:
    """A fresh source for one stream of a vocabulary.

    Args:
        name: `a3s`, `dreadnode` or `vitehub`.
        stream: Id that tells this stream's runs from those of others where events name none; None makes a random one.

    Raises:
        ConfigError: No vocabulary has that name.
    """
    make = _SOURCES.get(name)
    if make is None:
        known = ", ".join(f"`{each}`" for each in known_sources())
        raise ConfigError.of("S210", f"unknown event source `{name}`, expected one of {known}", "source")
    return make(stream or uuid4().hex)
