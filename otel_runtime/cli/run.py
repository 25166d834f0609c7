"""`otel-runtime run [-m] PROGRAM ARGS...`: run an unmodified Python program, configured and with the targets of `instrument` wrapped.

The program is run as `python PROGRAM ARGS...` would run it: as `__main__`, with its own `sys.argv`, `sys.path`, exit code and traceback.
Targets in `__main__`, or in a module of the program's name, are wrapped while it is compiled, because it calls its functions before any
import of it could have ended.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING

from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from otel_runtime.wrap.patching import PatchTarget

__all__ = ["register"]


@dataclass(frozen=True, slots=True)
class _Program:
    """A program found.

    Args:
        source: Its text.
        file: Where it lies.
        name: What modules would import it by; empty when nothing could.
        spec: Its module spec; None for a file.
    """

    source: bytes
    file: str
    name: str
    spec: ModuleSpec | None = None


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run a program with the functions named by `instrument` wrapped",
        description="Run an unmodified Python program, configured, with the functions named by the setting `instrument` wrapped.",
        usage="otel-runtime run [--settings FILE] (PROGRAM | -m MODULE) [ARGS ...]",
    )
    parser.add_argument("--settings", type=Path, default=None, metavar="FILE", help="settings file; searched for from here when left out")
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module, as with `python -m`")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="the program and its arguments")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    words = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not words:
        raise ConfigError.of("S030", "expected a program to run, such as `otel-runtime run agent.py` or `otel-runtime run -m agent`", "run")
    program = _module(words[0]) if arguments.module else _file(words[0])
    code = _prepared(program, arguments.settings)
    sys.argv = [program.file if arguments.module else words[0], *words[1:]]
    return _execute(code, _as_main(program))


def _file(word: str) -> _Program:
    path = Path(word)
    if not path.is_file():
        raise ConfigError.of("S030", "there is no such program; give the path of a Python file, or `-m` and a module", word)
    if not sys.flags.safe_path:
        sys.path[0] = str(path.resolve().parent)
    return _Program(path.read_bytes(), word, path.stem)


def _module(name: str) -> _Program:
    if not sys.flags.safe_path:
        sys.path[0] = str(Path.cwd())
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _spec(name)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ConfigError.of("S030", "there is no such module with Python source; check its name and the folder this was started in", name)
    return _Program(Path(spec.origin).read_bytes(), spec.origin, name, spec)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def _prepared(program: _Program, settings_file: Path | None) -> CodeType:
    """Configure, and compile the program with its own targets wrapped."""
    from otel_runtime.cli.compiling import compile_with
    from otel_runtime.runtime.configuring import configure_from
    from otel_runtime.runtime.instrumenting import patch_targets
    from otel_runtime.settings.loading import load_settings

    settings = load_settings(settings_file)
    if settings_file is not None:
        # For the program's own `configure()`, and for every process that it starts.
        os.environ["OTEL_RUNTIME_CONFIG"] = str(settings_file.absolute())
    configure_from(settings, elsewhere=frozenset({"__main__"}))
    own: list[PatchTarget] = [target for target in patch_targets(settings) if target.module in ("__main__", program.name)]
    return compile_with(program.source, program.file, own)


def _as_main(program: _Program) -> ModuleType:
    """The `__main__` of the program, as `python` makes it."""
    main = ModuleType("__main__")
    main.__file__ = program.file
    main.__spec__ = program.spec
    main.__loader__ = None if program.spec is None else program.spec.loader
    main.__package__ = None if program.spec is None else program.spec.parent
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    main.__dict__["__cached__"] = None if program.spec is None else program.spec.cached
    sys.modules["__main__"] = main
    return main


def _execute(code: CodeType, main: ModuleType) -> int:
    try:
        exec(code, main.__dict__)  # noqa: S102  # running the program is what the user asked for
    except SystemExit:
        raise
    except KeyboardInterrupt as error:
        _report(error)
        _end_by_interrupt()
        return 130
    except BaseException as error:  # noqa: BLE001  # whatever ended the program is shown as Python shows it
        _report(error)
        return 1
    return 0


def _report(error: BaseException) -> None:
    # Python's own hook prints what the exception carries, not what it is given.
    error.__traceback__ = _own(error.__traceback__)
    sys.excepthook(type(error), error, error.__traceback__)


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The program's part of a traceback: the frames of this module come first."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _end_by_interrupt() -> None:
    # As Python itself does: whoever started the program sees that a signal ended it. Nothing else runs at exit then.
    from otel_runtime.runtime.endings import shutdown_all

    shutdown_all()
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
