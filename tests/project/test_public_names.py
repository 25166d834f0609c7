"""The public face: `import otel_runtime as rt`."""

from __future__ import annotations

import pkgutil

import otel_runtime

# ARCHITECTURE.md, "Public face".
PROMISED = {
    "ApprovalDenied",
    "ApprovalExpired",
    "ApprovalPending",
    "ArgumentsChanged",
    "Blocked",
    "OtelRuntimeError",
    "PolicyDenied",
    "PolicyUnavailable",
    "RetryableFailure",
    "agent",
    "aingest",
    "arun_tool",
    "call",
    "capability",
    "configure",
    "decide",
    "ingest",
    "model",
    "notify",
    "on",
    "on_event",
    "publish",
    "record_usage",
    "run_tool",
    "session",
    "tool",
    "wait_until",
    "workflow",
}


class TestAll:
    def test_is_sorted_and_without_doubles(self) -> None:
        """`__all__` is in order, so that a change to it reads as one line."""
        assert sorted(set(otel_runtime.__all__)) == list(otel_runtime.__all__)

    def test_is_true(self) -> None:
        """Every name in `__all__` is there, and none is private."""
        assert [] == [name for name in otel_runtime.__all__ if name.startswith("_") and name != "__version__"]
        assert [] == [name for name in otel_runtime.__all__ if getattr(otel_runtime, name, None) is None]

    def test_is_complete(self) -> None:
        """`dir` offers `__all__` and submodules, nothing that leaked in by an import."""
        rooms = {module.name for module in pkgutil.iter_modules(otel_runtime.__path__)}
        assert set() == {name for name in dir(otel_runtime) if not name.startswith("_")} - rooms - set(otel_runtime.__all__) - {
            "annotations"
        }

    def test_keeps_the_promise(self) -> None:
        """Every name of the public face that ARCHITECTURE.md lists is exported."""
        assert set() == PROMISED - set(otel_runtime.__all__)

    def test_knows_no_other_name(self) -> None:
        """A name that is not there is an AttributeError that says so, also where names are loaded late."""
        assert not hasattr(otel_runtime, "no_such_name")


class TestSubmodules:
    def test_no_public_name_hides_one(self) -> None:
        """No public name equals a submodule's: importing the submodule would replace the name."""
        rooms = {module.name for module in pkgutil.iter_modules(otel_runtime.__path__)}
        assert len(rooms) > 10
        assert set() == rooms & set(otel_runtime.__all__)
