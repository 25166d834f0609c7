"""Where the recordings of real Dreadnode runs lie, when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def recordings() -> Path:
    """The folder of recordings; named by a variable, else beside the checkout."""
    told = os.environ.get("OTEL_RUNTIME_RECORDINGS")
    folder = Path(told) if told else Path(__file__).parents[3] / "shared" / "recordings" / "dreadnode"
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set OTEL_RUNTIME_RECORDINGS to the folder that holds *.events.jsonl")
    return folder
