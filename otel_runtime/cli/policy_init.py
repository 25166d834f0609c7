"""`otel-runtime policy init MODULE`: a starter policy from the decorated tools of a module."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from otel_runtime.cli.policy_opening import OK, add_json, counted, look_beside
from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from otel_runtime.values.action import ToolSignature

__all__ = ["register"]


def register(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = inner.add_parser(
        "init",
        help="begin a policy from the decorated tools of a module",
        description="Import a module and print a policy for its decorated tools. Everything asks a person; tools whose names look like "
        "reading are proposed in comments and never allowed. The module's top-level code runs: name only one that you trust. What it "
        "prints goes to standard error, and no telemetry leaves meanwhile.",
        epilog="Exit codes: 0 written, 2 the module cannot be imported, decorates no tool, or the file is there already.",
    )
    parser.add_argument("module", metavar="MODULE", help="such as myapp.tools")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to write; standard output when left out")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    add_json(parser)
    parser.set_defaults(run=_init)


def _init(arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.init_file import is_reading, starter
    from otel_runtime.policy.names import is_name, no_such_tool
    from otel_runtime.policy.packs import schema_beside

    out: Path | None = arguments.out
    if out is not None and out.exists() and not arguments.force:
        raise ConfigError.of("P001", "the file is there already; choose another, or write over it with --force", str(out))
    schema = None if out is None else schema_beside(out.parent, force=arguments.force)
    if schema == out and out is not None:
        raise ConfigError.of("P001", "this is where the schema of the policy goes; choose another name, such as `policy.yaml`", str(out))
    file, found = _imported(arguments.module)
    for name in sorted(name for name in found if not is_name(name)):
        _say(f"left out: {no_such_tool(name, registered=True)}")
    tools = {name: signature for name, signature in found.items() if is_name(name)}
    if not tools:
        raise ConfigError.of("P025", f"`{arguments.module}` ({file}) decorates no tool; decorate functions with `@rt.tool` first", "MODULE")
    _say(f"{counted(len(tools), 'tool')}: {', '.join(sorted(tools))}")
    proposed = sorted(name for name in tools if is_reading(name))
    text = starter(arguments.module, tools)
    if out is not None and schema is not None:
        _write(out, text, schema)
        _say(f"wrote {out}, and {schema} for editors; read it, then: otel-runtime policy test {out} --app {arguments.module}")
    if arguments.json:
        print(
            json.dumps(
                {"module": arguments.module, "imported": file, "tools": sorted(tools), "proposed": proposed, "policy": text}, indent=2
            )
        )
    elif out is None:
        print(text, end="")
    return OK


def _imported(module: str) -> tuple[str, Mapping[str, ToolSignature]]:
    """The module's file, and the tools that importing it decorates."""
    from otel_runtime.wrap.registry import known_plans

    look_beside()
    before = {plan.target for plan in known_plans()}
    with _quiet():
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError) as error:
            raise ConfigError.of("P001", f"cannot find `{module}`: {error}", "MODULE") from None
        except (Exception, SystemExit) as error:  # noqa: BLE001  # finding a module imports the packages it is in
            raise ConfigError.of("P001", f"cannot import what `{module}` is in: {type(error).__name__}: {error}", "MODULE") from None
        if found is None:
            raise ConfigError.of("P001", f"there is no module `{module}` here; give its dotted name, such as `myapp.tools`", "MODULE")
        file = found.origin or "a namespace package"
        _say(f"imports {module} from {file}: its top-level code runs now")
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # importing a module runs anything
            raise ConfigError.of("P001", f"cannot import `{module}`: {type(error).__name__}: {error}", "MODULE") from None
    plans = [plan for plan in known_plans() if plan.kind == "tool" and (_is_inside(plan.target, module) or plan.target not in before)]
    return file, {plan.name: plan.signature for plan in plans if plan.signature is not None}


def _is_inside(target: str, module: str) -> bool:
    home = target.partition(":")[0]
    return home == module or home.startswith(f"{module}.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what a module prints off standard output, and what it would send off the network."""
    kept = os.environ.get("OTEL_SDK_DISABLED")
    os.environ["OTEL_SDK_DISABLED"] = "true"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is None:
            del os.environ["OTEL_SDK_DISABLED"]
        else:
            os.environ["OTEL_SDK_DISABLED"] = kept


def _write(out: Path, text: str, schema: Path) -> None:
    from otel_runtime.policy.packs import schema_file

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        # Beside the policy, where its first line says that editors find it.
        schema.write_text(schema_file().read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise ConfigError.of("P001", f"cannot write the policy: {error.strerror}", str(out)) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)
