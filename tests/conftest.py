"""Every test starts as a fresh process would: no setting of whoever runs it, no runtime of the test before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_runtime.testing.receiver import OtlpReceiver
from otel_runtime.wrap import active

SETTINGS = ("OTEL_", "OPENAI_", "TRACEPARENT", "TRACESTATE")
# Says where recordings lie; it sets nothing in the library.
KEPT = "OTEL_RUNTIME_RECORDINGS"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(SETTINGS) and name != KEPT]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_configured() -> Iterator[None]:
    yield
    # A runtime that is still registered belongs to a fixture of a wider scope. Without one, what was said at the last shutdown
    # ("a guarded runtime was shut down") would refuse the calls of the next test.
    if not active._registered:
        active.reset_slot()


@pytest.fixture
def receiver(otel_runtime_receiver: OtlpReceiver) -> OtlpReceiver:
    """Where programs in processes of their own send their spans."""
    return otel_runtime_receiver


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A project folder for such programs: no settings file above it is found."""
    (tmp_path / ".git").mkdir()
    return tmp_path
