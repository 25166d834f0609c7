"""Makes the modules of the example importable by their own names, as they are when it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "support_agent"


@pytest.fixture(autouse=True, scope="package")
def _example_on_the_path() -> Iterator[None]:
    names = {file.stem for file in EXAMPLE.glob("*.py")}
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path.remove(str(EXAMPLE))
    # Names as common as `tools` must not leak into other tests.
    for name in names & set(sys.modules):
        del sys.modules[name]


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def example() -> Path:
    return EXAMPLE


@pytest.fixture
def environment() -> dict[str, str]:
    """For processes: without the settings of whoever runs the tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
