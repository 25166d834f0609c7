"""The package alone, for interpreters of other environments: beside it in site-packages lie dependencies that would shadow theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

import otel_runtime


@pytest.fixture(scope="session")
def package_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with our package and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "otel_runtime").symlink_to(Path(otel_runtime.__file__).parent)
    return folder
