"""`otel-runtime policy pack`: the policies that come with the package."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from otel_runtime.cli.policy_opening import OK, add_json
from otel_runtime.errors import ConfigError

__all__ = ["register"]

_CODES = "Exit codes: 0 done, 2 there is no such pack, or a file is there already."


def register(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = inner.add_parser(
        "pack",
        help="list, show or copy the ready policies",
        description="Ready policies that come with the package. `pack:NAME` is a policy wherever one is named: `policy: pack:careful-default`.",
        epilog=_CODES,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the packs", description="List the packs.", epilog=_CODES)
    add_json(listing)
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="print a pack", description="Print a pack's file.", epilog=_CODES)
    show.add_argument("name", metavar="NAME", help="such as careful-default")
    add_json(show)
    show.set_defaults(run=_show)
    copy = actions.add_parser(
        "copy", help="copy a pack, to make it yours", description="Copy a pack and the schema that editors check it by.", epilog=_CODES
    )
    copy.add_argument("name", metavar="NAME", help="such as careful-default")
    copy.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path("policy"), help="where to (default: policy)")
    copy.add_argument("--force", action="store_true", help="write over a file that is there")
    add_json(copy)
    copy.set_defaults(run=_copy)


def _list(arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.packs import packs

    found = packs()
    if arguments.json:
        print(json.dumps([{"name": pack.name, "about": pack.about, "path": str(pack.path)} for pack in found], indent=2))
        return OK
    from rich.table import Table
    from rich.text import Text

    from otel_runtime.cli.policy_view import console

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for pack in found:
        table.add_row(Text(f"pack:{pack.name}", "bold"), Text(pack.about))
    console().print(table)
    return OK


def _show(arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.packs import pack

    found = pack(arguments.name.removeprefix("pack:"))
    print(
        json.dumps({"name": found.name, "about": found.about, "path": str(found.path), "text": found.text}, indent=2)
        if arguments.json
        else found.text,
        end="",
    )
    return OK


def _copy(arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.packs import pack, schema_beside, schema_file

    found = pack(arguments.name.removeprefix("pack:"))
    target: Path = arguments.folder / f"{found.name}.yaml"
    if target.exists() and not arguments.force:
        raise ConfigError.of("P001", "the file is there already; choose another folder, or write over it with --force", str(target))
    schema = schema_beside(arguments.folder, force=arguments.force)
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        target.write_text(found.text, encoding="utf-8")
        # Beside the policy, where its first line says that editors find it.
        schema.write_text(schema_file().read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise ConfigError.of("P001", f"cannot write the copy: {error.strerror}", str(target)) from None
    if arguments.json:
        print(json.dumps({"policy": str(target), "schema": str(schema)}, indent=2))
    else:
        print(f"{target}\n{schema}\nnow rename its tools to yours, and: otel-runtime policy check {target}")
    return OK
