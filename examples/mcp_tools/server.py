"""An MCP server with two tools, in the trace of whoever calls them. Started by `agent.py` over standard input and output."""

from __future__ import annotations

import logging

from mcp.server import MCPServer

import otel_runtime as rt

__all__: list[str] = []

_STOCK = {"LAMP-01": 12, "FAN-40": 0}
server = MCPServer("shop")


# The outer decorator takes the signature for its schema, the inner one keeps it as it is.
@server.tool()
@rt.tool
def stock(sku: str) -> int:
    """Pieces on the shelf."""
    return _STOCK.get(sku, 0)


@server.tool()
@rt.tool
def reorder(sku: str, pieces: int) -> str:
    """Buy more."""
    _STOCK[sku] = _STOCK.get(sku, 0) + pieces
    return f"{pieces} of {sku} are on their way"


if __name__ == "__main__":
    # Standard output belongs to the protocol.
    logging.disable()
    with rt.configure(name="shop", trace_file="server.json"):
        server.run()
