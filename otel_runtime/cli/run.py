"""`otel-runtime run [-m] PROGRAM ARGS...`: run an unmodified Python program, configured and with the targets of `instrument` wrapped.

The program is run as `python PROGRAM ARGS...` would run it: as `__main__`, with its own `sys.argv`, `sys.path`, exit code and traceback.
Targets in `__main__`, or in a module of the program's name, are wrapped while it is compiled, because it calls its functions before any
import of it could have ended.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import Loader
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec, PathFinder, SourceFileLoader
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
        file: Where it lies, an absolute path.
        name: What modules would import it by.
        loader: What could load it.
        spec: Its module spec; None for a file.
    """

    source: bytes
    file: str
    name: str
    loader: Loader | None
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


def _run(arguments: argparse.Namespace) -> Callable[[], int]:
    words = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not words:
        raise ConfigError.of("S030", "expected a program to run, such as `otel-runtime run agent.py` or `otel-runtime run -m agent`", "run")
    program = _module(words[0]) if arguments.module else _file(words[0])
    code = _prepared(program, arguments.settings)
    sys.argv = [program.file if arguments.module else words[0], *words[1:]]
    main = _as_main(program)
    return lambda: _execute(code, main)


def _file(word: str) -> _Program:
    path = Path(word)
    place = os.path.abspath(path)  # noqa: PTH100  # as Python does: links stay
    spec = PathFinder.find_spec("__main__", [place])
    if spec is not None:
        # A folder or an archive.
        sys.path[0 : 0 if sys.flags.safe_path else 1] = [place]
        return _of_spec("__main__", spec, word)
    if not path.is_file():
        message = (
            "there is no such program; give the path of a Python file, or of a folder or archive with a `__main__.py`, or `-m` and a module"
        )
        raise ConfigError.of("S030", message, word)
    if not sys.flags.safe_path:
        sys.path[0] = str(path.resolve().parent)
    return _Program(path.read_bytes(), place, path.stem, SourceFileLoader("__main__", place))


def _module(name: str) -> _Program:
    if not sys.flags.safe_path:
        sys.path[0] = str(Path.cwd())
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _spec(name)
    return _of_spec(name, spec, name)


def _of_spec(name: str, spec: ModuleSpec | None, word: str) -> _Program:
    read = getattr(spec.loader, "get_data", None) if spec is not None else None
    if spec is None or read is None or spec.origin is None or not spec.origin.endswith(tuple(SOURCE_SUFFIXES)):
        raise ConfigError.of("S030", "there is no such module with Python source; check its name and the folder this was started in", word)
    return _Program(read(spec.origin), spec.origin, name, spec.loader, spec)


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
    try:
        return compile_with(program.source, program.file, own)
    except SyntaxError as error:
        _show(error, None)
        raise


def _as_main(program: _Program) -> ModuleType:
    """The `__main__` of the program, as `python` makes it."""
    main = ModuleType("__main__")
    main.__file__ = program.file
    main.__spec__ = program.spec
    main.__loader__ = program.loader
    main.__package__ = None if program.spec is None else program.spec.parent
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    main.__dict__["__cached__"] = None if program.spec is None else program.spec.cached
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    return main


def _execute(code: CodeType, main: ModuleType) -> int:
    try:
        exec(code, main.__dict__)  # noqa: S102  # running the program is what the user asked for
    except SystemExit:
        raise
    except BaseException as error:
        _show(error, _own(error.__traceback__))
        raise
    return 0


def _show(error: BaseException, trace: TracebackType | None) -> None:
    """Have the program's own hook show the exception with this traceback; the rest of such an ending is the interpreter's."""
    hook = sys.excepthook

    def shown(kind: type[BaseException], value: BaseException, given: TracebackType | None) -> None:
        # Python's own hook prints what the exception carries, not what it is given.
        hook(kind, value.with_traceback(trace if value is error else given), value.__traceback__)

    sys.excepthook = shown


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The program's part of a traceback: the frames of this module come first."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
