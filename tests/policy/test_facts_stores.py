"""One suite for every facts store: memory, SQLite, and PostgreSQL with its own clock, which the tests set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.facts_schema import FACTS
from otel_runtime.policy.facts_sql import SqlFacts
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.protocol import CounterKey, FactsView, Hold, Needs, Reservation, Spent, Start
from otel_runtime.policy.provenance import key_of
from otel_runtime.storage.sqlite import Database
from otel_runtime.storage.sqlite_transactions import SqliteTransactions
from otel_runtime.storage.transactions import CommitUnknown
from otel_runtime.values.action import Action

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = CounterKey("r:calls", "all", "sliding:60")
DAY = CounterKey("r:usd", "user:carla", "day:2026-11-20:UTC")
# The server asks for its clock by a name that these stand in front of.
FAKE_CLOCK = """
CREATE SCHEMA fake; CREATE TABLE fake.clock (at timestamptz); INSERT INTO fake.clock VALUES (pg_catalog.clock_timestamp());
CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT at FROM fake.clock';
"""


@dataclass
class Shop:
    """A store, as one process has it, and the clock that counts for it."""

    kind: str
    facts: MemoryFacts | SqlFacts
    server: Any = None  # the PostgresServer of tests/conftest.py, which no test can import
    database: str = ""
    path: Path | None = None
    now: datetime = NOW
    opened: list[SqlFacts] = field(default_factory=list)

    def at(self, moment: datetime) -> datetime:
        self.now = moment
        if self.server is not None:
            self.server.sql(f"UPDATE fake.clock SET at = '{moment.isoformat()}'", self.database)
            # What the caller thinks does not count.
            return moment - timedelta(days=1000)
        return moment

    def take(
        self, *amounts: int, key: CounterKey = KEY, limit: int = 10, unit: str = "calls", at: datetime | None = None
    ) -> list[Hold | None]:
        moment = self.at(at) if at is not None else self.now
        return [self.facts.begin(Start((Reservation(key, Decimal(amount), Decimal(limit), unit),)), moment) for amount in amounts]

    def held(self, amount: int, **more: Any) -> Hold:
        hold = self.take(amount, **more)[0]
        assert hold is not None
        return hold

    def total(self, key: CounterKey = KEY, at: datetime | None = None) -> Decimal | None:
        moment = self.at(at) if at is not None else self.now
        return self.facts.peek(Needs((key,)), moment).counters.get(key)

    def view(self, *sessions: str, values: tuple[object, ...] = ()) -> FactsView:
        keys = tuple(key for key in map(key_of, values) if key is not None)
        return self.facts.peek(Needs(session=sessions[0], around=sessions[1:], values=keys), self.now)

    def start(self, session: str, tool: str | None = None, *labels: str, around: tuple[str, ...] = ()) -> None:
        assert self.facts.begin(Start((), session, tool, frozenset(labels), around), self.now) is not None

    def rows(self, table: str) -> int:
        """Rows of a table, or what memory has in its place."""
        if isinstance(self.facts, SqlFacts):
            with self.facts._store.reading() as statements:
                return int(statements.rows(f"SELECT count(*) FROM {table}")[0][0])
        counters: list[Any] = list(self.facts._counters.values())
        entries = sum(len(getattr(counter, name, ())) for counter in counters for name in ("_entries", "_past"))
        return {"facts_entries": entries, "facts_holds": len(self.facts._holds), "facts_counters": len(counters)}[table]

    def again(self) -> SqlFacts | MemoryFacts:
        """The same store as another process has it; memory has but one."""
        if isinstance(self.facts, MemoryFacts):
            return self.facts
        made = SqlFacts(self.facts._store)
        self.opened.append(made)
        return made


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "memory":
        yield Shop("memory", MemoryFacts())
        return
    if request.param == "sqlite":
        facts = SqlFacts(SqliteTransactions(Database(tmp_path / "home" / "state.db", [FACTS])))
        made = Shop("sqlite", facts, path=tmp_path / "home" / "state.db")
    else:
        server, url = request.getfixturevalue("postgres"), request.getfixturevalue("postgres_url")
        from otel_runtime.storage.postgres import PostgresTransactions

        database = url.rpartition("/")[2]
        server.sql(FAKE_CLOCK, database)
        facts = SqlFacts(PostgresTransactions(f"{url}?options=-csearch_path%3Dfake,pg_catalog", [FACTS], timeout_s=30))
        made = Shop("postgres", facts, server, database)
    facts.open()
    made.at(NOW)
    yield made
    facts.close()


class TestLimits:
    def test_none_is_passed(self, shop: Shop) -> None:
        """As much as the limit holds is taken, and no more; a limit that is used up lets nothing through."""
        taken = [hold is not None for hold in shop.take(4, 6, 1, limit=10)]
        assert ([True, True, False], Decimal(10), None) == (taken, shop.total(), shop.take(0)[0])

    def test_all_or_nothing(self, shop: Shop) -> None:
        """Where one of several limits is reached, none is charged and nothing is marked."""
        other = CounterKey("o:calls", "all", "sliding:60")
        both = Start((Reservation(KEY, Decimal(1), Decimal(10)), Reservation(other, Decimal(5), Decimal(4))), "s", "web", frozenset({"x"}))
        assert shop.facts.begin(both, shop.now) is None
        assert (Decimal(0), {}, frozenset()) == (shop.total(), shop.view("s").labels, shop.view("s").history)

    @pytest.mark.parametrize(
        "other",
        [CounterKey("x", "all", "sliding:60"), CounterKey("r:calls", "user:x", "sliding:60"), CounterKey("r:calls", "all", "sliding:61")],
    )
    def test_counters_are_apart(self, shop: Shop, other: CounterKey) -> None:
        """Another rule, owner or window has a counter of its own."""
        shop.take(5)
        assert (Decimal(5), Decimal(0)) == (shop.total(), shop.total(other))

    def test_exact_decimals(self, shop: Shop) -> None:
        """Amounts are summed up exactly: ten times a tenth is one."""
        tenth = Reservation(DAY, Decimal("0.1"), Decimal(1), "sum")
        assert [True] * 10 + [False] == [shop.facts.begin(Start((tenth,)), shop.now) is not None for _ in range(11)]

    @pytest.mark.parametrize("owner", ["user:" + "x" * 5000, "user:\x00\ud800", "user:'; DROP TABLE facts_counters; --", "user:%s?"])
    def test_any_name(self, shop: Shop, owner: str) -> None:
        """Whose counter it is may be a text of any length and with any character."""
        key = CounterKey("r", owner, "sliding:60")
        shop.take(3, key=key)
        assert (Decimal(3), Decimal(0)) == (shop.total(key), shop.total(CounterKey("r", owner + "y", "sliding:60")))


class TestWindows:
    def test_sliding(self, shop: Shop) -> None:
        """An amount leaves a sliding window exactly one window later, and not a moment earlier."""
        shop.take(1, at=NOW)
        moments = [0.0, 59.999, 60.0]
        assert [Decimal(1), Decimal(1), Decimal(0)] == [shop.total(at=NOW + timedelta(seconds=moment)) for moment in moments]

    def test_sliding_takes_again(self, shop: Shop) -> None:
        """What left the window makes room."""
        moments = [0, 30, 59.999, 60, 89, 90]
        taken = [shop.take(1, limit=2, at=NOW + timedelta(seconds=moment))[0] is not None for moment in moments]
        assert [True, True, False, True, False, True] == taken

    def test_calendar(self, shop: Shop) -> None:
        """A calendar window begins anew under the name of the next day."""
        shop.take(1, key=DAY)
        tomorrow = CounterKey(DAY.name, DAY.scope, "day:2026-11-21:UTC")
        assert Decimal(1) == shop.total(DAY)
        assert Decimal(0) == shop.total(tomorrow, at=NOW + timedelta(days=1))

    def test_whose_clock(self, shop: Shop) -> None:
        """A host whose clock is wrong counts on the day of the database, where that has a clock; else on the day it says."""
        wrong = CounterKey(DAY.name, DAY.scope, "day:2020-02-29:UTC")
        shop.take(1, key=wrong)
        counted = (shop.total(DAY), shop.total(wrong))
        assert counted == ((Decimal(1), Decimal(1)) if shop.kind == "postgres" else (Decimal(0), Decimal(1)))

    def test_many_amounts(self, shop: Shop) -> None:
        """Thousands of amounts in one window keep their sum, late corrections find their place, and the table stays bounded."""
        if not isinstance(shop.facts, MemoryFacts):
            # The same merging with fewer rows: the server needs milliseconds for each.
            import otel_runtime.policy.facts_sums as sums

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sums, "MAX_ENTRIES", 40)
                self.fill(shop, 120, most=40)
        else:
            self.fill(shop, 3000, most=1024)

    def fill(self, shop: Shop, count: int, most: int) -> None:
        holds = [shop.held(1, limit=10_000, unit="usd") for _ in range(count)]
        for hold in holds:
            shop.facts.settle(hold, Spent(usd=Decimal(2)), shop.now)
        assert (Decimal(2 * count), 0) == (shop.total(), shop.rows("facts_holds"))
        assert shop.rows("facts_entries") <= most
        assert Decimal(0) == shop.total(at=NOW + timedelta(seconds=61))

    def test_what_is_over_is_removed(self, shop: Shop) -> None:
        """Counters whose window is over are removed while others are used, so that the tables stay bounded."""
        if isinstance(shop.facts, MemoryFacts):
            # Memory looks for such counters when it has no room for another.
            shop.facts._max_counters = 30
        for user in range(30):
            shop.take(1, key=CounterKey("r", f"user:{user}", "sliding:60"))
        shop.take(1, 1, 1, key=DAY, at=NOW + timedelta(hours=3))
        assert 1 == shop.rows("facts_counters")
        if not isinstance(shop.facts, MemoryFacts):
            assert (0, 3) == (shop.rows("facts_entries"), shop.rows("facts_holds"))


class TestClockSetBack:
    def test_nothing_leaves_early(self, shop: Shop) -> None:
        """What comes after the clock was set back counts for its whole window."""
        shop.take(1, at=NOW)
        shop.take(1, at=NOW - timedelta(hours=1))
        assert Decimal(2) == shop.total(at=NOW + timedelta(seconds=59))

    def test_ahead_and_back(self, shop: Shop) -> None:
        """What left a window while the clock was ahead is back when the clock is set right."""
        shop.take(3, limit=4, at=NOW)
        shop.take(1, limit=4, at=NOW + timedelta(minutes=30))
        assert Decimal(4) == shop.total(at=NOW + timedelta(seconds=1))
        assert [None] == shop.take(1, limit=4, at=NOW + timedelta(seconds=2))


class TestSettling:
    def test_the_real_amount_replaces_the_reserve_once(self, shop: Shop) -> None:
        """What a call really used takes the place of what was held; a second time changes nothing."""
        hold = shop.held(3, key=DAY, unit="usd")
        for cost in ("0.95", "0.01"):
            shop.facts.settle(hold, Spent(usd=Decimal(cost)), shop.now)
        assert Decimal("0.95") == shop.total(DAY)

    @pytest.mark.parametrize(
        ("unit", "spent", "left"),
        [
            ("usd", Spent(), 3),
            ("usd", Spent(tokens=9), 3),
            ("tokens", Spent(usd=Decimal(7), tokens=9), 9),
            ("calls", Spent(usd=Decimal(7), tokens=9), 3),
            ("sum", Spent(usd=Decimal(7), tokens=9), 3),
        ],
    )
    def test_units(self, shop: Shop, unit: str, spent: Spent, left: int) -> None:
        """Money and tokens become the real figure where it is known; calls and sums stand as they were taken."""
        shop.facts.settle(shop.held(3, unit=unit), spent, shop.now)
        assert (Decimal(left), 0) == (shop.total(), shop.rows("facts_holds"))

    def test_release(self, shop: Shop) -> None:
        """A body that never started costs nothing; releasing twice gives nothing twice."""
        shop.held(2)
        hold = shop.held(3)
        shop.facts.release(hold)
        shop.facts.release(hold)
        shop.facts.settle(hold, Spent(usd=Decimal(8)), shop.now)
        assert Decimal(2) == shop.total()

    def test_attempts_stand(self, shop: Shop) -> None:
        """An attempt is counted although its body never started."""
        shop.facts.release(shop.held(2, unit="attempts"))
        shop.facts.release(shop.held(3, unit="calls"))
        assert (Decimal(2), 0) == (shop.total(), shop.rows("facts_holds"))

    def test_after_the_window(self, shop: Shop) -> None:
        """A cost that comes when its window is over is in no sum."""
        hold = shop.held(1, unit="usd", at=NOW)
        later = NOW + timedelta(seconds=61)
        shop.take(1, unit="usd", at=later)
        shop.facts.settle(hold, Spent(usd=Decimal(9)), later)
        assert Decimal(1) == shop.total()

    def test_after_everything_is_gone(self, shop: Shop) -> None:
        """A cost that comes when its counter was removed does nothing."""
        hold = shop.held(1, unit="usd", at=NOW)
        shop.take(1, key=DAY, at=NOW + timedelta(days=2))
        shop.facts.settle(hold, Spent(usd=Decimal(9)), shop.now)
        assert Decimal(0) == shop.total()


class Cut:
    """A database whose next write is stored, and whose writer never hears of it."""

    def __init__(self, store: Any, error: BaseException) -> None:
        self.store, self.errors = store, [error]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        with self.store.writing() as statements:
            yield statements
        if self.errors:
            raise self.errors.pop()


class TestCutOff:
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), CommitUnknown("the connection broke")])
    def test_a_start_that_may_be_stored(self, shop: Shop, error: BaseException) -> None:
        """What was reserved for a body that will not start is given back, though nobody was told that it was stored."""
        if not isinstance(shop.facts, SqlFacts):
            return
        shop.facts._store = Cut(shop.facts._store, error)
        with pytest.raises(type(error)):
            shop.take(7)
        assert 0 == shop.total()
        assert 0 == shop.rows("facts_holds")
        assert [True, False] == [hold is not None for hold in shop.take(10, 1)]


class TestMarks:
    def test_labels_and_history(self, shop: Shop) -> None:
        """Labels carry their sources, history the names; another session has neither, and no session is unknown."""
        shop.start("s", "web", "untrusted")
        shop.start("s", "mail", "untrusted", "private")
        view, fresh = shop.view("s"), shop.view("t")
        labels = {"untrusted": frozenset({"web", "mail"}), "private": frozenset({"mail"})}
        assert (labels, frozenset({"web", "mail"})) == (view.labels, view.history)
        assert ({}, frozenset()) == (fresh.labels, fresh.history)
        nobody = shop.facts.peek(Needs(), shop.now)
        assert (None, None) == (nobody.labels, nobody.history)

    def test_sessions_around(self, shop: Shop) -> None:
        """A session opened out of others sees their marks, and marks them too."""
        shop.start("outer", "web", "untrusted")
        shop.start("inner", "mail", "private", around=("outer",))
        shop.start("lone", "x")
        assert {"untrusted", "private"} == set(shop.view("inner", "outer").labels or ())
        assert frozenset({"web", "mail"}) == shop.view("outer").history
        assert frozenset({"mail"}) == shop.view("inner").history

    def test_declassify(self, shop: Shop) -> None:
        """A label is taken off one session with its sources; a later start puts it on again, and history stays."""
        shop.start("s", "web", "untrusted", "private")
        assert (frozenset({"web"}), frozenset()) == tuple(shop.facts.declassify("s", "untrusted", shop.now) for _ in range(2))
        assert ({"private": frozenset({"web"})}, frozenset({"web"})) == (shop.view("s").labels, shop.view("s").history)
        shop.start("s", "feed", "untrusted")
        assert {"untrusted": frozenset({"feed"}), "private": frozenset({"web"})} == shop.view("s").labels

    def test_any_name(self, shop: Shop) -> None:
        """Names of any characters come back as they were."""
        name = "t\x00\ud800'\"\\"
        shop.start(name, name, name)
        assert ({name: frozenset({name})}, frozenset({name})) == (shop.view(name).labels, shop.view(name).history)


class TestSightings:
    def test_sources(self, shop: Shop) -> None:
        """A value is found at every source it was seen in, whichever process noted it; others are unseen."""
        shop.facts.saw("s", "user", "mail bob@corp.example about 4711")
        shop.again().saw("s", "tool:find", {"rows": [{"mail": "bob@corp.example"}]})
        view = shop.view("s", values=("bob@corp.example", 4711, "eve@evil.example"))
        assert view.origins is not None
        seen = {value: {name.partition("/")[0] for name in names} for value, names in view.origins.items()}
        assert {"user", "tool:find"} == seen["bob@corp.example"]
        assert {"user"} == seen[key_of(4711) or ""]
        assert set() == seen["eve@evil.example"]

    def test_same_as_memory(self, shop: Shop) -> None:
        """Every store says of a value what memory says: fields, numbers and paths included."""
        memory = MemoryFacts()
        values: list[tuple[str, object]] = [
            ("user", "pay 1,250.00 to DE89 3704 0044 0532 0130 00"),
            ("tool:read", {"path": "/srv/data/a.txt", "size": 12345, "owner": {"mail": "ann@corp.example"}}),
            ("config", ["https://corp.example/x?y=1", {"limit": Decimal("99.50")}]),
            ("tool:read", "see /srv/data/b.txt \x00 \ud800"),
        ]
        for source, value in values:
            memory.saw("s", source, value)
            shop.facts.saw("s", source, value)
        asked: tuple[object, ...] = ("/srv/data/a.txt", "/srv/data/b.txt", 12345, "ann@corp.example", Decimal("99.5"), 1250, "corp.example")
        keys = tuple(key for key in map(key_of, (*asked, "https://corp.example/x?y=1")) if key is not None)
        needs = Needs(session="s", values=keys)
        assert memory.peek(needs, NOW).origins == shop.facts.peek(needs, shop.now).origins == shop.again().peek(needs, shop.now).origins

    def test_sessions_around(self, shop: Shop) -> None:
        """What the session around saw counts as seen; what another saw does not."""
        shop.facts.saw("outer", "user", "call ann@corp.example")
        shop.facts.saw("other", "user", "call eve@evil.example")
        view = shop.view("inner", "outer", values=("ann@corp.example", "eve@evil.example"))
        assert view.origins == {"ann@corp.example": frozenset({"user"}), "eve@evil.example": frozenset()}

    def test_too_much(self, shop: Shop) -> None:
        """Beyond the caps a source is unknown, never unseen; the person's words stay."""
        shop.facts.saw("s", "user", "mail bob@corp.example")
        for number in range(12):
            shop.facts.saw("s", f"tool:{number}", f"{number:06d} lorem ipsum " * 5000)
        for store in (shop.facts, shop.again()):
            view = store.peek(Needs(session="s", values=("bob@corp.example", "nowhere@corp.example")), shop.now)
            assert view.origins is not None
            assert "user" in view.origins["bob@corp.example"]
            assert "lost:tool:0" in view.origins["nowhere@corp.example"]


class TestEngine:
    def test_fifty_threads_never_pass_a_limit(self, shop: Shop) -> None:
        """Fifty threads that decide at once by a policy together get exactly what the limit holds."""
        loaded = load_policy_text(
            "version: 1\ndefault: allow\ntools: {pay: {args: {amount: number}}}\nrules:\n"
            "  - {id: limit, tool: pay, over: {sum: args.amount, max: 20, by: user, per: day, tz: UTC}, decision: deny}\n"
        )
        action, gate = Action("tool", "pay", session="s", user="carla", args={"amount": 1}), threading.Barrier(50)

        def admitted(_number: int) -> bool:
            gate.wait()
            while True:
                needs = loaded.engine.needs(action, NOW)
                ruling = loaded.engine.decide(action, None if needs is None else shop.facts.peek(needs, NOW), NOW)
                if ruling.decision.value != "allow":
                    return False
                assert ruling.start is not None
                if shop.facts.begin(ruling.start, NOW) is not None:
                    return True

        if isinstance(shop.facts, SqlFacts):
            shop.facts._owed._patience_s = 60
        with ThreadPoolExecutor(50) as pool:
            verdicts = list(pool.map(admitted, range(50)))
        assert (20, 30) == (verdicts.count(True), verdicts.count(False))
