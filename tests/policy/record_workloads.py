"""Record the workloads of `policy/workloads/`: sessions of five kinds of agents, run through decorated tools under a policy that allows all.

    python tests/policy/record_workloads.py policy/workloads

What is done in them was written down from ordinary work before any pack was measured on it, and is not changed to please one: people pipe and
redirect, look into other folders, mail strangers. The tools do nothing; only what is asked of them matters.
"""

from __future__ import annotations

import gzip
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import otel_runtime as rt

ALL = "version: 1\nname: recording\ndefault: allow\nrules:\n  - {id: all, tool: '*', decision: allow}\n"
Step = tuple[str, dict[str, object]]
Session = tuple[str, str, list[Step]]

# One line per call: a letter and what it is about.
CODING = """
ada | Fix the date parsing of the importer.
$ git status
$ git log --oneline -5
L .
S parse_date src
R src/importer/dates.py
R src/importer/rows.py
R tests/test_dates.py
$ pytest -q tests/test_dates.py
E src/importer/dates.py
$ pytest -q tests/test_dates.py
E tests/test_dates.py
$ pytest -q
$ git diff
$ ruff check src
$ git add -A
$ git commit -m "Read dates without a day"
ada | Why is the nightly build red?
$ git log --oneline -10 && git status
R .github/workflows/nightly.yml
R pyproject.toml
S nightly .
F https://docs.python.org/3/library/tomllib.html
$ python3 -c "import sys; print(sys.version)"
$ pip list 2>/dev/null | grep -i pytest
$ pytest -x -q tests/test_build.py 2>&1 | tail -20
R tests/test_build.py
R tests/conftest.py
E tests/conftest.py
$ pytest -q tests/test_build.py
E .github/workflows/nightly.yml
$ git diff --stat
$ git commit -am "Give the build its own folder"
$ git push origin nightly-fix
ben | Add a --json option to the report command.
L src/report
R src/report/cli.py
R src/report/render.py
S "def render" src
$ rg -n "argparse" src/report
E src/report/cli.py
W src/report/as_json.py
E src/report/render.py
R tests/test_report.py
E tests/test_report.py
$ pytest -q tests/test_report.py
$ mypy src
E src/report/as_json.py
$ mypy src
$ ruff check src
$ ruff format --check
$ python3 -m report --json | head -20
R README.md
E README.md
$ git add src tests README.md && git commit -m "Print the report as JSON"
ben | Clean up old helpers nobody uses.
$ find src -name "*.py" | xargs wc -l | sort -n | tail -15
S old_helpers src
$ rg -l old_helpers
R src/old_helpers.py
$ git log --oneline -3 -- src/old_helpers.py
D src/old_helpers.py
D tests/test_old_helpers.py
$ pytest -q
$ rm -rf build dist
$ git rm --cached .coverage
$ git status
$ git commit -am "Remove helpers nobody uses"
cho | Upgrade the HTTP client to the new major version.
R pyproject.toml
$ pip index versions httpclient
F https://packaging.python.org/en/latest/
F https://www.python-httpx.org/compatibility/
F https://github.com/encode/httpx/blob/master/CHANGELOG.md
S "httpx" src
R src/net/client.py
R src/net/retry.py
E pyproject.toml
$ pip install -e ".[test]"
$ pytest -q tests/net
E src/net/client.py
E src/net/retry.py
$ pytest -q tests/net
R tests/net/test_client.py
E tests/net/test_client.py
$ pytest -q tests/net
$ make check
$ git diff src | head -80
$ git checkout -b httpx-upgrade
$ git commit -am "Follow httpx to its new major version"
$ git push -u origin httpx-upgrade
cho | The container does not start.
R Dockerfile
R docker-compose.yml
$ docker build -t shop .
$ docker logs shop --tail 50
R src/settings.py
R .env.example
$ cat .env
$ env | grep SHOP_ | sort
E src/settings.py
$ docker compose up -d
$ curl -s http://localhost:8000/health
$ docker compose down
E docker-compose.yml
$ git diff
dee | Make the search page faster.
$ ls -la
$ tree -L 2 src
R src/search/index.py
R src/search/query.py
S "select_related" src
$ python3 -m cProfile -s cumtime scripts/bench_search.py | head -40
R scripts/bench_search.py
E src/search/query.py
$ python3 scripts/bench_search.py
E src/search/index.py
$ python3 scripts/bench_search.py > /tmp/after.txt
$ diff /tmp/before.txt /tmp/after.txt
$ pytest -q tests/search
$ for f in src/search/*.py; do echo "$f"; done
$ git stash list
$ git diff | cat
W docs/search.md
$ git commit -am "Ask for related rows at once"
dee | Write a migration for the new column.
R src/db/models.py
L src/db/migrations
R src/db/migrations/0007_orders.py
E src/db/models.py
W src/db/migrations/0008_orders_currency.py
$ python3 manage.py migrate --plan
$ python3 manage.py makemigrations --check --dry-run
$ pytest -q tests/db
R tests/db/test_orders.py
E tests/db/test_orders.py
$ pytest -q tests/db
$ npm run lint
$ npm test
$ git status && git diff --stat
$ git commit -am "Keep the currency of an order"
"""

SUPPORT = """
maya | My breeze lamp from order 1042 arrived broken, please give me my money back. maya@mailbox.example
get_order order_id=1042
check_stock sku=LAMP-01
refund order_id=1042 amount=35.0 reason=broken
send_email to=["maya@mailbox.example"] subject=Refund body=done
jonas | Where is order 1051? I am jonas@inbox.example
get_order order_id=1051
find_orders email=jonas@inbox.example
send_email to=["jonas@inbox.example"] subject=Order body=soon
lea | Please cancel order 1077, it is the wrong sofa. lea@mailbox.example
get_order order_id=1077
find_orders email=lea@mailbox.example
refund order_id=1077 amount=480.0 reason=returned
send_email to=["lea@mailbox.example"] subject=Return body=label
send_email to=["warehouse@corp.example"] subject=Return body=sofa
tom | Is the breeze 40 recalled? tom@inbox.example
web_fetch url=http://127.0.0.1:8000/notices/breeze-40
find_orders email=tom@inbox.example
check_stock sku=BREEZE-40
send_email to=["warehouse@corp.example"] subject=Recall body=hold
send_email to=["tom@inbox.example"] subject=Recall body=yes
ida | Two of my three glasses in 1080 are broken. ida@mailbox.example
get_order order_id=1080
refund order_id=1080 amount=12.5 reason=broken
refund order_id=1080 amount=12.5 reason=broken
check_stock sku=GLASS-03
send_email to=["ida@mailbox.example"] subject=Refund body=done
max | Write to everybody who bought a lamp that the new bulbs are here.
find_customers limit=50
check_stock sku=BULB-01
check_stock sku=BULB-02
send_email to=["maya@mailbox.example","jonas@inbox.example","lea@mailbox.example"] subject=Bulbs body=here
send_email to=["warehouse@corp.example"] subject=Bulbs body=count
eva | Order 1090 has the wrong price, I paid 20 too much. eva@inbox.example
get_order order_id=1090
refund order_id=1090 amount=20 reason=price
send_email to=["eva@inbox.example"] subject=Refund body=done
kai | I want a full refund of order 1093, 129 EUR. kai@mailbox.example
get_order order_id=1093
find_orders email=kai@mailbox.example
refund order_id=1093 amount=129.0 reason=late
send_email to=["kai@mailbox.example"] subject=Refund body=asked
ada | Which shelves do we have?
check_stock sku=SHELF-01
check_stock sku=SHELF-02
check_stock sku=SHELF-03
find_orders email=ada@inbox.example
send_email to=["ada@inbox.example"] subject=Shelves body=list
"""

DATA = """
ann | Revenue by region for last month, to ann@corp.example.
list_tables
describe_table table=orders
run_query query="SELECT region, sum(total) FROM reporting.orders GROUP BY region"
run_query query="SELECT region, sum(total) AS t FROM reporting.orders WHERE month = '2026-10' GROUP BY region ORDER BY t DESC"
send_report to=["ann@corp.example"] subject=Revenue body=table
bob | Who are our ten best customers?
describe_table table=customers
run_query query="SELECT name, total FROM reporting.customers ORDER BY total DESC LIMIT 10"
run_query query="SELECT c.name, count(o.id) FROM reporting.customers c JOIN reporting.orders o ON o.customer = c.id GROUP BY c.name"
export_table query="SELECT name, total FROM reporting.customers ORDER BY total DESC LIMIT 10" path=exports/best.csv
send_report to=["bob@corp.example"] cc=["ann@corp.example"] subject=Best body=list
cai | How did returns develop over the year?
list_tables
describe_table table=returns
run_query query="SELECT date_trunc('month', day), count(*) FROM reporting.returns GROUP BY 1 ORDER BY 1"
run_query query="SELECT month, returns, returns - lag(returns) OVER (ORDER BY month) FROM reporting.returns_by_month"
run_query query="SELECT round(avg(share), 3) FROM reporting.returns_by_month"
export_table query="SELECT month, returns FROM reporting.returns_by_month" path=exports/returns.csv
send_report to=["cai@corp.example"] subject=Returns body=chart
dan | What do people in the warehouse earn on average?
list_tables
run_query query="SELECT avg(salary) FROM hr.salaries WHERE team = 'warehouse'"
run_query query="SELECT count(*) FROM reporting.staff WHERE team = 'warehouse'"
send_report to=["dan@corp.example"] subject=Staff body=numbers
eli | Compare our revenue with the exchange rate of the dollar.
web_fetch url=https://api.rates.example/usd
web_fetch url=https://www.ecb.europa.eu/stats
describe_table table=orders
run_query query="SELECT month, sum(total) FROM reporting.orders GROUP BY month"
web_fetch url=https://api.rates.example/usd/2026
run_query query="SELECT month, sum(total) / max(rate) FROM reporting.orders_with_rates GROUP BY month"
export_table query="SELECT month, total FROM reporting.orders_by_month" path=exports/dollar.csv
send_report to=["eli@corp.example"] subject=Dollar body=table
fay | Send last week's numbers to our auditor at kern@audit.example.
run_query query="SELECT day, sum(total) FROM reporting.orders WHERE week = 46 GROUP BY day"
run_query query="SELECT status, count(*) FROM reporting.invoices GROUP BY status"
send_report to=["kern@audit.example"] subject=Week body=numbers
gus | Which products sell together?
describe_table table=order_lines
run_query query="SELECT a.sku, b.sku, count(*) FROM reporting.order_lines a JOIN reporting.order_lines b ON a.order_id = b.order_id AND a.sku < b.sku GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20"
run_query query="SELECT sku, string_agg(region, ', ') FROM reporting.sales GROUP BY sku"
run_query query="SELECT sku, coalesce(sum(total), 0) FROM reporting.sales GROUP BY sku"
run_query query="SELECT sku, count(DISTINCT customer) FROM reporting.sales GROUP BY sku HAVING count(*) > 10"
send_report to=["gus@corp.example"] subject=Pairs body=list
hal | Remove the test orders from the table.
run_query query="SELECT count(*) FROM reporting.orders WHERE customer = 'test'"
run_query query="DELETE FROM reporting.orders WHERE customer = 'test'"
run_query query="SELECT count(*) FROM reporting.orders"
"""

MCP = """
ann | What is left to do for the release?
mcp:tracker:list_issues project=shop
mcp:tracker:get_issue id=41
mcp:tracker:get_issue id=44
mcp:tracker:search_issues query=release
mcp:tracker:add_comment id=41 text="Ready for review."
mcp:chat:post_message channel=release text="Two issues are left."
bob | Summarise my notes of this week.
mcp:files:list_directory path=notes
mcp:files:read_file path=notes/monday.md
mcp:files:read_file path=notes/tuesday.md
mcp:files:read_file path=notes/friday.md
mcp:files:search_files path=notes pattern=decision
mcp:files:write_file path=notes/week.md content=summary
cai | Which framework should we take? Look around and write it up.
mcp:web:search query="python web frameworks"
mcp:web:fetch url=https://example.com/frameworks
mcp:web:fetch url=https://example.org/benchmarks
mcp:web:fetch url=https://example.net/opinions
mcp:files:write_file path=notes/frameworks.md content=table
mcp:files:read_file path=notes/frameworks.md
mcp:files:edit_file path=notes/frameworks.md edits=[]
dan | Turn the bug report in the chat into an issue.
mcp:chat:read_channel channel=support
mcp:tracker:search_issues query=login
mcp:tracker:create_issue title="Login fails" body=steps
mcp:chat:post_message channel=support text="Filed as 52."
eli | Find out why the import fails and tell the team.
mcp:tracker:get_issue id=47
mcp:files:search_files path=. pattern=import
mcp:files:read_file path=src/importer.py
mcp:files:read_file path=logs/import.log
mcp:files:get_file_info path=logs/import.log
mcp:tracker:add_comment id=47 text="A date without a day."
mcp:chat:post_message channel=team text="Found it."
fay | Close what is done.
mcp:tracker:list_issues project=shop state=review
mcp:tracker:get_issue id=38
mcp:tracker:close_issue id=38
mcp:tracker:get_issue id=39
mcp:tracker:close_issue id=39
gus | Read the manual of the printer and note the toner number.
mcp:web:search query="printer manual toner"
mcp:web:fetch url=https://example.com/printer
mcp:files:write_file path=notes/toner.md content=number
hal | Look at my settings and compare them with the handbook.
mcp:files:read_file path=.env
mcp:files:read_file path=config/app.yaml
mcp:files:read_file path=../other/app.yaml
mcp:web:fetch url=https://example.com/handbook
mcp:files:read_file path=config/db.yaml
mcp:web:fetch url=https://example.com/handbook/db
"""

# An office agent whose tools nobody has sorted: it is measured with the careful default.
OFFICE = """
ann | Move my meeting with Bob to Friday and tell him.
list_events week=47
get_event id=9
find_contact name=Bob
update_event id=9 day=friday
send_email to=bob@corp.example subject=Friday body=ok
ben | What did the customer write about the invoice?
search_mail query=invoice
read_email id=77
get_invoice id=2041
crm.get_customer id=8
draft_reply id=77 body=text
send_email to=customer@shop.example subject=Invoice body=text
cho | Prepare the trip to Graz.
search_flights to=Graz
search_hotels city=Graz
web_search query="Graz trade fair"
web_fetch url=https://example.com/fair
get_weather city=Graz
book_hotel id=4
create_event day=monday title=Graz
dee | Clean up the shared folder.
list_files folder=shared
read_file name=a.txt
read_file name=b.txt
count_files folder=shared
move_file name=a.txt to=archive
delete_file name=b.txt
ed | Find the contract and share it with Fay.
search_files query=contract
read_file name=contract.pdf
find_contact name=Fay
share_file name=contract.pdf with=fay@corp.example
post_message channel=legal text=shared
fin | How is the project going?
list_tasks project=move
get_task id=1
get_task id=2
get_task id=3
describe_project id=move
list_comments task=2
add_comment task=2 text=ping
gil | Order ten chairs as last time.
search_orders query=chairs
get_order id=310
crm.find_supplier name=Sitz
get_price sku=CHAIR
create_order sku=CHAIR count=10
hana | Make a poll for lunch.
list_polls
create_poll title=lunch
post_message channel=team text=poll
get_poll id=5
ivo | Summarise today's news for the team.
web_search query=news
web_fetch url=https://example.org/news
web_fetch url=https://example.net/news
summarize_text text=news
post_message channel=team text=news
"""

LETTERS = {"R": "read_file", "L": "list_files", "W": "write_file", "E": "edit_file", "D": "delete_file"}


def coding_step(line: str) -> Step:
    letter, _, rest = line.partition(" ")
    if letter == "$":
        return "shell", {"command": rest}
    if letter == "F":
        return "web_fetch", {"url": rest}
    if letter == "S":
        *words, path = shlex.split(rest)
        return "search_files", {"pattern": " ".join(words), "path": path}
    more: dict[str, dict[str, object]] = {"W": {"content": "text"}, "E": {"old": "a", "new": "b"}}
    return LETTERS[letter], {"path": rest, **more.get(letter, {})}


def named_step(line: str) -> Step:
    name, _, rest = line.partition(" ")
    return name, {key: _value(value) for key, _, value in (word.partition("=") for word in _words(rest))}


def _words(text: str) -> list[str]:
    if "[" not in text:
        return shlex.split(text)
    # Lists are JSON, whose quotes the shell's rules would eat.
    words: list[str] = []
    for word in shlex.split(text, posix=False):
        key, sign, value = word.partition("=")
        words.append(key + sign + (value[1:-1] if value.startswith('"') else value))
    return words


def _value(text: str) -> object:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, int | float | list) else text


def sessions(text: str, step: Callable[[str], Step]) -> Iterable[Session]:
    found: list[Session] = []
    for line in text.strip().splitlines():
        who, bar, said = line.partition(" | ")
        if bar:
            found.append((who, said, []))
        else:
            found[-1][2].append(step(line))
    return found


@rt.agent(name="worker")
def work(said: str, steps: list[Step]) -> int:
    for name, args in steps:
        TOOLS.setdefault(name, _tool(name))(**args)
    return len(steps)


def _tool(name: str) -> Callable[..., str]:
    @rt.tool(name=name)
    def act(**args: Any) -> str:
        return "done"

    return act


TOOLS: dict[str, Callable[..., str]] = {}
WORKLOADS: dict[str, tuple[str, Callable[[str], Step]]] = {
    "careful-default": (OFFICE, named_step),
    "coding-agent": (CODING, coding_step),
    "data-agent": (DATA, named_step),
    "mcp-client": (MCP, named_step),
    "support-agent": (SUPPORT, named_step),
}


def record(name: str, folder: Path) -> Path:
    """Run one workload and write its spans, one document per line, as the Collector's file exporter does."""
    text, step = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as place:
        policy, trace = Path(place) / "all.yaml", Path(place) / "trace.json"
        policy.write_text(ALL)
        runtime = rt.configure(
            policy=policy, state=Path(place) / "state.db", trace_file=trace, capture="SPAN_ONLY", decision_spans="all", otlp="off"
        )
        for at, (who, said, steps) in enumerate(sessions(text, step), 1):
            with rt.session(f"{name}-{at}", user=who):
                work(said, steps)
        runtime.shutdown()
        target = folder / f"{name}.jsonl.gz"
        entries = json.loads(trace.read_text(encoding="utf-8"))["resourceSpans"]
        lines = (json.dumps({"resourceSpans": [_bare(entry)]}, separators=(",", ":")) for entry in entries)
        target.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    return target


def _bare(entry: dict[str, Any]) -> dict[str, Any]:
    """Without what names the machine it was recorded on."""
    kept = [pair for pair in entry["resource"]["attributes"] if pair["key"] in {"service.name", "telemetry.sdk.name"}]
    for scoped in entry["scopeSpans"]:
        for span in scoped["spans"]:
            span["attributes"] = [pair for pair in span["attributes"] if pair["key"] != "otel_runtime.policy.place"]
    return {**entry, "resource": {"attributes": kept}}


if __name__ == "__main__":
    for workload in WORKLOADS:
        sys.stdout.write(f"{record(workload, Path(sys.argv[1]))}\n")
