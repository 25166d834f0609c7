"""A real inbox: SQLite behind it, uvicorn on the loopback interface, httpx in front."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.schema import MIGRATIONS
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.audit.key import load_or_create_key
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.action import Action
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement
from otel_runtime.web.receiver import EventReceiver
from otel_runtime.web.server import InboxServer


@dataclass(slots=True)
class Running:
    service: ApprovalService
    server: InboxServer

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.base, trust_env=False, timeout=60)

    @contextmanager
    def entered(self) -> Iterator[httpx.Client]:
        with self.client() as client:
            assert 303 == client.get(self.server.url).status_code
            yield client

    def ask(
        self,
        tool: str = "refund",
        approvers: tuple[str, ...] = ("anyone",),
        reason: str = "over 100 EUR",
        args: Mapping[str, object] | None = None,
        **more: object,
    ) -> str:
        terms = ApprovalTerms((Requirement("big-refund", approvers, reason=reason),), expires_s=1800.0)
        decision = Decision("require-approval", reason, rule="big-refund", place="policy/support.yaml:12", approval=terms)
        request, _ = self.service.open(
            Ask(Action("tool", tool, {**(args or {}), **more}, user="carla", agents=("support",)), decision, "ab" * 32)
        )
        return request.id


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Running]:
    state = tmp_path / "state" / "state.db"
    # The key comes first: a database without its key is refused.
    key = load_or_create_key(state)
    database = Database(state, MIGRATIONS)
    database.open()
    service = ApprovalService(database, key, {"alice": frozenset({"lead"})})
    server = InboxServer(service, "os:alice")
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready.set,))
    thread.start()
    assert ready.wait(60)
    yield Running(service, server)
    server.stop()
    thread.join(60)
    service.close()
    database.close()


class Taker:
    """Keeps what a receiver hands on."""

    def __init__(self) -> None:
        self.taken: list[object] = []

    def push(self, raw: object) -> None:
        self.taken.append(raw)


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def event_receiver(taker: Taker) -> Iterator[EventReceiver]:
    """One on a free port, that hands on to `taker`."""
    found = EventReceiver(taker)
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found
    found.stop()
    thread.join(60)
