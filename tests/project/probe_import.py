"""Import otel_runtime under audit and print, as JSON, what the import did besides importing. Run by test_import.py."""

from __future__ import annotations

import json
import os
import sys
import threading
from importlib.machinery import all_suffixes
from pathlib import Path
from types import FrameType

EFFECTS = {
    "open",
    "os.fork",
    "os.mkdir",
    "os.posix_spawn",
    "os.system",
    "os.unlink",
    "signal.signal",
    "sqlite3.connect",
    "subprocess.Popen",
}
HEAVY = (
    "genai_prices",
    "google",
    "grpc",
    "openai",
    "opentelemetry",
    "pydantic",
    "re2",
    "requests",
    "rich",
    "sqlite3",
    "starlette",
    "wrapt",
    "yaml",
)
STANDARD = str(Path(os.__file__).parent)

effects: list[str] = []
environment: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: keep every effect that is not the import system reading a module."""
    if event == "open" and str(arguments[0]).endswith(tuple(all_suffixes())):
        return
    if event in EFFECTS or event.startswith("socket."):
        effects.append(f"{event} {arguments[0] if arguments else ''}")


def reader(frame: FrameType | None) -> str:
    """File of the code that asked for a variable, past the wrappers of `os` itself."""
    while frame is not None and frame.f_code.co_filename in {__file__, os.__file__, "<frozen os>", "<frozen _collections_abc>"}:
        frame = frame.f_back
    return frame.f_code.co_filename if frame else ""


class Recording(type(os.environ)):  # type: ignore[misc]  # the class of os.environ is private to os
    """`os.environ` that remembers which variables code outside the standard library asked for."""

    def __getitem__(self, key: str) -> str:
        origin = reader(sys._getframe(1))
        if "site-packages" in origin or not origin.startswith((STANDARD, "<frozen")):
            environment.append(key)
        value: str = super().__getitem__(key)
        return value


def main(words: list[str]) -> None:
    """Import, touch every public name when told to, and report."""
    os.environ.__class__ = Recording
    sys.addaudithook(watch)
    import otel_runtime  # the act under audit

    touched = [name for name in otel_runtime.__all__ if words and name not in words]
    for name in touched:
        getattr(otel_runtime, name)
    report = {
        "effects": list(effects),
        "environment": list(environment),
        "threads": [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()],
        "heavy": sorted(set(HEAVY) & {name.partition(".")[0] for name in sys.modules}),
        "touched": len(touched),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
