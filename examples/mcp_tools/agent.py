"""An agent whose tools are those of an MCP server: policy here, work there, one trace.

    python agent.py

Every tool the server lists is called through `rt.tool("mcp:SERVER:TOOL", ...)`, so the policy file decides before anything goes over the
wire. The MCP library (2.0 and later) itself carries the trace in `params._meta`; nothing needs to be injected, and nothing should be twice.
Needs `pip install mcp`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters

import otel_runtime as rt

__all__: list[str] = []

_HERE = Path(__file__).resolve().parent


async def call(client: Client, name: str, arguments: dict[str, Any]) -> str:
    """Call one tool of the server, if the policy lets it."""
    try:
        with rt.tool(f"mcp:shop:{name}", args=arguments):
            answer = await client.call_tool(name, arguments)
    except rt.PolicyDenied as refused:
        return f"refused: {refused.reason}"
    return " ".join(getattr(part, "text", "") for part in answer.content)


@rt.agent
async def desk(client: Client) -> None:
    """What a model might ask for."""
    print("tools:", ", ".join(tool.name for tool in (await client.list_tools()).tools))
    for name, arguments in (
        ("stock", {"sku": "FAN-40"}),
        ("reorder", {"sku": "FAN-40", "pieces": 10}),
        ("reorder", {"sku": "FAN-40", "pieces": 5000}),
        ("stock", {"sku": "FAN-40"}),
    ):
        print(f"{name} {arguments}: {await call(client, name, arguments)}")


async def main() -> None:
    """Start the server and work with it."""
    # The library keeps this process's variables, keys among them, from the server; where to send spans it may know.
    where = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    server = StdioServerParameters(command=sys.executable, args=[str(_HERE / "server.py")], env=where)
    with rt.configure(name="desk", policy=_HERE / "policy.yaml", trace_file="agent.json"):
        async with Client(server) as client:
            await desk(client)


if __name__ == "__main__":
    asyncio.run(main())
