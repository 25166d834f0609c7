"""The commands a person answers with, on a real store; some through the real console script."""

from __future__ import annotations

import io
import json
import os
import pwd
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otel_runtime.approvals.answers import Redecided
from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.schema import MIGRATIONS
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.audit.key import load_or_create_key
from otel_runtime.cli.approvals import Desk, Mistake
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.approval import ApprovalRequest

MakeAsk = Callable[..., Ask]


class Sitting:
    """A desk with someone at it who types prepared lines; at their end, the input ends."""

    def __init__(self, service: ApprovalService, person: str = "os:alice", typed: tuple[str, ...] | None = None) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.lines = list(typed or ())
        self.desk = Desk(service, person, self.out, self.err, None if typed is None else self.read, sleep=lambda _: None)

    def read(self, prompt: str) -> str:
        self.out.write(prompt)
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)


@pytest.fixture(autouse=True)
def present(clock: Any) -> None:
    # The desk tells the time left by the wall clock.
    clock.now = datetime.now(UTC)


def state(service: ApprovalService, request: ApprovalRequest) -> str:
    found = service.get(request.id)
    assert found is not None
    return found.state


class TestList:
    def test_what_waits(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """One line per waiting request, with its arguments and the time left; a sentence when there is none."""
        empty = Sitting(service)
        assert 0 == empty.desk.listing(("awaiting-approval",), as_json=False)
        request, _ = service.open(make_ask())
        sitting = Sitting(service)
        sitting.desk.listing(("awaiting-approval",), as_json=False)
        assert "nothing waits for approval\n" == empty.out.getvalue()
        line = f'{request.id[:12]}  awaiting-approval  refund(order="A-1", amount=250)  expires in 59 minutes\n'
        assert line == sitting.out.getvalue()

    def test_json(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """`--json` prints an array, also of nothing."""
        sitting = Sitting(service)
        sitting.desk.listing((), as_json=True)
        assert [] == json.loads(sitting.out.getvalue())

    def test_changed_rows_are_named(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A row that something else changed is not listed as ours, and not hidden either."""
        request, _ = service.open(make_ask())
        connection = sqlite3.connect(service.database.path)
        connection.execute("UPDATE approval_requests SET state = 'approved'")
        connection.commit()
        connection.close()
        sitting = Sitting(service)
        sitting.desk.listing((), as_json=False)
        assert ("no requests\n", True) == (sitting.out.getvalue(), request.id in sitting.err.getvalue())


class TestFinding:
    @pytest.mark.parametrize("prefix", ["", "abc", "zzzzzzzz", "' OR 1=1", "%%%%%%%%", "00000000"])
    def test_mistakes(self, service: ApprovalService, make_ask: MakeAsk, prefix: str) -> None:
        """A prefix that is too short, no hex, or of nothing is a mistake with a hint."""
        service.open(make_ask())
        with pytest.raises(Mistake, match="approvals list"):
            Sitting(service).desk.show(prefix, full=False, as_json=False)

    def test_prefix_of_two(self, service: ApprovalService, make_ask: MakeAsk, monkeypatch: pytest.MonkeyPatch) -> None:
        """A prefix that fits two requests answers neither."""
        ids = iter(["abcdef" + "0" * 26, "abcdef" + "1" * 26])
        monkeypatch.setattr("otel_runtime.approvals.ledger.secrets", SimpleNamespace(token_hex=lambda _: next(ids)))
        requests = [service.open(make_ask())[0] for _ in range(2)]
        with pytest.raises(Mistake, match="fits 2 or more"):
            Sitting(service).desk.deny("abcdef", reason="")
        assert ["awaiting-approval"] * 2 == [state(service, request) for request in requests]
        assert 0 == Sitting(service).desk.deny("ABCDEF0", reason="")


class TestAnswering:
    def test_no_terminal_is_no_decision(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Without a terminal and without --yes nothing is decided."""
        request, _ = service.open(make_ask())
        sitting = Sitting(service)
        assert 2 == sitting.desk.approve(request.id[:6], reason="", edits=[], yes=False)
        assert (True, "awaiting-approval") == ("there is no terminal" in sitting.err.getvalue(), state(service, request))

    @pytest.mark.parametrize("typed", [(), ("",), ("y",), ("yes",), ("deny",)])
    def test_only_the_word_counts(self, service: ApprovalService, make_ask: MakeAsk, typed: tuple[str, ...]) -> None:
        """End of input, Enter, or another word is no decision."""
        request, _ = service.open(make_ask())
        assert 2 == Sitting(service, typed=typed).desk.approve(request.id, reason="", edits=[], yes=False)
        assert "awaiting-approval" == state(service, request)

    def test_shown_before_asked(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """On a terminal the whole request is shown, then the word is asked for."""
        request, _ = service.open(make_ask())
        sitting = Sitting(service, typed=("approve",))
        assert 0 == sitting.desk.approve(request.id, reason="ok", edits=[], yes=False)
        shown = sitting.out.getvalue()
        assert shown.index("amount = 250") < shown.index(request.call_digest) < shown.index("type `approve`") < shown.index("is approved")
        assert "approved" == state(service, request)

    def test_refused(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Not entitled, and too late: exit code 1 and who won."""
        request, _ = service.open(make_ask())
        stranger, late = Sitting(service, "os:eve"), Sitting(service, "os:bob")
        assert 1 == stranger.desk.approve(request.id, reason="", edits=[], yes=True)
        assert 0 == Sitting(service).desk.deny(request.id, reason="no")
        assert 1 == late.desk.approve(request.id, reason="", edits=[], yes=True)
        assert (True, True) == ("may not answer" in stranger.err.getvalue(), "`os:alice` answered first" in late.err.getvalue())

    def test_quorum_says_what_is_missing(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """The first of two answers says that one is still missing."""
        request, _ = service.open(make_ask(quorum=2))
        sitting = Sitting(service)
        sitting.desk.approve(request.id, reason="", edits=[], yes=True)
        assert f"{request.id[:12]} recorded; still missing: 1 for `refund.large`\n" == sitting.out.getvalue()

    def test_edit(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An edit given as JSON approves the edited call."""
        request, _ = service.open(make_ask(edit=("amount",)))

        def decide(old: ApprovalRequest, edits: Mapping[str, object]) -> Redecided:
            ask = make_ask({**old.input, **edits}, edit=("amount",))
            return Redecided(ask.action.args, ask.call_digest, ask.decision)

        sitting = Sitting(service)
        sitting.desk.redecide = lambda: decide
        assert 0 == sitting.desk.approve(request.id, reason="", edits=["amount=100"], yes=True)
        found = service.get(request.id)
        assert found is not None
        assert ("approved", 100) == (found.state, found.input["amount"])

    @pytest.mark.parametrize("edit", ["amount", "=1", "amount=abc", "amount="])
    def test_bad_edit(self, service: ApprovalService, make_ask: MakeAsk, edit: str) -> None:
        """An edit that is no NAME=JSON is a mistake, and nothing is answered."""
        request, _ = service.open(make_ask(edit=("amount",)))
        with pytest.raises(Mistake, match="expected"):
            Sitting(service).desk.approve(request.id, reason="", edits=[edit], yes=True)
        assert "awaiting-approval" == state(service, request)


class TestWatch:
    def test_offers_each_request_once(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Requests come oldest first, each once; an empty line leaves one open."""
        first, second = (service.open(make_ask())[0] for _ in range(2))
        sitting = Sitting(service, typed=("", "deny"))
        assert 0 == sitting.desk.watch(rounds=3)
        assert (["awaiting-approval", "denied"], 1) == (
            [state(service, each) for each in (first, second)],
            sitting.out.getvalue().count(f"request     {first.id}"),
        )

    def test_without_a_terminal(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Without a terminal it prints how to answer and decides nothing."""
        request, _ = service.open(make_ask())
        sitting = Sitting(service)
        sitting.desk.watch(rounds=1)
        assert (True, "awaiting-approval") == (f"approvals approve {request.id[:12]}" in sitting.out.getvalue(), state(service, request))

    def test_interrupt_ends_it(self, service: ApprovalService) -> None:
        """Ctrl-C ends the watch without an error."""
        sitting = Sitting(service)

        def interrupt(_: float) -> None:
            raise KeyboardInterrupt

        sitting.desk.sleep = interrupt
        assert 0 == sitting.desk.watch()


class TestConsoleScript:
    """The real command in a process of its own."""

    @pytest.fixture
    def shop(self, tmp_path: Path, make_ask: MakeAsk) -> Iterator[tuple[Path, ApprovalRequest]]:
        path = tmp_path / "state.db"
        service = ApprovalService(Database(path, MIGRATIONS), load_or_create_key(path))
        me = pwd.getpwuid(os.getuid()).pw_name
        request, _ = service.open(make_ask(approvers=(f"user:{me}",)))
        yield path, request
        service.close()
        service.database.close()

    def run(self, where: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from otel_runtime.cli.main import main; sys.exit(main())"
        environment = {**os.environ, **env}
        return subprocess.run(
            [sys.executable, "-c", program, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=where,
            env=environment,
            input="",
        )

    def test_one_waits_another_answers(self, shop: tuple[Path, ApprovalRequest], tmp_path: Path) -> None:
        """A process of its own lists, approves as the OS user whatever $USER says, and the record holds it."""
        path, request = shop
        listed = self.run(tmp_path, "approvals", "list", "--state-file", str(path))
        unsure = self.run(tmp_path, "approvals", "approve", request.id[:8], "--state-file", str(path))
        done = self.run(tmp_path, "approvals", "approve", request.id[:8], "--yes", "--state-file", str(path), USER="mallory")
        again = self.run(tmp_path, "approvals", "deny", request.id[:8], "--state-file", str(path))
        assert (0, 2, 0, 1) == (listed.returncode, unsure.returncode, done.returncode, again.returncode)
        assert (True, "is approved" in done.stdout) == (request.id[:12] in listed.stdout, True)
        shown = json.loads(self.run(tmp_path, "approvals", "show", request.id, "--json", "--state-file", str(path)).stdout)
        assert f"os:{pwd.getpwuid(os.getuid()).pw_name}" == shown["votes"][0]["approver"]
        verified = self.run(tmp_path, "audit", "verify", "--state-file", str(path))
        exported = self.run(tmp_path, "audit", "export", "--state-file", str(path))
        kinds = [json.loads(line)["kind"] for line in exported.stdout.splitlines()]
        assert (0, ["approval.requested", "approval.answered", "approval.approved"]) == (verified.returncode, kinds)

    def test_mistakes(self, shop: tuple[Path, ApprovalRequest], tmp_path: Path) -> None:
        """A missing file, a file that is no database and an unknown id are one sentence and exit code 2."""
        path, _ = shop
        (tmp_path / "text").write_text("not a database" * 100)
        load_or_create_key(tmp_path / "other", tmp_path / "text.key")
        found = [
            self.run(tmp_path, "approvals", "list", "--state-file", str(tmp_path / "none")),
            self.run(tmp_path, "approvals", "list", "--state-file", str(tmp_path / "text")),
            self.run(tmp_path, "approvals", "show", "0" * 32, "--state-file", str(path)),
            self.run(tmp_path, "approvals", "list", "--state", "x' OR 1=1", "--state-file", str(path)),
        ]
        assert [2] * 4 == [each.returncode for each in found]
        assert [] == [each.stderr for each in found if "Traceback" in each.stderr or not each.stderr]
