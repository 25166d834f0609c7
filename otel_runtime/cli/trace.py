"""`otel-runtime trace`: look at runs, from a file, Jaeger or Tempo."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from otel_runtime.cli.trace_source import Source, Window

__all__ = ["header", "register", "window"]

DONE, NOTHING = 0, 1
# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}")
_LOCAL_JAEGER = "http://127.0.0.1:16686"
_LOCAL_TEMPO = "http://127.0.0.1:3200"
_LONGEST_S = 50 * 365 * 86_400.0
_EPILOG = "Exit codes: 0 found, 1 nothing found, 2 a wrong word, an unreadable file, or a server that does not answer."


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = commands.add_parser("trace", help="look at recorded runs", description="Look at runs, from a file, Jaeger or Tempo.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _register_show(actions)
    _register_list(actions)


def _register_show(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    show = actions.add_parser(
        "show",
        help="print a run as a tree or waterfall",
        description=f"Print runs as a tree. A trace id is looked up in Jaeger at {_LOCAL_JAEGER} unless an option names another place.",
        epilog=_EPILOG,
    )
    show.add_argument(
        "what",
        metavar="FILE|TRACE_ID",
        nargs="+",
        help="a file written by the setting `trace_file` or by a Collector, several where several services wrote one each, a directory of them, or 32 hex digits",
    )
    show.add_argument("--waterfall", action="store_true", help="one line per span, with its place in time as a bar")
    _add_servers(show)
    show.set_defaults(run=_show)


def _register_list(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = actions.add_parser(
        "list",
        help="list runs, newest first",
        description=f"List runs, newest first. Without a file they come from Jaeger at {_LOCAL_JAEGER}. Several filters must all hold.",
        epilog=_EPILOG,
    )
    listing.add_argument("files", nargs="*", type=Path, metavar="FILE", help="files or directories, as for `show`")
    listing.add_argument("--denied", action="store_true", help="a call was denied")
    listing.add_argument("--waiting", action="store_true", help="a question waits for a person")
    listing.add_argument("--failed", action="store_true", help="a span failed")
    listing.add_argument("--costly", metavar="AMOUNT", default=None, help="cost at least this much, such as 0.50")
    listing.add_argument("--slow", metavar="DURATION", default=None, help="took at least this long, such as 30s or 5m")
    listing.add_argument("--since", metavar="DURATION", default="24h", help="how far back a server is asked (default: 24h)")
    listing.add_argument("--service", metavar="NAME", default="", help="only this service.name")
    listing.add_argument("--limit", metavar="N", type=int, default=100, help="traces a server is asked for, per service (default: 100)")
    listing.add_argument("--json", action="store_true", help="print JSON")
    _add_servers(listing)
    listing.set_defaults(run=_list)


def _add_servers(parser: argparse.ArgumentParser) -> None:
    servers = parser.add_mutually_exclusive_group()
    servers.add_argument("--jaeger", metavar="URL", default=None, help=f"Jaeger's page (default: {_LOCAL_JAEGER})")
    servers.add_argument("--tempo", metavar="URL", default=None, help=f"Tempo, such as {_LOCAL_TEMPO}")
    parser.add_argument("--header", metavar="NAME:VALUE", action="append", default=[], help="sent to the server; may be repeated")


def _show(arguments: argparse.Namespace) -> int:
    from otel_runtime.cli.trace_source import FileSource  # only these commands pay for it
    from otel_runtime.cli.trace_waterfall import waterfall
    from otel_runtime.telemetry.console_tree import render

    given: list[str] = arguments.what
    what = given[0]
    from_file = not (len(given) == 1 and _is_trace_id(what, arguments))
    if from_file and (arguments.jaeger or arguments.tempo):
        raise ConfigError.of("T015", f"expected one trace id of 32 hex digits, got {len(given)} names; files need no server", "TRACE_ID")
    source = _server(arguments)
    with _told_where(arguments):
        spans = FileSource(tuple(map(Path, given))).spans() if from_file else source.trace(what.lower())
    console = _console()
    if not spans and not from_file:
        console.print(
            f"no trace {what} at {arguments.tempo or arguments.jaeger or _LOCAL_JAEGER}; it may not have been sent yet, or not kept"
        )
        return NOTHING
    console.print(waterfall(spans, console.width) if arguments.waterfall else render(spans))
    link = "" if from_file else source.link(what.lower())
    if link:
        console.print(link)
    return DONE if spans else NOTHING


def _is_trace_id(what: str, arguments: argparse.Namespace) -> bool:
    if _TRACE_ID.fullmatch(what):
        return not Path(what).is_file()
    if arguments.jaeger or arguments.tempo or not os.path.lexists(what):
        expected = "a trace id" if arguments.jaeger or arguments.tempo else "an existing file, or a trace id"
        raise ConfigError.of(
            "T015", f"expected {expected} of 32 hex digits, got `{what}`; `otel-runtime trace list` shows them", "TRACE_ID"
        )
    return False


def _list(arguments: argparse.Namespace) -> int:
    from otel_runtime.cli.trace_listing import as_data, table
    from otel_runtime.cli.trace_source import FileSource
    from otel_runtime.cli.trace_summary import Wanted, summaries

    wanted = Wanted(
        denied=arguments.denied,
        waiting=arguments.waiting,
        failed=arguments.failed,
        costly=_amount(arguments.costly),
        slow_s=None if arguments.slow is None else _seconds(arguments.slow, "--slow"),
    )
    if arguments.files and (arguments.jaeger or arguments.tempo):
        raise ConfigError.of("T016", "expected files or a server, got both; leave one out", "trace list")
    source: Source = FileSource(tuple(arguments.files)) if arguments.files else _server(arguments)
    with _told_where(arguments):
        everything = summaries(source.recent(window(arguments)))
    found = [summary for summary in everything if wanted.admits(summary)]
    if arguments.json:
        print(as_data(found, source.link))
    else:
        console = _console()
        console.print(table(found, console.width) if found else f"no run matches, of {len(everything)} looked at")
    return DONE if found else NOTHING


def _server(arguments: argparse.Namespace) -> Source:
    from otel_runtime.cli.trace_http import base_url
    from otel_runtime.cli.trace_source import JaegerSource, TempoSource

    headers = dict(header(text) for text in arguments.header)
    if arguments.tempo:
        return TempoSource(base_url(arguments.tempo, option="--tempo", example=_LOCAL_TEMPO), headers)
    return JaegerSource(base_url(arguments.jaeger or _LOCAL_JAEGER, option="--jaeger", example=_LOCAL_JAEGER), headers)


@contextmanager
def _told_where(arguments: argparse.Namespace) -> Iterator[None]:
    """Who named no server may not know that one was asked."""
    try:
        yield
    except ConfigError as error:
        fault = error.faults[0]
        if fault.code != "T011" or arguments.jaeger or arguments.tempo:
            raise
        raise ConfigError.of(
            fault.code, f"{fault.message} Else name a trace file, or a server with --jaeger or --tempo", fault.source
        ) from None


def header(text: str) -> tuple[str, str]:
    """Name and value of a header that was typed.

    Raises:
        ConfigError: It is none that can be sent.
    """
    name, colon, value = text.partition(":")
    # Python sends headers in Latin-1.
    if not colon or not _HEADER_NAME.fullmatch(name.strip()) or not value.isprintable() or any(ord(char) > 255 for char in value):
        # The value may be a secret, so it is not repeated.
        raise ConfigError.of("T017", "expected NAME:VALUE, such as `X-Scope-OrgID: team-a`", "--header")
    return name.strip(), value.strip()


def window(arguments: argparse.Namespace) -> Window:
    """Which traces a server is asked for, from `--since`, `--limit` and `--service`.

    Raises:
        ConfigError: One of them is no such thing.
    """
    from datetime import timedelta

    from otel_runtime.cli.trace_source import Window, now

    if arguments.limit < 1:
        raise ConfigError.of("T018", f"expected a number of at least 1, got `{arguments.limit}`", "--limit")
    # Nothing is older than fifty years, and before 1970 no server counts.
    since = timedelta(seconds=min(_seconds(arguments.since, "--since"), _LONGEST_S))
    return Window(now(), since, arguments.limit, arguments.service)


def _amount(text: str | None) -> Decimal | None:
    try:
        amount = None if text is None else Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if amount is not None and not (amount.is_finite() and amount >= 0):
        raise ConfigError.of("T019", f"expected an amount such as `0.50`, got `{text}`", "--costly")
    return amount


def _seconds(text: str, option: str) -> float:
    from otel_runtime.settings.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError.of("T020", str(error), option) from None


def _console() -> Console:
    import io
    import sys

    from otel_runtime.telemetry.console_tree import console_for

    if isinstance(sys.stdout, io.TextIOWrapper):
        # An old locale has no lines and bars; a question mark is better than no answer.
        sys.stdout.reconfigure(errors="replace")
    return console_for(sys.stdout)
