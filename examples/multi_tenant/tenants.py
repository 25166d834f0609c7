"""One process, two tenants: each with a runtime, a policy, an audit and a trace file of its own.

    python tenants.py

The same decorated function asks the policy of the tenant for whom it is called. What one may, the other may not, on several threads at once,
and neither sees the other's spans.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import otel_runtime as rt

__all__: list[str] = []

_HERE = Path(__file__).resolve().parent
_CALLS = 4


@rt.tool
def publish(page: str) -> str:
    """Put a page online."""
    return f"{page} is online"


@rt.agent
def editor(page: str) -> str:
    """What each tenant's agent does."""
    try:
        return publish(page)
    except rt.PolicyDenied as refused:
        return f"refused by {refused.rule}"


def _runtime(tenant: str) -> rt.Runtime:
    # A name per tenant makes it a runtime of its own; everything it keeps lies under that name.
    return rt.configure(
        name=tenant, policy=(_HERE / f"{tenant}.yaml",), state=Path(tenant) / "state.db", trace_file=Path(tenant) / "trace.json"
    )


def _serve(runtime: rt.Runtime, number: int) -> str:
    # One request: from here to the end of the block every decorated call belongs to this tenant.
    with runtime.use():
        return f"{runtime.name}: {editor(f'page-{number}')}"


def main() -> None:
    """Serve both at the same time."""
    with _runtime("acme") as acme, _runtime("globex") as globex, ThreadPoolExecutor(_CALLS) as pool:
        requests = [(runtime, number) for number in range(_CALLS) for runtime in (acme, globex)]
        for line in pool.map(lambda request: _serve(*request), requests):
            print(line)


if __name__ == "__main__":
    main()
