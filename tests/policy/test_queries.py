from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.places import Places
from otel_runtime.policy.queries import sql
from otel_runtime.policy.scope import Scope
from otel_runtime.policy.shapes import SqlTerms
from otel_runtime.policy.truth import Tri
from otel_runtime.values.action import Action

FUNCTIONS = ["count", "sum", "lower", "coalesce", "date_trunc", "substr", "round"]


def nowhere() -> Scope:
    return Scope(Action("tool", "t"), None, datetime(2026, 11, 20, tzinfo=UTC), None, {}, frozenset(), Places())


def asker(dialect: str = "postgres", functions: list[str] | None = None) -> object:
    return SqlTerms.model_validate({"dialect": dialect, "schemas": ["app"], "functions": functions or FUNCTIONS})


CHECK = sql(asker())
SQLITE = sql(asker("sqlite"))


def asked(text: object) -> Tri:
    return CHECK(text, nowhere())


READING = [
    "SELECT a FROM app.t",
    "SELECT a FROM app.t WHERE b = 'x; DROP TABLE t'",
    "select a from app.t limit 5;",
    "SELECT 1",
    "SELECT count(*), lower(a) FROM app.t GROUP BY 2 HAVING count(*) > 1 ORDER BY 1 DESC NULLS LAST LIMIT 5 OFFSET 2",
    "select t.* from app.t as t join app.u u on t.id = u.id left join app.v using (id) cross join app.w",
    "with x as (select a from app.t) select * from x",
    "select a from app.t where b in (1, 2) and (c between 1 and 2 or d is not null) and e ilike '%x%' and not f",
    "select case when a > 1 then 'x' else 'y' end, cast(b as int), c::text, date '2020-01-01' from app.t",
    "select exists(select 1 from app.t) and a = any(select b from app.u) from app.t",
    "select a from app.t union all select b from app.u except select c from app.v",
    "select sum(a) over (partition by b order by c), count(distinct a) filter (where b > 1) from app.t",
    "select date_trunc('day', ts), coalesce(a, 0) from app.t",
    'select "a" from "app"."t"',
    "select s.a from (select a from app.t) as s",
]
ATTACKS = [
    "SELECT 1; DROP TABLE t",
    "SELECT * INTO app.copy FROM app.t",
    "EXPLAIN ANALYZE DELETE FROM app.t",
    "COPY app.t TO PROGRAM 'touch x'",
    "SELECT dblink('...','DELETE ...')",
    "\x00SELECT 1",
    "",
    " ",
    ";",
    "SELECT a FROM t",
    "SELECT a FROM db.app.t",
    "SELECT app.f(1)",
    "SELECT * FROM app.f(1)",
    "SELECT pg_sleep(10)",
    "SELECT pg_catalog.lower(a) FROM app.t",
    'SELECT "lower"(a) FROM app.t',
    "SELECT lo_import('x')",
    "SELECT current_user",
    "SELECT 'app.t'::regclass",
    "SELECT a FROM app.t WHERE b = '''--'''",
    'SELECT a AS """#""" FROM app.t',
    "SELECT a FROM app.t FOR UPDATE",
    "WITH x AS (DELETE FROM app.t RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO app.t VALUES (1) RETURNING *) SELECT * FROM x",
    "INSERT INTO app.t VALUES (1)",
    "UPDATE app.t SET a = 1",
    "CREATE TABLE app.x AS SELECT 1",
    "SELECT a FROM app.t -- x",
    "SELECT a /* x */ FROM app.t",
    "SELECT a FROM app.t WHERE b = E'\\''",
    "SELECT $$x$$",
    "SELECT a FROM app.t TABLESAMPLE system(5)",
    "SET ROLE x",
    "CALL app.p()",
    "DO 'x'",
    "VACUUM",
    "BEGIN",
    "SELECT '" + "x" * 4096 + "'",
    "SELECT " + "(" * 13 + "1" + ")" * 13,
    "SELECT " + "1," * 400 + "1",
    'SELECT a FROM "App".t',
]


class TestOutcomes:
    @pytest.mark.parametrize("text", READING)
    def test_reading(self, text: str) -> None:
        """One SELECT on qualified tables of the schemas, with listed functions, is understood."""
        assert asked(text) is True

    @pytest.mark.parametrize("text", ATTACKS)
    def test_acting(self, text: str) -> None:
        """Anything that writes, calls, locks, hides or is too long is not."""
        assert asked(text) is None

    @pytest.mark.parametrize(
        "text", ["SELECT a FROM other.t", "SELECT a FROM app.t JOIN secret.u USING (id)", "SELECT (SELECT a FROM pg_catalog.pg_authid)"]
    )
    def test_elsewhere(self, text: str) -> None:
        """A table of another schema is plainly not of these."""
        assert asked(text) is False

    @pytest.mark.parametrize(
        "text", ["SELECT a FROM app.t SETTINGS readonly = 0", "SELECT a FROM app.t FORMAT CSV", "SELECT a FROM app.t INTO OUTFILE 'x'"]
    )
    def test_tails(self, text: str) -> None:
        """What other dialects hang on a query is not understood."""
        assert sql(asker("clickhouse"))(text, nowhere()) is None

    @pytest.mark.parametrize("value", [5, None, ["SELECT 1"], "\ud800"])
    def test_no_text(self, value: object) -> None:
        """What is no text is unknown."""
        assert asked(value) is None


class TestOperand:
    @pytest.mark.parametrize(
        ("test", "words"),
        [
            ("{dialect: postgre, schemas: app}", "did you mean `postgres`"),
            ("{dialect: tsql, schemas: app}", "expected a dialect"),
            ("{dialect: postgres}", "`schemas` is missing"),
            ("{dialect: postgres, schemas: [app.x]}", "without a dot"),
            ("{dialect: postgres, schemas: []}", "expected"),
            ("{}", "expected terms such as"),
        ],
    )
    def test_refused(self, test: str, words: str) -> None:
        """Terms that cannot be meant are refused when the policy is loaded."""
        with pytest.raises(ConfigError) as raised:
            load_policy_text(
                f"version: 1\ndefault: deny\nrules:\n  - {{id: r, tool: sql, args: {{query: {{sql: {test}}}}}, decision: allow}}\n"
            )
        assert words in str(raised.value)

    def test_package_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without sqlglot a policy that needs it is refused, with the line that installs it."""
        from otel_runtime.policy import queries

        queries._sqlglot.cache_clear()
        monkeypatch.setitem(__import__("sys").modules, "sqlglot", None)
        text = "version: 1\ndefault: deny\nrules:\n  - {id: r, tool: q, args: {q: {sql: {dialect: postgres, schemas: app}}}, decision: allow}\n"
        with pytest.raises(ConfigError, match=r"P024.*pip install 'otel-runtime\[sql\]'"):
            load_policy_text(text)
        queries._sqlglot.cache_clear()


PIECES = st.sampled_from(
    "select from where app.t app.u other.t main.t t a b , ( ) * 1 'x' lower( count( load_extension( random( ; union all into values with x as insert update "
    "delete and or not in exists case when then end -- /* */ \" ' pragma attach app . join on using limit order by group distinct cast( as text".split()
)
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33}


def authorised(text: str) -> list[tuple[object, ...]] | None:
    """What a real database is asked for by a query that it accepts."""
    seen: list[tuple[object, ...]] = []
    base = sqlite3.connect(":memory:")
    base.execute("ATTACH ':memory:' AS app")
    for table in ("main.t", "app.t", "app.u"):
        base.execute(f"CREATE TABLE {table} (a, b, x)")

    def note(*what: object) -> int:
        seen.append(what)
        return sqlite3.SQLITE_OK

    base.set_authorizer(note)
    try:
        base.execute(text).fetchall()
    except (sqlite3.Error, sqlite3.Warning):
        return None
    finally:
        base.set_authorizer(None)
        base.close()
    return seen


class TestAnyText:
    @settings(max_examples=600, deadline=None)
    @given(st.lists(PIECES, max_size=14).map(lambda parts: "select a from app.t " + " ".join(parts)))
    def test_a_database_agrees(self, text: str) -> None:
        """What is understood as reading is, for a real database, reading of these tables and calls of these functions."""
        if SQLITE(text, nowhere()) is not True:
            return
        for action, table, name, database, _trigger in authorised(text) or ():
            assert action in _READS
            assert action != sqlite3.SQLITE_READ or database in {"app", None} or not table
            assert action != sqlite3.SQLITE_FUNCTION or name in {*FUNCTIONS, "like"}

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from(ATTACKS), st.integers(0, 60), st.characters())
    def test_mutated_attacks(self, text: str, at: int, char: str) -> None:
        """A character put into an attack raises nothing, and a real database never writes for what passes."""
        mutated = text[:at] + char + text[at:]
        asked(mutated)
        if SQLITE(mutated, nowhere()) is True:
            assert all(what[0] in _READS for what in authorised(mutated) or ())

    @settings(max_examples=300, deadline=None)
    @given(st.text(max_size=80))
    def test_never_raises(self, text: str) -> None:
        """No text raises."""
        assert asked(text) in {True, False, None}
