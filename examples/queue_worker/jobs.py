"""An agent that leaves work for later, and workers that do it: one trace over processes and time.

python jobs.py ask      puts two jobs into the queue, a SQLite file in the current folder
python jobs.py work     does what lies there, in as many processes as you like, now or tomorrow
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from opentelemetry import context
from opentelemetry.propagate import extract, inject

import otel_runtime as rt

__all__: list[str] = []


@contextmanager
def _queue() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect("jobs.db", timeout=60)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, body TEXT NOT NULL, carrier TEXT NOT NULL)")
        yield database


def _put(body: str, carrier: Mapping[str, str]) -> None:
    with _queue() as database:
        database.execute("INSERT INTO jobs (body, carrier) VALUES (?, ?)", (body, json.dumps(dict(carrier))))


def _take() -> tuple[str, dict[str, str]] | None:
    """The oldest job, which nobody else gets; None when there is none."""
    with _queue() as database:
        row = database.execute("DELETE FROM jobs WHERE id = (SELECT MIN(id) FROM jobs) RETURNING body, carrier").fetchone()
    return (row[0], json.loads(row[1])) if row else None


@rt.tool
def later(body: str) -> str:
    """Queue a job, together with the trace it belongs to."""
    carrier: dict[str, str] = {}
    inject(carrier)
    _put(body, carrier)
    return f"queued: {body}"


@rt.agent
def planner() -> list[str]:
    """Plan two things."""
    return [later(f"write report {number}") for number in (1, 2)]


@rt.tool
def write(text: str) -> int:
    """Write it down."""
    return len(text)


@rt.agent
def clerk(body: str) -> str:
    """Do one job."""
    return f"{body}: {write(body)} characters"


def ask() -> None:
    """Queue two jobs."""
    with rt.configure(name="planner", trace_file="trace-{pid}.json"):
        print("\n".join(planner()))


def work() -> None:
    """Work until nothing is left."""
    # A worker is one long-lived process: configured once, not per job.
    with rt.configure(name="worker", trace_file="trace-{pid}.json"):
        while job := _take():
            body, carrier = job
            token = context.attach(extract(carrier))
            try:
                print(clerk(body), flush=True)
            finally:
                # The next job belongs to another run.
                context.detach(token)


if __name__ == "__main__":
    roles = {"ask": ask, "work": work}
    chosen = roles.get(" ".join(sys.argv[1:]))
    if chosen is None:
        sys.exit("expected `ask` or `work`: python jobs.py ask")
    chosen()
