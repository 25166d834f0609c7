"""`otel-runtime approvals`: see what waits for a person, and answer it. Nothing is ever answered by default."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO, get_args

from otel_runtime.cli.openings import add_approvals_command
from otel_runtime.values.approval import ApprovalRequest, ApprovalState

if TYPE_CHECKING:
    from otel_runtime.approvals.answers import Answer, Redecide
    from otel_runtime.approvals.service import ApprovalService
    from otel_runtime.settings.model import Settings

__all__ = ["Desk", "Mistake", "register"]

DONE, REFUSED, MISTAKE = 0, 1, 2
_SHORTEST_PREFIX = 6
_LOOK_EVERY_S = 1.0


class Mistake(Exception):
    """The person at the keyboard asked for something that cannot be done as typed."""


@dataclass(slots=True)
class Desk:
    """Where a person sits: the service, who they are, and what they see and type.

    Args:
        service: The approvals.
        person: Identity from the operating system, such as `os:alice`.
        out: What they read.
        err: Where refusals and mistakes are said.
        ask: Reads a line they type; None when nobody sits there.
        redecide: Makes what decides an edited call.
        sleep: Waits the given seconds.
        page: Where the trace of a request can be looked at; empty when it is not known.
    """

    service: ApprovalService
    person: str
    out: TextIO
    err: TextIO
    ask: Callable[[str], str] | None = None
    redecide: Callable[[], Redecide | None] | None = None
    sleep: Callable[[float], None] = time.sleep
    page: Callable[[ApprovalRequest], str] = lambda _: ""

    def listing(self, states: tuple[ApprovalState, ...], *, as_json: bool) -> int:
        """Print requests, newest first."""
        from otel_runtime.approvals.display import as_data, headline, in_words

        self.service.sweep()
        requests = self.service.list(states)
        if as_json:
            self._say(json.dumps([as_data(request) for request in requests], indent=2))
        for request in [] if as_json else requests:
            left = f"  {in_words(request.expires_at - _now())}" if request.state == "awaiting-approval" else ""
            self._say(headline(request) + left)
        if not requests and not as_json:
            self._say("nothing waits for approval" if states == ("awaiting-approval",) else "no requests")
        for request_id in self.service.damaged():
            self._complain(f"request {request_id} was changed by something other than otel-runtime and cannot be used; see `audit verify`")
        return DONE

    def show(self, prefix: str, *, full: bool, as_json: bool) -> int:
        """Print everything about one request."""
        from otel_runtime.approvals.display import as_data

        request = self._request(prefix)
        if as_json:
            self._say(json.dumps({**as_data(request), "trace_page": self.page(request) or None}, indent=2))
        else:
            self._print(request, full=full)
        return DONE

    def approve(self, prefix: str, *, reason: str, edits: list[str], yes: bool) -> int:
        """Say yes, after showing what to."""
        request = self._request(prefix)
        changes = dict(_edit(text) for text in edits)
        if not yes and not self._confirmed(request, changes):
            return MISTAKE
        return self._answer(request, approved=True, reason=reason, edits=changes)

    def deny(self, prefix: str, *, reason: str) -> int:
        """Say no."""
        return self._answer(self._request(prefix), approved=False, reason=reason, edits={})

    def watch(self, rounds: int | None = None) -> int:
        """Print requests as they come and, when somebody sits there, offer to answer; until Ctrl-C.

        Args:
            rounds: How often to look; None means until interrupted.
        """
        seen: set[str] = set()
        try:
            self._say(f"watching for requests in {self.service.database.path}; Ctrl-C ends")
            while rounds is None or rounds > 0:
                self._look(seen)
                rounds = None if rounds is None else rounds - 1
                if rounds != 0:
                    self.sleep(_LOOK_EVERY_S)
        except KeyboardInterrupt:
            self._say("")
        return DONE

    def _look(self, seen: set[str]) -> None:
        for request in reversed(self.service.list(("awaiting-approval",))):
            if request.id not in seen:
                seen.add(request.id)
                self._print(request, full=False)
                self._offer(request)

    def _offer(self, request: ApprovalRequest) -> None:
        if self.ask is None:
            self._say(f"answer with: otel-runtime approvals approve {request.id[:12]} | deny {request.id[:12]}\n")
            return
        typed = self._typed("type `approve` or `deny`, or press Enter to leave it open: ")
        if typed in ("approve", "deny"):
            self._answer(request, approved=typed == "approve", reason="", edits={})
        else:
            self._say("left open\n")

    def _confirmed(self, request: ApprovalRequest, changes: dict[str, object]) -> bool:
        from otel_runtime.approvals.display import rendered, visible

        if self.ask is None:
            self._complain(
                f"no decision was made: there is no terminal to confirm on; read `approvals show {request.id[:12]}`, then add --yes to approve it"
            )
            return False
        self._print(request, full=False)
        for name, value in changes.items():
            self._say(f"you change  {visible(name)} to {rendered(value, name)}")
        if self._typed("type `approve` to let exactly this call run: ") == "approve":
            return True
        self._complain("no decision was made: expected the word `approve`; the request stays open")
        return False

    def _answer(self, request: ApprovalRequest, *, approved: bool, reason: str, edits: dict[str, object]) -> int:
        from otel_runtime.approvals.answers import AnswerRefused

        redecide = self.redecide() if edits and self.redecide is not None else None
        try:
            answer = self.service.answer(
                request.id, approver=self.person, approved=approved, reason=reason, edits=edits or None, redecide=redecide
            )
        except AnswerRefused as error:
            self._complain(str(error))
            return REFUSED
        self._say(_outcome(answer))
        return DONE

    def _request(self, prefix: str) -> ApprovalRequest:
        prefix = prefix.lower()
        if len(prefix) < _SHORTEST_PREFIX or set(prefix) - set("0123456789abcdef"):
            raise Mistake(f"expected a request id or its first {_SHORTEST_PREFIX} or more hex digits, got `{prefix}`; see `approvals list`")
        found = self.service.find(prefix)
        if not found:
            raise Mistake(f"there is no approval request `{prefix}`; see `approvals list --all`")
        if len(found) > 1:
            raise Mistake(f"`{prefix}` fits {len(found)} or more requests ({', '.join(found[:3])}); give more digits")
        request = self.service.get(found[0])
        if request is None:
            raise Mistake(f"there is no approval request `{prefix}`; see `approvals list --all`")
        return request

    def _print(self, request: ApprovalRequest, *, full: bool) -> None:
        from otel_runtime.approvals.display import lines

        missing = self.service.missing(request) if request.state == "awaiting-approval" else {}
        self._say("\n".join(lines(request, _now(), full=full, missing=missing, page=self.page(request))))

    def _typed(self, prompt: str) -> str:
        try:
            return self.ask(prompt).strip() if self.ask is not None else ""
        except EOFError:
            # The end of input is no answer.
            self._say("")
            return ""

    def _say(self, text: str) -> None:
        self.out.write(text + "\n")
        self.out.flush()

    def _complain(self, text: str) -> None:
        self.err.write(text + "\n")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the console script."""
    group = commands.add_parser(
        "approvals",
        help="see and answer what waits for a person",
        description="See what waits for a person, and answer it. Nothing is ever answered by default.",
        epilog="Exit codes of all: 0 done, 1 refused (somebody was first, it expired, you may not answer it), 2 a mistake, or no decision.",
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _register_reading(actions)
    _register_answering(actions)


def _register_reading(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = _command(
        actions, "list", "list what waits", lambda desk, args: desk.listing(_states(args), as_json=args.json), before_the_first=_nothing
    )
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="requests in every state")
    which.add_argument("--state", choices=get_args(ApprovalState), help="requests in one state")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = _command(actions, "show", "show one request", lambda desk, args: desk.show(args.id, full=args.full, as_json=args.json))
    _add_id(show)
    show.add_argument("--full", action="store_true", help="show long values whole")
    show.add_argument("--json", action="store_true", help="print JSON")
    # Whoever sits down first waits for the agent.
    _command(actions, "watch", "print requests as they come, and answer them", lambda desk, _: desk.watch(), before_the_first=None)


def _register_answering(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    approve = _command(
        actions,
        "approve",
        "let exactly this call run, once",
        lambda desk, args: desk.approve(args.id, reason=args.reason, edits=args.edit, yes=args.yes),
    )
    _add_id(approve)
    approve.add_argument("--reason", default="", metavar="TEXT", help="why, for the record")
    approve.add_argument("--edit", action="append", default=[], metavar="NAME=JSON", help="change an editable argument; may be repeated")
    approve.add_argument("--yes", action="store_true", help="do not ask again: this is the decision")
    deny = _command(actions, "deny", "refuse the call", lambda desk, args: desk.deny(args.id, reason=args.reason))
    _add_id(deny)
    deny.add_argument("--reason", default="", metavar="TEXT", help="why, for the record and the agent")


def _command(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    act: Callable[[Desk, argparse.Namespace], int],
    *,
    before_the_first: Callable[[argparse.Namespace], int] | None = lambda _: MISTAKE,
) -> argparse.ArgumentParser:
    def run(service: ApprovalService, settings: Settings, args: argparse.Namespace) -> int:
        return _at_desk(service, settings, args, act)

    return add_approvals_command(actions, name, text, run, before_the_first=before_the_first)


def _nothing(args: argparse.Namespace) -> int:
    print("[]" if args.json else "nothing waits for approval")
    return DONE


def _at_desk(service: ApprovalService, settings: Settings, args: argparse.Namespace, act: Callable[[Desk, argparse.Namespace], int]) -> int:
    from otel_runtime.runtime.build import redecider
    from otel_runtime.telemetry.links import page_of

    ask = input if sys.stdin.isatty() and sys.stdout.isatty() else None
    desk = Desk(
        service,
        _os_person(),
        sys.stdout,
        sys.stderr,
        ask,
        lambda: redecider(settings),
        page=lambda request: page_of(settings.trace_url, request.requested_span or request.trace),
    )
    try:
        return act(desk, args)
    except Mistake as mistake:
        sys.stderr.write(f"otel-runtime: {mistake}\n")
        return MISTAKE


def _states(args: argparse.Namespace) -> tuple[ApprovalState, ...]:
    if args.all:
        return ()
    return (args.state,) if args.state else ("awaiting-approval",)


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help=f"request id, or its first {_SHORTEST_PREFIX} or more digits")


def _edit(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Mistake(f"expected --edit NAME=JSON, got `{text}`; such as --edit 'subject=\"Hello\"'")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise Mistake(f"expected JSON after `{name}=`, got `{value}` ({error}); text needs quotes: --edit '{name}=\"...\"'") from error


def _outcome(answer: Answer) -> str:
    request, said = answer.request, "you had said so before" if answer.repeated else "recorded"
    if answer.missing:
        still = ", ".join(f"{count} for `{rule}`" for rule, count in answer.missing.items())
        return f"{request.id[:12]} {said}; still missing: {still}"
    return f"{request.id[:12]} is {request.state} ({said})"


def _os_person() -> str:
    # The user database, never $USER: a variable is typed by whoever starts the command.
    import pwd

    try:
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"os:uid-{os.getuid()}"


def _now() -> datetime:
    return datetime.now(UTC)
