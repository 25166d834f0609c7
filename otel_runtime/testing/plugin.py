"""The pytest plugin: fixtures `otel_runtime_memory` and `otel_runtime_receiver`, marker `otel_runtime`.

Loads nothing heavy until a test asks for a fixture::

    @pytest.mark.otel_runtime(policy="policy/support.yaml")
    def test_refund_is_denied(otel_runtime_memory):
        otel_runtime_memory.assert_decided(
            lambda: refund(order_id=1, amount=900), "deny", rule="refund.limit", span="policy deny refund"
        )
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otel_runtime.testing.variables import without_variables

if TYPE_CHECKING:
    from otel_runtime.testing.memory import MemoryRuntime
    from otel_runtime.testing.receiver import OtlpReceiver

__all__ = ["otel_runtime_memory", "otel_runtime_receiver", "pytest_configure"]

_MARKER = "otel_runtime"
_OWN = frozenset({"policy", "policy_text", "capabilities"})


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that `--strict-markers` knows it."""
    text = "otel_runtime(policy=PATHS, policy_text=YAML, capabilities=MAPPING, **settings): what `otel_runtime_memory` is configured with"
    config.addinivalue_line("markers", text)


@pytest.fixture
def otel_runtime_memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryRuntime]:
    """A runtime of the test's own, in force until the test ends; its spans, decisions and metrics stay in memory."""
    with without_variables():
        # A bad one raises where OpenTelemetry is imported.
        from otel_runtime.testing.memory import MemoryRuntime

    given = _given(request)
    folder = tmp_path / "otel-runtime"
    folder.mkdir()
    settings = _settings(given)
    capabilities = given.get("capabilities")
    if capabilities is not None and not isinstance(capabilities, Mapping):
        raise pytest.UsageError(f"expected `capabilities` to be a mapping, got `{type(capabilities).__name__}`")
    memory = MemoryRuntime(folder / "state.db", _policy(given, folder, request.config.rootpath), capabilities, settings)
    try:
        with memory.use():
            yield memory
    finally:
        memory.shutdown()


@pytest.fixture
def otel_runtime_receiver() -> Iterator[OtlpReceiver]:
    """An OTLP receiver on loopback, for programs in processes of their own: hand them its `environ`."""
    from otel_runtime.testing.receiver import OtlpReceiver

    with OtlpReceiver() as receiver:
        yield receiver


def _given(request: pytest.FixtureRequest) -> dict[str, object]:
    """The marker's arguments; the one nearest to the test wins, name by name."""
    given: dict[str, object] = {}
    for marker in request.node.iter_markers(_MARKER):
        if marker.args:
            raise pytest.UsageError("the marker `otel_runtime` takes names only, such as policy=...")
        given = {**marker.kwargs, **given}
    return given


def _settings(given: Mapping[str, object]) -> dict[str, object]:
    from otel_runtime.settings.model import Settings
    from otel_runtime.settings.nearest import did_you_mean

    for name in given:
        if name not in _OWN and name not in Settings.model_fields:
            raise pytest.UsageError(f"the marker `otel_runtime` knows no `{name}`{did_you_mean(name, [*_OWN, *Settings.model_fields])}")
    return {name: value for name, value in given.items() if name not in _OWN}


def _policy(given: Mapping[str, object], folder: Path, root: Path) -> tuple[Path, ...]:
    text, paths = given.get("policy_text"), given.get("policy")
    if text is not None and not isinstance(text, str):
        raise pytest.UsageError(f"expected `policy_text` to be YAML text, got `{type(text).__name__}`")
    if isinstance(text, str):
        # In a file of its own, so that faults carry line and column.
        path = folder / "policy.yaml"
        path.write_text(text, encoding="utf-8")
        return (path, *_paths(paths, root))
    return _paths(paths, root)


def _paths(paths: object, root: Path) -> tuple[Path, ...]:
    if paths is None:
        return ()
    each = [paths] if isinstance(paths, str | Path) else paths
    if not isinstance(each, list | tuple) or not all(isinstance(path, str | Path) for path in each):
        raise pytest.UsageError(f"expected `policy` to be a path or a list of paths, got `{paths}`")
    # Relative to the project, not to wherever pytest was started.
    return tuple(root / path for path in each)
